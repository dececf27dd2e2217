"""Conducts a rehearsal: boots the throwaway, sees whether it gets ready, and judges what that says of the kernel.

Only `follow` calls it, for the step Rehearse. The running domain is not touched but for a pause that the plan showed. A
throwaway that does not get ready may be the fault of the kernel or of what it lacks there (a network, a peer, memory, a
clean file system). So the boot inputs that run now are rehearsed in the same way, as the control: only if these get
ready is the kernel to blame. None goes on beside one that could not be taken down: it holds memory, room and records.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from reconciler.apply.ready import await_ready
from reconciler.expressions import expression
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, world_error
from reconciler.model.host import Look, Power
from reconciler.model.rehearsal import NotMadeError, Rehearsal
from reconciler.plan.steps import AwaitReady, Rehearse
from reconciler.records import dataclass
from reconciler.toolstack import Executor

Report = Callable[[str], None]

# What a create, Linux and NetBSD say where memory is what they lack.
_LACKS_MEMORY = expression(
    r"segment \S+ too large|out of memory|deadlocked on memory|cannot allocate memory|out of swap", re.IGNORECASE
)


_LAST_WORDS_SECONDS = 1  # until what a guest said as it ended is where its console is kept


@dataclass(slots=True)
class _Outcome:
    """How one boot ended. With neither it got ready."""

    failed: Diagnostic | None = None  # by what it booted, as far as anybody can tell
    trouble: Diagnostic | None = None  # by its host, so it says nothing
    left: Diagnostic | None = None  # why it could not be taken down
    paused_seconds: float = 0


class _TroubleError(Exception):
    """Reports that the host is the reason why a throwaway cannot get ready."""


class _Throwaway:
    """Lets the ready gate see a throwaway, and ends its wait where the host is in trouble.

    Each `on_*` of it is preserve, so no guest makes it go: where it is gone, somebody else ended it.
    """

    def __init__(self, executor: Executor, rehearsal: Rehearsal) -> None:
        self._executor, self._rehearsal = executor, rehearsal
        self._boot: str | None = None
        self._has_ended = False

    async def look(self, domain: str) -> Look:
        seen = await self._executor.look_at_rehearsal(self._rehearsal)
        if seen.trouble is not None:
            raise _TroubleError(seen.trouble)
        is_gone = seen.look.power in (Power.ABSENT, Power.SAVED, Power.DYING)
        if is_gone or self._boot not in (None, seen.look.boot):
            why = f"somebody ended {self._rehearsal.name}, which stays there whatever its guest does"
            raise _TroubleError(f"{why} (its dom0 does so, too, where nobody looks at it for minutes)")
        self._boot = seen.look.boot
        if seen.look.power in (Power.CRASHED, Power.SHUTDOWN, Power.REBOOTING) and not self._has_ended:
            self._has_ended = True
            await self.sleep(_LAST_WORDS_SECONDS)
            return await self.look(domain)
        return seen.look

    async def probe_tcp(self, address: str) -> bool:
        raise AssertionError(address)  # a throwaway reaches nobody, so no rehearsal asks for tcp

    async def sleep(self, seconds: float) -> None:
        await self._executor.sleep(seconds)

    def now(self) -> float:
        return self._executor.now()


async def rehearse(
    executor: Executor,
    step: Rehearse,
    report: Report,
    paused: Callable[[float], None] = lambda _: None,
    *,
    unless_held: bool = False,
) -> str:
    """Return when the restart may go on, with what there is to say: what was seen, or why it goes on without.

    `paused` is told how long the running domain was paused for snapshots, once for each throwaway, however it ends.

    Raises ReconcilerError for a kernel that failed where what runs now did not; and, where a rehearsal is required, for
    one that said nothing or could not be made.
    """
    first = await _boot(executor, step.rehearsal, report, paused, unless_held=unless_held)
    paused_seconds = first.paused_seconds
    if first.left is not None:
        raise ReconcilerError(first.left)
    if first.failed is not None:
        report("it did not get ready: what runs now is booted in the same way, to see whose fault that is")
        control = await _boot(executor, step.control, report, paused, unless_held=False)
        paused_seconds += control.paused_seconds
        if control.failed is None and control.trouble is None and not _lacks_memory(first.failed, step.rehearsal):
            raise ReconcilerError(_of_kernel(first.failed, step, control.left, paused_seconds))
        if control.left is not None:
            raise ReconcilerError(control.left)
        first.trouble = control.trouble or _said_nothing(first.failed, step, of_memory=control.failed is None)
    if first.trouble is None:
        how = f"was paused for {paused_seconds:.1f} s, for its snapshots" if paused_seconds else "was rehearsed first"
        return f"{how}: what it was to boot got ready beside it"
    if step.required:
        raise ReconcilerError(first.trouble)
    why = (first.trouble.detail or first.trouble.summary).splitlines()[0]
    return f"restarts without a rehearsal, which said nothing: {why}"


async def _boot(
    executor: Executor, rehearsal: Rehearsal, report: Report, paused: Callable[[float], None], *, unless_held: bool
) -> _Outcome:
    """Boot one throwaway, see how it ends, and take it down, whatever happens."""
    outcome = _Outcome()
    try:
        outcome.paused_seconds = await executor.begin_rehearsal(rehearsal, report, unless_held=unless_held)
        if outcome.paused_seconds:
            paused(outcome.paused_seconds)
        wait = AwaitReady(domain=rehearsal.name, uuid=rehearsal.uuid, ready=rehearsal.ready)
        try:
            await await_ready(_Throwaway(executor, rehearsal), wait, report)
        except ReconcilerError as error:
            _judge(outcome, error.diagnostics[0])
        seen = await executor.look_at_rehearsal(rehearsal)  # a snapshot that is full by now made it fail
        if seen.trouble is not None:
            raise _TroubleError(seen.trouble)
    except _TroubleError as why:
        outcome.failed, outcome.trouble = None, _of_host(rehearsal, str(why))
    except ReconcilerError as error:
        if isinstance(error, NotMadeError) and error.paused_seconds:
            outcome.paused_seconds = error.paused_seconds
            paused(error.paused_seconds)
        if error.diagnostics[0].moved:
            raise
        _judge(outcome, error.diagnostics[0])
    finally:
        outcome.left = await _take_down(executor, rehearsal, report)
    return outcome


async def _take_down(executor: Executor, rehearsal: Rehearsal, report: Report) -> Diagnostic | None:
    """Take a throwaway down. Returns why it could not be: that says nothing about what it booted."""
    try:
        await executor.end_rehearsal(rehearsal)
    except ReconcilerError as error:
        problem = error.diagnostics[0]
        report(f"{rehearsal.name} could not be taken down: {problem.detail or problem.summary}")
        return replace(problem, transient=True, later=True, boot_failed=False, moved=False)
    return None


def _lacks_memory(failed: Diagnostic, rehearsal: Rehearsal) -> bool:
    """Return whether it may have failed only since the throwaway has less memory than the domain."""
    said = f"{failed.detail}\n{failed.console or ''}"
    return rehearsal.has_less_memory and _LACKS_MEMORY.search(said) is not None


def _judge(outcome: _Outcome, problem: Diagnostic) -> None:
    if problem.boot_failed:
        outcome.failed = problem
    else:
        outcome.failed, outcome.trouble = None, replace(problem, transient=True, later=True)


def _of_host(rehearsal: Rehearsal, why: str) -> Diagnostic:
    error = world_error(
        "rehearsal could not be made",
        f"The rehearsal of {rehearsal.of} was ended, and says nothing about its kernel: {why}.",
        "The running domain was not touched. Give the host what it lacks; `watch` tries again by itself.",
        transient=True,
        later=True,
    )
    return error.diagnostics[0]


def _of_kernel(failed: Diagnostic, step: Rehearse, left: Diagnostic | None, paused_seconds: float) -> Diagnostic:
    """Say that the kernel is to blame: in the same place, what runs now got ready. `left`: why that is still there."""
    untouched = "The running domain was not touched: it never went down."
    if paused_seconds:
        untouched = f"The running domain did not go down; it was paused for {paused_seconds:.1f} s, for snapshots."
    detail = (failed.detail or failed.summary).replace(step.rehearsal.name, step.domain, 1)
    return replace(
        failed,
        summary="failed its rehearsal",
        detail=f"In its rehearsal {detail}",
        hint=f"{untouched} What it runs did get ready in the same way."
        + ("" if left is None else f" What the next run takes down is still there: {left.detail or left.summary}"),
        boot_failed=True,
    )


def _said_nothing(failed: Diagnostic, step: Rehearse, *, of_memory: bool) -> Diagnostic:
    why = (failed.detail or failed.summary).splitlines()[0].rstrip(".")
    else_ = "and what runs now did not get ready in the same way, so it is not the kernel's fault."
    hint = 'Look at its console with `reconciler why`; to restart without a rehearsal: rehearse = "if-possible".'
    if of_memory:
        else_ = "and it had less memory than the domain has, so that may be why."
        hint = f"Give it more by memory under [rehearsal] of host.toml: {step.domain} will have more than that."
    error = world_error("rehearsal said nothing", f"{step.domain} cannot be rehearsed: {why}, {else_}", hint)
    return replace(error.diagnostics[0], console=failed.console)
