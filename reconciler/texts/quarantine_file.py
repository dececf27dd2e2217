"""Keeps the failed boots of a domain as a file on its host (`<kernel_dir>/<domain>/quarantine.json`). Pure.

Written by `config_files`, read by `guests`. It lies on the host, so that no controller tries them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from reconciler.model.host import Quarantined


def render_quarantine(entries: Iterable[Quarantined]) -> str:
    return json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"


def parse_quarantine(text: str) -> tuple[Quarantined, ...]:
    """Read the entries of a file. A damaged file gives none, so at worst a failed boot is tried once more."""
    found = _read(text)
    entries = found if isinstance(found, list) else ()
    return tuple(entry for entry in map(_entry, entries) if entry is not None)


def is_newer(text: str) -> bool:
    """Return whether a newer version wrote the file. Ours is an array; a later format is an object that names itself.

    >>> is_newer('{"format": 2, "entries": []}'), is_newer("[]"), is_newer("damaged")
    (True, False, False)
    """
    return isinstance(_read(text), dict)


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _entry(found: object) -> Quarantined | None:
    """Read one failed boot. What else an entry says is no reason to forget it."""
    told = {key: found.get(key, "") for key in ("boot", "kernel", "reason")} if isinstance(found, dict) else {}
    if not told.get("boot") or not all(isinstance(text, str) for text in told.values()):
        return None
    return Quarantined(**told)
