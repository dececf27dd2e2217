"""Decides what waits for a window: `[[window]]` of reconciler.toml and host.toml. Called by `decide` and `plan`.

An action that some allow-window names happens only inside one of those; a deny-window is stronger. A window begins at
each moment of its schedule, by the clock of its time zone, and lasts for its duration. Of summer time it knows what
cron knows: what would begin in the hour that is left out begins right after it, and nothing begins twice in the hour
that comes twice. What is begun is finished, and a way back is never held.

>>> from datetime import UTC, datetime
>>> nights = Window(kind="allow", schedule="0 2 * * *", duration_seconds=60, timezone="Europe/Berlin", reason="nights")
>>> shut = Shut((nights,), datetime(2026, 12, 1, 12, 0, tzinfo=UTC))
>>> shut.wait("alpha/web", "restart").told
'window: nights, opens 2026-12-02 02:00 Europe/Berlin (2026-12-02 01:00 UTC)'
>>> shut.wait("alpha/web", "start") is None
True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from heapq import merge
from itertools import islice

from reconciler.model.fleet import Desired, Window
from reconciler.records import dataclass

WINDOW = "window: "
"""How what a change waits for begins, where it is a window."""

_TURNS = timedelta(hours=3)  # no clock is ever turned back by more
_TRIED_MAX = 1000  # moments at which everything might be open, before we say that nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The window that an action waits for. `opens` is None where none of the next moments lets it happen."""

    window: Window
    opens: datetime | None

    @property
    def name(self) -> str:
        return name_of(self.window)

    @property
    def told(self) -> str:
        return f"{WINDOW}{self.name}, {_when(self.window, self.opens)}"


@dataclass(frozen=True, slots=True)
class Shut:
    """All windows, at one moment."""

    windows: Sequence[Window]
    at: datetime

    @classmethod
    def of(cls, desired: Desired) -> Shut | None:
        """Return the windows of a tree at the moment of the run; None if it has none, or if they are ignored."""
        return cls(desired.windows, desired.at) if desired.windows and desired.at is not None else None

    def wait(self, address: str, action: str) -> Wait | None:
        """Return what an action on a domain waits for; None if it may happen now."""
        named = [one for one in self.windows if action in one.actions and _is_about(one, address)]
        allows = [one for one in named if one.kind == "allow"]
        denies = [one for one in named if one.kind == "deny"]
        shut_by = next((one for one in denies if is_open(one, self.at)), None)
        if shut_by is None and (not allows or any(is_open(one, self.at) for one in allows)):
            return None
        opens = _opens(tuple(allows), tuple(denies), self.at)
        opening = next((one for one in allows if opens is not None and is_open(one, opens)), None)
        return Wait(window=shut_by or opening or allows[0], opens=opens)


def name_of(window: Window) -> str:
    """Return what a window is called: its reason or, without one, its kind and schedule."""
    return window.reason or f'{window.kind} "{window.schedule}"'


def kept_up_by_windows(addresses: Iterable[str], desired: Desired) -> dict[str, str]:
    """Return which domains may not go down with what they depend on, since no window is open, and why."""
    shut = Shut.of(desired)
    waits = ((address, shut.wait(address, "restart")) for address in addresses if shut is not None)
    return {address: wait.told for address, wait in waits if wait is not None}


def next_opening(waiting: Iterable[tuple[str, str]], windows: Sequence[Window], at: datetime) -> float | None:
    """Return when the first window opens that one of these waits for (address and action), in Unix seconds."""
    shut = Shut(windows, at)
    waits = (shut.wait(address, action) for address, action in waiting)
    return min((wait.opens.timestamp() for wait in waits if wait is not None and wait.opens is not None), default=None)


def is_open(window: Window, at: datetime) -> bool:
    begun = _last_begun(window, at)
    return begun is not None and at < begun + timedelta(seconds=window.duration_seconds)


def _when(window: Window, opens: datetime | None) -> str:
    if opens is None:
        return "and nobody can tell when it opens"
    form, utc = "%Y-%m-%d %H:%M", opens.astimezone(UTC)
    if window.timezone == "UTC":
        return f"opens {utc:{form}} UTC"
    return f"opens {_local(opens, window):{form}} {window.timezone} ({utc:{form}} UTC)"


def _is_about(window: Window, address: str) -> bool:
    """Return whether a window is about a domain: by its globs, which mean the name alone where they have no slash."""
    host, _, name = address.partition("/")
    return window.host in (None, host) and any(
        fnmatchcase(address if "/" in glob else name, glob) for glob in window.domains
    )


@lru_cache(maxsize=1024)
def _opens(allows: tuple[Window, ...], denies: tuple[Window, ...], at: datetime) -> datetime | None:
    """Return the first moment from now on at which an allow-window is open, if there are any, and no deny-window is."""
    begins = [_begins_after(one, at) for one in allows]
    ends = [_ends_after(one, at) for one in denies]
    for moment in islice(merge(*begins, *ends), _TRIED_MAX):
        allowed = not allows or any(is_open(one, moment) for one in allows)
        if allowed and not any(is_open(one, moment) for one in denies):
            return moment
    return None


def _begins_after(window: Window, at: datetime) -> Iterator[datetime]:
    return (moment for moment in _moments(window, _local(at, window)) if moment > at)


def _ends_after(window: Window, at: datetime) -> Iterator[datetime]:
    lasts = timedelta(seconds=window.duration_seconds)
    begun = _last_begun(window, at)
    if begun is not None and begun + lasts > at:
        yield begun + lasts
    yield from (begins + lasts for begins in _begins_after(window, at))


@lru_cache(maxsize=1024)
def _last_begun(window: Window, at: datetime) -> datetime | None:
    """Return when a window last began. Local time may come twice, so it is looked for from a little later on."""
    begun = _moments(window, _local(at, window) + _TURNS, backwards=True)
    return next((moment for moment in begun if moment <= at), None)


def _moments(window: Window, local: datetime, *, backwards: bool = False) -> Iterator[datetime]:
    """Yield the moments of a schedule (UTC) after a local time, or before it, the nearest first."""
    from cronsim import CronSim  # most trees have no windows

    return (moment.astimezone(UTC) for moment in CronSim(window.schedule, local, reverse=backwards))


def _local(at: datetime, window: Window) -> datetime:
    from zoneinfo import ZoneInfo

    return at.astimezone(ZoneInfo(window.timezone))
