"""When to look: everything that asks for a pass goes through here, and says no more than that. Used by the loop.

However many ask before the loop comes round, it makes one pass.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol

INTERVAL = "interval"
ASKED = "asked"  # by a person: SIGHUP, POST /reconcile
SPECS = "specs changed"
EVENT = "hypervisor event"  # a domain somewhere crashed or went away, perhaps by our own steps

_CALM_SECONDS = 3.0


class Clock(Protocol):
    """Time, as the loop knows it; tests and benchmarks bring their own."""

    def now(self) -> float:
        """Unix seconds."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set, at most so long."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.time()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class Triggers:
    """What was asked for since the last pass began."""

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
        """Until somebody asks, at most so long; who asked.

        Events alone are heeded after a moment: they come in bursts, a guest that reboots is back by then, and one that
        does nothing else must not keep us busy.
        """
        await self._clock.wait(self._asked, seconds)
        if self._reasons == {EVENT}:
            self._asked.clear()
            await self._clock.wait(self._asked, min(seconds, _CALM_SECONDS))
        reasons = frozenset(self._reasons or {INTERVAL})
        self._reasons = set()
        self._asked.clear()
        return reasons
