"""Shows what apply does as it happens: a live display on a terminal, one plain line a step elsewhere.

Called by `commands.apply`; `apply` tells it of every step. Nothing here may stop an apply: when nobody can read stderr
any more, the work goes on in silence.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from reconciler.apply.result import Progress, StepResult
from reconciler.cli.output import wants_color
from reconciler.plan.steps import PlannedStep
from reconciler.show import values
from reconciler.show.escape import plain
from reconciler.show.steps import in_words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SHOWN_STEPS = 12
_REFRESHES_PER_SECOND = 4


@contextmanager
def show_progress(stream: TextIO | None, *, total: int) -> Iterator[Progress]:
    """Show the progress of `total` steps, live if `stream` is a terminal that can move its cursor."""
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield PlainProgress(stream)
        return
    from rich.console import Console
    from rich.live import Live

    plain_text = not wants_color(stream)
    console = Console(file=stream, highlight=False, markup=False, emoji=False, no_color=plain_text)
    live = LiveProgress(console, total=total)
    with Live(get_renderable=live.render, console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True):
        yield live


class PlainProgress:
    """One line a step, when it ends: `alpha/web: start: done (4.2 s)`."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def started(self, step: PlannedStep) -> None:
        """Say nothing yet."""

    def noted(self, step: PlannedStep, text: str) -> None:
        """Say nothing: what became of it is in its line."""

    def finished(self, result: StepResult) -> None:
        if self._stream is not None:
            with suppress(OSError):
                print(f"{_title(result.step)}: {_outcome(result)}", file=self._stream, flush=True)


class LiveProgress:
    """The steps in flight with the time they have taken; what is done scrolls by above them."""

    def __init__(self, console: Console, *, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._total = total
        self._clock = clock
        self._began: dict[str, float] = {}  # step id -> when
        self._titles: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._ended = 0

    def started(self, step: PlannedStep) -> None:
        self._began[step.id] = self._clock()
        self._titles[step.id] = _title(step)

    def noted(self, step: PlannedStep, text: str) -> None:
        self._notes[step.id] = plain(text)

    def finished(self, result: StepResult) -> None:
        from rich.text import Text

        self._ended += 1
        for known in (self._began, self._titles, self._notes):
            known.pop(result.step.id, None)
        colour = "red" if result.problem is not None else "yellow" if result.reason is not None else "green"
        with suppress(OSError):
            self._console.print(Text(f"{_title(result.step)}: {_outcome(result)}", style=colour))

    def render(self) -> RenderableType:
        from rich.text import Text

        now = self._clock()
        lines = [f"{self._ended} of {self._total} steps"]
        for step_id, began in list(self._began.items())[:_SHOWN_STEPS]:
            note = f": {self._notes[step_id]}" if step_id in self._notes else ""
            lines.append(f"  {self._titles[step_id]}{note} … {values.duration(int(now - began))}")
        if len(self._began) > _SHOWN_STEPS:
            lines.append(f"  and {len(self._began) - _SHOWN_STEPS} more")
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")


def _title(step: PlannedStep) -> str:
    return f"{plain(step.address)}: {in_words(step.step)}"


def _outcome(result: StepResult) -> str:
    if result.problem is not None:
        return f"failed: {plain(result.problem.summary)}"
    if result.reason is not None:
        return f"skipped: {plain(result.reason)}"
    return f"done ({values.duration(result.seconds)})"
