"""Follow the plan: each step when what it needs is done, as many at once as the host allows, each confirmed.

Computes nothing anew. A failed step takes along only what depends on it. A start that does not get ready is undone at
once by its fallback, which is part of the plan; the first failed restart also stops the restarts that have not begun
(the next ones would likely fail the same way). Asked to stop, it ends the steps in flight, brings back the domains that
are down for a restart, and leaves the rest for the next plan.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from reconciler.apply.ready import await_ready
from reconciler.model.diagnostics import Diagnostic, ReconcilerError
from reconciler.plan.order import expected_seconds
from reconciler.plan.plan import Plan
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    AwaitReady,
    CreateDisk,
    DetachVif,
    Fallback,
    PlannedStep,
    SetQuarantine,
    Shutdown,
    Start,
    Step,
)
from reconciler.toolstack import Executor

_REASON_MAX = 300  # characters of a reason that are kept on the host
# What finds its own work there, and takes it for somebody else's; and what has waited for its host all the time.
_ONLY_ONCE = (CreateDisk, AttachDisk, AttachVif, DetachVif, AwaitReady)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How one step ended, and when, by the host's clock; `problem` for failed ones, `reason` for skipped ones."""

    step: PlannedStep
    seconds: float = 0
    began: float = 0
    problem: Diagnostic | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    done: tuple[StepResult, ...] = ()
    failed: tuple[StepResult, ...] = ()
    skipped: tuple[StepResult, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()  # why whole hosts were left alone


class Progress(Protocol):
    """Told of every step as it happens."""

    def started(self, step: PlannedStep) -> None: ...

    def noted(self, step: PlannedStep, text: str) -> None: ...

    def finished(self, result: StepResult) -> None: ...


async def apply_plan(
    plan: Plan,
    executors: Mapping[str, Executor],
    parallel: Mapping[str, int],
    progress: Progress,
    held: Mapping[str, Diagnostic],
    stop: Callable[[], str | None] = lambda: None,
) -> ApplyResult:
    """Carry out all steps of a plan, except on hosts that are `held`. Failures are in the result, never raised.

    `stop` is asked before steps are begun; it gives the reason once the rest is to be left.
    """
    return await _Run(plan, executors, parallel, progress).run(held, stop)


class _Run:
    def __init__(
        self, plan: Plan, executors: Mapping[str, Executor], parallel: Mapping[str, int], progress: Progress
    ) -> None:
        self._steps = {step.id: step for step in plan.steps}
        self._executors = executors
        self._progress = progress
        self._slots = dict(parallel)
        self._waiting = {step.id: set(step.needs) for step in plan.steps}
        self._followers: dict[str, list[str]] = defaultdict(list)
        for step in plan.steps:
            for need in step.needs:
                self._followers[need].append(step.id)
        self._length = _critical_lengths(plan.steps, self._followers)
        self._restarting = {change.address for change in plan.changes if change.restarts}
        self._resumed = {change.address for change in plan.changes if change.resumes}
        self._ways_back = {fallback.address: fallback for fallback in plan.fallbacks}
        self._restarts: dict[str, list[PlannedStep]] = defaultdict(list)  # host -> starts, in the order of the plan
        for step in plan.steps:
            if isinstance(step.step, Start) and step.address in self._restarting:
                self._restarts[step.host].append(step)
        self._shutdowns = {step.address: step.id for step in plan.steps if isinstance(step.step, Shutdown)}
        self._bringing_back: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._brought_back: set[str] = set()  # addresses
        self._fallbacks = {step_id: fallback for fallback in plan.fallbacks for step_id in fallback.after}
        self._begun: set[str] = set()  # addresses
        self._fallen_back: list[StepResult] = []
        self._results: dict[str, StepResult] = {}
        self._line: dict[str, list[tuple[bool, float, str]]] = defaultdict(list)  # heaps, one a host

    async def run(self, held: Mapping[str, Diagnostic], stop: Callable[[], str | None]) -> ApplyResult:
        for step in self._steps.values():
            if step.host in held:
                self._skip(step.id, held[step.host].summary)
        for step_id, needs in self._waiting.items():
            if not needs:
                self._offer(step_id)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                if (why := stop()) is not None:
                    self._leave_rest(why)
                    for host in self._executors:
                        await self._bring_back_stranded(host)
                running |= {asyncio.create_task(self._work(step)) for step in self._begin_ready()}
                if not running:
                    break
                finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return replace(self._result(), diagnostics=tuple(held[host] for host in sorted(held)))

    def _offer(self, step_id: str) -> None:
        """Put a step whose needs are done in line: what brings a domain back first, then the longest way to go."""
        step = self._steps[step_id]
        brings_back = step.address in self._begun and step.address in self._restarting
        heapq.heappush(self._line[step.host], (not brings_back, -self._length[step_id], step_id))

    def _begin_ready(self) -> list[PlannedStep]:
        """Begin as many steps as each host has slots for."""
        begun = []
        for host, line in self._line.items():
            while line and self._slots[host] > 0:
                step_id = heapq.heappop(line)[2]
                if step_id not in self._waiting:  # skipped meanwhile
                    continue
                del self._waiting[step_id]
                step = self._steps[step_id]
                self._slots[host] -= 1
                self._begun.add(step.address)
                self._progress.started(step)
                begun.append(step)
        return begun

    async def _work(self, step: PlannedStep) -> None:
        """One step, and the way back when it was a start that failed; both in the same slot."""
        result = await self._carry_out(step)
        self._end(step, result)
        if result.problem is not None and step.id in self._fallbacks:
            await self._follow_back(_way_back(self._fallbacks[step.id], step, result.problem))
        if step.address in self._restarting:
            await self._bring_back_stranded(step.host)
        self._slots[step.host] += 1

    async def _follow_back(self, steps: tuple[PlannedStep, ...]) -> None:
        """Each step of a way back, as far as it goes."""
        failed = False
        for planned in steps:
            if failed:
                result = StepResult(step=planned, reason=f"the way back of {planned.address} failed before it")
            else:
                self._progress.started(planned)
                result = await self._carry_out(planned)
                failed = result.problem is not None
            self._fallen_back.append(result)
            self._progress.finished(result)

    async def _bring_back_stranded(self, host: str) -> None:
        """Start again, as they were, the domains that were taken down and whose own start is not tried any more."""
        async with self._bringing_back[host]:
            for step in self._restarts[host]:
                if self._is_stranded(step):
                    self._brought_back.add(step.address)
                    way = self._ways_back.get(step.address)
                    if way is not None:
                        starts = tuple(planned for planned in way.steps if isinstance(planned.step, Start | AwaitReady))
                        await self._follow_back(starts)

    def _is_stranded(self, start: PlannedStep) -> bool:
        """Whether its domain is down, or may be (whoever lost the reply to a shutdown does not know)."""
        result, down = self._results.get(start.id), self._results.get(self._shutdowns.get(start.address, ""))
        untried = result is not None and result.reason is not None
        may_be_down = down is not None and down.reason is None and (down.problem is None or down.problem.transient)
        return untried and may_be_down and start.address not in self._brought_back

    async def _carry_out(self, planned: PlannedStep) -> StepResult:
        """A step; once more if its answer was lost, since whoever does it looks first whether it is done already."""
        result = await self._try(planned)
        if result.problem is None or not result.problem.transient or isinstance(planned.step, _ONLY_ONCE):
            return result
        again = await self._try(planned)
        return replace(again, began=result.began, seconds=again.began - result.began + again.seconds)

    async def _try(self, planned: PlannedStep) -> StepResult:
        executor = self._executors[planned.host]
        began = executor.now()
        try:
            await carry_out(executor, planned.step, lambda text: self._progress.noted(planned, text))
        except ReconcilerError as error:
            problem = error.diagnostics[0]
            return StepResult(step=planned, seconds=executor.now() - began, began=began, problem=problem)
        return StepResult(step=planned, seconds=executor.now() - began, began=began)

    def _end(self, step: PlannedStep, result: StepResult) -> None:
        self._results[step.id] = result
        self._progress.finished(result)
        if result.problem is None:
            for follower in self._followers[step.id]:
                if follower in self._waiting:
                    self._waiting[follower].discard(step.id)
                    if not self._waiting[follower]:
                        self._offer(follower)
            return
        self._skip_followers(step, f"{step.address} failed before it")
        restarts = step.address in self._restarting and isinstance(step.step, Shutdown | Start | AwaitReady)
        if restarts or step.address in self._resumed:
            self._skip_restarts(step)

    def _skip_followers(self, step: PlannedStep, reason: str) -> None:
        for follower in self._followers[step.id]:
            self._skip(follower, reason)

    def _skip_restarts(self, failed: PlannedStep) -> None:
        """Restarts that have not taken their domain down yet are not begun after one went wrong."""
        down = {step.address for step_id in self._results if isinstance((step := self._steps[step_id]).step, Shutdown)}
        for step_id in list(self._waiting):
            step = self._steps[step_id]
            if isinstance(step.step, Shutdown) and step.address in self._restarting and step.address not in down:
                self._skip(step_id, f"not begun, since the restart of {failed.address} failed")

    def _leave_rest(self, why: str) -> None:
        """Nothing more is begun, but what brings back a domain that is down for a restart, or on its way down."""
        going_down = {address for address, step_id in self._shutdowns.items() if step_id not in self._waiting}
        for step_id in list(self._waiting):
            address = self._steps[step_id].address
            if address not in self._restarting or address not in going_down:
                self._skip(step_id, why)

    def _skip(self, step_id: str, reason: str) -> None:
        if step_id not in self._waiting:
            return
        del self._waiting[step_id]
        result = StepResult(step=self._steps[step_id], reason=reason)
        self._results[step_id] = result
        self._progress.finished(result)
        self._skip_followers(result.step, reason)

    def _result(self) -> ApplyResult:
        results = [self._results[step_id] for step_id in self._steps if step_id in self._results]
        results += self._fallen_back
        return ApplyResult(
            done=tuple(result for result in results if result.problem is None and result.reason is None),
            failed=tuple(result for result in results if result.problem is not None),
            skipped=tuple(result for result in results if result.reason is not None),
        )


async def carry_out(executor: Executor, step: Step, report: Callable[[str], None]) -> None:
    """One step, whatever it is: what a host does, its executor does; waiting until a domain is ready is done here."""
    if isinstance(step, AwaitReady):
        await await_ready(executor, step)
    else:
        await executor.execute(step, report)


def _way_back(fallback: Fallback, failed: PlannedStep, problem: Diagnostic) -> tuple[PlannedStep, ...]:
    """What to do after this failure. One that may go away by itself says nothing about the new definition.

    Then nothing is quarantined; and a domain that nobody could look at stays as it is for the next run.
    """
    if not problem.transient:
        return tuple(_with_reason(planned, problem) for planned in fallback.steps)
    if isinstance(failed.step, AwaitReady):
        return ()
    return tuple(planned for planned in fallback.steps if not isinstance(planned.step, SetQuarantine))


def _with_reason(planned: PlannedStep, problem: Diagnostic) -> PlannedStep:
    """A quarantine with why its last entry, the boot that failed just now, did: one line, history has the rest."""
    if not isinstance(planned.step, SetQuarantine):
        return planned
    why = (problem.detail or problem.summary).splitlines()[0][:_REASON_MAX]
    *others, failed = planned.step.entries
    return replace(planned, step=replace(planned.step, entries=(*others, replace(failed, reason=why))))


def _critical_lengths(steps: tuple[PlannedStep, ...], followers: Mapping[str, list[str]]) -> dict[str, float]:
    """Expected seconds from the beginning of each step to the end of all that follows it."""
    lengths: dict[str, float] = {}
    for step in reversed(steps):  # plan order is topological
        rest = max((lengths[follower] for follower in followers[step.id]), default=0.0)
        lengths[step.id] = expected_seconds(step.step) + rest
    return lengths
