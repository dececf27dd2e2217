"""What a reboot of the dom0 leaves behind, and that the next apply mends it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run


def running(run: Run) -> list[str]:
    return [domain["name"] for domain in json.loads(run("sim", "alpha", "list", "--json").out)["domains"]]


def test_only_what_is_autostarted_comes_back_by_itself(run: Run, tree: Path) -> None:
    with (tree / "specs/alpha/web.toml").open("a") as file:
        file.write("autostart = true\n")
    run("apply", "--yes")
    run("sim", "alpha", "create", "legacy")
    assert run("sim", "alpha", "reboot").code == 0
    assert running(run) == ["web"]
    planned = json.loads(run("plan", "--json").out)
    assert {change["address"]: change["action"] for change in planned["changes"]} == {
        "alpha/db": "start",
        "alpha/web": "no-op",
    }
    assert run("apply", "--yes").code == 0
    assert running(run) == ["db", "web"]
