"""The order of disks is what a boot loader and a guest go by, so another one has to prove itself like a new kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Disk, Domain, Policy, Ready
from reconciler.plan.steps import PromoteConfig, WriteConfig
from tests.both.passes import look, reconcile
from tests.both.sides import Side, make_domain, make_sides

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["xl", "simulated"])
def side(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    xen, simulated = make_sides(tmp_path, monkeypatch)
    return xen if request.param == "xl" else simulated


def disk(side: Side, number: int) -> Disk:
    target = f"{side.settings.disk_roots[0]}/{number}.img"
    return Disk(vdev=f"xvda{number}", devid=51712 + number, kind="file", target=target, size_bytes=1 << 20)


@pytest.fixture
def web(side: Side) -> Domain:
    ready = Policy(ready=Ready(min_seconds=0))
    return make_domain(side.settings, disks=(disk(side, 2), disk(side, 1)), vifs=(), policy=ready)


async def test_two_that_swap_places_restart_their_domain_through_a_candidate(side: Side, web: Domain) -> None:
    await reconcile(side, {"web": web})
    (change,) = (await look(side, {"web": web})).plan.changes
    assert change.action is Action.NO_OP, change.reason
    swapped = replace(web, disks=(disk(side, 1), disk(side, 2)))
    seen = await look(side, {"web": swapped})
    (change,) = seen.plan.changes
    (field,) = change.fields
    assert (change.action, field.path) == (Action.RESTART, "disk")
    assert (field.before, field.after) == ("xvda2, xvda1", "xvda1, xvda2")
    assert [step.step.candidate for step in seen.plan.steps if isinstance(step.step, WriteConfig)] == [True]
    assert any(isinstance(step.step, PromoteConfig) for step in seen.plan.steps)
    done = await reconcile(side, {"web": swapped})
    assert done.result is not None
    assert not done.result.failed
    (change,) = (await look(side, {"web": swapped})).plan.changes
    assert change.action is Action.NO_OP, change.reason


async def test_one_more_at_the_end_is_attached_and_one_in_between_needs_a_restart(side: Side, web: Domain) -> None:
    await reconcile(side, {"web": web})
    (change,) = (await look(side, {"web": replace(web, disks=(*web.disks, disk(side, 3)))})).plan.changes
    assert change.action is Action.UPDATE
    between = replace(web, disks=(web.disks[0], disk(side, 3), web.disks[1]))
    (change,) = (await look(side, {"web": between})).plan.changes
    assert (change.action, {field.path for field in change.fields}) == (Action.RESTART, {"disk", "disk[xvda3]"})
