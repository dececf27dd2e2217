"""`max_unavailable` of the fleet: how many domains of all hosts together are down at once for a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.model.host import Guest, Host
from reconciler.plan.places import fleet_limit
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import AwaitReady, PlannedStep, Shutdown
from reconciler.plan.verify import PlanError, verify
from tests.worlds import NEW, domain, guest, host, kernel, stopped

HOSTS = ("alpha", "beta", "gamma")


def world(each: int = 2, names: Iterable[str] = HOSTS) -> dict[str, Host]:
    return {
        name: replace(host(*(guest(domain(f"{name}-{number}")) for number in range(each))), name=name) for name in names
    }


def wanted(limit: int | None, each: int = 2, on_host: int = 2) -> Desired:
    """Everything gets a new kernel."""
    parts = {
        name: DesiredHost(
            settings=HostSettings(name=name, toolstack="simulated", max_unavailable=on_host),
            domains={
                one: domain(one, kernel=kernel(one, NEW)) for one in (f"{name}-{number}" for number in range(each))
            },
        )
        for name in HOSTS
    }
    return Desired(fleet="default", hosts=parts, max_unavailable=limit)


def planned(asked: Desired, hosts: dict[str, Host]) -> Plan:
    made = build_plan(asked, hosts, Consent())
    verify(made, hosts, asked)
    return made


def greedily(plan: Plan) -> list[PlannedStep]:
    """The steps in an order that has as many domains down at once as their needs allow."""
    order: list[PlannedStep] = []
    left = list(plan.steps)
    while left:
        done = {step.id for step in order}
        ready = [step for step in left if done.issuperset(step.needs)]
        order.append(min(ready, key=lambda step: isinstance(step.step, AwaitReady)))
        left.remove(order[-1])
    return order


def most_down(plan: Plan) -> int:
    down: set[str] = set()
    most = 0
    for step in greedily(plan):
        if isinstance(step.step, Shutdown):
            down.add(step.address)
        elif isinstance(step.step, AwaitReady):
            down.discard(step.address)
        most = max(most, len(down))
    return most


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 2), (3, 3), (4, 4), (100, 6), (None, 6)])
def test_no_more_go_down_over_all_hosts_together(limit: int | None, expected: int) -> None:
    made = planned(wanted(limit), world())
    assert {change.action for change in made.changes} == {Action.RESTART}
    assert most_down(made) == expected
    assert made.most_down_at_once == expected


def test_the_limits_of_hosts_stand_beside_it() -> None:
    assert most_down(planned(wanted(5, on_host=1), world())) == 3


def test_a_host_that_is_silent_counts_with_all_it_may_use() -> None:
    made = planned(wanted(5, on_host=2), world(names=("alpha", "beta")))
    assert most_down(made) == 3
    none_left = planned(wanted(2, on_host=2), world(names=("alpha", "beta")))
    assert not none_left.steps
    assert {change.action for change in none_left.changes} == {Action.BLOCKED}
    assert {change.would for change in none_left.changes} == {Action.RESTART}
    (why,) = {change.blocked for change in none_left.changes}
    assert why == "max_unavailable of the fleet is 2, and so many are down, or may be: gamma (2)"
    assert all((change.hint or "").endswith("reconciler forget gamma") for change in none_left.changes)


def test_what_is_on_its_way_has_its_place() -> None:
    hosts = world()
    new = domain("alpha-0", kernel=kernel("alpha-0", NEW))
    half: Guest = stopped(domain("alpha-0"), candidate=new)
    hosts["alpha"] = replace(hosts["alpha"], guests={**hosts["alpha"].guests, "alpha-0": half})
    made = planned(wanted(1), hosts)
    first = next(step for step in made.steps if isinstance(step.step, Shutdown))
    ready = next(
        step.id for step in made.steps if isinstance(step.step, AwaitReady) and step.address == "alpha/alpha-0"
    )
    assert ready in first.needs


def test_a_frozen_domain_that_is_on_its_way_keeps_its_place() -> None:
    hosts = world()
    new = domain("alpha-0", kernel=kernel("alpha-0", NEW))
    half = stopped(domain("alpha-0"), candidate=new)
    hosts["alpha"] = replace(hosts["alpha"], guests={**hosts["alpha"].guests, "alpha-0": half})
    asked = wanted(1)
    part = asked.hosts["alpha"]
    rest = {name: one for name, one in part.domains.items() if name != "alpha-0"}
    frozen = replace(
        asked,
        hosts={**asked.hosts, "alpha": replace(part, domains=rest)},
        frozen=frozenset({"alpha/alpha-0"}),
        prune=False,
    )
    made = planned(frozen, hosts)
    assert not [step for step in made.steps if isinstance(step.step, Shutdown)]


def test_the_proof_counts_the_fleet() -> None:
    hosts, asked = world(), wanted(None)
    made = build_plan(asked, hosts, Consent())
    made = replace(made, steps=tuple(greedily(made)))
    verify(made, hosts, asked)
    with pytest.raises(PlanError, match="of the fleet down at once"):
        verify(made, hosts, replace(asked, max_unavailable=1))


def test_a_silent_host_that_was_given_up_takes_no_place() -> None:
    seen = {name: one for name, one in world().items() if name != "gamma"}
    asked = wanted(1)
    before, after = (fleet_limit(one, seen, ()) for one in (asked, replace(asked, forgotten=frozenset({"gamma"}))))
    assert before is not None
    assert after is not None
    assert (before.left, after.left) == (0, 1)
