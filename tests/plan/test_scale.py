"""Plans of very many domains: no bound of their own on length, and edges that grow with the steps alone.

Under `make scale` of five times as many (RECONCILER_SCALE_DOMAINS).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.decide.changes import Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.model.host import Host
from reconciler.plan.plan import build_plan
from reconciler.plan.verify import verify
from tests.operations import lines_of
from tests.worlds import MIB, NEW, desired, disk, domain, guest, host, kernel

Case = tuple[Host, Desired]
_ROOM_MIB = 10**9
_MANY = int(os.environ.get("RECONCILER_SCALE_DOMAINS", "2000"))
_NEEDS_A_STEP = 3  # at most this many on average
_FEW = 15
_GROWTH = 1.01  # of the lines that run for one domain; what each does with all others shows as more


def names(count: int) -> list[str]:
    return [f"d{number:05}" for number in range(count)]


def settings(max_unavailable: int) -> HostSettings:
    return HostSettings(name="alpha", toolstack="simulated", max_unavailable=max_unavailable)


def new(name: str, **changes: object) -> Domain:
    return domain(name, kernel=kernel(name, NEW), **changes)


def creates(count: int) -> Case:
    return host(free_mib=_ROOM_MIB), desired(*map(domain, names(count)), settings=settings(1))


def creates_in_waves(count: int) -> Case:
    wanted = (domain(name, policy=Policy(wave=at % 2)) for at, name in enumerate(names(count)))
    return host(free_mib=_ROOM_MIB), desired(*wanted, settings=settings(1))


def restarts_in_two_waves(max_unavailable: int) -> Callable[[int], Case]:
    def case(count: int) -> Case:
        wanted = (new(name, policy=Policy(wave=at % 2)) for at, name in enumerate(names(count)))
        world = host(*(guest(domain(name)) for name in names(count)), free_mib=_ROOM_MIB)
        return world, desired(*wanted, settings=settings(max_unavailable))

    return case


def chain(count: int) -> Case:
    below = dict(zip(names(count)[1:], names(count), strict=False))
    deps = {name: (below[name],) if name in below else () for name in names(count)}
    world = host(*(guest(domain(name, depends_on=deps[name])) for name in names(count)), free_mib=_ROOM_MIB)
    first, *rest = names(count)
    return world, desired(new(first), *(domain(name, depends_on=deps[name]) for name in rest), settings=settings(count))


def star(count: int) -> Case:
    tops = [domain(name, depends_on=("hub",)) for name in names(count)]
    world = host(guest(domain("hub")), *map(guest, tops), free_mib=_ROOM_MIB)
    return world, desired(new("hub"), *tops, settings=settings(count + 1))


def memory_that_changes_hands(count: int) -> Case:
    sizes = {name: (256, 384) if at % 2 else (384, 256) for at, name in enumerate(names(count))}
    world = host(*(guest(domain(name, memory_kib=old * MIB)) for name, (old, _) in sizes.items()), free_mib=0)
    wanted = (domain(name, memory_kib=wanted * MIB) for name, (_, wanted) in sizes.items())
    return world, desired(*wanted, settings=settings(1))


def disks_that_go_round(count: int) -> Case:
    world = host(*(guest(domain(name, disks=(disk(f"/srv/{name}"),))) for name in names(count)), free_mib=_ROOM_MIB)
    heirs = [*names(count)[1:], names(count)[0]]
    wanted = (domain(name, disks=(disk(f"/srv/{heir}"),)) for name, heir in zip(names(count), heirs, strict=True))
    return world, desired(*wanted, settings=settings(count))


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (creates, _MANY),
        (creates_in_waves, _MANY),
        (restarts_in_two_waves(1), _MANY // 2),
        (restarts_in_two_waves(50), _MANY // 2),
        (chain, _MANY // 2),
        (star, _MANY // 2),
        (memory_that_changes_hands, _MANY // 2),
        (disks_that_go_round, _MANY // 2),
    ],
    ids=["creates", "waves", "restarts-1", "restarts-50", "chain", "star", "memory", "disks"],
)
def test_a_large_plan_is_made_and_proven(case: Callable[[int], Case], count: int) -> None:
    world, wanted = case(count)
    made = build_plan(wanted, {"alpha": world}, Consent())
    verify(made, {"alpha": world}, wanted)
    assert made.diagnostics == ()
    assert len({step.address for step in made.steps}) >= count
    assert sum(len(step.needs) for step in made.steps) <= _NEEDS_A_STEP * len(made.steps)
    assert sum(len(change.waits_for) for change in made.changes) <= _NEEDS_A_STEP * len(made.steps)


@pytest.mark.parametrize(
    "case",
    [
        creates,
        creates_in_waves,
        restarts_in_two_waves(1),
        restarts_in_two_waves(_FEW),
        chain,
        star,
        memory_that_changes_hands,
        disks_that_go_round,
    ],
    ids=["creates", "waves", "restarts-1", "restarts-many", "chain", "star", "memory", "disks"],
)
def test_a_change_costs_the_same_among_more_of_its_kind(case: Callable[[int], Case]) -> None:
    def lines(count: int) -> float:
        world, wanted = case(count)

        def made_and_proven() -> None:
            verify(build_plan(wanted, {"alpha": world}, Consent()), {"alpha": world}, wanted)

        return lines_of(made_and_proven) / count

    lines(2)  # what is computed once
    assert lines(4 * _FEW) <= _GROWTH * lines(_FEW)


def test_a_host_costs_the_same_among_more_hosts() -> None:
    def lines(count: int) -> float:
        names = [f"h{number:03}" for number in range(count)]
        worlds = {name: replace(host(guest(domain(f"on-{name}")), free_mib=_ROOM_MIB), name=name) for name in names}
        parts = {
            name: DesiredHost(settings=replace(settings(1), name=name), domains={f"on-{name}": new(f"on-{name}")})
            for name in names
        }
        wanted = replace(desired(), hosts=parts)
        return lines_of(lambda: verify(build_plan(wanted, worlds, Consent()), worlds, wanted)) / count

    lines(2)  # what is computed once
    assert lines(4 * _FEW) <= _GROWTH * lines(_FEW)
