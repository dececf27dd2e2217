"""Decides on ways back: what to do after a start that failed, and which domains are down with nobody to start them.

Used by `follow`. The steps themselves were planned and proven with the plan; here it is decided which of them apply.
When `web` gets a new kernel, its plan has this way back, for when the start or the wait fails:

>>> from tests.worlds import NEW, desired, domain, guest, host, kernel, plan
>>> made = plan(host(guest(domain("web"))), desired(domain("web", kernel=kernel("web", NEW))))
>>> [step.step.kind for step in made.steps]
['stage_image', 'write_config', 'shutdown', 'start', 'await_ready', 'promote_config', 'sweep_images']
>>> made.ways_back[0].after, [step.step.kind for step in made.ways_back[0].steps]
(('s4', 's5'), ['set_quarantine', 'shutdown', 'start', 'await_ready'])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import replace

from reconciler.apply.result import StepResult
from reconciler.model.diagnostics import Diagnostic
from reconciler.plan.plan import Plan
from reconciler.plan.steps import AwaitReady, PlannedStep, Rehearse, SetQuarantine, Shutdown, Start, WayBack

_REASON_MAX = 300  # characters of a reason that are kept on the host


def way_back(
    way: WayBack, failed: PlannedStep, problem: Diagnostic, *, undo_quarantine: bool = False
) -> tuple[PlannedStep, ...]:
    """Return what to do after this failure. Only a boot that was tried and failed is held against what it booted.

    Any other failure (no loop device, no memory, a lost reply) says nothing about the new definition, so nothing is
    quarantined; `undo_quarantine` takes back what a rollback put there before. A domain that nobody could look at stays
    as it is for the next run. After an error that nobody foresaw it goes back to what is proven, since the error may
    well come again.
    """
    if isinstance(failed.step, Rehearse):
        return _noted(way, problem)
    if problem.boot_failed:
        return tuple(_with_reason(planned, problem) for planned in way.steps)
    if problem.transient and isinstance(failed.step, AwaitReady) and problem.trace is None:
        return ()
    steps = (_without_the_last(planned) for planned in way.steps)
    return tuple(planned for planned in steps if undo_quarantine or not isinstance(planned.step, SetQuarantine))


def _noted(way: WayBack, problem: Diagnostic) -> tuple[PlannedStep, ...]:
    """Return what is noted of a rehearsal that failed: by its kernel, or so that nobody knows; else nothing."""
    of_kernel, unjudged = way.steps
    if problem.boot_failed:
        return (_with_reason(of_kernel, problem),)
    return () if problem.transient or problem.later else (_with_reason(unjudged, problem),)


def puts_aside(plan: Plan) -> frozenset[str]:
    """Return the addresses whose quarantine the plan itself fills, as a rollback does with what it leaves."""
    filled = (step for step in plan.steps if isinstance(step.step, SetQuarantine) and step.step.entries)
    return frozenset(step.address for step in filled)


def _without_the_last(planned: PlannedStep) -> PlannedStep:
    """Drop from a quarantine its last entry, which is the boot that was tried just now."""
    if not isinstance(planned.step, SetQuarantine):
        return planned
    return replace(planned, step=replace(planned.step, entries=planned.step.entries[:-1]))


def _with_reason(planned: PlannedStep, problem: Diagnostic) -> PlannedStep:
    """Say in the last entry of a quarantine, the boot that failed just now, why it did. One line is kept."""
    if not isinstance(planned.step, SetQuarantine):
        return planned
    why = (problem.detail or problem.summary).splitlines()[0][:_REASON_MAX]
    *others, failed = planned.step.entries
    return replace(planned, step=replace(planned.step, entries=(*others, replace(failed, reason=why))))


class Outages:
    """Knows which restarts took their domain down, and which domains are stranded.

    A stranded domain is down, and its own start is not tried any more.
    """

    def __init__(self, plan: Plan) -> None:
        restarting = {change.address for change in plan.changes if change.restarts}
        self._before: dict[str, str] = {}  # step of a restart -> the shutdown that it comes after
        self._starts: dict[str, PlannedStep] = {}  # shutdown -> the start that ends its outage
        self._down: set[str] = set()  # shutdowns that were carried out, or may have been
        self._left_out: set[str] = set()  # shutdowns whose start is left out
        self._stranded: dict[str, list[str]] = defaultdict(list)  # host -> shutdowns
        last: dict[tuple[str, bool], str] = {}  # a domain may go down with another, and later for its own sake
        for step in plan.steps:
            if step.address in restarting and isinstance(step.step, Shutdown):
                last[step.address, step.outing] = step.id
            elif (shutdown := last.get((step.address, step.outing))) is not None:
                self._before[step.id] = shutdown
                if isinstance(step.step, Start):
                    self._starts.setdefault(shutdown, step)
        self._needs = _addresses_needed(plan, self._starts.values())

    def shutdown_before(self, step_id: str) -> str | None:
        """Return the shutdown that this step of a restart comes after; None for every other step."""
        return self._before.get(step_id)

    def note(self, result: StepResult) -> None:
        """Learn how a step ended. A shutdown whose reply was lost may have taken its domain down."""
        step_id, shutdown = result.step.id, self._before.get(result.step.id, "")
        if step_id in self._starts and _may_have_been_done(result):
            self._down.add(step_id)
            self._strand(step_id)
        elif shutdown in self._starts and self._starts[shutdown].id == step_id and result.reason is not None:
            self._left_out.add(shutdown)
            self._strand(shutdown)

    def _strand(self, shutdown: str) -> None:
        if shutdown in self._down and shutdown in self._left_out:
            self._stranded[self._starts[shutdown].host].append(shutdown)

    def next_to_return(self, host: str, returning: Set[str]) -> str | None:
        """Return the address of a stranded domain that can be started now, and forget it; None when there is none.

        `returning` are those being started. A domain that depends on one of these, or on a stranded one, waits for it.
        """
        stranded = self._stranded[host]
        missing = {*returning, *(self._starts[shutdown].address for shutdown in stranded)}
        for shutdown in stranded:
            start = self._starts[shutdown]
            if not missing & self._needs[start.id]:
                stranded.remove(shutdown)
                return start.address
        return None


def starts_of(way: WayBack) -> tuple[PlannedStep, ...]:
    """Return the steps of a way back that start a domain as it was. None of them quarantines anything."""
    return tuple(planned for planned in way.steps if isinstance(planned.step, Start | AwaitReady))


def _may_have_been_done(result: StepResult) -> bool:
    return result.reason is None and (result.problem is None or result.problem.transient)


def _addresses_needed(plan: Plan, starts: Iterable[PlannedStep]) -> dict[str, frozenset[str]]:
    """Return the other domains that each of these starts waits for."""
    addresses = {step.id: step.address for step in plan.steps}
    return {start.id: frozenset(addresses[need] for need in start.needs) - {start.address} for start in starts}
