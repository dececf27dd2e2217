"""Finds the paused domains that shall go on: those that two looks a minute apart saw paused. Called by each pass.

A backup or a dump pauses a domain for moments, and a person may look at it. One that stays paused was forgotten, and
that is drift. What was seen is kept in the state directory, since `watch --once` looks only once: the next run, begun
by a timer, is the second look. When the file is lost, a domain stays paused for a minute longer.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from threading import Lock

from pydantic import TypeAdapter, ValidationError

from reconciler.model.host import Owner, Power
from reconciler.plan.plan import Plan
from reconciler.records import dataclass
from reconciler.state_dir.files import make_folder, replace_file

PAUSED_SECONDS = 60.0
_FORGOTTEN_SECONDS = 1800.0  # after that long without a look, what is paused may be another pause: each night a backup
_FILE = "paused.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """What looks saw of one domain. Another start of it is another pause. Times are Unix seconds."""

    domid: int | None
    since: float
    seen: float


_PAUSES = TypeAdapter(dict[str, _Pause])


@dataclass(slots=True)
class Paused:
    """Remembers since when each domain of ours is paused, by address."""

    now: Callable[[], float]
    state_dir: Path
    _pauses: dict[str, _Pause] | None = field(default=None)  # None: what an earlier process kept was not read yet
    _lock: Lock = field(default_factory=Lock)  # passes over several hosts note what they saw at the same time

    def note(self, plan: Plan) -> frozenset[str]:
        """Remember what a look saw. Returns the domains that have been paused for long enough."""
        now = self.now()
        seen = {
            change.address: change.guest.domid
            for change in plan.changes
            if change.guest is not None and change.guest.owner is Owner.OURS and change.guest.power is Power.PAUSED
        }
        with self._lock:
            before = self._pauses if self._pauses is not None else self._kept()
            paused = {address: self._pause(domid, before.get(address), now) for address, domid in seen.items()}
            elsewhere = {
                address: one
                for address, one in before.items()
                if address.partition("/")[0] not in plan.hosts and now - one.seen <= _FORGOTTEN_SECONDS
            }
            self._pauses = elsewhere | paused
            if self._pauses != before:
                self._keep(self._pauses)
        return frozenset(address for address, one in paused.items() if now - one.since >= PAUSED_SECONDS)

    def next_seconds(self, hosts: Container[str]) -> float | None:
        """Return the seconds until another one on these hosts has been paused for long enough; None when none is."""
        now = self.now()
        paused = (one for address, one in (self._pauses or {}).items() if address.partition("/")[0] in hosts)
        left = (one.since + PAUSED_SECONDS - now for one in paused)
        return min((seconds for seconds in left if seconds > 0), default=None)

    def _pause(self, domid: int | None, before: _Pause | None, now: float) -> _Pause:
        """Go on with the pause that an earlier look saw, unless this may be another one (or the clock was set)."""
        same = before is not None and before.domid == domid and before.since <= before.seen <= now
        goes_on = before is not None and same and now - before.seen <= _FORGOTTEN_SECONDS
        return _Pause(domid=domid, since=before.since if before is not None and goes_on else now, seen=now)

    def _kept(self) -> dict[str, _Pause]:
        try:
            return _PAUSES.validate_json((self.state_dir / _FILE).read_bytes())
        except (OSError, ValidationError):
            return {}

    def _keep(self, pauses: dict[str, _Pause]) -> None:
        with suppress(OSError):  # a full disk: who looks again remembers, and --once lets nothing go on
            make_folder(self.state_dir)
            replace_file(self.state_dir / _FILE, _PAUSES.dump_json(pauses), durable=False)
