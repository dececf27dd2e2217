"""Finds what became of the domains that an apply took down or tried to bring up, and how long they were down.

Called by `history`, which remembers how long restarts take, and for the result that people and programs read. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from reconciler.apply.result import ApplyResult, StepResult
from reconciler.plan.plan import Plan
from reconciler.plan.steps import AwaitReady, Rehearse, Shutdown
from reconciler.records import dataclass


class Outcome(StrEnum):
    """The end of an apply for one domain."""

    RESTARTED = "restarted"  # it runs its new definition
    FELL_BACK = "fell back"  # the new definition did not get ready; the last proven one is ready again
    CAME_BACK = "came back"  # it only went down with another, whose failure it sits out as it was
    UNTOUCHED = "untouched"  # its rehearsal failed, so it never went down
    CLEARED = "cleared"  # a start that failed was cleared away, and there is nothing to fall back to
    STALLED = "stalled"  # the way back failed too


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The outage of one domain. `down_seconds` go from the begin of its shutdown until it was ready (host's clock).

    They are None when the domain did not run before, or is not ready now. Of a domain that went down with another, and
    then for its own sake, they are the sum, and `times_seconds` has both.
    """

    address: str
    outcome: Outcome
    down_seconds: float | None = None
    times_seconds: tuple[float, ...] = ()
    problem: str | None = None  # why the new definition was given up
    way_back_problem: str | None = None
    paused_seconds: float = 0  # for the snapshots of its rehearsals, beside the time for which it was down


def outages_of(plan: Plan, result: ApplyResult) -> tuple[Outage, ...]:
    """Return an entry for each domain that was restarted or had to go its way back, by address."""
    ways_back = {step.id for way in plan.ways_back for step in way.steps}
    restarting = {change.address for change in plan.changes if change.restarts}
    by_address: dict[str, list[StepResult]] = {}
    for ended in (*result.done, *result.failed):
        by_address.setdefault(ended.step.address, []).append(ended)
    found = []
    for address, steps in sorted(by_address.items()):
        own = [ended for ended in steps if ended.step.id not in ways_back]
        back = [ended for ended in steps if ended.step.id in ways_back]
        if (back or address in restarting) and (outage := _outage(address, own, back)) is not None:
            paused_seconds = round(sum(ended.paused_seconds for ended in own), 1)
            found.append(replace(outage, paused_seconds=paused_seconds))
    return tuple(found)


def _outage(address: str, own: Sequence[StepResult], back: Sequence[StepResult]) -> Outage | None:
    """Return the entry of one domain; None when it never went down, or when its failure left it as it was."""
    rehearsed = [ended for ended in own if isinstance(ended.step.step, Rehearse) and ended.problem is not None]
    if rehearsed:
        return Outage(address=address, outcome=Outcome.UNTOUCHED, problem=_first_problem(rehearsed))
    downs = [ended for ended in own if isinstance(ended.step.step, Shutdown) and ended.problem is None]
    ups = [ended for ended in own if isinstance(ended.step.step, AwaitReady)]
    if back:  # then only how the last one ended is of interest
        downs, ups = downs[-1:], [ended for ended in back if isinstance(ended.step.step, AwaitReady)]
    down, is_up = bool(downs), bool(ups) and all(ended.problem is None for ended in ups)
    times: tuple[float, ...] = ()
    if down and is_up:
        times = tuple(up.began + up.seconds - gone.began for gone, up in zip(downs, ups, strict=False))
    seconds = round(sum(times), 1) if times else None
    problem, way_back_problem = _first_problem(own), _first_problem(back)
    if not back:
        restarted = Outage(address=address, outcome=Outcome.RESTARTED, down_seconds=seconds, times_seconds=times)
        return restarted if is_up and down else None
    if way_back_problem is not None:
        outcome = Outcome.STALLED
    elif not is_up:
        outcome = Outcome.CLEARED
    else:
        outcome = Outcome.CAME_BACK if problem is None else Outcome.FELL_BACK
    return Outage(
        address=address,
        outcome=outcome,
        down_seconds=seconds,
        times_seconds=times,
        problem=problem,
        way_back_problem=way_back_problem,
    )


def _first_problem(results: Sequence[StepResult]) -> str | None:
    """Say in one line why the first of these failed; None when none did."""
    for ended in results:
        if ended.problem is not None:
            return (ended.problem.detail or ended.problem.summary).splitlines()[0]
    return None
