"""Every rule that orders or holds steps meets every other: waves, depends_on, memory, room, handing over, windows.

What is right by itself has a plan that applies, and then nothing is left to do; else a real shortage is named, in
numbers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from reconciler.decide.changes import Action
from reconciler.model.domain import Disk, Domain, Policy, Ready
from reconciler.model.fleet import Brake, Desired, DesiredHost, HostSettings, Window
from reconciler.model.host import FileFact, Guest, Host, Owner, Power
from reconciler.model.memory import promised_kib

from .fleets import MIB, NAMES, SHAS, World, image
from .law import law
from .test_plan_laws import after, interleaving, plan_for

_RUNS = 12  # in which what one run could not do at once has to be done


@st.composite
def meetings(draw: st.DrawFn, scarce: bool) -> World:
    """Five domains that all run and all get something new, under all rules at once."""
    deps: dict[str, tuple[str, ...]] = {}
    waves: dict[str, int] = {}
    for at, name in enumerate(NAMES):
        below = draw(st.sets(st.sampled_from(NAMES[:at]), max_size=2)) if at else set()
        deps[name] = tuple(sorted(below))
        lowest = max((waves[base] for base in below), default=-1)
        waves[name] = draw(st.integers(lowest, 1))
    heirs = dict(zip(NAMES, draw(st.permutations(NAMES)) if draw(st.booleans()) else NAMES, strict=True))
    stops = draw(st.sampled_from([None, None, None, NAMES[-1]]))
    running, wanted = {}, {}
    for name in NAMES:
        running[name] = definition(name, 0, draw(st.sampled_from([64, 256, 512])), deps[name], waves[name], name)
        kernel, memory = draw(st.sampled_from([0, 1, 1])), draw(st.sampled_from([64, 256, 512]))
        wanted[name] = definition(name, kernel, memory, deps[name], waves[name], heirs[name])
        if name == stops:
            wanted[name] = replace(wanted[name], state="stopped")
    free_kib = (draw(st.sampled_from([0, 128, 512])) if scarce else 8192) * MIB
    limit = draw(st.integers(1, 4)) if scarce else len(NAMES)
    return world_of(running, wanted, free_kib=free_kib, max_unavailable=limit)


def world_of(running: dict[str, Domain], wanted: dict[str, Domain], *, free_kib: int, max_unavailable: int) -> World:
    """A host whose domains all run as defined."""
    guests = {
        name: Guest(
            name=name,
            owner=Owner.OURS,
            config=there,
            config_exists=True,
            running=there,
            power=Power.RUNNING,
            actual_kib=there.memory_kib,
        )
        for name, there in running.items()
    }
    host = Host(
        name="alpha",
        total_kib=free_kib + 128 * MIB + sum(promised_kib(guest) for guest in guests.values()),
        free_kib=free_kib,
        cpus=4,
        guests=guests,
        images={image(name, SHAS[0]).path: SHAS[0] for name in NAMES},
        files={f"/srv/{name}": FileFact(kind="file", size_bytes=4096, key=name, real_path=name) for name in NAMES},
    )
    settings = HostSettings(name="alpha", toolstack="simulated", max_unavailable=max_unavailable)
    part = DesiredHost(settings=settings, domains=wanted)
    return World(host=host, desired=Desired(fleet="default", hosts={"alpha": part}, brake=Brake(max_destroy=100)))


def definition(name: str, kernel: int, memory_mib: int, deps: tuple[str, ...], wave: int, has: str) -> Domain:
    return Domain(
        name=name,
        uuid=f"00000000-0000-0000-0000-00000000000{NAMES.index(name)}",
        kernel=image(name, SHAS[kernel]),
        memory_kib=memory_mib * MIB,
        maxmem_kib=512 * MIB,
        disks=(Disk(vdev="xvda", devid=51712, kind="file", target=f"/srv/{has}", size_bytes=4096),),
        depends_on=deps,
        policy=Policy(wave=wave, ready=Ready(min_seconds=0)),
    )


@given(meetings(scarce=False), st.integers(0, 10**6))
@law(examples=100)
def test_where_nothing_is_scarce_one_plan_does_it_all(world: World, seed: int) -> None:
    plan = plan_for(world.host, world.desired)
    assert plan.diagnostics == ()
    for steps in (list(plan.steps), interleaving(plan, seed)):
        again = plan_for(after(world.host, steps), world.desired)
        assert again.steps == ()
        assert {change.action for change in again.changes} == {Action.NO_OP}


@given(meetings(scarce=True), st.integers(0, 10**6))
@law(examples=150)
def test_what_is_not_done_lacks_memory_or_room_in_numbers(world: World, seed: int) -> None:
    host, runs = world.host, 0
    while (plan := plan_for(host, world.desired)).steps:
        host, runs = after(host, interleaving(plan, seed)), runs + 1
        assert runs <= _RUNS
    left = [change for change in plan.changes if change.blocked is not None]
    told = [*(change.blocked or "" for change in left), *(problem.detail for problem in plan.diagnostics)]
    if any(change.would is not None or change.blocked for change in plan.changes):
        assert any("MiB" in one or "max_unavailable is" in one for one in told)
    assert not any("no order" in one for one in told)


_SHUT, _OPEN = datetime(2026, 12, 1, 12, 0, tzinfo=UTC), datetime(2026, 12, 2, 2, 30, tzinfo=UTC)
_ACTIONS = ("restart", "update", "stop")


@given(
    meetings(scarce=False),
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.sets(st.sampled_from(_ACTIONS), min_size=1),
    st.booleans(),
    st.integers(0, 10**6),
)
@law(examples=60)
def test_what_waits_for_a_window_begins_when_it_opens_and_not_before(
    world: World, names: set[str], actions: set[str], denied: bool, seed: int
) -> None:
    window = Window(
        kind="deny" if denied else "allow",
        schedule="0 8 * * *" if denied else "0 2 * * *",
        duration_seconds=8 * 3600,
        actions=tuple(sorted(actions)),
        domains=tuple(sorted(names)),
    )
    shut = replace(world.desired, windows=(window,), at=_SHUT)
    host, runs = world.host, 0
    while (plan := plan_for(host, shut)).steps:
        begun = [change for change in plan.changes if change.acts and change.domain in names]
        assert not [change.address for change in begun if change.action in actions]
        host, runs = after(host, interleaving(plan, seed)), runs + 1
        assert runs <= _RUNS
    opened, runs = replace(shut, at=_OPEN), 0
    while (plan := plan_for(host, opened)).steps:
        host, runs = after(host, interleaving(plan, seed)), runs + 1
        assert runs <= _RUNS
    assert plan.diagnostics == ()
    assert {change.action for change in plan.changes} == {Action.NO_OP}
    assert {change.would for change in plan.changes} == {None}
