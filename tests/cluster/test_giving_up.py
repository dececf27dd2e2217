"""A host that a person gives up is given up by all controllers, wherever they run, until it answers again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cluster.report import forget, report
from reconciler.cluster.sharing import Wanted
from reconciler.model.fleet import Desired
from reconciler.plan.places import FleetLimit
from reconciler.state_dir import sightings
from tests.cluster.test_facts import HOSTS, KEY, Fleet, known
from tests.worlds import domain, guest, host

pytestmark = pytest.mark.anyio


def fleet_in(tmp_path: Path) -> tuple[Fleet, list[Path]]:
    """Two controllers, each with a state directory of its own in which it has seen alpha."""
    fleet, folders = Fleet(), [tmp_path / "one", tmp_path / "two"]
    for one, folder in zip(fleet.all, folders, strict=True):
        one._given_up.state_dir = folder
        sightings.remember(folder, {"alpha": host(guest(domain("web")))}, HOSTS)
    return fleet, folders


def without_alpha(fleet: Fleet) -> Desired:
    return replace(fleet.tree, hosts={"beta": fleet.tree.hosts["beta"]})


def noted(folders: list[Path]) -> list[bool]:
    return ["alpha" in sightings.recall(folder, ()) for folder in folders]


async def test_each_controller_drops_what_it_remembers_and_none_brings_it_back(tmp_path: Path) -> None:
    fleet, folders = fleet_in(tmp_path)
    await fleet.turns()
    has, other = fleet.of("alpha")
    assert await has.reserve("alpha", Wanted(restarts=frozenset({"alpha/web"}), limit=FleetLimit(limit=1))) is None
    await has.tell("alpha", known(host(guest(domain("web")))))
    await fleet.turns(1)
    assert other.reserved()
    assert noted(folders) == [True, True]

    assert await forget(fleet.etcds[0], "prod", "alpha") == 1
    for one in fleet.all:
        one.go_by(without_alpha(fleet))
    await fleet.turns(2)
    assert noted(folders) == [False, False]
    assert [sightings.forgotten(folder) for folder in folders] == [{"alpha"}] * 2
    assert [one.given_up() for one in fleet.all] == [{"alpha"}] * 2
    assert not other.reserved()
    assert KEY not in fleet.store.entries, "also while an apply there goes on in vain"
    await has.ended("alpha", {})
    await fleet.turns(2)
    assert not any("claim/alpha" in key for key in fleet.store.entries)
    told = await report(fleet.etcds[0], "prod")
    assert "Given up until they answer again: alpha." in told.text(frozenset({"beta"}), 0.0)
    assert told.document(frozenset({"beta"}))["given_up"] == ["alpha"]


async def test_one_that_comes_later_goes_by_it_too_and_by_nothing_that_it_noted_itself(tmp_path: Path) -> None:
    fleet, (folder, _) = fleet_in(tmp_path)
    await forget(fleet.etcds[0], "prod", "alpha")
    sightings.forget(folder, "beta", HOSTS)  # and it has answered since, to another one
    await fleet.turns(2)
    assert sightings.forgotten(folder) == {"alpha"}


async def test_a_host_that_answers_again_counts_for_all(tmp_path: Path) -> None:
    fleet, folders = fleet_in(tmp_path)
    await fleet.turns()
    await forget(fleet.etcds[0], "prod", "alpha")
    await fleet.turns(1)
    has, _ = fleet.of("alpha")
    silent = known(host())
    await has.tell("alpha", replace(silent, host=None, problem="no route"))
    await fleet.turns(1)
    assert [sightings.forgotten(folder) for folder in folders] == [{"alpha"}] * 2, "it has not answered"
    await has.tell("alpha", silent)
    await fleet.turns(1)
    assert [sightings.forgotten(folder) for folder in folders] == [frozenset()] * 2
    assert all(not one.given_up() for one in fleet.all)


async def test_what_an_emptied_etcd_has_lost_counts_again(tmp_path: Path) -> None:
    fleet, folders = fleet_in(tmp_path)
    await fleet.turns()
    await forget(fleet.etcds[0], "prod", "alpha")
    await fleet.turns(1)
    fleet.store.entries.clear()
    fleet.store.leases.clear()
    await fleet.turns(1)
    assert [sightings.forgotten(folder) for folder in folders] == [frozenset()] * 2
