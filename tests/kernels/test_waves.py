"""Many domains get a new kernel: the first that fails stops what has not begun; a second run goes on with the rest."""

from __future__ import annotations

import pytest

from reconciler.apply.result import StepResult
from reconciler.plan.steps import PlannedStep

from .fleet import BETTER, GOOD, Fleet, Watcher, watched_by
from .test_cut_short import Killed

NAMES = ("w1", "w2", "w3", "w4")


@pytest.fixture
def four(fleet: Fleet) -> Fleet:
    """Four domains with a kernel each, all running the good one."""
    for name in NAMES:
        fleet.write(f"alpha/{name}.toml", f'kernel = "kernels/{name}"\nmemory = 128\n')
        fleet.kernel(name, GOOD)
    assert fleet.apply().code == 0
    return fleet


def test_the_second_of_four_fails(four: Fleet) -> None:
    before = {name: four.boot(name) for name in (*NAMES, "web", "db")}
    for name in NAMES:
        four.kernel(name, BETTER)
    four.kernel("w2", 'boot = "panic"')
    failed = four.apply()
    assert failed.code == 1
    assert [four.runs(name) for name in NAMES] == [BETTER, GOOD, GOOD, GOOD]
    assert [name for name, boot in before.items() if four.boot(name) == boot] == ["w3", "w4", "web", "db"]
    assert "alpha/w1 was down for" in failed.out
    assert "fell back: alpha/w2" in failed.out
    assert "alpha/w4  5 steps: alpha/w2 failed before it" in failed.out

    rest = four.apply()
    assert rest.code == 3  # w2 is still held back
    assert [four.runs(name) for name in NAMES] == [BETTER, GOOD, BETTER, BETTER]
    four.kernel("w2", BETTER)
    assert four.apply().code == 0
    assert [four.runs(name) for name in NAMES] == [BETTER] * 4


def test_two_may_be_down_at_once(four: Fleet) -> None:
    four.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nmax_unavailable = 2\n')
    for name in NAMES:
        four.kernel(name, BETTER)
    four.kernel("w1", 'boot = "hang"')
    assert four.apply().code == 1
    runs = [four.runs(name) for name in NAMES]
    assert runs[0] == GOOD
    assert None not in runs
    assert four.apply().code == 3
    assert [four.runs(name) for name in NAMES] == [GOOD, BETTER, BETTER, BETTER]


@pytest.mark.parametrize("died_in", ["start", "await_ready"])
def test_a_second_run_ends_what_a_killed_one_began_before_it_begins_more(
    four: Fleet, died_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        four.kernel(name, 'boot = "hang"')

    class Killer(Watcher):
        def started(self, step: PlannedStep) -> None:
            if step.step.kind == died_in:
                raise Killed

    with watched_by(Killer(), monkeypatch), pytest.raises(Killed):
        four.apply()
    others = [four.boot(name) for name in NAMES[1:]]
    assert four.apply().code == 1
    assert four.runs("w1") == GOOD
    assert [four.boot(name) for name in NAMES[1:]] == others, "one bad kernel is enough"


def test_a_canary_that_fails_stops_all_others(four: Fleet) -> None:
    four.write("alpha/w4.toml", 'kernel = "kernels/w4"\nmemory = 128\nwave = -1\n')
    others = [four.boot(name) for name in NAMES[:3]]
    for name in NAMES[:3]:
        four.kernel(name, BETTER)
    four.kernel("w4", 'boot = "panic"')
    failed = four.apply()
    assert failed.code == 1
    assert [four.boot(name) for name in NAMES[:3]] == others
    assert four.runs("w4") == GOOD


def test_a_canary_is_watched_for_its_min_seconds_before_the_others_begin(
    four: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = 'kernel = "kernels/w4"\nmemory = 128\nwave = -1\nready = { min_seconds = 60 }\n'
    four.write("alpha/w4.toml", canary)
    for name in NAMES:
        four.kernel(name, BETTER)
    times: dict[str, float] = {}

    class Stopwatch(Watcher):
        def finished(self, result: StepResult) -> None:
            times[f"{result.step.address} {result.step.step.kind}"] = result.began + result.seconds

    with watched_by(Stopwatch(), monkeypatch):
        assert four.apply().code == 0
    started, ready = times["alpha/w4 start"], times["alpha/w4 await_ready"]
    assert ready - started >= 60
    assert min(times[f"alpha/{name} shutdown"] for name in NAMES[:3]) > ready
