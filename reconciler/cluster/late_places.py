"""Takes the places of restarts that are rehearsed, once the rehearsal is ready and just before the domain goes down.

A rehearsal may take minutes, in which a place of the fleet's max_unavailable is of use to others. Called by `passes`,
and by the steps of the apply that they follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from reconciler.cluster.refusing import held
from reconciler.cluster.sharing import Sharing, Wanted
from reconciler.model.diagnostics import Diagnostic, moved_on
from reconciler.plan.parts import rehearsed_together
from reconciler.plan.places import FleetLimit
from reconciler.plan.plan import Plan
from reconciler.waiting import Stop

_POLL_SECONDS = 1.0
_TRIES = 60  # after these the restart is for a later pass: who waits keeps the lock of the host


class Places(Protocol):
    """The places that passes over other hosts leave, as far as this controller knows."""

    @property
    def limit(self) -> FleetLimit | None: ...

    def takes(self, name: str, addresses: frozenset[str]) -> str | None: ...

    def takes_not(self, name: str, addresses: frozenset[str]) -> None: ...


class LatePlaces:
    """The places that one apply takes late; none where it is not over a single host."""

    def __init__(self, places: Places, sharing: Sharing, host: str | None, plan: Plan, stop: Stop) -> None:
        self._places, self._sharing, self._host, self._stop = places, sharing, host or "", stop
        self._groups: Mapping[str, frozenset[str]] = rehearsed_together(plan) if host is not None else {}
        self._taken: set[str] = set()
        self._taking = asyncio.Lock()  # what goes down together is taken once

    async def take(self, address: str) -> Diagnostic | None:
        """Take the place of a domain that is about to go down, and of all that go down with it.

        Returns why that cannot be, if so. Waits for it a while.
        """
        group = self._groups.get(address, frozenset())
        async with self._taking:
            if group <= self._taken:
                return None
            why = await self._try(group)
            for _ in range(_TRIES):
                if why is None or self._stop() is not None:
                    break
                await asyncio.sleep(_POLL_SECONDS)
                why = await self._try(group)
        if why is None:
            self._taken |= group
            return None
        return moved_on("no place is free", why, "wait until those are ready", address).diagnostics[0]

    async def _try(self, group: frozenset[str]) -> str | None:
        if (why := self._places.takes(self._host, group)) is not None:
            return held(self._host, why).detail
        wanted = Wanted(restarts=group, limit=self._places.limit, is_more=True)
        if (problem := await self._sharing.reserve(self._host, wanted)) is None:
            return None
        self._places.takes_not(self._host, group)
        return problem.detail
