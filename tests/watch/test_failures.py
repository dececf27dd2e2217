"""What fails is tried again ever less often, by itself; the rest goes on; and a bad kernel does not walk the fleet."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.host import Host
from reconciler.simulated.host import SimulatedObserver
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from reconciler.watch import conditions
from reconciler.watch.backoff import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, Backoff
from reconciler.watch.ground import Attending
from reconciler.watch.logs import Log, LoggedSteps
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.source import LocalSource
from tests.transcript import write_files
from tests.watch.conftest import HOST, START, World, look

PANICS = b'#!simulated-kernel\nboot = "panic"\n'
OTHER = b"#!simulated-kernel\nboot_seconds = 2\n"


def problem(*, transient: bool = False) -> Diagnostic:
    return Diagnostic(kind=Kind.WORLD, summary="it failed", transient=transient)


def test_the_wait_doubles_up_to_a_cap() -> None:
    backoff = Backoff(lambda: 0.5)
    waits = []
    for _ in range(12):
        backoff.failed("alpha/web", "this", problem(), 1000)
        waits.append(backoff.failures["alpha/web"].retry_at - 1000)
    assert waits[:4] == [FIRST_WAIT_SECONDS, 20, 40, 80]
    assert waits[-1] == LONGEST_WAIT_SECONDS


@pytest.mark.parametrize(("random", "wait"), [(0.0, 8.0), (1.0, 12.0)])
def test_the_wait_is_shaken(random: float, wait: float) -> None:
    backoff = Backoff(lambda: random)
    backoff.failed("alpha/web", "this", problem(), 0)
    assert backoff.next_try(0) == pytest.approx(wait)


def test_a_failure_ends_with_what_was_asked_for() -> None:
    backoff = Backoff(lambda: 0.5)
    backoff.failed("alpha/web", "this", problem(), 0)
    backoff.failed("alpha/db", "this", problem(), 0)
    backoff.keep(lambda address: "that" if address == "alpha/web" else "this")
    assert set(backoff.waiting(0)) == {"alpha/db"}
    assert backoff.waiting(10) == {}
    assert backoff.next_try(10) is None
    backoff.failed("alpha/db", "this", problem(), 10)
    assert backoff.failures["alpha/db"].count == 2


def test_one_failing_domain_holds_no_other(world: World) -> None:
    watcher = world.watcher()
    world.hand.fault("create-fails", 1)
    outcome = look(watcher)
    (failed,) = outcome.result.failed
    other = "web" if failed.step.address == "alpha/db" else "db"
    assert world.running(other).running is not None
    assert world.condition(failed.step.address) in ("Stalled", "Reconciling")
    assert world.condition(f"alpha/{other}") == "Ready"
    assert outcome.retry_seconds == FIRST_WAIT_SECONDS


def test_a_failure_of_the_host_is_tried_again_by_itself_and_holds_nothing_against_the_kernel(world: World) -> None:
    watcher = world.watcher()
    world.hand.fault("create-fails", 2)
    look(watcher)
    address = "alpha/web"
    assert world.condition(address) == "Reconciling"
    assert "unused loop device" in world.record().domains[address].reason
    world.clock.seconds += FIRST_WAIT_SECONDS * 1.3
    look(watcher)
    assert world.condition(address) == "Ready"


def refuse_to_balloon(world: World) -> Watcher:
    """A first failure: web does not give back the memory that its spec takes from it."""
    watcher = world.watcher()
    look(watcher)
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 128\nmaxmem = 256\n')
    world.hand.set("web", {"balloon": "refuse"})
    outcome = look(watcher)
    assert [failed.step.address for failed in outcome.result.failed] == ["alpha/web"]
    assert outcome.retry_seconds == FIRST_WAIT_SECONDS
    world.hand.set("web", {"balloon": "ok"})
    return watcher


def test_what_failed_waits_and_is_then_tried_again(world: World) -> None:
    watcher = refuse_to_balloon(world)
    world.hand.destroy("db")
    assert {done.step.address for done in look(watcher).result.done} == {"alpha/db"}
    known = world.record().domains["alpha/web"]
    assert known.condition.value in ("Stalled", "Reconciling")
    assert "1 try; the next one at 2023-11-14T22:13:" in known.reason
    world.clock.seconds += FIRST_WAIT_SECONDS + 1
    look(watcher)
    assert world.condition("alpha/web") == "Ready"


def test_somebody_who_asks_does_not_wait(world: World) -> None:
    watcher = refuse_to_balloon(world)
    look(watcher, "asked")
    assert world.condition("alpha/web") == "Ready"


def test_a_new_spec_does_not_wait_either(world: World) -> None:
    watcher = refuse_to_balloon(world)
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 192\nmaxmem = 256\n')
    look(watcher)
    assert world.condition("alpha/web") == "Ready"


def test_a_silent_host_is_no_failure_of_its_domains_and_looked_at_again_soon(world: World) -> None:
    watcher = world.watcher(interval=3600)
    look(watcher)
    world.hand.fault("unreachable", 1)
    outcome = look(watcher)
    assert outcome.retry_seconds == FIRST_WAIT_SECONDS
    known = world.record().domains["alpha/web"]
    assert known.condition.value == "Reconciling"
    assert "could not be observed" in known.reason
    assert not look(watcher).failed
    assert world.condition("alpha/web") == "Ready"


def test_a_bad_kernel_is_tried_once_and_falls_back(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    good = world.running().running
    write_files({"specs/kernels/bad": PANICS.decode()}, world.folder)
    world.write(web='kernel = "kernels/bad"\nmemory = 256\n')
    assert look(watcher).result.failed
    assert world.running().running == good
    known = world.record().domains["alpha/web"]
    assert known.condition.value == "Stalled"
    for _ in range(3):
        world.clock.seconds += 2 * LONGEST_WAIT_SECONDS
        assert not look(watcher, "asked").result.failed
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\n')
    look(watcher)
    assert world.condition("alpha/web") == "Ready"


def test_a_bad_kernel_does_not_walk_through_the_fleet(world: World) -> None:
    write_files({"specs/kernels/linux": OTHER.decode()}, world.folder)
    domain = 'kernel = "kernels/linux"\nmemory = 64\n'
    world.write(web=domain, db=domain, ns=domain)
    watcher = world.watcher()
    look(watcher)
    write_files({"specs/kernels/linux": PANICS.decode()}, world.folder)
    first = look(watcher).result
    (culprit,) = {failed.step.address for failed in first.failed}
    for _ in range(3):
        world.clock.seconds += 2 * LONGEST_WAIT_SECONDS
        assert not look(watcher).result.done
    others = {"alpha/web", "alpha/db", "alpha/ns"} - {culprit}
    for address in others:
        known = world.record().domains[address]
        assert known.condition.value == "Held"
        assert culprit in known.reason
    write_files({"specs/kernels/linux": OTHER.decode()}, world.folder)
    look(watcher)
    assert {world.condition(address) for address in (*others, culprit)} == {"Ready"}


def test_later_waves_wait_for_a_canary_that_failed_and_repairs_do_not(world: World) -> None:
    canary = 'kernel = "/boot/vmlinuz"\nmemory = 64\nwave = -1\n'
    world.write(canary=canary)
    watcher = world.watcher()
    look(watcher)
    write_files({"specs/kernels/bad": PANICS.decode()}, world.folder)
    world.write(canary=canary.replace("/boot/vmlinuz", "kernels/bad"), web='kernel = "/boot/other"\nmemory = 256\n')
    world.hand.destroy("db")
    look(watcher)
    look(watcher)
    assert world.condition("alpha/canary") == "Stalled"
    assert world.condition("alpha/web") == "Held"
    assert "wave -1" in world.record().domains["alpha/web"].reason
    assert world.condition("alpha/db") == "Ready"


def test_two_watches_of_one_host_take_turns(world: World) -> None:
    first, second = world.watcher(), world.watcher()
    with SimulatedLock(Store(world.state_dir, "alpha")).taken():
        outcome = look(first)
    assert not outcome.result.done
    assert [problem.summary for problem in outcome.problems] == ["host is locked"]
    assert outcome.retry_seconds is not None
    assert outcome.retry_seconds <= 10
    assert world.condition("alpha/web") == "Reconciling"

    async def both() -> tuple[int, int]:
        outcomes = await asyncio.gather(*(watcher.make_pass(frozenset()) for watcher in (first, second)))
        return len(outcomes[0].result.done), len(outcomes[1].result.done)

    assert min(asyncio.run(both())) == 0
    assert look(first).drifted == 0
    assert world.running().running is not None


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """A disk of its own under the state directory, without the files of the simulated hosts."""
    elsewhere = world.folder / "hosts"
    elsewhere.mkdir()
    world.state_dir.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(world.state_dir)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, and the right to mount")
    (world.state_dir / "hosts").symlink_to(elsewhere)
    yield world.state_dir
    subprocess.run(["umount", "-l", str(world.state_dir)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


def test_a_full_disk_is_told_and_repairs_go_on(world: World, small_disk: Path) -> None:
    watcher = world.watcher()
    look(watcher)
    fill(small_disk)
    for _ in range(3):
        world.hand.destroy("web")
        outcome = look(watcher)
        assert outcome.result.done
        assert world.running().running is not None
        assert outcome.domains["alpha/web"][0] == "Ready"
    assert "the history is not whole" in [one.summary for one in outcome.problems]
    assert any("No space left on device" in event for event in world.events())
    (small_disk / "filler").unlink()
    assert not look(watcher).problems
    assert world.condition("alpha/web") == "Ready"


def test_a_pass_that_cannot_be_made_leaves_nothing_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = world.watcher()
    look(watcher)

    async def broken(*_: object) -> Host:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(SimulatedObserver, "observe", broken)
    assert look(watcher).failed
    known = world.record().domains["alpha/web"]
    assert known.condition == "Reconciling"
    assert "Too many open files" in known.reason
    assert watcher.metrics().domains_by_condition == {"Ready": 0, "Reconciling": 2, "Stalled": 0, "Held": 0}
    monkeypatch.undo()
    look(watcher)
    assert world.condition("alpha/web") == "Ready"


def test_a_task_that_dies_beside_the_loop_is_told(world: World) -> None:
    class Blind(LocalSource):
        async def watch(self, ask: Callable[[], None]) -> None:
            raise ValueError("no eyes")

    watcher = world.watcher(Blind(world.specs, world.clock, lambda text: None))

    async def turn() -> None:
        running = asyncio.create_task(watcher.run())
        while not watcher.is_ready():
            await asyncio.sleep(0.01)
        watcher.stop()
        await running

    asyncio.run(turn())
    assert any("no eyes" in event for event in world.events())


def test_a_problem_is_said_when_it_comes_and_when_it_goes(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.hand.fault("unreachable", 3)
    for _ in range(4):
        look(watcher)
    said = [event for event in world.events() if "host unreachable" in event]
    assert len(said) == 2
    assert "no longer" in said[1]


def test_a_broken_record_is_as_good_as_none(world: World) -> None:
    world.state_dir.mkdir()
    (world.state_dir / "watch.json").write_text('{"format": 1, "process": "x"')
    look(world.watcher())
    assert world.condition("alpha/web") == "Ready"
    assert conditions.load(Path("nowhere")) is None
    assert world.record().last_pass == "2023-11-14T22:13:20Z"
    assert world.clock.seconds - START < 1


def test_who_went_down_with_another_is_brought_back_when_the_rest_is_left(world: World) -> None:
    write_files({"specs/alpha/host.toml": f"{HOST}max_unavailable = 2\n"}, world.folder)
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\ndepends_on = ["db"]\n')
    look(world.watcher())
    before = world.running("web").running, world.running("db").running
    world.write(db='kernel = "/boot/other"\nmemory = 512\n')
    passes = Passes(
        world.local(), world.state_dir, detect_only=False, now=world.clock.now, backoff=Backoff(lambda: 0.5)
    )
    steps = LoggedSteps(Log(world.log, as_json=False, now=world.clock.now), lambda: None)

    def stop() -> str | None:
        went_down = any("step done" in event and "shut down" in event for event in world.events())
        return "left for later" if went_down else None

    outcome = asyncio.run(passes.make(Attending(progress=steps, stop=stop)))
    assert {skipped.reason for skipped in outcome.result.skipped} == {"left for later"}
    assert (world.running("web").running, world.running("db").running) == before
    look(world.watcher())
    assert world.condition("alpha/db") == "Ready"
    assert world.running("db").running != before[1]
