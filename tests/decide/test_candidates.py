"""What runs from a candidate: awaited, promoted, and judged by what it promotes."""

from __future__ import annotations

from reconciler.plan.steps import PromoteConfig
from tests.worlds import (
    MIB,
    NEW,
    desired,
    domain,
    guest,
    host,
    kernel,
    kinds,
    plan,
)


def test_what_a_promotion_keeps_is_judged_by_what_it_promotes_not_by_an_earlier_candidate() -> None:
    old, tried = domain("web"), domain("web", kernel=kernel("web", NEW))
    world = host(guest(tried, config=old, candidate=tried, unproven=True))
    made = plan(world, desired(domain("web", maxmem_kib=1024 * MIB)))
    (promotion,) = [step.step for step in made.steps if isinstance(step.step, PromoteConfig)]
    assert not promotion.replaces_previous, "it boots what the proven config boots"


def test_a_definition_that_runs_unproven_is_awaited_and_promoted() -> None:
    old, new = domain("web"), domain("web", kernel=kernel("web", NEW))
    made = plan(host(guest(new, config=old, candidate=new, unproven=True)), desired(new))
    assert kinds(made, "web") == ["await_ready", "promote_config"]
