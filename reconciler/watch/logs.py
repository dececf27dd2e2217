"""What watch says while it runs: one line an event, as key=value or as JSON, on stderr. Written by the loop."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, TextIO

from reconciler.apply.result import StepResult
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.plan.steps import PlannedStep
from reconciler.show.escape import plain
from reconciler.show.steps import in_words

Value = str | int | float | bool | None
Level = Literal["info", "warning", "error"]
_BARE = re.compile(r"[\w./:@+-]+", re.ASCII)
_LEVELS: dict[Kind, Level] = {Kind.NOTE: "info", Kind.REFUSED: "warning", Kind.SPEC: "error", Kind.WORLD: "error"}


class Log:
    """A stream of events. That nobody can read it any more, or that its disk is full, stops nothing."""

    def __init__(self, stream: TextIO | None, *, as_json: bool, now: Callable[[], float]) -> None:
        self._stream = stream
        self._as_json = as_json
        self._now = now

    def say(self, event: str, level: Level = "info", **fields: Value) -> None:
        """One event. Fields that are None are left out."""
        given = {key: value for key, value in fields.items() if value is not None}
        line: dict[str, Value] = {"time": moment(self._now()), "level": level, "event": event, **given}
        text = json.dumps(line) if self._as_json else " ".join(f"{key}={_shown(value)}" for key, value in line.items())
        if self._stream is not None:
            with suppress(OSError):
                self._stream.write(text + "\n")
                self._stream.flush()

    def problem(self, problem: Diagnostic) -> None:
        """A diagnostic, in one line."""
        place = str(problem.source) if problem.source is not None else None
        self.say(
            problem.summary,
            _LEVELS[problem.kind],
            address=problem.address,
            place=place,
            detail=problem.detail or None,
            hint=problem.hint,
        )


class LoggedSteps:
    """The progress of an apply as events; `turned` is called with each, as a sign that the work goes on."""

    def __init__(self, log: Log, turned: Callable[[], None]) -> None:
        self._log = log
        self._turned = turned

    def started(self, step: PlannedStep) -> None:
        self._turned()
        self._log.say("step begun", address=step.address, step=in_words(step.step))

    def noted(self, step: PlannedStep, text: str) -> None:
        self._turned()
        self._log.say("step goes on", address=step.address, step=in_words(step.step), note=text)

    def finished(self, result: StepResult) -> None:
        self._turned()
        address, step = result.step.address, in_words(result.step.step)
        if result.problem is not None:
            why = result.problem.detail or result.problem.summary
            self._log.say("step failed", "error", address=address, step=step, problem=why, hint=result.problem.hint)
        elif result.reason is not None:
            self._log.say("step left out", "warning", address=address, step=step, reason=result.reason)
        else:
            self._log.say("step done", address=address, step=step, seconds=round(result.seconds, 1))


def moment(seconds: float) -> str:
    """A Unix time as people and programs read it: UTC, whole seconds, ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(value: Value) -> str:
    """Bare where that is unambiguous, else in double quotes, with escapes: always one line of plain characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    quoted = plain(text.replace("\\", "\\\\")).replace('"', '\\"')
    return f'"{quoted}"'
