"""The clock of a simulated host. To wait on it moves it forward, and takes no real time."""

from __future__ import annotations

import asyncio

from reconciler.simulated.store import Store

_QUIET_TURNS = 8  # of the event loop before time passes: what can begin now, begins before the clock moves


class VirtualClock:
    """Counts seconds since the host was first used, and keeps them in the store.

    Steps that run at once sleep side by side: the clock moves to the earliest wake-up, and only when no other task
    has begun or ended a sleep for some turns. So two sleeps of 5 s together take 5 s.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wake_ups: list[float] = []
        self._events = 0  # sleeps begun and ended

    def now(self) -> float:
        return self._store.read_clock()

    async def sleep(self, seconds: float) -> None:
        wake_up = self.now() + max(seconds, 0.0)
        self._wake_ups.append(wake_up)
        self._events += 1
        try:
            await self._until_first(wake_up)
            if self.now() < wake_up:
                self._store.write_clock(wake_up)
        finally:
            self._wake_ups.remove(wake_up)
            self._events += 1

    async def _until_first(self, wake_up: float) -> None:
        """Let the other tasks run until all of them sleep and none wakes up before `wake_up`."""
        quiet_turns = 0
        while quiet_turns < _QUIET_TURNS or min(self._wake_ups) < wake_up:
            events = self._events
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if events == self._events else 0
