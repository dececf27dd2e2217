"""Following a plan: whatever goes wrong in one step, the others go on, and who is down comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from reconciler.apply.follow import apply_plan
from reconciler.apply.result import ApplyResult
from reconciler.decide.changes import Action, Change
from reconciler.model.diagnostics import exit_code, moved_on, world_error
from reconciler.model.domain import Domain, Policy, Ready
from reconciler.model.rehearsal import Rehearsal
from reconciler.plan.plan import Plan
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    AwaitReady,
    CreateDisk,
    DeleteDisk,
    DetachVif,
    GrowDisk,
    PlannedStep,
    PromoteConfig,
    Rehearse,
    RehearseEnd,
    RemoveConfig,
    Rename,
    SetAutostart,
    SetMedium,
    SetMemory,
    SetQuarantine,
    SetScheduler,
    SetVcpus,
    Shutdown,
    StageImage,
    Start,
    Step,
    SweepImages,
    Unpause,
    WriteConfig,
)
from tests.apply.recording_host import RecordingHost, Silence, plan_of, restarts
from tests.loop_turns import assert_the_loop_turns
from tests.worlds import MIB, NEW, desired, disk, domain, guest, host, kernel, stopped, vif
from tests.worlds import plan as make_plan

ERRORS = [ValueError("no number"), OSError(24, "Too many open files"), RuntimeError(), KeyError("memory")]
FAILURES = [*ERRORS, world_error("it failed"), world_error("reply lost", transient=True)]
SHUT: dict[str, Any] = {"uuid": "", "timeout_seconds": 9, "on_timeout": "fail"}
WEB: dict[str, Any] = {"domain": "web", "uuid": "uuid-of-web"}
REHEARSAL = Rehearsal(of="web", of_uuid="uuid-of-web", definition=domain("web.rehearsal"), ready=Ready())
STEPS: list[Step] = [
    StageImage(domain="web", image=kernel("web")),
    CreateDisk(domain="web", disk=disk("/srv/web")),
    GrowDisk(domain="web", disk=disk("/srv/web"), attached=False),
    DeleteDisk(domain="web", disk=disk("/srv/web")),
    WriteConfig(definition=domain("web")),
    Rename(domain="web", old="www", uuid="uuid-of-web", definition=domain("web")),
    PromoteConfig(domain="web"),
    RemoveConfig(domain="web"),
    SweepImages(domain="web"),
    SetAutostart(domain="web", order=1),
    SetQuarantine(domain="web", entries=()),
    Start(definition=domain("web"), candidate=True),
    Shutdown(**WEB, timeout_seconds=9, on_timeout="fail"),
    SetMemory(**WEB, before_kib=1, memory_kib=2),
    SetVcpus(**WEB, vcpus=2),
    SetScheduler(**WEB, shares=(("cpu_weight", 1), ("cap", 1))),
    AttachVif(**WEB, vif=vif("00:16:3e:00:00:01")),
    DetachVif(**WEB, vif=vif("00:16:3e:00:00:01")),
    Unpause(**WEB),
    AttachDisk(**WEB, disk=disk("/srv/web")),
    SetMedium(**WEB, disk=disk("/srv/web.iso", cdrom=True)),
    AwaitReady(**WEB, ready=domain("web").policy.ready),
    Rehearse(domain="web", rehearsal=REHEARSAL, control=REHEARSAL, required=True, needed_kib=1),
    RehearseEnd(domain="web", rehearsal=REHEARSAL, control=REHEARSAL, needed_kib=1),
]


def follow(
    plan: Plan, host: RecordingHost, stop: Callable[[], str | None] = lambda: None, at_once: int = 4
) -> ApplyResult:
    return asyncio.run(apply_plan(plan, {"alpha": host}, {"alpha": at_once}, Silence(), {}, stop))


def failing(kind: str, name: str, error: Exception) -> Callable[[str, str], BaseException | None]:
    return lambda asked, whose: error if (asked, whose) == (kind, name) else None


def test_every_kind_of_step_is_among_those_that_fail_here() -> None:
    assert {type(step) for step in STEPS} == set(get_args(Step))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_an_error_nobody_foresaw_costs_its_own_step_and_what_needs_it(step: Step, error: Exception) -> None:
    after = WriteConfig(definition=domain("web"))
    other = WriteConfig(definition=domain("db"))
    plan = plan_of(
        [
            PlannedStep(id="s1", host="alpha", step=step),
            PlannedStep(id="s2", host="alpha", step=after, needs=("s1",)),
            PlannedStep(id="s3", host="alpha", step=other),
            PlannedStep(id="s4", host="alpha", step=PromoteConfig(domain="db"), needs=("s3",)),
        ]
    )
    result = follow(plan, RecordingHost({"web"}, failing(step.kind, "web", error), unproven={"web"}))
    assert [done.step.id for done in result.done] == ["s3", "s4"]
    assert [(left.step.id, left.reason) for left in result.skipped] == [("s2", "alpha/web failed before it")]
    problem = result.failed[0].problem
    assert problem is not None
    assert problem.trace is not None
    assert type(error).__name__ in problem.trace
    assert problem.detail.startswith("An error that nobody foresaw came up while alpha/web was worked on")
    assert problem.detail.endswith(".")
    assert "\n" not in problem.detail


def test_a_step_that_is_not_needed_as_planned_is_no_failure_and_is_left_to_the_next_plan() -> None:
    plan = plan_of(
        [
            PlannedStep(
                id="s1", host="alpha", step=Shutdown(**WEB, timeout_seconds=9, on_timeout="fail", remnant=True)
            ),
            PlannedStep(id="s2", host="alpha", step=Start(definition=domain("web")), needs=("s1",)),
            PlannedStep(id="s3", host="alpha", step=WriteConfig(definition=domain("db"))),
        ]
    )
    moved = moved_on("domain runs meanwhile", "web runs by now.", "Plan again.", "alpha/web")
    host = RecordingHost({"web"}, failing("shutdown", "web", moved))
    result = follow(plan, host)
    assert [done.step.id for done in result.done] == ["s3"]
    assert result.failed == ()
    assert [(left.step.id, left.reason) for left in result.skipped] == [
        ("s1", "domain runs meanwhile: plan again"),
        ("s2", "domain runs meanwhile: plan again"),
    ]
    assert result.diagnostics == moved.diagnostics
    assert exit_code(result.diagnostics) == 3
    assert host.asked.count(("shutdown", "web")) == 1


@pytest.mark.parametrize("error", FAILURES, ids=str)
@pytest.mark.parametrize("kind", ["write_config", "shutdown", "start", "await_ready", "promote_config"])
def test_whatever_fails_in_a_restart_all_domains_run_afterwards(kind: str, error: Exception) -> None:
    host = RecordingHost({"w1", "w2", "w3"}, failing(kind, "w2", error))
    result = follow(restarts(["w1", "w2", "w3"]), host)
    assert host.running == {"w1", "w2", "w3"}
    assert result.failed[0].step.step.kind == kind
    assert ("shutdown", "w3") not in host.asked


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_nobody_foresaw_says_nothing_about_a_kernel(error: Exception) -> None:
    for kind in ("start", "await_ready"):
        host = RecordingHost({"web"}, failing(kind, "web", error))
        follow(restarts(["web"]), host)
        assert ("set_quarantine", "web") not in host.asked
        assert not host.unproven


def test_a_progress_that_breaks_stops_nothing_and_is_told() -> None:
    class Broken(Silence):
        def finished(self, result: object) -> None:
            raise UnicodeEncodeError("ascii", "→", 0, 1, "no such sign")

    host = RecordingHost({"web"})
    result = asyncio.run(apply_plan(restarts(["web"]), {"alpha": host}, {"alpha": 4}, Broken(), {}))
    assert host.running == {"web"}
    assert len(result.done) == 5
    assert [problem.summary for problem in result.diagnostics] == ["an error nobody foresaw"]


@pytest.mark.parametrize("stopped_at", ["write_config", "shutdown", "start", "promote_config"])
def test_asked_to_stop_it_begins_no_restart_and_ends_the_one_under_way(stopped_at: str) -> None:
    names = [f"w{number}" for number in range(4)]
    host = RecordingHost(set(names))
    result = follow(
        restarts(names), host, lambda: "asked to stop" if (stopped_at, "w1") in host.asked else None, at_once=1
    )
    assert host.running == set(names)
    assert ("shutdown", "w2") not in host.asked
    assert "asked to stop" in {left.reason for left in result.skipped}
    assert not result.failed


def test_asked_to_stop_it_brings_back_whose_own_start_is_left_out() -> None:
    """app is down because of db, whose restart is not begun any more; app's own start waits for that of db."""
    first, second = restarts(["app"]), restarts(["db"])
    ids = {step.id: f"d{step.id}" for step in second.steps}
    db = [
        PlannedStep(id=ids[step.id], host="alpha", step=step.step, needs=tuple(ids[need] for need in step.needs))
        for step in second.steps
    ]
    app = {step.step.kind: step for step in first.steps}
    steps = [
        app["write_config"],
        app["shutdown"],
        db[0],
        PlannedStep(id=db[1].id, host="alpha", step=db[1].step, needs=(db[0].id, app["shutdown"].id)),
        *db[2:],
        PlannedStep(id=app["start"].id, host="alpha", step=app["start"].step, needs=(app["shutdown"].id, db[3].id)),
        app["await_ready"],
        app["promote_config"],
    ]
    plan = plan_of(steps, (*first.changes, *second.changes), first.ways_back)
    host = RecordingHost({"app", "db"})
    follow(plan, host, lambda: "asked to stop" if ("shutdown", "app") in host.asked else None, at_once=1)
    assert host.running == {"app", "db"}
    assert ("shutdown", "db") not in host.asked
    assert host.unproven == set()


def test_a_failure_at_the_head_of_a_long_plan_takes_the_rest_along() -> None:
    names = [f"w{number}" for number in range(5000)]
    host = RecordingHost(set(names), failing("start", names[0], world_error("no kernel")))
    result = follow(restarts(names), host)
    assert host.running == set(names)
    assert [kind for kind, name in host.asked if name == names[0]][-2:] == ["shutdown", "start"]
    assert len(result.skipped) == 5 * 5000 - (5000 + 2)  # all candidates are written; w0 went down


def test_a_step_costs_the_same_in_a_plan_of_any_length() -> None:
    def seconds(domains: int) -> float:
        names = [f"w{number}" for number in range(domains)]
        plan, host = restarts(names, one_by_one=False), RecordingHost(set(names), failing("start", "w0", ValueError()))
        began = time.process_time()
        follow(plan, host, at_once=64)
        return (time.process_time() - began) / domains

    seconds(50)
    assert seconds(4000) < 4 * seconds(400)


def test_a_host_whose_wave_begins_when_restarts_of_another_host_are_left_out_has_its_turn() -> None:
    made = restarts(["one", "two"], one_by_one=False)
    later = PlannedStep(id="later", host="beta", step=WriteConfig(definition=domain("new")), wave=1)
    made = replace(made, steps=(*made.steps, later))
    alpha, beta = RecordingHost({"one", "two"}, failing("start", "one", ValueError())), RecordingHost(set())
    result = asyncio.run(
        apply_plan(made, {"alpha": alpha, "beta": beta}, {"alpha": 1, "beta": 1}, Silence(), {}, lambda: None)
    )
    assert alpha.running == {"one", "two"}
    assert "later" in [done.step.id for done in result.done]


@pytest.mark.parametrize("why", ["failure", "stop"])
def test_very_many_steps_are_left_out_beside_the_loop(why: str) -> None:
    first = PlannedStep(id="s0", host="alpha", step=WriteConfig(definition=domain("web")))
    needs = ("s0",) if why == "failure" else ()
    rest = [replace(first, id=f"s{number}", needs=needs) for number in range(1, 70_001)]
    made, reason = plan_of([first, *rest]), "asked to" if why == "stop" else None
    fails = failing("write_config", "web", ValueError()) if why == "failure" else lambda kind, name: None

    async def work() -> None:
        host = RecordingHost(set(), fails)
        result = await apply_plan(made, {"alpha": host}, {"alpha": 4}, Silence(), {}, lambda: reason)
        assert len(result.skipped) >= len(rest)

    assert_the_loop_turns(lambda: work)


def test_a_domain_is_brought_back_also_where_nobody_can_note_what_failed() -> None:
    errors = {"start": world_error("it panicked", boot_failed=True), "set_quarantine": OSError("disk full")}
    host = RecordingHost({"web"}, lambda kind, name: errors.get(kind))
    result = follow(restarts(["web"]), host)
    assert host.running == {"web"}
    assert [failed.step.step.kind for failed in result.failed] == ["start", "set_quarantine"]


LOW, HIGH = Policy(wave=-1), Policy(wave=0)
REFUSED = world_error("the balloon refused", "It still has 256 MiB.", address="alpha/low")
SILENT = world_error("host unreachable", "alpha does not answer.", address="alpha", transient=True)


class TestALowerWaveThatIsNotDone:
    """`low` is in wave -1, `high` in wave 0, which restarts onto another kernel."""

    high = domain("high", kernel=kernel("high", NEW), policy=HIGH)

    def followed(self, low: Domain, fails: Callable[[str, str], BaseException | None]) -> tuple[ApplyResult, list[str]]:
        world = host(guest(domain("low", policy=LOW)), guest(domain("high", policy=HIGH)))
        made = make_plan(world, desired(low, self.high))
        followed = RecordingHost(running={"low", "high"}, fails=fails)
        return follow(made, followed), [kind for kind, name in followed.asked if name == "high"]

    def test_a_live_change_that_failed_holds_nobody_since_its_domain_is_as_ready_as_before(self) -> None:
        low = domain("low", memory_kib=128 * MIB, policy=LOW)
        result, asked = self.followed(low, failing("set_memory", "low", REFUSED))
        assert [one.step.step.kind for one in result.failed] == ["set_memory"]
        assert "write_config" in [one.step.step.kind for one in result.skipped], "what came after it in its own chain"
        assert asked[-1] == "sweep_images"

    def test_nor_does_a_stop_that_failed(self) -> None:
        result, asked = self.followed(domain("low", state="stopped", policy=LOW), failing("shutdown", "low", REFUSED))
        assert len(result.failed) == 1
        assert asked[-1] == "sweep_images"

    @pytest.mark.parametrize("error", [SILENT, ValueError("no number")])
    def test_one_of_which_nobody_can_tell_how_it_is_holds_the_next_wave(self, error: Exception) -> None:
        low = domain("low", memory_kib=128 * MIB, policy=LOW)
        result, asked = self.followed(low, failing("set_memory", "low", error))
        assert asked == []
        assert {one.step.address for one in result.skipped} >= {"alpha/high"}

    @pytest.mark.parametrize("kind", ["stage_image", "write_config", "shutdown", "start", "await_ready"])
    def test_a_restart_that_failed_at_any_step_holds_the_next_wave(self, kind: str) -> None:
        low = domain("low", kernel=kernel("low", NEW), policy=LOW)
        _, asked = self.followed(low, failing(kind, "low", world_error("it failed", address="alpha/low")))
        assert asked == []

    @pytest.mark.parametrize("error", [world_error("it failed", address="alpha/low"), SILENT, ValueError("no number")])
    def test_only_restarts_of_higher_waves_wait_and_all_else_goes_on(self, error: Exception) -> None:
        there = [guest(domain("low", policy=LOW)), guest(domain("high", policy=HIGH)), guest(domain("grows"))]
        low, ends = domain("low", kernel=kernel("low", NEW), policy=LOW), domain("ends", state="stopped", policy=HIGH)
        last = domain("last", kernel=kernel("last", NEW), policy=Policy(wave=2))
        made = make_plan(
            host(*there, stopped(domain("down")), guest(domain("ends")), guest(domain("last"))),
            desired(low, self.high, domain("grows", cpu_weight=512), domain("new"), domain("down"), ends, last),
        )
        followed = RecordingHost(running={"low", "high", "grows", "ends", "last"}, fails=failing("start", "low", error))
        result = follow(made, followed)
        assert followed.running == {"low", "high", "grows", "new", "down", "last"}
        assert {name for _, name in followed.asked} == {"low", "grows", "new", "down", "ends"}
        assert {one.step.address for one in result.skipped} == {"alpha/low", "alpha/high", "alpha/last"}
        first = [name for _, name in followed.asked]
        assert first.index("new") > first.index("low"), "a higher wave begins when the lower one has ended"

    def test_a_thousand_waves_that_wait_for_one_host(self) -> None:
        names = [f"d{number}" for number in range(1000)]
        steps = [
            PlannedStep(id=f"s{at}", host="alpha", step=Shutdown(domain=name, **SHUT), wave=at)
            for at, name in enumerate(names)
        ]
        changes = [Change(host="alpha", domain=name, action=Action.RESTART, reason="") for name in names]
        result = follow(
            plan_of(steps, changes), RecordingHost(running=set(names), fails=failing("shutdown", "d0", SILENT))
        )
        assert (len(result.failed), len(result.skipped)) == (1, 999)
