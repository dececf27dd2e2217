"""Writes the log of watch to stderr: one line for each event, as key=value or as JSON. Called by the loop."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from reconciler.apply.result import StepResult
from reconciler.expressions import expression
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.plan.steps import PlannedStep
from reconciler.show.escape import plain
from reconciler.show.steps import in_words

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

Value = str | int | float | bool | None
Level = Literal["info", "warning", "error"]
_PASS = "pass"
_BARE = expression(r"[\w./:@+-]+", re.ASCII)
_LEVELS: dict[Kind, Level] = {Kind.NOTE: "info", Kind.REFUSED: "warning"}  # all others are errors


class Log:
    """Writes events to a stream. A stream that is closed, or a full disk, stops nothing else."""

    def __init__(self, stream: TextIO | None, *, as_json: bool, now: Callable[[], float]) -> None:
        self._logger = _logger(stream, as_json, now) if stream is not None else None

    def say(self, event: str, level: Level = "info", **fields: Value) -> None:
        """Write one event. Fields that are None are left out."""
        if self._logger is not None:
            with suppress(OSError):
                getattr(self._logger, level)(event, **fields)

    @contextmanager
    def in_pass(self) -> Iterator[None]:
        """Give every event inside the block, also those of tasks begun there, the id of one pass."""
        from structlog.contextvars import bound_contextvars

        with bound_contextvars(**{_PASS: secrets.token_hex(4)}):
            yield

    def problem(self, problem: Diagnostic) -> None:
        """Write a diagnostic as one event."""
        place = str(problem.source) if problem.source is not None else None
        self.say(
            problem.summary,
            _LEVELS.get(problem.kind, "error"),
            address=problem.address,
            place=place,
            detail=problem.detail or None,
            hint=problem.hint,
            traceback=problem.trace,
        )


_NUMBER = expression(r"[0-9.]+( [KMGT]iB)?(/s)?")


class LoggedSteps:
    """Logs the progress of an apply. `turned` is called with each event, as a sign that the work goes on."""

    def __init__(self, log: Log, turned: Callable[[], None]) -> None:
        self._log = log
        self._turned = turned
        self._noted: dict[str, str] = {}  # by address and id of the step: what was last said of it, less its numbers

    def started(self, step: PlannedStep) -> None:
        self._turned()
        self._log.say("step begun", address=step.address, step=in_words(step.step))

    def noted(self, step: PlannedStep, text: str) -> None:
        """Log news of a step; of a count that goes on, the first."""
        self._turned()
        which, news = f"{step.address} {step.id}", _NUMBER.sub("", text)
        if self._noted.get(which) == news:
            return
        self._noted[which] = news
        self._log.say("step goes on", address=step.address, step=in_words(step.step), note=text)

    def finished(self, result: StepResult) -> None:
        self._turned()
        self._noted.pop(f"{result.step.address} {result.step.id}", None)
        address, step = result.step.address, in_words(result.step.step)
        if result.problem is not None:
            why = result.problem.detail or result.problem.summary
            hint, trace = result.problem.hint, result.problem.trace
            self._log.say("step failed", "error", address=address, step=step, problem=why, hint=hint, traceback=trace)
        elif result.reason is not None:
            self._log.say("step left out", "warning", address=address, step=step, reason=result.reason)
        else:
            self._log.say("step done", address=address, step=step, seconds=round(result.seconds, 1))


def _logger(stream: TextIO, as_json: bool, now: Callable[[], float]) -> FilteringBoundLogger:
    """Make a structlog logger for this stream alone. structlog is imported here, as only watch needs it."""
    import structlog

    def in_order(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        about = {"time": moment(now()), "level": method, "event": fields.pop("event")}
        last = {_PASS: fields.pop(_PASS, None)}
        return {key: value for key, value in {**about, **fields, **last}.items() if value is not None}

    render = structlog.processors.JSONRenderer() if as_json else _as_text
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[structlog.contextvars.merge_contextvars, in_order, render],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return logger


def _as_text(logger: WrappedLogger, method: str, fields: EventDict) -> str:
    return " ".join(f"{key}={_shown(value)}" for key, value in fields.items())


def moment(seconds: float) -> str:
    """Write a Unix time in UTC and ISO 8601, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(value: Value) -> str:
    """Write a value bare where that is unambiguous, else quoted and escaped; the result never spans two lines."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    quoted = plain(text.replace("\\", "\\\\")).replace('"', '\\"')
    return f'"{quoted}"'
