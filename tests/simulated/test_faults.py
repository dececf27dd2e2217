"""Faults that were asked for: each is met by the next command that can meet it, as often as asked, then no more."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.host import Power
from reconciler.plan.steps import CreateDisk, GrowDisk, StageImage, Start, Step, WriteConfig
from reconciler.simulated.store import Store
from tests.simulated.test_store import files_under
from tests.simulated.world import World, domain, image, make_world, ready, shutdown


def test_an_unreachable_host_answers_neither_looks_nor_steps(world: World) -> None:
    world.hand.fault("unreachable", 3)
    with pytest.raises(ReconcilerError) as caught:
        world.observe()
    problem = caught.value.diagnostics[0]
    assert (problem.kind, problem.transient, problem.summary) == (Kind.WORLD, True, "host unreachable")
    with pytest.raises(ReconcilerError):
        world.look()
    assert world.fail(StageImage(domain="web", image=image())).summary == "host unreachable"
    assert world.observe().images == {}


def test_a_host_that_somebody_changes_holds_up_no_look_at_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    changed, other = make_world(tmp_path / "a"), make_world(tmp_path / "b")
    waits, goes_on, held_still = Event(), Event(), Store.held_still

    @contextmanager
    def held_up(store: Store) -> Iterator[None]:
        if changed.folder in store.folder.parents:
            waits.set()
            goes_on.wait()
        with held_still(store):
            yield

    monkeypatch.setattr(Store, "held_still", held_up)
    with ThreadPoolExecutor() as threads:
        try:
            threads.submit(changed.observe)
            waits.wait()
            assert threads.submit(other.observe).result(timeout=2).name == "alpha"
        finally:
            goes_on.set()


def test_using_up_a_fault_by_looking_leaves_the_host_as_it_is(world: World) -> None:
    world.start(domain())
    world.hand.fault("unreachable", 2)
    before = files_under(world.folder)
    with pytest.raises(ReconcilerError):
        world.observe()
    after = files_under(world.folder)
    assert {path for path in before if before[path] != after[path]} == {"hosts/alpha/faults.json"}


def test_a_create_that_fails_makes_no_domain(world: World) -> None:
    world.hand.fault("create-fails", 1)
    with pytest.raises(ReconcilerError, match="xl create"):
        world.start(domain())
    assert not world.guest().exists
    world.do(Start(definition=domain()))
    assert world.guest().power is Power.RUNNING


def test_a_lost_reply_is_an_error_of_a_step_that_took_effect(world: World) -> None:
    world.hand.fault("lost-reply", 1)
    problem = world.fail(StageImage(domain="web", image=image()))
    assert (problem.summary, problem.transient) == ("reply lost", True)
    assert world.observe().images == {image().path: image().sha256}
    world.start(domain())
    world.hand.fault("lost-reply", 1)
    assert world.fail(shutdown(domain())).summary == "reply lost"
    assert not world.guest().exists


@pytest.mark.parametrize(
    "step",
    [
        StageImage(domain="db", image=image(domain="db")),
        CreateDisk(domain="db", disk=domain("db").disks[0]),
        GrowDisk(domain="web", disk=domain().disks[0], attached=True),
        WriteConfig(definition=domain("db")),
    ],
    ids=lambda step: step.kind,
)
def test_a_full_disk_fails_what_writes_and_leaves_it_undone(world: World, step: Step) -> None:
    world.start(domain())
    world.hand.fault("disk-full", 1)
    before = Store(world.folder, "alpha").read()
    assert world.fail(step).summary == "no space left"
    assert Store(world.folder, "alpha").read() == before
    world.do(step)


def test_a_full_disk_does_not_hinder_a_shutdown(world: World) -> None:
    world.start(domain())
    world.hand.fault("disk-full", 1)
    world.do(shutdown(domain()))
    assert world.hand.look()["faults"] == {"disk-full": 1}


def test_a_slow_command_takes_its_time_and_works(world: World) -> None:
    world.hand.fault("slow", 1)
    reports = world.do(StageImage(domain="web", image=image()))
    assert reports == ["alpha answers slowly"]
    assert world.executor.now() == 30
    world.do(StageImage(domain="web", image=image()))
    assert world.executor.now() == 30


def test_a_fault_can_be_taken_away(world: World) -> None:
    world.hand.fault("unreachable", 1_000)
    world.hand.fault("slow", 2)
    world.hand.fault("unreachable", 0)
    world.observe()
    assert world.hand.look()["faults"] == {"slow": 2}


def test_an_unknown_fault_names_those_there_are(world: World) -> None:
    with pytest.raises(ReconcilerError) as caught:
        world.hand.fault("gremlins", 1)
    assert caught.value.diagnostics[0].hint == "The faults are unreachable, create-fails, lost-reply, slow, disk-full."


def test_latency_is_waited_for_really_and_on_the_hosts_clock(tmp_path: Path) -> None:
    world = make_world(tmp_path, latency_seconds=0.01)
    world.do(StageImage(domain="web", image=image()))
    assert world.executor.now() == pytest.approx(0.01)


def test_the_ready_gate_sits_out_a_network_that_blinks(world: World) -> None:
    world.start(domain())
    world.hand.fault("unreachable", 2)
    world.do(ready(domain()))
    assert world.hand.look()["faults"] == {}
