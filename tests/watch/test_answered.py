"""When a look at a host tells what specs of a later commit ask."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cluster.sharing import Unshared
from reconciler.fleet import Asked, Fleet, Seen
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired
from reconciler.plan.refusals import Used
from reconciler.specs import TreeReading
from reconciler.state_dir import sightings
from reconciler.toolstack import question_for
from tests.worlds import desired, disk, domain, guest, host

WEB = domain("web")
REHEARSED = replace(WEB, policy=replace(WEB.policy, rehearse="required"))


@pytest.mark.parametrize(
    ("asks", "is_answered"),
    [
        (replace(WEB, memory_kib=WEB.memory_kib * 2), True),
        (replace(WEB, disks=(disk("/srv/web"),)), False),
        (REHEARSED, False),
    ],
    ids=["nothing more to look at", "of another disk", "of a rehearsal, so of the way to snapshot disks"],
)
def test_it_answers_what_it_was_asked(asks: Domain, is_answered: bool, tmp_path: Path) -> None:
    def reading(wanted: Desired) -> TreeReading:
        return TreeReading(desired=wanted, diagnostics=())

    fleet, before = Fleet(tmp_path, lambda: 0.0, lambda name: None), desired(WEB)
    fleet.renew(reading(before), tmp_path)
    part = before.hosts["alpha"]
    look = Seen(host=host(guest(WEB)), asked=question_for(part), part=part)
    asyncio.run(fleet.look("alpha", look))
    fleet.renew(reading(desired(asks)), tmp_path)
    assert fleet.is_answered("alpha") is is_answered


class Emptied(Unshared):
    """A cluster whose etcd was emptied after the first look."""

    era = 0


def test_a_host_counts_as_unseen_until_it_was_looked_at_since_etcd_was_emptied(tmp_path: Path) -> None:
    """What had a place then may be down, and nobody knows of it."""
    wanted, cluster = replace(desired(WEB), max_unavailable=3), Emptied()
    part = wanted.hosts["alpha"]
    fleet = Fleet(tmp_path, lambda: 0.0, lambda name: None, cluster)
    fleet.renew(TreeReading(desired=wanted, diagnostics=()), tmp_path)

    async def left(*, looks: bool) -> int | None:
        if looks:
            look = Seen(host=host(guest(WEB)), asked=question_for(part), part=part, era=cluster.era)
            await fleet.look("alpha", look)
        await fleet.part("alpha", lambda: Asked(postponed={}, unpause=frozenset(), used=Used()))
        return fleet.limit.left if fleet.limit is not None else None

    async def story() -> None:
        assert await left(looks=True) == 3
        cluster.era += 1
        assert await left(looks=False) == 2
        assert await left(looks=True) == 3

    asyncio.run(story())


def test_a_host_that_was_given_up_takes_no_place_of_the_fleet(tmp_path: Path) -> None:
    wanted = replace(desired(WEB), max_unavailable=1)
    fleet = Fleet(tmp_path, lambda: 0.0, lambda name: None)
    fleet.renew(TreeReading(desired=wanted, diagnostics=()), tmp_path)

    async def left() -> int | None:
        await fleet.look("alpha", Seen(host=None))
        fleet.renew(TreeReading(desired=wanted, diagnostics=()), tmp_path)  # so the plan is made anew
        await fleet.part("alpha", lambda: Asked(postponed={}, unpause=frozenset(), used=Used()))
        return fleet.limit.left if fleet.limit is not None else None

    assert asyncio.run(left()) == 0
    sightings.forget(tmp_path, "alpha", {"alpha"})
    assert asyncio.run(left()) == 1
