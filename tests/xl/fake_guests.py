"""The domains of a fake `xl`: kept in files, and misbehaving as real ones did."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fake_dom0 import TABLE_HEAD, write_tool

OTHER_UUID = "11111111-1111-2222-3333-444444444444"


class Guests:
    """The domains of the fake host. `on` says what a command does, in sh, run in the host's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def show(self, *rows: str) -> None:
        new = self._folder / "list.shown"  # a fake xl may read it at any moment, so it changes all at once
        new.write_text(TABLE_HEAD + "".join(rows))
        new.replace(self._folder / "list")

    def on(self, command: str, body: str) -> None:
        write_tool(self._folder, command, body)

    def later(self, name: str, *rows: str) -> str:
        """sh that makes these the domains from now on."""
        (self._folder / name).write_text(TABLE_HEAD + "".join(rows))
        return f"cp {name} list.new; mv list.new list"

    @property
    def calls(self) -> list[str]:
        return [
            call for call in (self._folder / "calls").read_text().splitlines() if not call.startswith(("list", "info"))
        ]


def shown(xen: Path, **config: object) -> None:
    """What `xl list -l` says of the domain with the domid 5."""
    (xen / "long").write_text(json.dumps([{"domid": 5, "config": {"c_info": {"name": "web"}, **config}}]))


def ignore(text: str) -> None:
    """Progress is of no interest here."""
