"""How long the turns of an event loop are, that is, for how long nothing else could have been done."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable

from reconciler.watch.process import leave_old_objects_alone, take_short_turns

LONGEST_SECONDS = 0.1
_BEAT_SECONDS = 0.005
_TRIES = 3


async def longest_turn(work: Callable[[], Awaitable[object]]) -> float:
    """The longest time between two beats of a task beside the work, in seconds of what this process itself did.

    Other processes take the processor as they like, which is not counted. Python is set as watch sets it.
    """
    turns: list[float] = []

    async def beat() -> None:
        busy, now = time.process_time(), time.monotonic()
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            busy_before, before = busy, now
            busy, now = time.process_time(), time.monotonic()
            turns.append(min(now - before, busy - busy_before))

    gc.collect()
    thresholds, switching = gc.get_threshold(), sys.getswitchinterval()
    leave_old_objects_alone()
    take_short_turns()
    try:
        beating = asyncio.create_task(beat())
        await asyncio.sleep(2 * _BEAT_SECONDS)
        await work()
        await asyncio.sleep(2 * _BEAT_SECONDS)
        beating.cancel()
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(switching)
    return max(turns)


def assert_the_loop_turns(make_work: Callable[[], Callable[[], Awaitable[object]]]) -> None:
    """The least of some measurements counts: a busy machine only adds to them."""
    longest = LONGEST_SECONDS
    for _ in range(_TRIES):
        longest = min(longest, asyncio.run(longest_turn(make_work())))
        if longest < LONGEST_SECONDS:
            return
    raise AssertionError(f"the loop was held for {longest * 1000:.0f} ms or longer, each time")
