"""Holds how the steps of a plan ended. Made by `follow`; shown by `show`, kept by `history`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from reconciler.model.diagnostics import Diagnostic, Kind, unforeseen
from reconciler.plan.steps import PlannedStep
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The end of one step. `began` is a time on the host's clock, in seconds.

    A failed step has a `problem`, a skipped one a `reason`, and a done one neither.
    """

    step: PlannedStep
    seconds: float = 0
    began: float = 0
    problem: Diagnostic | None = None
    reason: str | None = None
    note: str | None = None  # what there is to say of a step that was done
    paused_seconds: float = 0  # how long its domain was paused for the snapshots of rehearsals


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    done: tuple[StepResult, ...] = ()
    failed: tuple[StepResult, ...] = ()
    skipped: tuple[StepResult, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()  # why whole hosts were left alone


def result_of(results: Iterable[StepResult], diagnostics: tuple[Diagnostic, ...] = ()) -> ApplyResult:
    """Sort the results of single steps by how they ended."""
    known = tuple(results)
    return ApplyResult(
        done=tuple(result for result in known if result.problem is None and result.reason is None),
        failed=tuple(result for result in known if result.problem is not None),
        skipped=tuple(result for result in known if result.reason is not None),
        diagnostics=diagnostics,
    )


class Progress(Protocol):
    """Is told of every step as it happens."""

    def started(self, step: PlannedStep) -> None: ...

    def noted(self, step: PlannedStep, text: str) -> None: ...

    def finished(self, result: StepResult) -> None: ...


class GuardedProgress:
    """Passes progress on, and stops nothing when that fails. It keeps the first error, to be told at the end."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.problem: Diagnostic | None = None

    def started(self, step: PlannedStep) -> None:
        self._tell(lambda: self._progress.started(step))

    def noted(self, step: PlannedStep, text: str) -> None:
        self._tell(lambda: self._progress.noted(step, text))

    def finished(self, result: StepResult) -> None:
        self._tell(lambda: self._progress.finished(result))

    def _tell(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as error:  # noqa: BLE001 -- who watches an apply must not end it, and with it the ways back
            if self.problem is None:
                self.problem = replace(unforeseen("telling of the progress", error), kind=Kind.NOTE)
