"""The end of watch: a host that does not answer does not hold it up, and what was known of its domains stays."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.apply.result import ApplyResult
from reconciler.decide.changes import Consent
from reconciler.model.host import Host
from reconciler.reconcile import Reconciler, Selection
from reconciler.simulated.host import SimulatedObserver
from reconciler.specs import read_tree
from reconciler.toolstack import Question
from reconciler.watch.logs import Log, LoggedSteps
from tests.transcript import write_files
from tests.watch.conftest import World, look

BETA = {
    "specs/beta/host.toml": 'toolstack = "simulated"\n',
    "specs/beta/mail.toml": 'kernel = "/boot/vmlinuz"\nmemory = 256\n',
}


@pytest.fixture
def fleet(world: World) -> World:
    """Two hosts, all of whose domains are ready."""
    write_files(BETA, world.folder)
    look(world.watcher())
    look(world.watcher())
    assert {one.condition.value for one in world.record().domains.values()} == {"Ready"}
    return world


def test_a_host_that_is_silent_is_not_waited_for_and_its_domains_are_as_before(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe, asked, cancelled = SimulatedObserver.observe, asyncio.Event(), []

    async def silent(self: SimulatedObserver, question: Question) -> Host:
        if self.name != "beta":
            return await observe(self, question)
        asked.set()
        try:
            return await asyncio.Event().wait() and await observe(self, question)
        except asyncio.CancelledError:
            cancelled.append(self.name)
            raise

    monkeypatch.setattr(SimulatedObserver, "observe", silent)
    fleet.hand.destroy("web")

    async def stopped() -> int:
        watcher = fleet.watcher()
        running = asyncio.create_task(watcher.run())
        await asked.wait()
        watcher.stop()
        fleet.clock.seconds += 10
        return await asyncio.wait_for(running, 20)

    before = fleet.record()
    assert asyncio.run(stopped()) == 0
    assert cancelled == ["beta"]
    after = fleet.record()
    assert after.stopped is not None
    assert after.domains["beta/mail"] == before.domains["beta/mail"]
    assert after.domains["alpha/web"].condition.value == "Reconciling"  # begun by the next start
    assert not fleet.running("db").problem


def test_a_host_that_answers_soon_is_waited_for(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    observe, asked = SimulatedObserver.observe, asyncio.Event()

    async def slow(self: SimulatedObserver, question: Question) -> Host:
        asked.set()
        await asyncio.sleep(1)
        return await observe(self, question)

    monkeypatch.setattr(SimulatedObserver, "observe", slow)
    fleet.hand.destroy("web")

    async def stopped() -> None:
        watcher = fleet.watcher()
        running = asyncio.create_task(watcher.run())
        await asked.wait()
        watcher.stop()
        await asyncio.wait_for(running, 20)

    asyncio.run(stopped())
    assert fleet.condition("alpha/web") == "Reconciling"
    assert fleet.condition("beta/mail") == "Ready"


def test_an_apply_does_not_wait_for_a_silent_host_either(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.hand.destroy("web")

    async def silent(self: SimulatedObserver, question: Question) -> Host:
        return await asyncio.Event().wait() and await observe(self, question)

    async def stopped() -> ApplyResult:
        reconciler = Reconciler(read_tree(fleet.specs), fleet.specs, fleet.state_dir)
        plan = await reconciler.make_plan(Selection(), Consent())
        monkeypatch.setattr(SimulatedObserver, "observe", silent)
        applying = reconciler.apply(
            plan, LoggedSteps(Log(None, as_json=False, now=fleet.clock.now), lambda: None), stop=lambda: "asked"
        )
        return await asyncio.wait_for(applying, 20)

    observe = SimulatedObserver.observe
    result = asyncio.run(stopped())
    assert {step.reason for step in result.skipped} == {"not waited for"}
    assert not (result.done or result.failed)
    assert result.diagnostics[0].detail == "alpha had not answered yet, and is not waited for: asked."
