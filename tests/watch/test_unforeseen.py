"""An error nobody foresaw, in a task of watch: the other tasks go on, it is begun again later, and the log tells."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from reconciler import reconcile
from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver
from reconciler.watch import conditions, loop
from reconciler.watch.conditions import WatchRecord
from reconciler.watch.news import News
from reconciler.watch.source import LocalSource, Specs
from tests.transcript import write_files
from tests.watch.conftest import World, look

ERRORS = [ValueError("odd"), OSError(24, "Too many open files"), RuntimeError(), KeyError("x")]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> Exception:
    found = request.param
    assert isinstance(found, Exception)
    return found


def test_a_pass_that_fails_is_followed_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    read = LocalSource.read

    async def broken(source: LocalSource) -> Specs:
        raise error

    watcher = world.watcher()
    monkeypatch.setattr(LocalSource, "read", broken)
    outcome = look(watcher)
    assert outcome.failed
    assert world.guest("web") is None
    monkeypatch.setattr(LocalSource, "read", read)
    assert not look(watcher).failed
    assert world.guest("web") is not None
    told = "Too many open files" if isinstance(error, OSError) else type(error).__name__
    assert told in world.log.getvalue()


def test_a_host_that_fails_costs_the_others_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    beta = {"host": 'toolstack = "simulated"\n', "far": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'}
    write_files({f"specs/beta/{name}.toml": text for name, text in beta.items()}, world.folder)
    observe = SimulatedObserver.observe

    async def broken(observer: SimulatedObserver, question: object) -> object:
        if observer.name == "beta":
            raise error
        return await observe(observer, question)  # type: ignore[arg-type]

    monkeypatch.setattr(SimulatedObserver, "observe", broken)
    watcher = world.watcher()
    outcome = look(watcher)
    assert {done.step.address for done in outcome.result.done} == {"alpha/web", "alpha/db"}
    assert outcome.retry_seconds is not None  # the host is tried again before the interval, with backoff
    assert "Traceback" in world.log.getvalue()
    monkeypatch.setattr(SimulatedObserver, "observe", observe)
    assert {done.step.address for done in look(watcher).result.done} == {"beta/far"}


def test_a_step_that_fails_is_tried_again_with_backoff(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    execute = SimulatedExecutor.execute

    async def broken(executor: SimulatedExecutor, step: object, *arguments: Any, **named: Any) -> None:
        if getattr(step, "kind", "") == "start" and "web" in repr(step):
            raise error
        await execute(executor, step, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(SimulatedExecutor, "execute", broken)
    watcher = world.watcher()
    outcome = look(watcher)
    assert outcome.result.failed
    assert outcome.retry_seconds is not None
    assert "traceback=" in world.log.getvalue()
    assert world.guest("db") is not None
    monkeypatch.setattr(SimulatedExecutor, "execute", execute)
    world.clock.seconds += 3600
    look(watcher)
    assert world.running("web")


@pytest.mark.parametrize("part", ["watching", "telling", "listening"])
def test_each_task_of_the_loop_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    """Three passes are made whatever task fails; what watches the specs is begun again."""
    monkeypatch.setattr(reconcile, "_LISTEN_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(loop, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_LONGEST_WAIT_SECONDS", 0.0)
    calls: list[str] = []

    async def fails(*given: object) -> None:
        calls.append(part)
        raise error

    def fails_at_once(*given: object) -> bool:
        calls.append(part)
        raise error

    match part:
        case "watching":
            monkeypatch.setattr(LocalSource, "watch", fails)
        case "telling":
            monkeypatch.setattr(News, "of_problems", fails_at_once)
        case _:
            monkeypatch.setattr(SimulatedObserver, "events", fails)
    watcher = world.watcher()

    async def three_passes() -> int:
        running = asyncio.create_task(watcher.run())
        async with asyncio.timeout(60):
            while watcher.metrics().passes_total < 3 or len(calls) < 2:
                await asyncio.sleep(0.01)
        watcher.stop()
        return await running

    assert asyncio.run(three_passes()) == 0
    assert type(error).__name__ in world.log.getvalue()
    assert world.guest("web") is not None


def test_conditions_that_could_not_be_stored_once_are_stored_by_the_next_pass(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = conditions.store

    def fails(state_dir: Path, record: WatchRecord) -> None:
        raise error

    stored: list[WatchRecord] = []

    def keeps(state_dir: Path, record: WatchRecord) -> None:
        stored.append(record)
        store(state_dir, record)

    watcher = world.watcher()

    async def two_passes() -> None:
        monkeypatch.setattr(conditions, "store", fails)
        assert not (await watcher.make_pass(frozenset({"start"}))).failed
        monkeypatch.setattr(conditions, "store", keeps)
        assert not (await watcher.make_pass(frozenset({"start"}))).failed

    asyncio.run(two_passes())
    assert stored
    assert world.running("web")


def test_what_cannot_be_told_before_the_steps_is_done_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*given: object) -> bool:
        raise error

    monkeypatch.setattr(News, "of_domains", fails)
    assert not look(world.watcher()).result.failed
    assert world.running("web")
    assert type(error).__name__ in world.log.getvalue()
