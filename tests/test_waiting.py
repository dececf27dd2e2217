"""The one way to wait: it looks at least once, ends with the error of the last look, and gives signs of life."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.waiting import NotYet, give_sign_of_life, signs_of_life, unless_stopped, wait_until

pytestmark = pytest.mark.anyio


class StillClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


def never(looks: list[float], clock: StillClock) -> NotYet:
    looks.append(clock.now())
    count = len(looks)
    return NotYet(f"look {count}", lambda: world_error("too late", f"after look {count}"))


@pytest.mark.parametrize(("seconds", "times"), [(0, [0]), (0.5, [0, 0.5]), (2, [0, 1, 2]), (2.5, [0, 1, 2, 2.5])])
async def test_it_looks_at_once_and_once_more_at_the_end(seconds: float, times: list[float]) -> None:
    clock, looks, news = StillClock(), list[float](), list[str]()

    async def look() -> NotYet:
        return never(looks, clock)

    with pytest.raises(ReconcilerError, match=f"after look {len(times)}"):
        await wait_until(look, clock=clock, seconds=seconds, report=news.append)
    assert looks == times
    assert news == [f"look {number}" for number in range(1, len(times))], "the last look is told as the error"


async def test_a_rest_that_is_lost_in_rounding_is_waited_for_all_the_same() -> None:
    clock, looks = StillClock(), list[float]()
    clock.seconds = 100.123  # after 120 looks 1.4e-14 s are left, and 220.123 + 1.4e-14 is 220.123 again

    async def look() -> NotYet:
        assert len(looks) < 1000, "time stands still"
        return never(looks, clock)

    with pytest.raises(ReconcilerError, match="after look 122"):
        await wait_until(look, clock=clock, seconds=120)


async def test_what_is_seen_is_returned() -> None:
    clock, looks = StillClock(), list[float]()

    async def look() -> str | NotYet:
        return "there" if clock.now() >= 3 else never(looks, clock)

    assert await wait_until(look, clock=clock, seconds=60) == "there"
    assert clock.now() == 3


async def test_each_look_is_a_sign_of_life_to_whoever_asked_for_them() -> None:
    signs: list[int] = []
    clock, looks = StillClock(), list[float]()

    async def look() -> NotYet | None:
        return None if clock.now() >= 5 else never(looks, clock)

    with signs_of_life(lambda: signs.append(1)):
        await asyncio.create_task(wait_until(look, clock=clock, seconds=60))
        heard = len(signs)
    give_sign_of_life()  # to nobody
    assert heard == len(signs) == 5


async def test_what_is_done_before_anybody_wants_to_stop_is_returned() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "seen"

    assert await unless_stopped(work(), lambda: None) == "seen"


async def test_what_goes_on_is_cancelled_once_there_is_a_reason() -> None:
    ended: list[str] = []

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")
        return "seen"

    assert await unless_stopped(work(), lambda: "asked to stop") is None
    waiting = asyncio.create_task(unless_stopped(work(), lambda: None))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["work", "work"]


async def test_its_error_is_the_one_that_is_raised() -> None:
    async def work() -> str:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await unless_stopped(work(), lambda: None)
