"""What the watchdog and /healthz go by: a pass that waits or copies for long is alive, one that is stuck is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from reconciler.dom0 import connection, disks
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.domain import Disk
from reconciler.plan.steps import CreateDisk
from reconciler.waiting import NotYet, wait_until
from reconciler.watch.loop import Watcher
from reconciler.watch.news import Outcome
from reconciler.watch.passes import Passes
from tests.fake_dom0 import FastClock, settings, shell, tools, write_tool
from tests.watch.conftest import World

__all__ = ["settings", "shell", "tools"]

pytestmark = pytest.mark.anyio

TICK_SECONDS = 0.01
MINUTES_A_TICK = 1  # so 40 minutes pass in less than a second


@pytest.fixture(autouse=True)
def answers_are_looked_for_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_DRAIN_SECONDS", 2 * TICK_SECONDS)


def busy(world: World, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[None]]) -> Watcher:
    """A watch whose pass does this, and nothing else."""

    async def make(*arguments: Any) -> Outcome:
        await work()
        return Outcome()

    monkeypatch.setattr(Passes, "make", make)
    return world.watcher()


async def health(
    world: World, watcher: Watcher, most_minutes: int = 90, each: Callable[[], object] = lambda: None
) -> list[bool]:
    """Whether it said that it is healthy, minute by minute, until its pass ended or so much time was over."""
    making = asyncio.create_task(watcher.make_pass(frozenset({"interval"})))
    said: list[bool] = []
    while not making.done() and len(said) * MINUTES_A_TICK < most_minutes:
        await asyncio.sleep(TICK_SECONDS)
        world.clock.seconds += 60 * MINUTES_A_TICK
        said.append(watcher.is_healthy())
        each()
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    return said


async def test_a_clone_of_more_than_half_an_hour_is_alive(
    world: World, shell: Dom0Shell, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, enough = tmp_path / "began", tmp_path / "enough"
    waiting = f": >{began}; until [ -e {enough} ]; do sleep 0.01; done"
    write_tool(tools, "cp", f'{waiting}; for last do :; done; echo cloned >"$last"')
    minutes = count()

    def end_after_a_while() -> None:
        if began.exists() and next(minutes) == 45:
            enough.touch()

    source, target = tmp_path / "disks" / "golden.img", tmp_path / "disks" / "web.img"
    source.write_text("golden")
    disk = Disk(vdev="xvda", devid=51712, kind="file", target=str(target), source=str(source))
    watcher = busy(world, monkeypatch, lambda: disks.create(shell, CreateDisk(domain="web", disk=disk), token="token"))
    said = await health(world, watcher, most_minutes=100_000, each=end_after_a_while)
    assert target.read_text() == "cloned\n"
    assert len(said) > 45
    assert all(said)


async def test_a_guest_that_may_take_a_day_to_go_down_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> NotYet:
        return NotYet("web is shutting down")

    watcher = busy(world, monkeypatch, lambda: wait_until(look, clock=FastClock()))
    said = await health(world, watcher)
    assert len(said) * MINUTES_A_TICK == 90
    assert all(said)


async def test_a_pass_that_is_stuck_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    said = await health(world, busy(world, monkeypatch, stuck))
    assert said == [True] * 29 + [False] * 61
