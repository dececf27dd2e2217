"""Faults of the host, and an apply that dies, at every step of an update: the next runs put everything right."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from reconciler import cli
from reconciler.apply.result import StepResult
from reconciler.plan.steps import PlannedStep

from .fleet import BETTER, GOOD, Fleet, Watcher, watched_by

PANICS, HANGS = 'boot = "panic"', 'boot = "hang"'
UPDATE = ("stage_image", "write_config", "shutdown", "start", "await_ready", "promote_config", "sweep_images")
FIRST_BOOT = ("stage_image", "create_disk", "write_config", "start", "await_ready", "promote_config")
WAY_BACK = ("set_quarantine", "shutdown", "start", "await_ready")


class Killed(BaseException):
    """The process dies: nothing catches this."""


class Saboteur(Watcher):
    """Has a host fault come, or the process die, at one step: its place among those that begin."""

    def __init__(self, fleet: Fleet, at: int, fault: str) -> None:
        self._fleet = fleet
        self._at = at
        self._fault = fault
        self.begun: list[str] = []

    def started(self, step: PlannedStep) -> None:
        self.begun.append(step.step.kind)
        if len(self.begun) - 1 != self._at:
            return
        if self._fault == "killed before":
            raise Killed
        if self._fault != "killed after":
            assert cli.run(["sim", "alpha", "fault", self._fault]) == 0

    def finished(self, result: StepResult) -> None:
        if len(self.begun) - 1 == self._at and self._fault == "killed after" and result.reason is None:
            raise Killed


def sabotaged(fleet: Fleet, at: int, fault: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An apply with this fault at this step; the kinds of steps that began."""
    saboteur = Saboteur(fleet, at, fault)
    with watched_by(saboteur, monkeypatch):
        if fault.startswith("killed"):
            with pytest.raises(Killed):
                fleet.apply()
        else:
            fleet.apply()
    fleet.run("sim", "alpha", "fault", fault, "--times", "0")
    assert len(saboteur.begun) > at
    return saboteur.begun


def places(*phases: tuple[str, ...]) -> list[ParameterSet]:
    kinds = [kind for phase in phases for kind in phase]
    return [pytest.param(at, id=f"{at} {kind}") for at, kind in enumerate(kinds)]


FAULTS = ("lost-reply", "unreachable", "disk-full", "killed before", "killed after")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", places(UPDATE))
def test_an_update_that_is_disturbed_arrives_all_the_same(
    running: Fleet, at: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = running.boot("db")
    running.kernel("web", BETTER)
    begun = sabotaged(running, at, fault, monkeypatch)
    assert begun[: at + 1] == list(UPDATE[: at + 1])
    if not fault.startswith("killed"):
        assert running.runs() in (GOOD, BETTER)  # never left lying
    ended = running.apply()
    assert ended.code == 0, ended.out
    assert running.runs() == BETTER
    assert running.guest().quarantine == ()
    assert running.guest().candidate is None
    assert "/srv/web" in running.host().files
    assert running.boot("db") == neighbour
    assert running.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("bad", [PANICS, HANGS], ids=["panic", "hang"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", places(UPDATE[:5], WAY_BACK))
def test_a_kernel_that_fails_is_given_up_whatever_happens_meanwhile(
    running: Fleet, at: int, fault: str, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = running.boot("db")
    running.kernel("web", bad)
    begun = sabotaged(running, at, fault, monkeypatch)
    if not fault.startswith("killed") and begun[-1] == "await_ready":
        assert running.runs() == GOOD  # at once
    was_remembered = running.guest().quarantine != ()
    for _ in range(2):
        boots = running.boot()
        running.apply()
        if was_remembered and running.boot() != boots:
            assert running.runs() == GOOD  # another boot, but never one of what was remembered
        was_remembered = running.guest().quarantine != ()
    assert running.runs() == GOOD
    assert was_remembered
    assert running.guest().candidate is None
    assert "/srv/web" in running.host().files
    assert running.boot("db") == neighbour
    settled = running.boot()
    assert running.apply().code == 3
    assert running.boot() == settled


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", places(FIRST_BOOT))
def test_a_first_boot_that_is_disturbed_arrives_all_the_same(
    running: Fleet, at: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = running.boot("web"), running.boot("db")
    disk = 'disk = [{ vdev = "xvda", path = "/srv/new", size = "1GiB" }]'
    running.write("alpha/new.toml", f'kernel = "kernels/new"\nmemory = 128\n{disk}\n')
    running.kernel("new", GOOD)
    sabotaged(running, at, fault, monkeypatch)
    ended = running.apply()
    assert ended.code == 0, ended.out
    assert running.runs("new") == GOOD
    assert running.guest("new").quarantine == ()
    assert (running.boot("web"), running.boot("db")) == others
    assert running.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", places(WAY_BACK[:2]))
def test_a_first_boot_that_fails_is_not_tried_again_whatever_happens_meanwhile(
    running: Fleet, at: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write("alpha/new.toml", 'kernel = "kernels/new"\nmemory = 128\n')
    running.kernel("new", HANGS)
    begun = sabotaged(running, at + 4, fault, monkeypatch)
    assert begun[4] == "set_quarantine"
    before = running.boot("new")
    was_remembered = running.guest("new").quarantine != ()
    again = running.apply()
    assert running.boot("new") in (before, None)
    if was_remembered:
        assert running.boot("new") is None, "what is left of it is cleared away"
        assert again.code == (3 if before is None else 0)
        assert running.apply().code == 3
        assert "alpha/new  stalled" in running.run("status").out


@pytest.mark.parametrize("behaviour", [GOOD, HANGS])
def test_a_first_boot_is_asked_again_whether_it_is_ready_when_the_apply_died_in_its_gate(
    running: Fleet, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write("alpha/new.toml", 'kernel = "kernels/new"\nmemory = 128\n')
    running.kernel("new", behaviour)
    begun = sabotaged(running, 3, "killed before", monkeypatch)
    assert begun[3] == "await_ready"
    assert running.guest("new").unproven
    assert "alpha/new  reconciling" in running.run("status").out
    ended = running.apply()
    if behaviour == GOOD:
        assert ended.code == 0, ended.out
        assert running.runs("new") == GOOD
        assert not running.guest("new").unproven
        assert running.guest("new").previous is None
        assert running.run("plan", "--detailed-exitcode").code == 0
    else:
        assert ended.code == 1
        assert running.boot("new") is None
        assert "alpha/new  stalled" in running.run("status").out


def test_a_domain_that_was_stopped_before_it_ever_ran_has_its_first_boot_later(running: Fleet) -> None:
    spec = 'kernel = "kernels/new"\nmemory = 128\n'
    running.kernel("new", HANGS)
    running.write("alpha/new.toml", f'{spec}state = "stopped"\n')
    assert running.apply().code == 0
    running.write("alpha/new.toml", spec)
    failed = running.apply()
    assert failed.code == 1
    assert running.boot("new") is None, "what did not get ready is no remnant"
    assert "alpha/new  stalled" in running.run("status").out
    running.kernel("new", GOOD)
    assert running.apply().code == 0
    assert running.runs("new") == GOOD
    assert running.guest("new").previous is None, "what never ran is no way back"
    assert running.run("rollback", "alpha/new", "--yes").code == 3


def test_a_lost_reply_is_no_failure_when_a_look_shows_what_was_done(running: Fleet) -> None:
    running.run("sim", "alpha", "destroy", "web")
    running.run("sim", "alpha", "fault", "lost-reply")
    started = running.apply()
    assert started.code == 0, started.out
    assert running.runs() == GOOD
    assert running.run("plan", "--detailed-exitcode").code == 0
