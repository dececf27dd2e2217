"""Ways back: what is done after a start that failed, and who is down for a restart that nobody will end.

Used by `follow`. The steps themselves were planned and proven with the plan; here it is decided which of them apply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import replace

from reconciler.apply.result import StepResult
from reconciler.model.diagnostics import Diagnostic
from reconciler.plan.plan import Plan
from reconciler.plan.steps import AwaitReady, Fallback, PlannedStep, SetQuarantine, Shutdown, Start

_REASON_MAX = 300  # characters of a reason that are kept on the host


def way_back(
    fallback: Fallback, failed: PlannedStep, problem: Diagnostic, *, undo_quarantine: bool = False
) -> tuple[PlannedStep, ...]:
    """What to do after this failure. Only a boot that was tried and failed is held against what it booted.

    Whatever else went wrong (no loop device, no memory, a lost reply) says nothing about the new definition, so nothing
    is quarantined; `undo_quarantine` takes back what a rollback put there before. A domain that nobody could look at
    stays as it is for the next run, but for an error that nobody foresaw: that may well come again, so the domain goes
    back to what is proven.
    """
    if problem.boot_failed:
        return tuple(_with_reason(planned, problem) for planned in fallback.steps)
    if problem.transient and isinstance(failed.step, AwaitReady) and problem.trace is None:
        return ()
    steps = (_without_the_last(planned) for planned in fallback.steps)
    return tuple(planned for planned in steps if undo_quarantine or not isinstance(planned.step, SetQuarantine))


def puts_aside(plan: Plan) -> frozenset[str]:
    """The addresses whose quarantine the plan itself fills, as a rollback does with what it leaves."""
    filled = (step for step in plan.steps if isinstance(step.step, SetQuarantine) and step.step.entries)
    return frozenset(step.address for step in filled)


def _without_the_last(planned: PlannedStep) -> PlannedStep:
    """A quarantine less its last entry, the boot that was tried just now."""
    if not isinstance(planned.step, SetQuarantine):
        return planned
    return replace(planned, step=replace(planned.step, entries=planned.step.entries[:-1]))


def _with_reason(planned: PlannedStep, problem: Diagnostic) -> PlannedStep:
    """A quarantine with why its last entry, the boot that failed just now, did: one line, history has the rest."""
    if not isinstance(planned.step, SetQuarantine):
        return planned
    why = (problem.detail or problem.summary).splitlines()[0][:_REASON_MAX]
    *others, failed = planned.step.entries
    return replace(planned, step=replace(planned.step, entries=(*others, replace(failed, reason=why))))


class Outages:
    """Which restarts took their domain down, and who of these is stranded: its own start is not tried any more."""

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
        """The shutdown that this step of a restart comes after; None for every other step."""
        return self._before.get(step_id)

    def note(self, result: StepResult) -> None:
        """Learn what became of a step. A shutdown whose reply was lost may have taken its domain down."""
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
        """The address of a stranded domain that can be started now, and is then forgotten; None: there is none.

        `returning` are those under way: whoever depends on one of these, or on another stranded one, waits for it.
        """
        stranded = self._stranded[host]
        missing = {*returning, *(self._starts[shutdown].address for shutdown in stranded)}
        for shutdown in stranded:
            start = self._starts[shutdown]
            if not missing & self._needs[start.id]:
                stranded.remove(shutdown)
                return start.address
        return None


def starts_of(fallback: Fallback) -> tuple[PlannedStep, ...]:
    """What of a way back brings a domain up that is down: it starts as it was, and nothing is quarantined."""
    return tuple(planned for planned in fallback.steps if isinstance(planned.step, Start | AwaitReady))


def _may_have_been_done(result: StepResult) -> bool:
    return result.reason is None and (result.problem is None or result.problem.transient)


def _addresses_needed(plan: Plan, starts: Iterable[PlannedStep]) -> dict[str, frozenset[str]]:
    """Which other domains each of these starts waits for."""
    addresses = {step.id: step.address for step in plan.steps}
    return {start.id: frozenset(addresses[need] for need in start.needs) - {start.address} for start in starts}
