"""Holds: somebody's word on a host that nothing is to be begun with a domain. Their files as text, and what they do.
Also what is said of the lock, by which one run keeps the others off a host.

Called by `decide`, and by whoever reads or writes such a file. What was begun is finished: a domain that is down for a
restart comes back, whoever holds it.

>>> hold = read_hold(render_hold(Hold(begins=0, ends=7200, by="ann@desk", reason="disk check")), now=60)
>>> in_words(hold)
'held: disk check, by ann@desk, until 1970-01-01 02:00:00 UTC'
>>> read_hold(render_hold(hold), now=7200) is None
True
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime

from reconciler.decide.changes import Change, block, left_alone
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, moved_on, refused
from reconciler.model.domain import address_of
from reconciler.model.host import WHOLE_HOST, Hold, Host, LockHolder

HELD_BY_HAND = "hold: "
"""How what a change waits for begins, where a hold on its host is what holds it."""

QUIET_SECONDS = 15
"""How long the holder of a lock says nothing before a person may end it; by itself it ends after twice that."""

LOOK_WHY = "look on the host what it waits for (a disk, a file server); it goes on by itself once that is back"
_FORMAT = 1
_UNREAD = "its file on the host cannot be read"


def render_hold(hold: Hold) -> str:
    """Write the file of a hold: one line."""
    told = {key: value for key, value in asdict(hold).items() if key != "is_ahead"}
    return json.dumps({"format": _FORMAT, **told}) + "\n"


def read_hold(text: str, now: float) -> Hold | None:
    """Read the file of a hold; None when it has ended. One that cannot be read holds, since nobody knows its end."""
    try:
        said = json.loads(text)
        ends = None if said["ends"] is None else float(said["ends"])
        hold = Hold(begins=float(said["begins"]), ends=ends, by=str(said["by"]), reason=str(said["reason"]))
        for seconds in (hold.begins, hold.ends or 0):
            _moment(seconds)  # raises for one that no calendar has
        if said["format"] != _FORMAT:
            return Hold(begins=now, reason=_UNREAD)
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return Hold(begins=now, reason=_UNREAD)
    if hold.ends is not None and now >= hold.ends:
        return None
    return replace(hold, is_ahead=now < hold.begins)


def kept_by_others(host: Host, me: str) -> tuple[Diagnostic, ...]:
    """Tell what but this process keeps a host just now: somebody's lock, or a command that does not end."""
    return *lock_of_others(host, me), *_kept_by_commands(host)


def lock_of_others(host: Host, me: str) -> tuple[Diagnostic, ...]:
    """Tell who but this process changes a host just now, and what ends a lock whose holder says nothing any more."""
    holder = host.locked
    if holder is None or holder.by == me:
        return ()
    silent = holder.silent_seconds >= QUIET_SECONDS
    heard = f" Nothing was heard of it for {holder.silent_seconds:.0f} s." if silent else ""
    return (
        Diagnostic(
            kind=Kind.NOTE,
            summary="locked",
            detail=f"{host.name} is being changed by {holder.by}, since {holder.since}.{heard}",
            hint=f"reconciler unlock {host.name}" if silent else None,
            address=host.name,
        ),
    )


def _kept_by_commands(host: Host) -> tuple[Diagnostic, ...]:
    return tuple(
        Diagnostic(
            kind=Kind.NOTE,
            summary="a command does not end",
            detail=f"Nothing can be begun on {host.name}: a command there is late and cannot be killed: {one}.",
            hint=LOOK_WHY,
            address=host.name,
        )
        for one in host.stuck
    )


def heed_stuck(host: Host, change: Change) -> Change:
    """Return a change as blocked, where a command keeps its host: whoever begins another one is refused there."""
    if not host.stuck or not change.acts:
        return change
    return replace(block(change, stuck_in_words(host.name, host.stuck)), hint=LOOK_WHY)


def stuck_in_words(host: str, stuck: Iterable[str]) -> str:
    return f"{host} is kept by a command that does not end and cannot be killed: {'; '.join(stuck)}"


def lock_speaks(host: str, holder: LockHolder) -> ReconcilerError:
    """Make the refusal to break the lock of a holder that was heard a moment ago."""
    return refused(
        "the holder speaks",
        f"{host} is being changed by {holder.by}, since {holder.since}. It was heard {holder.silent_seconds:.0f} s "
        "ago, so nothing was done.",
        f"wait until that is done, or end that process; unlock ends a lock that was silent for {QUIET_SECONDS} s",
        host,
    )


def in_words(hold: Hold) -> str:
    """Say why, by whom and until when a domain is held."""
    until = "" if hold.ends is None else f", until {_moment(hold.ends)} UTC"
    ahead = ", by a clock that is before its beginning now" if hold.is_ahead else ""
    return ", ".join(filter(None, (f"held: {hold.reason}" if hold.reason else "held", hold.by and f"by {hold.by}"))) + (
        f"{until}{ahead}"
    )


def with_hold(host: Host, change: Change) -> Change:
    """Return a change as its holds leave it: nothing is begun, and what would be done is still told."""
    found = [(name, host.holds[name]) for name in (change.domain, WHOLE_HOST) if name in host.holds]
    if not found or change.resumes:
        return change
    words = "; ".join(f"all of {host.name} is {in_words(hold)}" if not name else in_words(hold) for name, hold in found)
    held = replace(change, hold=words)
    if not change.acts and change.would is None:  # nothing to hold back
        return held if change.target is None else replace(held, reason=f"{change.reason}; {words}")
    waits_for = tuple(f"{HELD_BY_HAND}{hold.reason or hold.by or 'no reason given'}" for _, hold in found)
    name, _ = found[0]
    left = left_alone(held, words, waits_for[0])
    hint = f"reconciler unhold {address_of(host.name, name) if name else host.name}"
    return replace(left, waits_for=tuple(dict.fromkeys((*change.waits_for, *waits_for))), hint=hint)


def begun_meanwhile(host: str, domain: str, hold: Hold, name: str) -> ReconcilerError:
    """Make the error of a step that does not begin, since its domain was held after the plan was made."""
    address = address_of(host, domain)
    return moved_on(
        "it is held",
        f"{address if name else f'All of {host}'} is {in_words(hold)}. Nothing was begun with {address}.",
        f"wait until that has ended, or: reconciler unhold {address if name else host}",
        address,
    )


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
