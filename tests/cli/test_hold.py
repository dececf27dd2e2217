"""`hold` and `unhold` on the command line, with what a saved plan makes of a hold that came after it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def made(run: Run, tree: Path) -> Path:
    assert run("apply", "--yes").code == 0
    file = tree / "specs/alpha/web.toml"
    file.write_text(file.read_text().replace("256", "300"))
    return tree


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("alpha/wbe",), "alpha/web"),
        (("alhpa",), "alpha"),
        (("alpha/web", "--for", "soon"), "--for"),
        (("alpha/web", "--for", "0s"), "1s at least"),
        (("alpha/web", "--for", "367d"), "366d at most"),
        (("alpha/../x",), "not of the form"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_or_makes_no_sense_is_told(
    run: Run, made: Path, arguments: tuple[str, ...], told: str
) -> None:
    ran = run("hold", *arguments)
    assert ran.code == 1
    assert told in ran.err


def test_a_hold_with_an_end_says_when_by_the_hosts_clock(run: Run, made: Path) -> None:
    assert re.search(r"until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", run("hold", "alpha/web", "--for", "7d").out)
    (domain,) = (one for one in json.loads(run("status", "--json").out)["domains"] if one["address"] == "alpha/web")
    assert domain["reason"].startswith("held, by ann@desk, until")
    assert "held, by ann@desk" in run("why", "alpha/web").out


def test_the_only_domain_of_a_name_needs_no_host(run: Run, made: Path) -> None:
    assert run("hold", "web", "--for", "48h").out.startswith("alpha/web is held")
    assert run("unhold", "web").out == "alpha/web is held no longer.\n"


def test_a_domain_that_no_spec_names_any_more_can_be_held(run: Run, made: Path) -> None:
    (made / "specs/alpha/web.toml").unlink()
    assert run("hold", "alpha/web", "--reason", "mine").code == 0
    assert run("apply", "--yes", "--allow-destroy", "1").code == 0
    (change,) = (one for one in json.loads(run("plan", "--json").out)["changes"] if one["address"] == "alpha/web")
    assert (change["action"], change["would"], change["waits_for"]) == ("no-op", "destroy", ["hold: mine"])


def test_a_saved_plan_heeds_a_hold_that_came_later_unless_it_ignores_holds(run: Run, made: Path) -> None:
    assert run("plan", "--out", "heeds").code == 0
    assert run("plan", "--out", "ignores", "--ignore-holds").code == 0
    assert run("hold", "alpha/web").code == 0
    ran = run("apply", "heeds", "--yes")
    assert ran.code == 3
    assert "reconciler unhold alpha/web" in ran.err
    assert run("apply", "ignores", "--yes").code == 0
    assert "as specified" in run("plan", "--target", "alpha/web").out


def test_a_host_is_held_for_its_maintenance_rebooted_and_let_go_again(run: Run, made: Path) -> None:
    """As docs/operate.md has it: nothing is begun while the hold lasts, and nothing of it is a failure."""
    assert run("hold", "alpha", "--reason", "new memory").code == 0
    assert run("sim", "alpha", "reboot").code == 0
    assert run("apply", "--yes").code == 0
    held = json.loads(run("status", "--json").out)["domains"]
    assert all("held: new memory" in one["reason"] for one in held), held
    assert not {one["status"] for one in held} & {"stalled", "quarantined"}
    down = {one["address"] for one in held if one["state"] != "running"}
    assert down, "no domain of this tree has autostart"
    assert run("unhold", "alpha").code == 0
    assert run("apply", "--yes").code == 0
    assert {one["status"] for one in json.loads(run("status", "--json").out)["domains"]} == {"ready"}
