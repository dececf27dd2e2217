"""A kernel that vanished, or is a Git LFS pointer, freezes all that its spec asks for, and nothing that is proven."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .fleet import BETTER, GOOD, WEB, Fleet

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daa\n"
PROBLEMS = pytest.mark.parametrize("problem", ["gone", "pointer", "gone from the host"])


def spoil(fleet: Fleet, problem: str, spec: str = WEB) -> None:
    """Make the kernel of web one that cannot be used, and ask for more besides."""
    if problem == "pointer":
        fleet.write("kernels/web", POINTER)
    elif problem == "gone":
        (fleet.folder / "specs/kernels/web").unlink()
    else:
        spec = spec.replace("kernels/web", "/boot/nowhere")
        fleet.write("file", "")
        assert fleet.run("sim", "alpha", "put", "/boot/nowhere", str(fleet.folder / "specs/file")).code == 0
    fleet.write("alpha/web.toml", spec)


def change(fleet: Fleet, address: str = "alpha/web") -> dict[str, Any]:
    found = json.loads(fleet.run("plan", "--json").out)["changes"]
    return next(one for one in found if one["address"] == address)


MORE = f'{WEB}cmdline = "root=/dev/xvda"\ncpu_weight = 512\nprevent_destroy = true\n'.replace("256", "128")


@PROBLEMS
def test_nothing_that_its_spec_asks_for_is_done_and_plan_and_status_say_so(running: Fleet, problem: str) -> None:
    before, boot = running.guest(), running.boot()
    spoil(running, problem, MORE)
    assert running.apply().code == 4
    after = running.guest()
    assert (after.running, after.config, running.boot()) == (before.running, before.config, boot)
    told = change(running)
    assert (told["action"], told["would"]) == ("no-op", "restart")
    assert {"memory", "cmdline", "cpu_weight", "prevent_destroy"} <= {field["path"] for field in told["fields"]}
    assert "is not there, or not as pinned, so it goes on as it last worked" in told["reason"]
    assert told["waits_for"] == ["a kernel and ramdisk that can be used"]
    status = running.run("status").out
    assert "alpha/web  stalled" in status
    assert "goes on as it last worked" in status
    assert "as specified" not in status.split("alpha/web")[1].split("\n\n")[0]
    assert "alpha/web" in running.run("plan").out


@PROBLEMS
def test_nothing_else_is_asked_for_and_it_is_told_all_the_same(running: Fleet, problem: str) -> None:
    spoil(running, problem)
    assert change(running)["fields"] == []
    assert "alpha/web  stalled" in running.run("status").out
    plan = running.run("plan")
    assert plan.code == 4
    assert "goes on as it last worked" in plan.out


@PROBLEMS
def test_what_is_down_is_started_and_what_drifted_is_mended_as_it_last_worked(running: Fleet, problem: str) -> None:
    before = running.guest()
    spoil(running, problem, MORE)
    running.run("sim", "alpha", "set", "web", "memory=100")
    assert running.apply().code == 4
    assert running.guest().running == before.running
    running.run("sim", "alpha", "destroy", "web")
    assert change(running)["action"] == "start"
    assert running.apply().code == 4
    assert (running.guest().running, running.runs()) == (before.running, GOOD)


def test_it_goes_down_and_up_with_what_it_depends_on(running: Fleet) -> None:
    running.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nmax_unavailable = 2\n')
    running.write("alpha/web.toml", f'{WEB}depends_on = ["db"]\n')
    assert running.apply().code == 0
    before, boot = running.guest(), running.boot()
    spoil(running, "gone", f'{MORE}depends_on = ["db"]\n')
    running.kernel("db", BETTER)
    assert running.apply().code == 4
    assert running.runs("db") == BETTER
    assert running.boot() != boot
    assert running.guest().running == before.running


@PROBLEMS
def test_it_holds_the_restarts_of_later_waves(running: Fleet, problem: str) -> None:
    """Nobody can tell what kernel it would get, so as a canary it is not through."""
    running.write("alpha/web.toml", f"{WEB}wave = -1\n")
    assert running.apply().code == 0
    boot = running.boot("db")
    spoil(running, problem, f"{WEB}wave = -1\n")
    running.kernel("db", BETTER)
    assert running.apply().code == 4
    assert running.boot("db") == boot
    held = change(running, "alpha/db")
    assert (held["would"], held["waits_for"]) == ("restart", ["wave: alpha/web"])


@PROBLEMS
def test_nothing_is_pruned_meanwhile(running: Fleet, problem: str) -> None:
    spoil(running, problem)
    (running.folder / "specs/alpha/db.toml").unlink()
    assert running.apply().code == 4
    assert running.boot("db") is not None


def test_reconcile_false_counts_all_the_same(running: Fleet) -> None:
    spoil(running, "gone", f"{WEB}reconcile = false\n")
    running.run("sim", "alpha", "destroy", "web")
    assert running.apply().code == 4
    assert running.boot() is None


def test_when_the_file_is_back_all_that_was_asked_for_is_done(running: Fleet) -> None:
    spoil(running, "gone", MORE)
    assert running.apply().code == 4
    running.kernel("web", BETTER)
    assert running.apply().code == 0
    guest = running.guest()
    assert guest.running is not None
    assert (running.runs(), guest.running.cpu_weight, guest.running.prevent_destroy) == (BETTER, 512, True)
    assert "alpha/web  ready" in running.run("status").out
