"""Finds the paused domains that shall go on: those that two looks a minute apart saw paused. Called by each pass.

A backup or a dump pauses a domain for moments, and a person may look at it. One that stays paused was forgotten, and
that is drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.model.host import Owner, Power
from reconciler.plan.plan import Plan

PAUSED_SECONDS = 60.0


@dataclass(slots=True)
class Paused:
    """Remembers since when each domain of ours is paused, by address. Another start of it is another pause."""

    now: Callable[[], float]
    _since: dict[tuple[str, int | None], float] = field(default_factory=dict)

    def note(self, plan: Plan) -> frozenset[str]:
        """Remember what a look saw. Returns the domains that have been paused for long enough."""
        now = self.now()
        seen = {
            (change.address, change.guest.domid)
            for change in plan.changes
            if change.guest is not None and change.guest.owner is Owner.OURS and change.guest.power is Power.PAUSED
        }
        self._since = {key: self._since.get(key, now) for key in seen}
        return frozenset(address for (address, _), since in self._since.items() if now - since >= PAUSED_SECONDS)

    def next_seconds(self) -> float | None:
        """Return the seconds until another one has been paused for long enough; None when none is."""
        now = self.now()
        left = (since + PAUSED_SECONDS - now for since in self._since.values())
        return min((seconds for seconds in left if seconds > 0), default=None)
