"""A lease that runs out in the middle of a step, of each kind: nothing more is begun, what is down comes back, and the
next controller brings the rest about without doing anything twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.apply.result import StepResult
from reconciler.cluster.controller import Controller
from reconciler.inspect.status import Condition
from reconciler.plan.steps import PlannedStep, is_of_way_back
from reconciler.watch.backoff import Backoff
from reconciler.watch.ground import Attending
from reconciler.watch.news import Outcome
from reconciler.watch.passes import Passes
from tests.cluster.fake_etcd import FakeEtcd, Store
from tests.transcript import write_files
from tests.watch.conftest import TREE, World

LEASE = 10
OLD = 'kernel = "/boot/vmlinuz"\nmemory = 256\n'
EDITS = {
    "restart": 'kernel = "/boot/other"\nmemory = 256\n',
    "live": 'kernel = "/boot/vmlinuz"\nmemory = 200\nmaxmem = 256\n',
    "create": OLD,
    "stop": OLD + 'state = "stopped"\n',
    "destroy": "",
}


class Expiring:
    """Progress of an apply in the middle of which the lease of its controller runs out: at the step of this number."""

    def __init__(self, at: int, expire: Callable[[], None]) -> None:
        self.at, self.expire = at, expire
        self.begun: list[PlannedStep] = []
        self.late: list[PlannedStep] = []  # begun although the lease had run out

    def started(self, step: PlannedStep) -> None:
        if len(self.begun) > self.at:
            self.late.append(step)
        self.begun.append(step)
        if len(self.begun) == self.at + 1:
            self.expire()

    def noted(self, step: PlannedStep, text: str) -> None:
        """Do nothing."""

    def finished(self, result: StepResult) -> None:
        """Do nothing."""


class One:
    """A controller, and the passes that it makes over alpha."""

    def __init__(self, world: World, store: Store, name: str) -> None:
        self.store, self.etcd = store, FakeEtcd(store)
        self.controller = Controller(self.etcd, LEASE, clock=lambda: store.now)
        self.controller.name = self.controller.who = name
        self.passes = Passes(
            world.local(),
            world.state_dir,
            detect_only=False,
            now=world.clock.now,
            backoff=Backoff(lambda: 0.5),
            sharing=self.controller,
        )

    async def turns(self, count: int) -> None:
        await self.passes.take_specs(())
        for _ in range(count):
            await self.controller.turn()
            self.store.now += LEASE / 3

    async def over_alpha(self, progress: Expiring) -> Outcome:
        stop = lambda: self.passes.stop_reason("alpha")  # noqa: E731 -- it is asked again and again
        return await self.passes.make_of_host("alpha", Attending(progress=progress, stop=stop))

    def lose_lease(self) -> None:
        self.etcd.cut = True
        self.store.now += 3 * LEASE
        self.store.expire()


def never() -> None:
    raise AssertionError("it has no such step")


@pytest.mark.parametrize("edit", EDITS)
def test_a_lease_that_runs_out_in_a_step_costs_nothing_but_time(
    edit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    step, last = 0, False
    while not last:
        folder = tmp_path / str(step)
        folder.mkdir()
        last = asyncio.run(_story(World(folder), edit, step))
        step += 1
    assert step > 1


async def _story(world: World, edit: str, at: int) -> bool:
    """Have the lease run out at a step. Returns whether there was no such step."""
    write_files({**TREE, "specs/alpha/web.toml": OLD}, world.folder)
    if edit == "create":
        (world.specs / "alpha/web.toml").unlink()
    store = Store()
    first, second = One(world, store, "first"), One(world, store, "second")
    try:
        await first.turns(2)
        quiet = Expiring(999, never)
        assert not (await first.over_alpha(quiet)).result.failed
        if EDITS[edit]:
            (world.specs / "alpha/web.toml").write_text(EDITS[edit])
        else:
            (world.specs / "alpha/web.toml").unlink()
        await first.turns(1)
        expiring = Expiring(at, first.lose_lease)
        await first.over_alpha(expiring)
        if len(expiring.begun) <= at:
            return True
        assert not [one for one in expiring.late if _begins(one, expiring.begun[at])], "something new was begun"
        await second.turns(7)
        outcome = await second.over_alpha(Expiring(999, never))
        outcome = await second.over_alpha(Expiring(999, never)) if outcome.plan is None else outcome
        assert {condition for condition, _ in outcome.domains.values()} == {Condition.READY}, outcome
        stale = await first.over_alpha(Expiring(999, never))
        assert not stale.result.done
        return False
    finally:
        await first.passes.close()
        await second.passes.close()


def _begins(step: PlannedStep, expired_in: PlannedStep) -> bool:
    """Return whether a step is none that brings back what the one before has taken down."""
    return step.address != expired_in.address and not is_of_way_back(step.id)
