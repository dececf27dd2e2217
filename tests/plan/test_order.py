"""The order of steps: memory, dependencies, waves, and who is down with whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.diagnostics import Kind, exit_code
from reconciler.model.domain import Policy
from reconciler.model.fleet import Brake, Desired, DesiredHost, HostSettings
from reconciler.model.memory import needed_kib
from reconciler.plan.meaning import Replay
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import PlannedStep, Start
from reconciler.plan.verify import verify
from tests.worlds import MIB, NEW, change_of, desired, disk, domain, guest, host, kernel, plan, stopped

SETTINGS = HostSettings(name="alpha", toolstack="simulated")
FLEET = {"alpha": ("a",), "beta": ("b", "c"), "gamma": ("e",)}


def positions(made: object) -> dict[tuple[str, str], int]:
    return {(step.address.split("/")[1], step.step.kind): at for at, step in enumerate(made.steps)}  # type: ignore[attr-defined]  # any plan


def test_libxl_counts_1030_mib_for_a_pv_guest_of_1024() -> None:
    assert needed_kib(domain("web", maxmem_kib=1024 * MIB, maxvcpus=1), 1024 * MIB) == 1030 * MIB


def test_what_gives_memory_back_goes_before_what_needs_it() -> None:
    shrinks, grows = domain("a"), domain("b")
    made = plan(
        host(guest(replace(shrinks, memory_kib=512 * MIB)), guest(grows), free_mib=0),
        desired(shrinks, replace(grows, memory_kib=512 * MIB)),
    )
    at = positions(made)
    assert at["a", "set_memory"] < at["b", "set_memory"]
    assert made.steps[at["a", "set_memory"]].id in made.steps[at["b", "set_memory"]].needs
    assert "memory of alpha/a" in change_of(made, "b").waits_for


def test_growth_that_fits_waits_for_nobody() -> None:
    shrinks, grows = domain("a"), domain("b")
    made = plan(
        host(guest(replace(shrinks, memory_kib=512 * MIB)), guest(grows), free_mib=1024),
        desired(shrinks, replace(grows, memory_kib=512 * MIB)),
    )
    assert change_of(made, "b").waits_for == ()


def test_what_does_not_fit_is_refused_with_the_smallest_set_in_numbers() -> None:
    small, large = domain("small"), domain("large", memory_kib=2048 * MIB, maxmem_kib=2048 * MIB)
    made = plan(host(free_mib=1024), desired(small, large))
    assert made.steps == ()
    refusal = made.diagnostics[0]
    assert (refusal.kind, exit_code(made.diagnostics)) == (Kind.REFUSED, 3)
    assert "alpha/large 2060 MiB more" in refusal.detail
    assert "small" not in refusal.detail


def test_dependencies_are_ready_before_and_down_after() -> None:
    base, top = domain("base"), domain("top", depends_on=("base",))
    up = positions(plan(host(), desired(base, top)))
    assert up["base", "await_ready"] < up["top", "start"]
    down = positions(plan(host(guest(base), guest(top)), desired(domain("other"), brake=Brake(max_destroy=2))))
    assert down["top", "shutdown"] < down["base", "shutdown"]


def test_restarting_a_dependency_takes_its_dependents_along_within_max_unavailable() -> None:
    base, top = domain("base"), domain("top", depends_on=("base",))
    world, changed = host(guest(base), guest(top)), domain("base", kernel=kernel("base", NEW))
    blocked = plan(world, desired(changed, top))
    assert {change.domain: change.action for change in blocked.changes} == {
        "base": Action.BLOCKED,
        "top": Action.NO_OP,
    }
    assert change_of(blocked, "base").blocked == "base, top go down together, 2 domains, and max_unavailable is 1"
    assert change_of(blocked, "base").hint == "set max_unavailable = 2 in alpha/host.toml"
    made = plan(world, desired(changed, top, settings=replace(SETTINGS, max_unavailable=2)))
    at = positions(made)
    assert at["top", "shutdown"] < at["base", "shutdown"] < at["base", "await_ready"] < at["top", "start"]
    assert change_of(made, "top").reason == "base, which it depends on, restarts"


def test_a_dependent_that_is_not_selected_goes_down_and_up_as_it_is() -> None:
    base, top = domain("base"), domain("top", depends_on=("base",))
    world = host(guest(base), guest(top), guest(domain("other")))
    wanted = desired(
        domain("base", kernel=kernel("base", NEW)),
        domain("top", depends_on=("base",), kernel=kernel("top", NEW)),
        domain("other", kernel=kernel("other", NEW)),
        settings=replace(SETTINGS, max_unavailable=2),
    )
    made = build_plan(wanted, {"alpha": world}, Consent(), targets=frozenset({"alpha/base"}))
    verify(made, {"alpha": world}, wanted)
    assert [change.domain for change in made.changes] == ["base", "top"]
    assert change_of(made, "top").reason == "base, which it depends on, restarts"
    starts = {step.step.definition.name: step.step.definition for step in made.steps if isinstance(step.step, Start)}
    assert starts["top"].kernel == kernel("top")
    assert starts["base"].kernel == kernel("base", NEW)


def test_a_domain_is_not_stopped_under_one_that_depends_on_it() -> None:
    base, top = domain("base"), domain("top", depends_on=("base",))
    made = plan(host(guest(base), guest(top)), desired(domain("base", state="stopped"), top))
    assert change_of(made, "base").blocked == "top depends on it and runs"


def test_a_domain_does_not_start_on_top_of_one_that_will_not_run() -> None:
    base, top = domain("base", state="stopped"), domain("top", depends_on=("base",))
    for world in (host(stopped(base)), host()):
        reason = 'it depends on base, which does not run: its spec says state = "stopped"'
        assert change_of(plan(world, desired(base, top)), "top").blocked == reason


def test_only_max_unavailable_domains_are_down_for_a_restart() -> None:
    names = ("a", "b", "c")
    wanted = [domain(name, kernel=kernel(name, NEW)) for name in names]
    made = plan(host(*(guest(domain(name)) for name in names)), desired(*wanted))
    at = positions(made)
    downs = sorted(at[name, "shutdown"] for name in names)
    readies = sorted(at[name, "await_ready"] for name in names)
    assert downs[0] < readies[0] < downs[1] < readies[1] < downs[2]
    assert any("max_unavailable = 1" in why for why in change_of(made, "b").waits_for)


def test_a_canary_is_done_before_the_next_wave_begins() -> None:
    canary = domain("z", kernel=kernel("z", NEW), policy=Policy(wave=-1))
    others = [domain(name, kernel=kernel(name, NEW)) for name in ("a", "b")]
    settings = replace(SETTINGS, max_unavailable=3)
    made = plan(host(*(guest(domain(name)) for name in ("a", "b", "z"))), desired(canary, *others, settings=settings))
    last_of_canary = max(at for (name, _), at in positions(made).items() if name == "z")
    first_of_others = min(at for (name, _), at in positions(made).items() if name != "z")
    assert last_of_canary < first_of_others
    assert "wave -1" in change_of(made, "a").waits_for


def test_two_domains_that_swap_a_disk_are_both_down_first_or_refused() -> None:
    one, two = disk("/srv/one"), disk("/srv/two")
    world = host(guest(domain("a", disks=(one,))), guest(domain("b", disks=(two,))))
    wanted = (domain("a", disks=(two,)), domain("b", disks=(one,)))
    refused = plan(world, desired(*wanted))
    assert refused.steps == ()
    assert change_of(refused, "a").blocked == "a, b go down together, 2 domains, and max_unavailable is 1"
    made = plan(world, desired(*wanted, settings=replace(SETTINGS, max_unavailable=2)))
    at = positions(made)
    assert max(at["a", "shutdown"], at["b", "shutdown"]) < min(at["a", "start"], at["b", "start"])


def test_the_brake_stops_the_whole_run_and_says_how_to_release_it() -> None:
    world = host(*(guest(domain(name)) for name in ("a", "b", "c")))
    wanted = desired(domain("a", memory_kib=512 * MIB))
    braked = plan(world, wanted)
    assert braked.steps == ()
    assert braked.diagnostics[0].hint == "if that is meant: reconciler apply --allow-destroy 2"
    assert "alpha/b, alpha/c" in braked.diagnostics[0].detail
    still = plan(world, wanted, Consent(allow_destroy=1)).diagnostics[0]
    assert "[brake] allows 1, --allow-destroy 1: alpha/b" in still.detail
    released = plan(world, wanted, Consent(allow_destroy=2))
    assert {change.action for change in released.changes} == {Action.DESTROY, Action.UPDATE}


def test_the_brake_counts_the_whole_fleet_and_stops_the_hosts_that_have_a_part_in_it() -> None:
    hosts = {name: replace(host(*(guest(domain(one)) for one in guests)), name=name) for name, guests in FLEET.items()}
    parts = {name: DesiredHost(settings=replace(SETTINGS, name=name), domains={}) for name in hosts}
    parts["gamma"] = replace(parts["gamma"], domains={"e": domain("e", memory_kib=512 * MIB)})
    made = build_plan(Desired(fleet="default", hosts=parts), hosts, Consent())
    assert "alpha/a, beta/b, beta/c" in made.diagnostics[0].detail
    assert {step.address for step in made.steps} == {"gamma/e"}


def test_the_brake_holds_also_when_another_host_is_refused_for_its_memory() -> None:
    hosts = {name: replace(host(*(guest(domain(one)) for one in guests)), name=name) for name, guests in FLEET.items()}
    hosts["gamma"] = replace(hosts["gamma"], free_kib=0)
    parts = {name: DesiredHost(settings=replace(SETTINGS, name=name), domains={}) for name in hosts}
    parts["gamma"] = replace(parts["gamma"], domains={"e": domain("e", memory_kib=512 * MIB)})
    made = build_plan(Desired(fleet="default", hosts=parts), hosts, Consent())
    assert made.steps == ()
    assert {change.blocked for change in made.changes if change.host != "gamma"} == {"held by the brake"}
    assert {problem.summary for problem in made.diagnostics if "/" not in (problem.address or "")} == {
        "the brake holds: 3 to destroy",
        "gamma has not enough memory",
    }


def test_the_restart_brake_counts_restarts() -> None:
    world = host(*(guest(domain(name)) for name in ("a", "b")))
    wanted = [domain(name, kernel=kernel(name, NEW)) for name in ("a", "b")]
    braked = plan(world, desired(*wanted, brake=Brake(max_restart=1)))
    assert (braked.steps, braked.diagnostics[0].hint) == ((), "if that is meant: reconciler apply --allow-restart 2")


def test_a_swap_over_two_waves_waits_for_the_later_one() -> None:
    """What a domain of wave 0 is to get from one of wave 1 is not free before; so both change hands in wave 1."""
    disks = {name: disk(f"/srv/{name}") for name in ("a", "b")}
    world = host(*(guest(domain(name, disks=(disks[name],))) for name in ("a", "b")), guest(domain("c")))
    wanted = desired(
        domain("a", disks=(disks["b"],)),
        domain("b", disks=(disks["a"],), policy=Policy(wave=1)),
        domain("c", kernel=kernel("c", NEW)),
        domain("on-b", depends_on=("b",), policy=Policy(wave=1)),
        settings=replace(SETTINGS, max_unavailable=2),
    )
    made = plan(world, wanted)
    at = positions(made)
    assert {change.action for change in made.changes if change.domain != "on-b"} == {Action.RESTART}
    assert at["c", "await_ready"] < min(at["a", "shutdown"], at["b", "shutdown"])
    assert max(at["a", "shutdown"], at["b", "shutdown"]) < min(at["a", "start"], at["b", "start"])
    assert at["b", "await_ready"] < at["on-b", "start"]


def orders(made: Plan, kind: str) -> Iterator[list[PlannedStep]]:
    """The steps of a kind, in every order that what they need allows."""
    needs: dict[str, set[str]] = {}
    for step in made.steps:
        needs[step.id] = set(step.needs).union(*(needs[before] for before in step.needs))
    for order in permutations(step for step in made.steps if step.step.kind == kind):
        ids = [step.id for step in order]
        if not any(needs[before] & set(ids[at:]) for at, before in enumerate(ids)):
            yield list(order)


@pytest.mark.parametrize("grown", [1, 2])
@pytest.mark.parametrize("shrinking", [1, 2, 3])
def test_memory_fits_in_every_order_whoever_grows_and_shrinks(shrinking: int, grown: int) -> None:
    """Those that grow take all that the others give back: who is last of them has to wait for all the others."""
    small, large = [f"s{number}" for number in range(shrinking)], [f"g{number}" for number in range(grown)]
    before = [domain(name, memory_kib=(256 + 32 * grown) * MIB) for name in small]
    before += [domain(name, memory_kib=256 * MIB, maxmem_kib=1024 * MIB) for name in large]
    world = host(*map(guest, before), free_mib=0)
    after = [domain(name) for name in small]
    after += [domain(name, memory_kib=(256 + 32 * shrinking) * MIB, maxmem_kib=1024 * MIB) for name in large]
    made = plan(world, desired(*after))
    seen = 0
    for order in orders(made, "set_memory"):
        replay, seen = Replay(world), seen + 1
        for step in order:
            replay.apply(step.step)
            assert replay.free_kib >= 0, f"after {step.id} of {[step.address for step in order]}"
    assert seen


def test_a_restart_that_needs_more_memory_runs_on_until_it_is_there() -> None:
    """What it waits for is waited for before it goes down, not while it is."""
    grows = domain("b", kernel=kernel("b", NEW), memory_kib=512 * MIB)
    world = host(guest(domain("a", memory_kib=512 * MIB)), guest(domain("b")), free_mib=0)
    made = plan(world, desired(domain("a"), grows))
    at = positions(made)
    assert made.steps[at["a", "set_memory"]].id in made.steps[at["b", "shutdown"]].needs


def test_nobody_waits_for_a_place_that_was_given_back_in_a_lower_wave() -> None:
    low, high = domain("low", policy=Policy(wave=-1)), domain("high")
    settings = HostSettings(name="alpha", toolstack="simulated", max_unavailable=1)
    wanted = desired(*(replace(one, kernel=kernel(one.name, NEW)) for one in (low, high)), settings=settings)
    made = plan(host(guest(low), guest(high)), wanted)
    assert change_of(made, "high").waits_for == ("wave -1",)
    assert change_of(made, "low").waits_for == ()
