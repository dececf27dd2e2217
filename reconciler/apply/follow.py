"""Follows a plan: each step begins when what it needs is done, as many at once as the host allows, and is confirmed.

It computes nothing anew. A failed step takes along only what depends on it. A start that does not get ready is undone
at once by its way back, which is part of the plan. The first failed restart also stops the restarts that have not begun
(the next ones would likely fail the same way). Asked to stop, it ends the steps in flight, brings back the domains that
are down for a restart, and leaves the rest for the next plan.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from reconciler.apply.crew import Crew
from reconciler.apply.current_wave import Waves
from reconciler.apply.ready import await_ready
from reconciler.apply.rehearsing import rehearse
from reconciler.apply.result import ApplyResult, GuardedProgress, Progress, StepResult, result_of
from reconciler.apply.ways_back import Outages, puts_aside, starts_of, way_back
from reconciler.apply.windows import ClosingWindows
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, unforeseen
from reconciler.plan.order import expected_seconds
from reconciler.plan.plan import Plan
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    AwaitReady,
    CreateDisk,
    DetachVif,
    PlannedStep,
    Rehearse,
    RehearseEnd,
    SetQuarantine,
    Shutdown,
    StageImage,
    Start,
    Step,
    WriteConfig,
)
from reconciler.toolstack import Executor
from reconciler.waiting import ASK_SECONDS

# A step of these kinds is tried once: the second try would find what the first one made, and take it for somebody
# else's; and AwaitReady has waited for its host all the time.
_ONLY_ONCE = (CreateDisk, AttachDisk, AttachVif, DetachVif, AwaitReady)
_IN_ONE_TURN = 200  # steps of very many that are put in line or left out before others get a turn of the loop

# What only gets ready for a change. The domain is as it was, so a hold may still keep all the rest from beginning.
_PREPARES = (StageImage, CreateDisk, WriteConfig, SetQuarantine, Rehearse, RehearseEnd)


TakePlace = Callable[[str], Awaitable[Diagnostic | None]]


async def apply_plan(
    plan: Plan,
    executors: Mapping[str, Executor],
    parallel: Mapping[str, int],
    progress: Progress,
    held: Mapping[str, Diagnostic],
    stop: Callable[[], str | None] = lambda: None,
    place: TakePlace | None = None,
) -> ApplyResult:
    """Carry out all steps of a plan, except on hosts that are `held`. Failures are in the result, never raised.

    `stop` is asked before steps begin. When it gives a reason, no more steps begin. `place` is asked for an address
    before that goes down for a restart; when it gives a problem, that is left for the next plan.
    """
    run = await asyncio.to_thread(_Run, plan, executors, parallel, progress, place)  # it may have 100,000 steps
    return await run.run(held, stop)


class _Run:
    """Follows one plan."""

    def __init__(
        self,
        plan: Plan,
        executors: Mapping[str, Executor],
        parallel: Mapping[str, int],
        progress: Progress,
        place: TakePlace | None,
    ) -> None:
        self._place = place
        self._steps = {step.id: step for step in plan.steps}
        self._executors = executors
        self._progress = GuardedProgress(progress)
        self._slots = dict(parallel)
        self._waiting = {step.id: set(step.needs) for step in plan.steps}
        self._followers: dict[str, list[str]] = defaultdict(list)
        for step in plan.steps:
            for need in step.needs:
                self._followers[need].append(step.id)
        self._length = _critical_lengths(plan.steps, self._followers)
        self._restarting = {change.address for change in plan.changes if change.restarts}
        self._resumed = {change.address for change in plan.changes if change.resumes}
        self._outages = Outages(plan)
        self._put_aside = puts_aside(plan)
        self._ways_back = {step_id: way for way in plan.ways_back for step_id in way.after}
        self._returns = {way.address: starts for way in plan.ways_back if (starts := starts_of(way))}
        self._returning: set[str] = set()  # addresses
        self._begun: set[str] = set()  # addresses
        # addresses at which no hold and no window changes anything any more: what was begun is finished
        self._begun_with = {change.address for change in plan.changes if change.resumes}
        self._heeds_holds = not plan.ignore_holds
        self._windows = ClosingWindows(plan)
        self._failed_restart: str | None = None  # the address of the first one; none is begun after it
        self._fallen_back: list[StepResult] = []
        self._refused: list[Diagnostic] = []  # by steps that are not needed as planned
        self._results: dict[str, StepResult] = {}
        self._line: dict[str, list[tuple[bool, float, str]]] = {step.host: [] for step in plan.steps}  # heaps
        self._touched: dict[str, None] = {}  # hosts with something new in line, or with a slot that has become free
        self._waves = Waves(plan.steps)
        self._broken = math.inf  # the lowest wave in which a domain did not come up: no restart of a higher one begins
        self._goes_down = {(step.address, step.outing) for step in plan.steps if self._takes_down(step)}
        self._comes_up = {step.address for step in plan.steps if isinstance(step.step, Start | AwaitReady)}

    async def run(self, held: Mapping[str, Diagnostic], stop: Callable[[], str | None]) -> ApplyResult:
        for step in self._steps.values():
            if step.host in held:
                await self._leave_out([step.id], held[step.host].summary, is_unknown=True)
        for count, step_id in enumerate([step_id for step_id, needs in self._waiting.items() if not needs]):
            self._offer(step_id)
            if count % _IN_ONE_TURN == 0:
                await asyncio.sleep(0)
        await self._turn(stop)
        results = [self._results[step_id] for step_id in self._steps if step_id in self._results]
        told = () if self._progress.problem is None else (self._progress.problem,)
        refused = (*(held[host] for host in sorted(held)), *self._refused)
        return result_of([*results, *self._fallen_back], (*refused, *told))

    async def _turn(self, stop: Callable[[], str | None]) -> None:
        """Begin what can begin, and wait for what is in flight, until there is neither."""
        crew = Crew()
        stopping = False
        try:
            while True:
                if not stopping and (why := stop()) is not None:
                    stopping = True
                    await self._leave_rest(why)
                touched, self._touched = self._touched, {}
                for host, address in self._begin_returns(touched):
                    crew.begin(self._bring_back(host, address))
                ready, unwanted = self._begin_ready(touched)
                for step in ready:
                    crew.begin(self._work(step))
                if unwanted:
                    self._touched |= touched
                    await self._leave_out(unwanted, f"not begun, since the restart of {self._failed_restart} failed")
                    continue  # others may begin since these have ended
                if not crew:
                    break
                await crew.any_ended(ASK_SECONDS)
        finally:
            await crew.cancel()

    def _offer(self, step_id: str) -> None:
        """Put a step in line whose needs are done.

        What brings a domain back goes first, then what has the longest way to go.
        """
        step = self._steps[step_id]
        if not self._waves.may_begin(step):
            return
        brings_back = step.address in self._begun and step.address in self._restarting
        heapq.heappush(self._line[step.host], (not brings_back, -self._length[step_id], step_id))
        self._touched[step.host] = None

    def _begin_returns(self, hosts: Iterable[str]) -> list[tuple[str, str]]:
        """Begin to bring back stranded domains, as many as each host has slots for."""
        begun = []
        for host in hosts:
            while self._slots[host] > 0 and (address := self._outages.next_to_return(host, self._returning)):
                self._slots[host] -= 1
                self._returning.add(address)
                begun.append((host, address))
        return begun

    def _begin_ready(self, hosts: Iterable[str]) -> tuple[list[PlannedStep], list[str]]:
        """Begin as many steps as each host has slots for. Returns them, and those that are not to begin any more."""
        begun, unwanted = [], []
        for host in hosts:
            line = self._line[host]
            while line and self._slots[host] > 0:
                step_id = heapq.heappop(line)[2]
                if step_id not in self._waiting:  # left out meanwhile
                    continue
                step = self._steps[step_id]
                if self._failed_restart is not None and self._begins_restart(step):
                    unwanted.append(step_id)
                    continue
                del self._waiting[step_id]
                self._slots[host] -= 1
                self._begun.add(step.address)
                self._progress.started(step)
                begun.append(step)
        return begun, unwanted

    def _takes_down(self, step: PlannedStep) -> bool:
        return isinstance(step.step, Shutdown) and step.address in self._restarting

    def _begins_restart(self, step: PlannedStep) -> bool:
        return self._takes_down(step) or isinstance(step.step, Rehearse)

    async def _work(self, step: PlannedStep) -> None:
        """Carry out one step and, when it was a start that failed, its way back, both in one slot.

        The way back goes before anything else is done about the failure, since the domain is down meanwhile.
        """
        is_new = step.address not in self._begun_with
        closed = self._windows.closed(step.address) if is_new else None
        if closed is None and is_new and self._place is not None and self._takes_down(step):
            closed = await self._place(step.address)
        if closed is None:
            result = await self._carry_out(step, unless_held=is_new and self._heeds_holds)
        else:
            result = StepResult(step=step, problem=closed)
        if result.problem is not None and result.problem.moved:
            self._refused.append(result.problem)
            await self._leave_out_begun(result, result.problem)
            return
        if not isinstance(step.step, _PREPARES):
            self._begun_with.add(step.address)
        self._note(result)
        if result.problem is None:
            self._offer_followers(step)
            self._end(step)
        else:
            self._heed_failed_restart(step)
            if step.id in self._ways_back:
                undo = step.address in self._put_aside
                steps = way_back(self._ways_back[step.id], step, result.problem, undo_quarantine=undo)
                await self._follow_back(steps)
            why = f"{step.address} failed before it"
            await self._leave_out(self._followers[step.id], why)
            await self._heed_missing(step, why, is_unknown=_says_nothing(result.problem, step))
        self._free_slot(step.host)

    async def _leave_out_begun(self, result: StepResult, moved: Diagnostic) -> None:
        """Skip a step that is not needed as planned, and what needs it: that is for the next plan, and no failure."""
        step, why = result.step, f"{moved.summary}: plan again"
        self._note(replace(result, problem=None, reason=why))
        await self._leave_out(self._followers[step.id], why)
        await self._heed_missing(step, why, is_unknown=True)
        self._free_slot(step.host)

    def _free_slot(self, host: str) -> None:
        self._slots[host] += 1
        self._touched[host] = None

    def _note(self, result: StepResult) -> None:
        self._results[result.step.id] = result
        self._outages.note(result)
        self._touched[result.step.host] = None  # a domain may be stranded now
        self._progress.finished(result)

    def _offer_followers(self, step: PlannedStep) -> None:
        for follower in self._followers[step.id]:
            if follower in self._waiting:
                self._waiting[follower].discard(step.id)
                if not self._waiting[follower]:
                    self._offer(follower)

    def _heed_failed_restart(self, step: PlannedStep) -> None:
        """Note the first restart that failed. No other restart takes its domain down after that."""
        restarts = step.address in self._restarting and isinstance(step.step, Shutdown | Start | AwaitReady | Rehearse)
        if self._failed_restart is None and (restarts or step.address in self._resumed):
            self._failed_restart = step.address

    async def _bring_back(self, host: str, address: str) -> None:
        """Start a domain as it was that was taken down, and whose own start is not tried any more."""
        await self._follow_back(self._returns.get(address, ()))
        self._returning.discard(address)
        self._free_slot(host)

    async def _follow_back(self, steps: tuple[PlannedStep, ...]) -> None:
        """Carry out the steps of a way back until one fails."""
        failed = False
        for planned in steps:
            if failed:
                result = StepResult(step=planned, reason=f"the way back of {planned.address} failed before it")
            else:
                self._progress.started(planned)
                result = await self._carry_out(planned)
                # a domain is brought back also where nobody could note why
                failed = result.problem is not None and not isinstance(planned.step, SetQuarantine)
            self._fallen_back.append(result)
            self._progress.finished(result)

    async def _carry_out(self, planned: PlannedStep, *, unless_held: bool = False) -> StepResult:
        """Carry out a step, and once more if its answer was lost: executors look first whether it is done."""
        executor, began = self._executors[planned.host], _now(self._executors[planned.host])
        pauses: list[float] = []
        problem, note = await self._try(executor, planned, pauses.append, unless_held=unless_held)
        again = problem is not None and problem.transient and not problem.later
        if again and not isinstance(planned.step, _ONLY_ONCE):
            problem, note = await self._try(executor, planned, pauses.append, unless_held=unless_held)
        return StepResult(
            step=planned,
            seconds=_now(executor) - began,
            began=began,
            problem=problem,
            note=note,
            paused_seconds=sum(pauses),
        )

    async def _try(
        self, executor: Executor, planned: PlannedStep, paused: Callable[[float], None], *, unless_held: bool
    ) -> tuple[Diagnostic | None, str | None]:
        try:
            return None, await carry_out(
                executor,
                planned.step,
                lambda text: self._progress.noted(planned, text),
                unless_held=unless_held,
                paused=paused,
            )
        except ReconcilerError as error:
            return error.diagnostics[0], None
        except Exception as error:  # noqa: BLE001 -- what goes wrong in one step must not end the others
            return unforeseen(f"{planned.address} was worked on ({planned.step.kind})", error, planned.address), None

    async def _leave_rest(self, why: str) -> None:
        """Begin nothing more, except to bring back domains that are down for a restart, or on their way down."""
        await self._leave_out([step_id for step_id in self._waiting if not self._ends_an_outage(step_id)], why)
        for line in self._line.values():  # to take them out one by one would hold the loop
            line[:] = [place for place in line if place[2] in self._waiting]
            heapq.heapify(line)

    def _ends_an_outage(self, step_id: str) -> bool:
        shutdown = self._outages.shutdown_before(step_id)
        return shutdown is not None and shutdown not in self._waiting and not self._takes_down(self._steps[step_id])

    async def _leave_out(self, step_ids: Iterable[str], reason: str, *, is_unknown: bool = False) -> None:
        """Skip these steps, and all that need them. `is_unknown` as for `_heed_missing`.

        There may be 100,000, so others get their turns meanwhile. No step of them can begin then: what they need has
        not ended well, and no wave ends before its last step is left out.
        """
        todo = list(step_ids)[::-1]
        while todo:
            step_id = todo.pop()
            if step_id in self._waiting:
                del self._waiting[step_id]
                self._note(StepResult(step=self._steps[step_id], reason=reason))
                todo += reversed(self._followers[step_id])
                await self._heed_missing(self._steps[step_id], reason, is_unknown=is_unknown)
                if len(self._results) % _IN_ONE_TURN == 0:
                    await asyncio.sleep(0)

    async def _heed_missing(self, step: PlannedStep, reason: str, *, is_unknown: bool) -> None:
        """Let no restart of a higher wave begin, since a domain of this one did not come up, or nobody can tell.

        A domain that was only to change while it runs, to stop or to go is as ready as before without that, and holds
        nobody. What else higher waves do takes nobody down, and goes on, as in the next plan.
        """
        if (is_unknown or step.address in self._comes_up) and step.wave < self._broken:
            self._broken = step.wave
            restarts = (one for one in map(self._steps.__getitem__, self._waiting) if self._is_of_a_restart(one))
            await self._leave_out([one.id for one in restarts if one.wave > step.wave], reason)
        self._end(step)

    def _is_of_a_restart(self, step: PlannedStep) -> bool:
        return (step.address, step.outing) in self._goes_down

    def _end(self, step: PlannedStep) -> None:
        """Offer what can begin since this step has ended, however it did."""
        for later in self._waves.ended(step):
            self._offer(later.id)


async def carry_out(
    executor: Executor,
    step: Step,
    report: Callable[[str], None],
    *,
    unless_held: bool = False,
    paused: Callable[[float], None] = lambda _: None,
) -> str | None:
    """Carry out one step, and return what there is to say of it. Its executor does what a host does.

    Waiting until a domain is ready, and judging a rehearsal, is done here. `paused` is told of each pause for one.
    """
    if isinstance(step, Rehearse):
        return await rehearse(executor, step, report, paused, unless_held=unless_held)
    if isinstance(step, AwaitReady):
        await await_ready(executor, step, report)
    else:
        await executor.execute(step, report, unless_held=unless_held)
    return None


def _says_nothing(problem: Diagnostic, step: PlannedStep) -> bool:
    """Return whether an error leaves open how the domain is: its host did not answer, or nobody foresaw the error."""
    return problem.trace is not None or (problem.transient and problem.address != step.address)


def _now(executor: Executor) -> float:
    """Return the host's clock, or 0 where it cannot be read, which costs only the durations."""
    try:
        return executor.now()
    except Exception:  # noqa: BLE001 -- a clock must not end a step
        return 0.0


def _critical_lengths(steps: tuple[PlannedStep, ...], followers: Mapping[str, list[str]]) -> dict[str, float]:
    """Return the seconds expected from the beginning of each step to the end of all that follows it."""
    lengths: dict[str, float] = {}
    for step in reversed(steps):  # plan order is topological
        rest = max((lengths[follower] for follower in followers[step.id]), default=0.0)
        lengths[step.id] = expected_seconds(step.step) + rest
    return lengths
