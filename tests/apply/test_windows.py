"""A window that closes while a plan waits or is followed: nothing more begins, and what is begun is finished."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.apply import windows
from reconciler.apply.follow import apply_plan
from reconciler.apply.result import ApplyResult
from reconciler.apply.windows import ClosingWindows
from reconciler.model.diagnostics import exit_code
from reconciler.model.fleet import Window
from reconciler.plan.plan import Plan
from reconciler.plan.steps import HostStep, domain_of
from tests.apply.recording_host import RecordingHost, Silence, restarts

OPEN = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)
NIGHTS = Window(kind="allow", schedule="0 2 * * *", duration_seconds=3600, reason="nights")
CLOSED = OPEN + timedelta(seconds=3600)


class Clock(datetime):
    """The clock of this machine, set by hand."""

    moment = OPEN

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return cls.moment


@dataclass
class Slow(RecordingHost):
    """The window closes after this kind of step of w1."""

    kind: str = ""

    async def execute(self, step: HostStep, report: object, *, unless_held: bool = False) -> None:
        await super().execute(step, lambda _: None, unless_held=unless_held)
        if (step.kind, domain_of(step)) == (self.kind, "w1"):
            Clock.moment = CLOSED


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock.moment = OPEN
    monkeypatch.setattr(windows, "datetime", Clock)


def in_window(*names: str) -> Plan:
    return replace(restarts(list(names)), windows=(NIGHTS,))


def follow(plan: Plan, host: RecordingHost) -> ApplyResult:
    return asyncio.run(apply_plan(plan, {"alpha": host}, {"alpha": 4}, Silence(), {}))


def test_inside_the_window_all_is_done() -> None:
    host = RecordingHost({"w1", "w2"})
    assert not follow(in_window("w1", "w2"), host).skipped


@pytest.mark.parametrize("kind", ["shutdown", "start"])
def test_what_is_begun_is_finished_and_nothing_else_begins(kind: str) -> None:
    host = Slow({"w1", "w2"}, kind=kind)
    result = follow(in_window("w1", "w2"), host)
    assert ("promote_config", "w1") in host.asked
    assert ("shutdown", "w2") not in host.asked
    assert host.running == {"w1", "w2"}
    assert not result.failed
    (told,) = result.diagnostics
    assert told.detail == (
        "The restart of alpha/w2 may not begin any more: window: nights, opens 2026-12-02 02:00 UTC."
    )
    assert exit_code(result.diagnostics) == 3


def test_it_closes_before_a_plan_is_followed() -> None:
    plan = in_window("w1", "w2")
    assert ClosingWindows(plan).all_closed(OPEN) == {}
    assert list(ClosingWindows(plan).all_closed(CLOSED)) == ["alpha"]
    assert ClosingWindows(replace(plan, windows=())).all_closed(CLOSED) == {}
