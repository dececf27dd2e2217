"""Judges how each domain is, in one word and a reason, as `status` shows it. Pure: all it needs is in a plan.

Called by `commands.status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from reconciler.decide.changes import HELD_UNTIL, Action, Change
from reconciler.decide.holds import LOOK_WHY, stuck_in_words
from reconciler.decide.unusable import USABLE
from reconciler.model.boot import ROLLED_BACK
from reconciler.model.domain import Image
from reconciler.model.host import Owner, Power, Quarantined
from reconciler.plan.plan import Plan
from reconciler.records import dataclass


class Status(StrEnum):
    """The one word for how a domain is seen to be."""

    READY = "ready"
    RECONCILING = "reconciling"  # on its way: nothing to do but wait
    STALLED = "stalled"  # cannot go on until somebody does something
    PENDING_RESTART = "pending restart"
    DRIFTED = "drifted"  # an apply would change it
    UNMANAGED = "unmanaged"
    QUARANTINED = "quarantined"  # what the spec asks for failed to boot, and is not tried again


_LIVES = (Power.RUNNING, Power.PAUSED)
_UNSERVED = "; xl's process for it is gone: nobody acts on its on_reboot and the like until it is restarted"


class Condition(StrEnum):
    """The state that watch gives a domain, by what watch itself does about it. It is coarser than the status."""

    READY = "Ready"
    RECONCILING = "Reconciling"  # watch works on it, or tries again by itself
    STALLED = "Stalled"  # it cannot go on until somebody does something
    HELD = "Held"  # it is left as it is on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainStatus:
    address: str
    status: Status
    reason: str
    hint: str | None = None
    state: Power | None = None  # what its host says of it; None: its host holds nothing of that name
    kernel: Image | None = None  # what it runs
    running_seconds: float | None = None  # since it booted; None: it does not run, or its host cannot tell


def judge(plan: Plan, ways_back: Mapping[str, str]) -> tuple[DomainStatus, ...]:
    """Return an entry for every declared, managed or unmanaged domain, by address.

    A domain of which only its spec tells has one too: its file has errors, or its host did not answer. `ways_back` says
    why the way back of an address failed in the last apply that was about it.
    """
    found = {address: _unmanaged(address) for address in plan.unmanaged}
    every = (*plan.changes, *plan.undecided)
    found |= {change.address: _judge(change, ways_back.get(change.address)) for change in every}
    for change in plan.changes:
        host = plan.hosts.get(change.host)
        if host is not None and host.stuck and found[change.address].status is not Status.UNMANAGED:
            found[change.address] = _kept(found[change.address], change.host, host.stuck)
    return tuple(found[address] for address in sorted(found))


def _unmanaged(address: str) -> DomainStatus:
    return DomainStatus(address=address, status=Status.UNMANAGED, reason="not ours, never changed")


def _kept(status: DomainStatus, host: str, stuck: tuple[str, ...]) -> DomainStatus:
    """Judge a domain whose host is kept by a command, also where nothing is to be done with it now."""
    words = stuck_in_words(host, stuck)
    reason = status.reason if words in status.reason else f"{words} ({status.reason})"
    return replace(status, status=Status.STALLED, reason=reason, hint=LOOK_WHY)


def _judge(change: Change, way_back: str | None) -> DomainStatus:
    guest = change.guest
    if change.quarantined is not None:
        status, reason = _held_back(change, change.quarantined, way_back)
    else:
        status, reason = _status(change)
    if status is Status.READY:
        status, reason = _as_it_runs(change, reason)
    if guest is not None and guest.owner is Owner.OURS and guest.power in _LIVES and guest.served is False:
        reason += _UNSERVED
    return DomainStatus(
        address=change.address,
        status=status,
        reason=reason,
        hint=change.hint,
        state=guest.power if guest is not None else None,
        kernel=guest.running.kernel if guest is not None and guest.running is not None else None,
        running_seconds=guest.running_seconds if guest is not None else None,
    )


def _as_it_runs(change: Change, reason: str) -> tuple[Status, str]:
    """Judge a domain that is as specified by how it runs: without connected devices it has not come up."""
    guest = change.guest
    if guest is None or guest.power is not Power.RUNNING:
        return Status.READY, reason
    if guest.devices is not None and guest.devices.connected is False:
        timeout_seconds = change.target.policy.ready.timeout_seconds if change.target is not None else 0
        waits = guest.running_seconds is not None and guest.running_seconds < timeout_seconds
        why = "it runs, and its disks and interfaces are not connected"
        return (Status.RECONCILING, f"{why} yet") if waits else (Status.STALLED, why)
    return Status.READY, reason


def _held_back(change: Change, entry: Quarantined, way_back: str | None) -> tuple[Status, str]:
    """Judge a domain whose spec asks for boot inputs that are not to be tried again."""
    reason = change.blocked or change.reason
    if way_back is not None:
        return Status.STALLED, f"{reason} The way back failed too: {way_back}"
    if change.acts:  # an apply brings back what last worked
        return Status.DRIFTED, f"{change.action.value}: {reason}"
    if change.guest is None or not change.guest.exists:
        return Status.STALLED, f"it does not run: {reason}"
    if entry.reason == ROLLED_BACK:
        return Status.DRIFTED, "rolled back: what its spec asks for is quarantined until the spec changes"
    return Status.QUARANTINED, reason


def _status(change: Change) -> tuple[Status, str]:
    guest = change.guest
    if guest is not None and guest.owner is Owner.OURS and guest.power is Power.STARTING:
        return Status.RECONCILING, change.blocked or change.reason
    if change.action is Action.BLOCKED:
        ours = guest is None or guest.owner is Owner.OURS
        return Status.STALLED if ours else Status.UNMANAGED, change.blocked or change.reason
    if change.acts:
        unproven = guest is not None and (guest.unproven or guest.power is Power.REBOOTING)
        return Status.RECONCILING if unproven else Status.DRIFTED, f"{change.action.value}: {change.reason}"
    if change.hold is not None and change.would is not None:
        return Status.DRIFTED, change.reason
    if change.awaits_window and not change.acts:
        return Status.PENDING_RESTART if change.would is Action.RESTART else Status.DRIFTED, change.reason
    if change.pending:
        return Status.PENDING_RESTART, "; ".join(map(str, change.pending))
    if guest is not None and guest.owner is Owner.OURS and guest.power is Power.PAUSED:
        return Status.DRIFTED, change.reason
    if guest is not None and guest.power in (Power.REBOOTING, Power.SUSPENDED, Power.DYING):
        return Status.RECONCILING, change.reason
    if USABLE in change.waits_for:
        return Status.STALLED, change.reason
    if change.target is not None:  # decided in full, and nothing is left to do
        stopped = " (stopped)" if change.target.state == "stopped" else ""
        return Status.READY, change.reason + stopped
    held = HELD_UNTIL in change.waits_for and guest is not None and guest.owner is Owner.OURS
    if change.fields or held:  # it is not as specified, and may not be changed
        return Status.DRIFTED, change.reason
    return Status.STALLED, change.reason
