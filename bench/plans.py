"""Plans of a whole fleet on simulated hosts, each a command of its own, against `bench.floor` on the same files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.fleet import write_fleet
from bench.measure import Figure, Used, against, python

_MOST_MIB = 200
_CHANGES = 2  # the exit code of a plan that has something to do
_OTHER_KERNEL = '#!simulated-kernel\nboot_seconds = 1\nconsole = "new"\n'


def plans(folder: Path, domains: int, rounds: int = 5) -> Iterator[Figure]:
    """Measure the plans of a fleet of this size: with nothing to do, with all to create, with all to restart."""
    specs, state = folder / "specs", folder / "state"
    write_fleet(specs, domains)
    python("-m", "bench.settled", str(specs), str(state))
    floor = partial(python, "-m", "bench.floor", str(specs), str(state))
    nothing = against("plan, nothing to do", partial(_first_plan, specs, state), floor, at_most=6, rounds=rounds)
    yield replace(nothing, mib_at_most=_MOST_MIB)
    again = against("the same plan again", partial(plan, specs, state, 0), floor, at_most=3, rounds=rounds)
    yield replace(again, mib_at_most=_MOST_MIB)
    create = partial(plan, specs, folder / "empty", _CHANGES)
    yield against("plan and prove creates", create, floor, at_most=6, rounds=rounds)
    (specs / "kernels" / "linux").write_text(_OTHER_KERNEL)
    restart = partial(plan, specs, state, _CHANGES)
    yield against("plan and prove restarts", restart, floor, at_most=6, rounds=rounds)


def _first_plan(specs: Path, state: Path) -> Used:
    """Plan without anything that an earlier run has kept."""
    (state / "quiet-plan.json").unlink(missing_ok=True)
    return plan(specs, state, 0)


def plan(specs: Path, state: Path, code: int) -> Used:
    command = ("--state-dir", str(state), "plan", "--detailed-exitcode", str(specs))
    return python("-m", "reconciler", *command, expected=(code,))
