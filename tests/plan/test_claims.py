"""Macs, uuids and disks that change hands: no two domains ever have one at the same time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Brake, DesiredHost, HostSettings
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import PlannedStep, Shutdown
from reconciler.plan.verify import PlanError, verify
from tests.worlds import (
    NEW,
    change_of,
    desired,
    disk,
    domain,
    guest,
    host,
    kernel,
    kinds,
    plan,
    stopped,
    unmanaged,
    vif,
)

M, N = "00:16:3e:00:00:01", "00:16:3e:00:00:02"
TWO_DOWN = HostSettings(name="alpha", toolstack="simulated", max_unavailable=2)


def with_mac(name: str, *macs: str, **changes: object) -> Domain:
    return domain(name, vifs=tuple(vif(mac, at) for at, mac in enumerate(macs)), **changes)


def waits(made: Plan, later: tuple[str, str], earlier: tuple[str, str]) -> bool:
    """Whether a step of a domain, directly or not, needs a step of another."""
    by_id = {step.id: step for step in made.steps}
    at: dict[tuple[str, str], PlannedStep] = {(step.address.split("/")[1], step.step.kind): step for step in made.steps}
    seen, left = set[str](), [at[later].id]
    while left:
        step_id = left.pop()
        if step_id not in seen:
            seen.add(step_id)
            left += by_id[step_id].needs
    return at[earlier].id in seen


def test_a_mac_of_a_domain_that_may_not_be_destroyed_is_not_given_to_another() -> None:
    made = plan(host(guest(with_mac("a", M, prevent_destroy=True))), desired(with_mac("b", M)))
    assert f"{M} is still a mac of a, which keeps it" in (change_of(made, "b").blocked or "")


def test_a_uuid_of_a_domain_that_keeps_it_is_not_given_to_another() -> None:
    kept = domain("a", policy=Policy(reconcile=False))
    made = plan(host(guest(kept)), desired(replace(kept, uuid="another"), domain("b", uuid=kept.uuid)))
    assert "is still the uuid of a" in (change_of(made, "b").blocked or "")


def test_a_mac_of_a_domain_whose_file_is_broken_is_not_given_to_another() -> None:
    wanted = desired(with_mac("b", M), frozen=frozenset({"alpha/a"}), prune=False)
    assert change_of(plan(host(guest(with_mac("a", M))), wanted), "b").action is Action.BLOCKED


def test_a_mac_of_a_held_domain_is_not_given_to_another() -> None:
    wanted = desired(domain("a", policy=Policy(reconcile=False)), with_mac("b", M))
    assert change_of(plan(host(guest(with_mac("a", M))), wanted), "b").action is Action.BLOCKED


def test_a_mac_that_waits_for_a_deferred_restart_is_not_given_to_another() -> None:
    deferred = with_mac("a", N, policy=Policy(restart="defer"))
    made = plan(host(guest(with_mac("a", M))), desired(deferred, with_mac("b", M)))
    assert change_of(made, "a").pending
    assert change_of(made, "b").action is Action.BLOCKED


@pytest.mark.parametrize("runs", [True, False])
def test_a_uuid_of_a_domain_that_is_not_ours_is_not_taken(runs: bool) -> None:
    theirs = unmanaged(domain("u", uuid="one"))
    if not runs:
        theirs = replace(stopped(domain("u", uuid="one")), owner=theirs.owner)
    made = plan(host(theirs), desired(domain("a", uuid="one")))
    assert change_of(made, "a").blocked == "one is still the uuid of u, which is not ours"


def test_a_domain_does_not_start_with_a_uuid_that_runs_under_another_name() -> None:
    ours = domain("a", uuid="one")
    made = plan(host(stopped(ours), unmanaged(domain("u", uuid="one"))), desired(ours))
    assert change_of(made, "a").action is Action.BLOCKED


def test_a_mac_of_an_unmanaged_domain_on_another_host_is_not_taken() -> None:
    alpha, beta = host(), replace(host(unmanaged(with_mac("u", M))), name="beta")
    part = DesiredHost(settings=replace(TWO_DOWN, name="beta"), domains={})
    wanted = desired(with_mac("a", M))
    wanted = replace(wanted, hosts={**wanted.hosts, "beta": part})
    made = build_plan(wanted, {"alpha": alpha, "beta": beta}, Consent())
    assert change_of(made, "a").blocked == f"{M} is still a mac of beta/u, which is not ours"


def test_a_uuid_goes_to_another_domain_when_the_one_that_had_it_is_down() -> None:
    old = with_mac("a", M)
    wanted = desired(with_mac("z", M, uuid=old.uuid), domain("a", uuid="another", state="stopped"))
    made = plan(host(guest(old)), wanted)
    assert waits(made, ("z", "start"), ("a", "shutdown"))
    assert any("let go of" in why for why in change_of(made, "z").waits_for)


def test_only_a_renamed_domain_whose_uuid_is_not_pinned_is_told_how_to_pin_it() -> None:
    image = disk("/srv/a.img")
    old = domain("a", disks=(image,))
    for uuid, is_told in ((old.uuid, False), ("another", True)):
        new = domain("z", disks=(image,), uuid=uuid)
        made = plan(host(guest(old)), desired(new, brake=Brake(max_destroy=1)))
        assert ("under another name" in (change_of(made, "z").hint or "")) == is_told


@pytest.mark.parametrize("giver, taker", [("a", "b"), ("b", "a")])
def test_a_mac_goes_from_one_running_domain_to_another_without_a_restart(giver: str, taker: str) -> None:
    world = host(guest(with_mac(giver, M)), guest(with_mac(taker, N)))
    wanted = (domain(giver), domain(taker, vifs=(vif(N), vif(M, 1))))
    made = plan(world, desired(*wanted))
    assert waits(made, (taker, "attach_vif"), (giver, "detach_vif"))


@pytest.mark.parametrize("giver, taker", [("a", "b"), ("b", "a")])
def test_a_disk_goes_from_one_restart_to_another_though_only_one_may_be_down(giver: str, taker: str) -> None:
    image = disk("/srv/x.img")
    world = host(guest(domain(giver, disks=(image,))), guest(domain(taker)))
    made = plan(world, desired(domain(giver), domain(taker, disks=(image,), kernel=kernel(taker, NEW))))
    assert waits(made, (taker, "start"), (giver, "shutdown"))


def test_two_domains_that_swap_macs_are_both_down_first_or_blocked() -> None:
    world = host(guest(with_mac("a", M)), guest(with_mac("b", N)), guest(domain("c")))
    # another mac at a vif that has its place keeps that place only where neither is named
    wanted = [
        domain(name, vifs=(vif(mac, named=False),), kernel=kernel(name, NEW)) for name, mac in (("a", N), ("b", M))
    ]
    other = domain("c", kernel=kernel("c", NEW))
    made = plan(world, desired(*wanted, other))
    assert change_of(made, "a").blocked == "a, b go down together, 2 domains, and max_unavailable is 1"
    assert "start" in kinds(made, "c")
    made = plan(world, desired(*wanted, other, settings=TWO_DOWN))
    for name, partner in (("a", "b"), ("b", "a")):
        assert waits(made, (name, "start"), (partner, "shutdown"))


def test_the_way_back_of_a_domain_leads_only_down_once_another_has_its_disk() -> None:
    image = disk("/srv/x.img")
    world = host(guest(domain("a", disks=(image,))), guest(domain("c")))
    wanted = [domain(name, kernel=kernel(name, NEW)) for name in ("a", "c")]
    made = plan(world, desired(*wanted, domain("n", disks=(image,))))
    ways = {way.address: [step.step.kind for step in way.steps] for way in made.ways_back}
    assert ways["alpha/a"] == ["set_quarantine", "shutdown"]
    assert "start" in ways["alpha/c"]


def test_a_disk_is_cloned_only_when_the_domain_that_leaves_it_is_down() -> None:
    clone = disk("/srv/n.img", source="/srv/a.img")
    world = host(guest(domain("a", disks=(disk("/srv/a.img"),))))
    made = plan(world, desired(domain("n", disks=(clone,)), brake=Brake(max_destroy=1)))
    assert waits(made, ("n", "create_disk"), ("a", "shutdown"))


def test_what_several_only_read_is_nobodys_alone() -> None:
    image = disk("/srv/iso", access="ro")
    made = plan(host(guest(domain("a", disks=(image,), prevent_destroy=True))), desired(domain("b", disks=(image,))))
    assert change_of(made, "b").action is Action.CREATE


def test_what_two_domains_have_from_the_beginning_is_no_bug_of_the_plan() -> None:
    both = {"uuid": "one", "disks": (disk("/srv/a.img"),)}
    world = host(guest(domain("a", **both)), guest(domain("b", **both, prevent_destroy=True)))
    made = plan(world, desired(domain("a", **both, kernel=kernel("a", NEW))))
    assert "start" in kinds(made, "a")


def test_the_proof_refuses_two_live_domains_with_one_uuid() -> None:
    old = domain("a")
    world = host(guest(old))
    wanted = desired(domain("z", uuid=old.uuid), domain("a", uuid="another", state="stopped"))
    made = plan(world, wanted)
    down = next(step for step in made.steps if isinstance(step.step, Shutdown))
    late = (*(replace(step, needs=()) for step in made.steps if step.address == "alpha/z"), down)
    with pytest.raises(PlanError, match="uuid-of-a is still the uuid of alpha/a"):
        verify(replace(made, steps=late, ways_back=()), {"alpha": world}, wanted)
