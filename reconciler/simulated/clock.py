"""The clock of a simulated host. To wait on it moves it forward, and takes no real time."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from reconciler.simulated.store import Store

_QUIET_TURNS = 8  # of the event loop before time passes: what can begin now, begins before the clock moves


class VirtualClock:
    """Counts seconds since the host was first used, and keeps them in the store.

    Steps that run at once sleep side by side: the clock moves to the earliest wake-up, and only when no other task
    has begun or ended a sleep for some turns. So two sleeps of 5 s together take 5 s.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []  # a heap
        self._numbers = count()  # in the order in which they fell asleep
        self._events = 0  # sleeps begun and ended
        self._moving: asyncio.Task[None] | None = None
        self._turn: tuple[asyncio.AbstractEventLoop, float] | None = None

    def now(self) -> float:
        """Return the seconds. Within one turn of the event loop the clock is read once: it stands still there."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._store.read_clock()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, self._store.read_clock()
            loop.call_soon(self._end_turn)
        return self._turn[1]

    def _end_turn(self) -> None:
        self._turn = None

    async def sleep(self, seconds: float) -> None:
        wake_up, woken = self.now() + max(seconds, 0.0), asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (wake_up, next(self._numbers), woken))
        self._events += 1
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move())  # one for all, since all would wait for the same
        try:
            await woken
        finally:
            self._events += 1

    async def _move(self) -> None:
        """Move the clock from one wake-up to the next, until nobody sleeps.

        Of those who wake up at the same time, each does what it can before the next one wakes up.
        """
        while True:
            await self._until_quiet()
            while self._sleepers and self._sleepers[0][2].done():  # cancelled
                heapq.heappop(self._sleepers)
            if not self._sleepers:
                return
            wake_up, _, woken = heapq.heappop(self._sleepers)
            try:
                if self.now() < wake_up:
                    self._store.write_clock(wake_up)
                    self._end_turn()
                woken.set_result(None)
            except Exception as error:  # noqa: BLE001 -- told to who sleeps, and would never wake up else
                woken.set_exception(error)

    async def _until_quiet(self) -> None:
        quiet_turns = 0
        while quiet_turns < _QUIET_TURNS:
            events = self._events
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if events == self._events else 0
