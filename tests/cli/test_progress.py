"""Progress: one line a step where nobody watches, a live display where somebody does, and never an obstacle."""

from __future__ import annotations

from io import StringIO
from typing import Literal

import click
import pytest
from rich.console import Console

from reconciler.apply.result import Progress, StepResult
from reconciler.cli.progress import LiveProgress, PlainProgress, show_progress
from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import Ready
from reconciler.plan.steps import AwaitReady, PlannedStep, SetVcpus

WEB = PlannedStep(id="s1", host="alpha", step=AwaitReady(domain="web", uuid="", ready=Ready()))
DB = PlannedStep(id="s2", host="alpha", step=SetVcpus(domain="db", uuid="", vcpus=2))


def tell(progress: Progress) -> None:
    progress.started(WEB)
    progress.started(DB)
    progress.noted(WEB, "not connected\x1b[2J yet")
    progress.finished(StepResult(step=WEB, seconds=4.21))
    progress.finished(StepResult(step=DB, problem=Diagnostic(kind=Kind.WORLD, summary="vcpus refused")))


def test_plain_lines() -> None:
    stream = StringIO()
    with show_progress(stream, total=2) as progress:
        tell(progress)
        progress.finished(StepResult(step=WEB, reason="alpha/db failed before it"))
    assert stream.getvalue().splitlines() == [
        "alpha/web: wait until ready (at most 2 min): done (4.2 s)",
        "alpha/db: vcpus → 2: failed: vcpus refused",
        "alpha/web: wait until ready (at most 2 min): skipped: alpha/db failed before it",
    ]


def test_the_live_display_shows_steps_in_flight_with_their_time() -> None:
    seconds = 100.0
    live = LiveProgress(Console(file=StringIO()), total=5, clock=lambda: seconds)
    live.started(WEB)
    seconds = 107.9
    live.noted(WEB, "not connected yet")
    assert str(live.render()) == (
        "0 of 5 steps\n  alpha/web: wait until ready (at most 2 min): not connected yet … 7 s"
    )
    live.finished(StepResult(step=WEB, seconds=8))
    assert str(live.render()) == "1 of 5 steps"


def test_a_terminal_gets_the_live_display_and_keeps_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with show_progress(stream, total=2) as progress:
        assert isinstance(progress, LiveProgress)
        tell(progress)
    assert "alpha/db: vcpus → 2: failed: vcpus refused" in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    with show_progress(stream, total=2) as progress:
        assert isinstance(progress, PlainProgress)


@pytest.mark.parametrize(("color", "red"), [("always", True), ("never", False)])
def test_a_terminal_gets_colours_as_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, color: Literal["always", "never"], red: bool
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with click.Context(click.Command("x"), obj=Settings(color=color)), show_progress(stream, total=2) as progress:
        tell(progress)
    assert ("\x1b[31m" in stream.getvalue()) is red


@pytest.mark.parametrize("stream", ["closed pipe", "none"])
def test_nobody_listening_does_not_stop_the_work(stream: str) -> None:
    class Broken(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    told = Broken() if stream == "closed pipe" else None
    with show_progress(told, total=2) as progress:
        tell(progress)
    assert told is None or told.getvalue() == ""
