"""Laws of every plan, tried on generated worlds."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from reconciler.decide.changes import Action, Consent
from reconciler.model.claims import live_claims
from reconciler.model.fleet import Desired
from reconciler.model.host import Host, Owner
from reconciler.model.memory import capacity_kib, used_kib
from reconciler.plan.meaning import Replay
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import PlannedStep, Shutdown
from reconciler.plan.verify import verify

from .fleets import World, handovers, worlds
from .law import law


def plan_for(host: Host, desired: Desired, consent: Consent | None = None) -> Plan:
    plan = build_plan(desired, {host.name: host}, consent or Consent())
    verify(plan, {host.name: host}, desired)
    return plan


def interleaving(plan: Plan, seed: int) -> list[PlannedStep]:
    """Some order that apply could really take: any that respects what each step needs."""
    random, waiting = Random(seed), {step.id: set(step.needs) for step in plan.steps}
    by_id, order = {step.id: step for step in plan.steps}, []
    while waiting:
        wave = min(by_id[step_id].wave for step_id in waiting)  # a wave begins when all lower ones are done
        ready = sorted(step_id for step_id, needs in waiting.items() if not needs and by_id[step_id].wave == wave)
        chosen = random.choice(ready)
        del waiting[chosen]
        for needs in waiting.values():
            needs.discard(chosen)
        order.append(by_id[chosen])
    return order


def after(host: Host, steps: list[PlannedStep]) -> Host:
    replay = Replay(host)
    for step in steps:
        replay.apply(step.step)
    return replay.host()


@given(worlds(), st.integers(0, 10**6), st.integers(0, 40))
@law(examples=200)
def test_every_plan_keeps_every_law(world: World, seed: int, length: int) -> None:
    """All laws look at one world, since to think of a world takes longer than to make plans for it."""
    plan = plan_for(world.host, world.desired)
    order = interleaving(plan, seed)
    check_that_the_same_input_gives_the_same_plan(world, plan)
    check_that_a_followed_plan_leaves_nothing_to_do(world, plan)
    check_that_memory_fits_in_an_order_that_apply_may_take(world, order)
    check_that_an_order_takes_no_more_domains_down_than_allowed(world, plan, order)
    check_that_what_is_not_ours_is_in_no_step(world, plan)
    check_that_stopping_and_planning_again_converges(world, plan, order[:length])
    check_that_prevent_destroy_and_blocked_pruning_hold(world, plan)


def check_that_the_same_input_gives_the_same_plan(world: World, plan: Plan) -> None:
    assert plan_for(world.host, world.desired) == plan


def check_that_a_followed_plan_leaves_nothing_to_do(world: World, plan: Plan) -> None:
    again = plan_for(after(world.host, list(plan.steps)), world.desired)
    left = {change.address for change in again.changes if change.acts}
    assert left <= {change.address for change in plan.changes if change.action is Action.BLOCKED}


def check_that_memory_fits_in_an_order_that_apply_may_take(world: World, order: list[PlannedStep]) -> None:
    keep_free = world.desired.hosts["alpha"].settings.keep_free_kib
    capacity, replay = capacity_kib(world.host, keep_free), Replay(world.host)
    start = used_kib(world.host)
    for step in order:
        replay.apply(step.step)
        assert used_kib(replay.host()) <= max(capacity, start)


def check_that_an_order_takes_no_more_domains_down_than_allowed(
    world: World, plan: Plan, order: list[PlannedStep]
) -> None:
    restarting = {change.address for change in plan.changes if change.restarts}
    limit, down = world.desired.hosts["alpha"].settings.max_unavailable, set()
    for step in order:
        if step.address in restarting and isinstance(step.step, Shutdown):
            down.add(step.address)
        if step.step.kind == "await_ready":
            down.discard(step.address)
        assert len(down) <= limit


def check_that_what_is_not_ours_is_in_no_step(world: World, plan: Plan) -> None:
    foreign = {f"alpha/{guest.name}" for guest in world.host.guests.values() if guest.owner is not Owner.OURS}
    assert not foreign & {step.address for step in plan.steps}
    assert foreign == set(plan.unmanaged)


def check_that_stopping_and_planning_again_converges(world: World, plan: Plan, done: list[PlannedStep]) -> None:
    midway = after(world.host, done)
    again = plan_for(midway, world.desired)
    arrived = after(midway, list(again.steps))
    first_end = after(world.host, list(plan.steps))
    blocked = {change.domain for change in (*plan.changes, *again.changes) if change.action is Action.BLOCKED}
    for name in {change.domain for change in plan.changes if change.acts} - blocked:
        assert (name in arrived.guests) == (name in first_end.guests)
        if name in arrived.guests:
            assert arrived.guests[name].running == first_end.guests[name].running
            assert arrived.guests[name].config == first_end.guests[name].config


def check_that_prevent_destroy_and_blocked_pruning_hold(world: World, plan: Plan) -> None:
    for change in plan.changes:
        if change.action is Action.DESTROY:
            assert world.desired.prune
            assert change.guest is not None
            assert change.guest.config is not None
            assert not change.guest.config.prevent_destroy


def twice(host: Host, observed: Host) -> list[tuple[str, ...]]:
    """What two live domains have at once, by the names that disks have on the observed host."""
    claims = [claim for guest in host.guests.values() for claim in live_claims(observed, guest).values()]
    keys = [claim.key for claim in claims if not claim.reads_only]
    return sorted(key for key in set(keys) if keys.count(key) > 1)


@given(handovers(), st.integers(0, 10**6))
@law(examples=150)
def test_no_order_gives_two_live_domains_one_disk_or_mac_or_uuid(world: World, seed: int) -> None:
    plan, replay = plan_for(world.host, world.desired), Replay(world.host)
    at_first = twice(world.host, world.host)
    for step in interleaving(plan, seed):
        replay.apply(step.step)
        assert set(twice(replay.host(), world.host)) <= set(at_first)
