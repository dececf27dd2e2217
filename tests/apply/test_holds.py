"""A hold that begins while a plan is followed: what was begun is finished, and nothing else begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from reconciler.apply.follow import apply_plan
from reconciler.apply.result import ApplyResult
from reconciler.model.diagnostics import exit_code
from reconciler.plan.plan import Plan
from reconciler.plan.steps import HostStep, domain_of
from tests.apply.recording_host import RecordingHost, Silence, restarts


@dataclass
class HeldAt(RecordingHost):
    """After this kind of step of w2, w2 is held."""

    kind: str = ""

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        await super().execute(step, report, unless_held=unless_held)
        if (step.kind, domain_of(step)) == (self.kind, "w2"):
            self.held.add("w2")


def follow(plan: Plan, host: RecordingHost) -> ApplyResult:
    return asyncio.run(apply_plan(plan, {"alpha": host}, {"alpha": 4}, Silence(), {}))


def test_a_domain_that_is_held_is_not_taken_down_and_the_others_are_done() -> None:
    host = RecordingHost({"w1", "w2", "w3"}, held={"w2"})
    result = follow(restarts(["w1", "w2", "w3"], one_by_one=False), host)
    assert {name for kind, name in host.asked if kind == "shutdown"} == {"w1", "w3"}
    assert host.running == {"w1", "w2", "w3"}
    assert not result.failed
    (told,) = result.diagnostics
    assert "held: mine" in told.detail
    assert told.hint is not None
    assert "reconciler unhold alpha/w2" in told.hint
    assert exit_code(result.diagnostics) == 3


def test_a_hold_keeps_a_domain_up_that_was_only_got_ready_for_its_restart() -> None:
    host = HeldAt({"w1", "w2"}, kind="write_config")
    follow(restarts(["w1", "w2"]), host)
    assert ("shutdown", "w2") not in host.asked


@pytest.mark.parametrize("kind", ["shutdown", "start"])
def test_what_was_begun_is_finished(kind: str) -> None:
    host = HeldAt({"w1", "w2"}, kind=kind)
    result = follow(restarts(["w1", "w2"]), host)
    assert ("promote_config", "w2") in host.asked
    assert host.running == {"w1", "w2"}
    assert not result.skipped


def test_who_ignores_holds_ignores_them() -> None:
    host = RecordingHost({"w2"}, held={"w2"})
    follow(replace(restarts(["w2"]), ignore_holds=True), host)
    assert ("promote_config", "w2") in host.asked
