"""Collects the reasons to make a pass. A reason only says "look now", never what to do. Used by the loop.

However many ask while a pass runs, one pass follows.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol

INTERVAL = "interval"
ASKED = "asked"  # by a person: SIGHUP, POST /reconcile
SPECS = "specs changed"
OTHERS = "others came through"  # and so this host can go on
EVENT = "hypervisor event"  # a domain somewhere crashed or went away, perhaps by our own steps

_CALM_SECONDS = 3.0


class Clock(Protocol):
    """Time as the loop sees it. Tests and benchmarks bring clocks of their own."""

    def now(self) -> float:
        """Return the time in Unix seconds."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait until the event is set, at most `seconds`."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class Triggers:
    """The reasons that were given since the last pass began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reasons: set[str] = set()
        self._asked = asyncio.Event()

    def ask(self, reason: str) -> None:
        """Have a pass made as soon as the running one has ended."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._asked.set()

    def is_asked(self, reason: str) -> bool:
        return reason in self._reasons

    async def wait(self, seconds: float) -> frozenset[str]:
        """Wait until somebody asks for a pass, at most `seconds`. Returns the reasons.

        When the only reason is an event of a host, 3 s more are waited: events come in bursts, and a guest that reboots
        is back by then. So a guest that reboots for ever cannot keep watch busy.
        """
        await self._clock.wait(self._asked, seconds)
        if self._reasons == {EVENT}:
            self._asked.clear()
            await self._clock.wait(self._asked, min(seconds, _CALM_SECONDS))
        reasons = frozenset(self._reasons or {INTERVAL})
        self._reasons = set()
        self._asked.clear()
        return reasons
