"""The wave of a domain is noted in its mark, so that it counts when nobody can read its spec file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action
from reconciler.decide.diff import Effect, FieldChange
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Desired, HostSettings
from reconciler.model.host import Guest, Host
from reconciler.plan.meaning import apply_step
from reconciler.plan.plan import Plan
from reconciler.plan.stale import base_of
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, plan, stopped

SETTINGS = HostSettings(name="alpha", toolstack="simulated", max_unavailable=5)
NOTED = FieldChange(path="wave", before=0, after=3, effect=Effect.LIVE)


def in_wave(definition: Domain, wave: int) -> Domain:
    return replace(definition, policy=replace(definition.policy, wave=wave))


def after(world: Host, made: Plan) -> Host:
    for step in made.steps:
        world = apply_step(world, step.step)
    return world


@pytest.mark.parametrize("there", [guest(domain("web")), stopped(domain("web", state="stopped"))], ids=["runs", "down"])
def test_another_wave_is_one_rewrite_of_the_file_and_then_nothing(there: Guest) -> None:
    assert there.config is not None
    world, wanted = host(there), desired(in_wave(there.config, 3))
    made = plan(world, wanted)
    change = change_of(made, "web")
    assert (change.action, change.fields, change.downtime_seconds) == (Action.UPDATE, (NOTED,), 0)
    assert [step.step.kind for step in made.steps] == ["write_config"]
    assert plan(after(world, made), wanted).steps == ()


def test_what_differs_besides_is_done_as_it_would_be_without() -> None:
    wanted = in_wave(domain("web", memory_kib=300 * MIB), 3)
    change = change_of(plan(host(guest(domain("web"))), desired(wanted)), "web")
    assert change.action is Action.UPDATE
    assert [field.path for field in change.fields] == ["memory", "wave"]


def test_a_restart_that_is_deferred_does_not_keep_its_wave_from_being_noted() -> None:
    deferred = domain("web", kernel=kernel("web", NEW), policy=Policy(wave=3, restart="defer"))
    world = host(guest(domain("web")))
    made = plan(world, desired(deferred))
    assert (change_of(made, "web").action, change_of(made, "web").would) == (Action.UPDATE, Action.RESTART)
    noted = after(world, made).guests["web"].config
    assert noted is not None
    assert (noted.policy.wave, noted.kernel) == (3, kernel("web"))


def test_what_failed_before_has_its_wave_noted_and_still_counts_as_behind() -> None:
    canary = domain("canary", kernel=kernel("canary", NEW), policy=Policy(wave=-1), prevent_destroy=True)
    world = host(guest(domain("canary")), guest(domain("web")))
    wanted = desired(canary, domain("web", kernel=kernel("web", NEW)), settings=SETTINGS)
    made = plan(world, replace(wanted, postponed={"alpha/canary": "failed: no loop device"}))
    assert (change_of(made, "canary").action, change_of(made, "canary").would) == (Action.UPDATE, Action.RESTART)
    assert change_of(made, "web").waits_for == ("wave: alpha/canary",)
    assert "failed: no loop device" in change_of(made, "web").reason


def frozen_canary(there: Guest) -> tuple[Host, Desired]:
    """`canary` cannot be read; `low` of wave -2, `web` of wave 0 and `high` of wave 2 get another kernel."""
    waves = {"low": -2, "web": 0, "high": 2}
    new = [domain(name, kernel=kernel(name, NEW), policy=Policy(wave=wave)) for name, wave in waves.items()]
    old = [guest(in_wave(domain(name), wave)) for name, wave in waves.items()]
    wanted = desired(*new, settings=SETTINGS, frozen=frozenset({"alpha/canary"}), prune=False)
    return host(there, *old), wanted


@pytest.mark.parametrize(
    ("recorded", "restarts"),
    [(-2, {"low"}), (-1, {"low"}), (0, {"low", "web"}), (1, {"low", "web"}), (2, {"low", "web", "high"})],
)
def test_a_frozen_domain_counts_in_the_wave_that_its_mark_recorded(recorded: int, restarts: set[str]) -> None:
    made = plan(*frozen_canary(guest(in_wave(domain("canary"), recorded))))
    assert {change.domain for change in made.changes if change.action is Action.RESTART} == restarts


@pytest.mark.parametrize(
    "unclear",
    [{"wave_noted": False}, {"config": None}, {"newer": "its config file (format 7)"}],
    ids=["a mark of 0.1", "no file that can be read", "a newer mark"],
)
def test_where_nobody_can_tell_it_may_be_before_all_others(unclear: dict[str, object]) -> None:
    made = plan(*frozen_canary(guest(in_wave(domain("canary"), 2), **unclear)))
    assert {change.domain for change in made.changes if change.action is Action.RESTART} == set()


def test_a_candidate_in_a_lower_wave_counts_as_well() -> None:
    there = stopped(in_wave(domain("canary"), 2), candidate=in_wave(domain("canary"), -1))
    made = plan(*frozen_canary(there))
    assert {change.domain for change in made.changes if change.action is Action.RESTART} == {"low"}


def test_reconcile_false_in_the_mark_takes_a_frozen_domain_out_of_its_wave() -> None:
    left_alone = domain("canary", policy=Policy(wave=-2, reconcile=False))
    made = plan(*frozen_canary(guest(left_alone)))
    assert {change.domain for change in made.changes if change.action is Action.RESTART} == {"low", "web", "high"}


@pytest.mark.parametrize("noted", [Policy(wave=1), Policy(reconcile=False)], ids=["wave", "reconcile"])
def test_a_saved_plan_is_bound_to_what_is_noted(noted: Policy) -> None:
    before, now = guest(domain("web")), guest(domain("web", policy=noted))
    assert base_of(host(before), ()) != base_of(host(now), ())
