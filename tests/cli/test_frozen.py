"""What is frozen is in plan and status by name; what is down under a broken reconciler.toml is started all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.transcript import write_files

SPEC = 'kernel = "/boot/vmlinuz"\nmemory = 64\n'
NAMED = 'fleet = "prod"\n'


def actions(run: Run) -> dict[str, tuple[str, str]]:
    changes = json.loads(run("plan", "--json").out)["changes"]
    return {one["address"]: (one["action"], one["reason"]) for one in changes}


def words(run: Run) -> dict[str, str]:
    return {one["address"]: one["status"] for one in json.loads(run("status", "--json").out)["domains"]}


@pytest.mark.parametrize("broken", ['toolstack = "simulatd"\n', "toolstack =\n", None])
def test_every_domain_of_a_host_that_is_frozen_as_a_whole_is_told(run: Run, tree: Path, broken: str | None) -> None:
    files = {"beta/host.toml": 'toolstack = "simulated"\n', "beta/low.toml": SPEC, "beta/off.toml": SPEC}
    write_files({f"specs/{name}": text for name, text in files.items()}, tree)
    assert run("apply", "--yes").code == 0
    write_files({"specs/beta/new.toml": SPEC, "specs/beta/off.toml": f"{SPEC}reconcile = false\n"}, tree)
    host = tree / "specs/beta/host.toml"
    host.unlink() if broken is None else host.write_text(broken)
    why = ("no-op", "beta has errors in its host.toml")
    told = actions(run)
    assert {address: told[address] for address in told if address.startswith("beta/")} == {
        "beta/low": why,
        "beta/new": why,
        "beta/off": why,
    }
    assert words(run) == {
        "alpha/db": "ready",
        "alpha/web": "ready",
        "beta/low": "stalled",
        "beta/new": "stalled",
        "beta/off": "stalled",
    }


def test_every_declared_domain_of_a_silent_host_is_in_status(run: Run, tree: Path) -> None:
    run("sim", "alpha", "fault", "unreachable", "--times", "9")
    ran = run("status")
    assert "alpha/db   stalled  alpha could not be observed" in ran.out
    assert words(run) == {"alpha/db": "stalled", "alpha/web": "stalled"}
    assert ran.code == 1


@pytest.fixture
def down(run: Run, tree: Path) -> Path:
    """`web` and `db` are ours and down, `off` is to be stopped, `low` is to be left alone."""
    more = {"off.toml": f'{SPEC}state = "stopped"\n', "low.toml": f"{SPEC}reconcile = false\n"}
    write_files({f"specs/alpha/{name}": text for name, text in more.items()}, tree)
    write_files({"specs/reconciler.toml": NAMED}, tree)
    write_files({"specs/alpha/low.toml": SPEC}, tree)
    assert run("apply", "--yes").code == 0
    write_files({"specs/alpha/low.toml": more["low.toml"]}, tree)
    for name in ("web", "low"):
        run("sim", "alpha", "destroy", name)
    run("sim", "alpha", "crash", "db")
    changed = (tree / "specs/alpha/web.toml").read_text().replace("256", "999")
    write_files({"specs/alpha/new.toml": SPEC, "specs/alpha/web.toml": changed}, tree)
    return tree


@pytest.mark.parametrize(
    "broken",
    [
        f'{NAMED}[brake]\nmax_destroy = "x"\n',
        f'{NAMED}[[window]]\nkind = "deny"\n',
        f'{NAMED}[defaults]\nvcpus = "x"\n',
        f"{NAMED}unknown = 7\n",
        f"{NAMED}[brake]\nmax_destroy = \n",
        f"{NAMED}<<<<<<< HEAD\n",
    ],
)
def test_what_is_down_is_started_as_it_last_worked_and_nothing_else_is_done(run: Run, down: Path, broken: str) -> None:
    write_files({"specs/reconciler.toml": broken}, down)
    assert {address: action for address, (action, _) in actions(run).items() if action != "no-op"} == {
        "alpha/db": "start",
        "alpha/web": "start",
    }
    assert actions(run)["alpha/new"][1] == "reconciler.toml has errors, so it is left alone"
    assert run("apply", "--yes").code == 4
    listed = {line.split()[0]: line.split() for line in run("sim", "alpha", "list").out.splitlines()[1:-1]}
    assert listed.keys() == {"db", "web"}
    assert "256" in listed["web"], "from its proven config, whatever its spec says by now"
    assert {action for action, _ in actions(run).values()} == {"no-op"}


@pytest.mark.parametrize(
    "broken",
    [
        "fleet = 7\n",
        "fleet = \n",
        f"{NAMED}{NAMED}",
        'fleet = "other"\n[brake]\nmax_destroy = "x"\n',
        f'{NAMED}[defaults]\nstate = "stopped"\nvcpus = "x"\n',
        f'{NAMED}[defaults]\nprofile = "none"\nvcpus = "x"\n',
        f'{NAMED}[defaults]\nstate = "stopped\n',
        f'{NAMED}[[window]]\nkind = "deny"\nactions = ["start"]\n',
        f'{NAMED}[[window]]\nkind = "deny"\nactions = ["start"\n',
        f'{NAMED}window = "x"\n',
    ],
)
def test_where_it_is_not_known_whose_it_is_or_whether_it_is_to_run_nothing_is_started(
    run: Run, down: Path, broken: str
) -> None:
    write_files({"specs/reconciler.toml": broken}, down)
    assert {action for action, _ in actions(run).values()} == {"no-op"}
    assert run("apply", "--yes").code == 4
    assert len(run("sim", "alpha", "list").out.splitlines()) == 2, "no domain is there"
