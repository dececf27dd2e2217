"""Every rule that holds a change meets every rule that orders changes, and every other that holds.

Whoever is held, the plan proves itself, runs come to an end, what is left says what it waits for, and nothing that
should wait begins. All pairs of rules have met when the law ends; else the law was not tried. Those that hold meet
since worlds are made for each pair of them: where both were left to chance, a seed in some met two only twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import seed as seeded
from hypothesis import strategies as st

from reconciler.decide.changes import Action
from reconciler.model.boot import boot_digest, with_quarantined
from reconciler.model.domain import Domain, Vif
from reconciler.model.fleet import Brake, Desired
from reconciler.model.host import Guest
from reconciler.model.rehearsal import SnapshotFact, Way
from reconciler.plan.plan import Plan
from reconciler.plan.steps import Shutdown, Start

from .fleets import MIB, NAMES, World
from .law import law
from .test_plan_laws import after, interleaving, plan_for
from .test_rules_meet import definition, meetings, world_of

_RUNS = 12
_HOLDERS = ("reconcile", "defer", "frozen", "quarantine", "postponed", "prevent_destroy", "rehearse")
RULES = (*_HOLDERS, "brake", "waves", "depends_on", "memory", "max_unavailable", "disk", "mac", "rehearsal")
_LEAST = 3  # worlds in which two rules meet
_PAIRS = tuple(combinations_with_replacement(_HOLDERS, 2))
_EXAMPLES = 13  # for each of them


@dataclass(frozen=True)
class Meeting:
    """A world, and who is held in it by which rule."""

    world: World
    held: dict[str, str]
    rules: frozenset[str]


@st.composite
def held_meetings(draw: st.DrawFn, pair: tuple[str, str]) -> Meeting:
    """The worlds in which rules of order meet, with two domains held by a pair of rules, maybe a third, and a brake."""
    for _ in range(_PAIRS.index(pair)):
        draw(st.integers())  # hypothesis draws the same for each pair, and each is to have worlds of its own
    world = draw(meetings(scarce=draw(st.booleans())))
    by = [*pair, *draw(st.lists(st.sampled_from(_HOLDERS), max_size=1))]
    held = dict(zip(draw(st.permutations(NAMES)), by, strict=False))
    macs = dict(zip(NAMES, draw(st.permutations(NAMES)) if draw(st.booleans()) else NAMES, strict=True))
    limit = draw(st.sampled_from([None, 0, 1, 2, 0.4]))
    part, host = world.desired.hosts["alpha"], world.host
    guests = {name: _has_vif(guest, name) for name, guest in host.guests.items()}
    wanted = {name: replace(domain, vifs=(_vif(macs[name]),)) for name, domain in part.domains.items()}
    desired = replace(world.desired, brake=Brake(max_destroy=100, max_restart=limit))
    if draw(st.booleans()):  # the others are rehearsed where that is possible
        wanted = {name: _rehearsed(one, "if-possible") for name, one in wanted.items()}
    for name, how in held.items():
        guests, wanted, desired = _hold(name, how, guests, wanted, desired)
    host = replace(host, snapshots={f"/srv/{name}": _snapshot(held.get(name)) for name in NAMES})
    part = replace(part, domains=wanted)
    new = World(host=replace(host, guests=guests), desired=replace(desired, hosts={"alpha": part}))
    return Meeting(world=new, held=held, rules=_rules(new, held))


def _rehearsed(domain: Domain, how: Literal["if-possible", "required"]) -> Domain:
    return replace(domain, policy=replace(domain.policy, rehearse=how))


def _snapshot(how: str | None) -> SnapshotFact:
    """Whose rehearsal is required, and is what holds it, has a disk without a way to snapshot it."""
    way: Way | None = None if how == "rehearse" else "reflink"
    return SnapshotFact(way=way, room="/srv", size_bytes=4096, free_bytes=1 << 40, total_bytes=1 << 40)


def _vif(owner: str) -> Vif:
    return Vif(devid=0, mac=f"00:16:3e:00:00:0{NAMES.index(owner)}", named=True, bridge="xenbr0")


def _has_vif(guest: Guest, name: str) -> Guest:
    assert guest.config is not None
    there = replace(guest.config, vifs=(_vif(name),))
    return replace(guest, config=there, running=there)


def _hold(
    name: str, how: str, guests: dict[str, Guest], wanted: dict[str, Domain], desired: Desired
) -> tuple[dict[str, Guest], dict[str, Domain], Desired]:
    domain, guest, address = wanted[name], guests[name], f"alpha/{name}"
    rest = {other: one for other, one in wanted.items() if other != name}
    match how:
        case "reconcile":
            wanted = {**wanted, name: replace(domain, policy=replace(domain.policy, reconcile=False))}
        case "defer":
            wanted = {**wanted, name: replace(domain, policy=replace(domain.policy, restart="defer"))}
        case "quarantine":
            guests = {**guests, name: replace(guest, quarantine=with_quarantined(None, domain, "it panicked"))}
        case "rehearse":
            wanted = {**wanted, name: _rehearsed(domain, "required")}
        case "postponed":
            desired = replace(desired, postponed={**desired.postponed, address: "failed: no loop device"})
        case "frozen":
            wanted, desired = rest, replace(desired, frozen=desired.frozen | {address}, prune=False)
        case _:  # its file is gone, and so is its name from all others
            assert guest.config is not None
            kept = replace(guest.config, prevent_destroy=True)
            guests = {**guests, name: replace(guest, config=kept, running=kept)}
            wanted = {other: _without(one, name) for other, one in rest.items()}
    return guests, wanted, desired


def _without(domain: Domain, base: str) -> Domain:
    return replace(domain, depends_on=tuple(name for name in domain.depends_on if name != base))


def _rules(world: World, held: dict[str, str]) -> frozenset[str]:
    """Return the rules that have a say in this world."""
    part, guests = world.desired.hosts["alpha"], world.host.guests
    wanted = part.domains
    found = set(held.values())
    found |= {"brake"} if world.desired.brake.max_restart is not None else set()
    found |= {"waves"} if len({one.policy.wave for one in wanted.values()}) > 1 else set()
    found |= {"depends_on"} if any(one.depends_on for one in wanted.values()) else set()
    found |= {"memory"} if world.host.free_kib < 1024 * 1024 else set()
    found |= {"max_unavailable"} if part.settings.max_unavailable < len(NAMES) else set()
    was = {name: guest.config for name, guest in guests.items() if guest.config is not None}
    found |= {"disk"} if any(one.disks != was[name].disks for name, one in wanted.items()) else set()
    found |= {"rehearsal"} if any(one.policy.rehearse == "if-possible" for one in wanted.values()) else set()
    found |= {"mac"} if any(one.vifs != was[name].vifs for name, one in wanted.items()) else set()
    return frozenset(found)


def check_that_nothing_begins_that_should_wait(meeting: Meeting, world: World, plan: Plan) -> None:
    """Judge by what was set up alone, and not by what the decisions say."""
    guests, wanted = world.host.guests, world.desired.hosts["alpha"].domains
    behind: set[int] = set()
    for name, how in meeting.held.items():
        if name in wanted and wanted[name].state == "stopped":
            continue  # it stops, which is no restart: no wave waits for it, and it runs no more in later runs
        there = guests[name].running
        assert there is not None
        is_new = name in wanted and wanted[name].kernel != there.kernel
        if how == "frozen":
            behind.add(there.policy.wave)
        elif how in ("defer", "postponed", "quarantine", "rehearse") and is_new:
            behind.add(wanted[name].policy.wave)
    down = {step.step.domain for step in plan.steps if isinstance(step.step, Shutdown)}
    for name in _boots_anew(world, plan):
        assert wanted[name].policy.wave <= min(behind, default=9)
        assert name not in meeting.held
    for name, how in meeting.held.items():
        if how in ("reconcile", "frozen"):
            assert name not in down, "not even with another one"
        assert f"alpha/{name}" not in {change.address for change in plan.changes if change.action is Action.DESTROY}
    limit = world.desired.brake.max_restart
    if limit is not None:
        count = limit if isinstance(limit, int) else max(1, int(limit * len(guests)))
        assert len({change.domain for change in plan.changes if change.restarts}) <= count


def _boots_anew(world: World, plan: Plan) -> set[str]:
    """Return the running domains that are started with something else than they run: no outing does that."""
    found = set()
    for step in plan.steps:
        running = world.host.guests[step.step.definition.name].running if isinstance(step.step, Start) else None
        if isinstance(step.step, Start) and running is not None:
            found |= {running.name} if boot_digest(running) != boot_digest(step.step.definition) else set()
    return found


def come_to_an_end(meeting: Meeting, seed: int) -> int:
    """Make runs until nothing is left to do. Returns how many that took."""
    world, runs = meeting.world, 0
    while (plan := plan_for(world.host, world.desired)).steps:
        check_that_nothing_begins_that_should_wait(meeting, world, plan)
        world = replace(world, host=after(world.host, interleaving(plan, seed)))
        runs += 1
        assert runs <= _RUNS
    for change in plan.changes:
        told = [*change.waits_for, *map(str, change.pending), change.blocked or "", change.hint or ""]
        assert any(told) or (change.action is Action.NO_OP and change.would is None), change
        assert not any("no order" in one or "circle" in one for one in told)
    return runs


def unmet(met: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {pair: met[pair] for pair in combinations(sorted(RULES), 2) if met[pair] < _LEAST}


def test_whatever_holds_and_orders_comes_to_an_end_and_says_why() -> None:
    met = Counter[tuple[str, str]]()
    for pair in _PAIRS:

        @given(held_meetings(pair), st.integers(0, 10**6))
        @law(examples=_EXAMPLES)
        def check(meeting: Meeting, seed: int) -> None:
            met.update(combinations(sorted(meeting.rules), 2))
            come_to_an_end(meeting, seed)

        check()
    assert unmet(met) == {}


def test_all_pairs_of_rules_meet() -> None:
    """With the seed 675743826, by which the law met `frozen` and `postponed` only twice."""
    met = Counter[tuple[str, str]]()
    for pair in _PAIRS:

        @seeded(675743826)
        @given(held_meetings(pair))
        @law(examples=_EXAMPLES)
        def count(meeting: Meeting) -> None:
            met.update(combinations(sorted(meeting.rules), 2))

        count()
    assert unmet(met) == {}


def held_and_stopped(how: str, e: Domain, asked: Domain, *, free_mib: int) -> Meeting:
    """`e` runs, is to stop, and is held; of the others, which run as well, one is asked for something else."""
    there = {name: definition(name, 0, 64, (), e.policy.wave if name == "e" else 0, name) for name in NAMES}
    world = world_of(there, {**there, "e": e, asked.name: asked}, free_kib=free_mib * MIB, max_unavailable=1)
    part = world.desired.hosts["alpha"]
    guests, wanted, desired = _hold("e", how, dict(world.host.guests), dict(part.domains), world.desired)
    desired = replace(desired, hosts={"alpha": replace(part, domains=wanted)})
    new = World(host=replace(world.host, guests=guests), desired=desired)
    return Meeting(world=new, held={"e": how}, rules=frozenset())


def test_one_that_defers_restarts_stops_all_the_same_and_a_later_run_has_its_memory() -> None:
    """Found by the law, with the seed 941809072: `d` grows only once `e`, of a later wave, has stopped."""
    e = replace(definition("e", 0, 64, (), 1, "e"), state="stopped")
    meeting = held_and_stopped("defer", e, definition("d", 0, 256, (), 0, "d"), free_mib=128)
    assert come_to_an_end(meeting, seed=0) == 2


@pytest.mark.parametrize("how", ["defer", "postponed", "quarantine"])
def test_no_wave_waits_for_one_that_is_to_stop(how: str) -> None:
    e = replace(definition("e", 1, 64, (), -1, "e"), state="stopped")
    meeting = held_and_stopped(how, e, definition("d", 1, 64, (), 0, "d"), free_mib=8192)
    plan = plan_for(meeting.world.host, meeting.world.desired)
    assert [change.domain for change in plan.changes if change.restarts] == ["d"]
    come_to_an_end(meeting, seed=0)
