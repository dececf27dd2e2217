"""The virtual clock: waiting costs no real time, and what waits at once waits together."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reconciler.apply.follow import carry_out
from reconciler.model.diagnostics import ReconcilerError
from reconciler.simulated.clock import VirtualClock
from reconciler.simulated.store import Store
from tests.operations import calls_of
from tests.simulated.world import World, domain, ready


def test_a_day_takes_no_time(tmp_path: Path) -> None:
    clock = VirtualClock(Store(tmp_path, "alpha"))
    began = time.monotonic()
    asyncio.run(clock.sleep(86_400))
    assert clock.now() == 86_400
    assert time.monotonic() - began < 5


def test_two_sleeps_at_once_take_as_long_as_the_longer(tmp_path: Path) -> None:
    clock = VirtualClock(Store(tmp_path, "alpha"))

    async def both() -> None:
        await asyncio.gather(clock.sleep(5), clock.sleep(8))

    asyncio.run(both())
    assert clock.now() == 8


@given(st.lists(st.lists(st.integers(0, 20), max_size=5), min_size=1, max_size=5))
def test_tasks_that_sleep_see_the_time_they_slept(naps: list[list[int]]) -> None:
    """Each task sleeps its naps one after the other, side by side with the others, and never wakes up late."""
    with tempfile.TemporaryDirectory() as folder:
        clock = VirtualClock(Store(Path(folder), "alpha"))

        async def sleeper(seconds: list[int]) -> None:
            slept = 0
            for each in seconds:
                await clock.sleep(each)
                slept += each
                assert clock.now() == slept

        async def all_of_them() -> None:
            await asyncio.gather(*(sleeper(seconds) for seconds in naps))

        asyncio.run(all_of_them())
        assert clock.now() == max(sum(seconds) for seconds in naps)


def test_a_cancelled_sleep_does_not_hold_up_the_others(tmp_path: Path) -> None:
    clock = VirtualClock(Store(tmp_path, "alpha"))

    async def cancelled_and_other() -> None:
        early = asyncio.create_task(clock.sleep(1))
        await asyncio.sleep(0)
        early.cancel()
        await clock.sleep(3)

    asyncio.run(cancelled_and_other())
    assert clock.now() == 3


def test_domains_that_start_together_get_ready_together(world: World) -> None:
    names = ("a", "b", "c", "d")
    uuids = {name: f"00000000-0000-4000-8000-00000000000{number}" for number, name in enumerate(names)}
    fleet = [domain(name, uuid=uuids[name], kernel=None, disks=()) for name in names]
    for definition in fleet:
        world.start(definition)

    async def await_all() -> None:
        executor = world.executor
        await asyncio.gather(*(carry_out(executor, ready(each), lambda text: None) for each in fleet))

    asyncio.run(await_all())
    assert world.executor.now() <= 7, "one boot of 1 s and one wait of min_seconds, not four"


def test_a_clock_that_cannot_be_kept_is_told_to_all_who_wait_for_it(tmp_path: Path) -> None:
    clock = VirtualClock(Store(tmp_path, "alpha"))

    async def both() -> list[BaseException | None]:
        sleeping = [asyncio.create_task(clock.sleep(3)) for _ in range(2)]
        await asyncio.sleep(0)
        (tmp_path / "hosts").write_text("no folder")
        return await asyncio.gather(*sleeping, return_exceptions=True)

    assert [type(ended) for ended in asyncio.run(both())] == [ReconcilerError, ReconcilerError]


def test_waiting_side_by_side_costs_each_the_same(tmp_path: Path) -> None:
    def calls(sleepers: int) -> float:
        clock = VirtualClock(Store(tmp_path / str(sleepers), "alpha"))

        async def all_of_them() -> None:
            await asyncio.gather(*(clock.sleep(number) for number in range(sleepers)))

        return calls_of(lambda: asyncio.run(all_of_them())) / sleepers

    calls(2)  # what is imported once
    assert calls(80) <= 1.1 * calls(20)
