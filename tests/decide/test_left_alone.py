"""`reconcile = false`: what differs is shown and never changed, and that outlives the spec file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Domain, Policy
from reconciler.model.host import Host, Power
from reconciler.plan.meaning import apply_step
from reconciler.plan.plan import Plan
from reconciler.texts.config_file import read_file, render_file
from tests.worlds import MIB, change_of, desired, domain, guest, host, kernel, plan, stopped

WEB = domain("web")


def left_alone(definition: Domain) -> Domain:
    return replace(definition, policy=replace(definition.policy, reconcile=False))


def after(world: Host, made: Plan) -> Host:
    for step in made.steps:
        world = apply_step(world, step.step)
    return world


@pytest.mark.parametrize(
    "wanted",
    [
        WEB,
        replace(WEB, memory_kib=300 * MIB),
        replace(WEB, kernel=kernel("web", "3" * 64)),
        replace(WEB, state="stopped"),
    ],
    ids=["as it is", "memory", "kernel", "stopped"],
)
@pytest.mark.parametrize("world", [host(guest(WEB)), host(stopped(WEB))], ids=["runs", "does not run"])
def test_noting_it_is_the_one_thing_that_is_still_written(world: Host, wanted: Domain) -> None:
    made = plan(world, desired(left_alone(wanted)))
    (step,) = made.steps
    assert step.step.kind == "write_config"
    noted = after(world, made)
    assert noted.guests["web"].running == world.guests["web"].running
    assert noted.guests["web"].config == WEB
    assert plan(noted, desired(left_alone(wanted))).steps == ()


def test_it_outlives_the_spec_file_and_ends_with_a_spec_that_does_not_say_it() -> None:
    noted = after(host(guest(WEB)), plan(host(guest(WEB)), desired(left_alone(WEB))))
    gone = change_of(plan(noted, desired(domain("other"))), "web")
    assert gone.action is Action.NO_OP
    assert "reconcile = false" in gone.reason
    again = after(noted, plan(noted, desired(WEB)))
    assert change_of(plan(again, desired(domain("other"))), "web").action is Action.DESTROY


def test_what_is_under_way_is_not_written_over() -> None:
    busy = guest(WEB, candidate=replace(WEB, cmdline="new"), unproven=True)
    assert plan(host(busy), desired(left_alone(WEB))).steps == ()
    edited = guest(WEB, edited=True)
    assert plan(host(edited), desired(left_alone(WEB))).steps == ()


def test_a_paused_domain_that_is_left_alone_stays_as_it_is() -> None:
    made = plan(host(guest(WEB, power=Power.PAUSED)), desired(left_alone(WEB)))
    assert {step.step.kind for step in made.steps} <= {"write_config"}


def test_the_mark_carries_it() -> None:
    real = replace(WEB, uuid="38ace7a1-db84-5728-9dad-fe46c80151ff", policy=Policy(reconcile=False))
    file = read_file(render_file(real, "default", None), {})
    assert file.domain is not None
    assert not file.domain.policy.reconcile
