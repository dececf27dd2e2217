"""What other domains still hold or still owe when a change would begin: disks that stay in use, waves that failed.

Called by `plan` with all changes of the fleet. A disk counts by what runs and what config files say, not only by specs:
a domain that stays as it is keeps its disks whatever its spec asks for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.core.changes import Action, Change
from reconciler.core.decide import without_boot
from reconciler.core.dependencies import block
from reconciler.core.disks import disk_key
from reconciler.core.state import Desired, Disk, Host, Owner


def held_back(changes: Iterable[Change], desired: Desired, hosts: Mapping[str, Host]) -> dict[str, Change]:
    """The changes that may not begin because of another domain, blocked, by address."""
    by_host: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_host[change.host].append(change)
    found: dict[str, Change] = {}
    for name, members in by_host.items():
        found |= _held_disks(members, hosts[name])
    return found | _failed_waves([change for members in by_host.values() for change in members], desired, hosts)


def _held_disks(changes: list[Change], host: Host) -> dict[str, Change]:
    kept: dict[str, list[tuple[Change, Disk]]] = defaultdict(list)
    for change in changes:
        for disk in _kept_disks(change):
            kept[disk_key(host, disk.target)].append((change, disk))
    found = {}
    for change in changes:
        for disk in _taken_disks(change, host):
            holder = next(
                (
                    other
                    for other, theirs in kept.get(disk_key(host, disk.target), ())
                    if other is not change and "rw" in (disk.access, theirs.access)
                ),
                None,
            )
            if holder is not None:
                reason = f"{disk.target} is still a disk of {holder.domain}, which keeps it: {holder.reason}"
                found[change.address] = block(change, reason)
    return found


def _kept_disks(change: Change) -> tuple[Disk, ...]:
    """The disks that a domain of ours still has when the plan is done, if it is not brought to what its spec says."""
    guest = change.guest
    if guest is None or guest.owner is not Owner.OURS or change.action is Action.DESTROY:
        return ()
    if change.acts and not change.parked:
        live = change.action in (Action.UPDATE, Action.ADOPT) and guest.running is not None
        return guest.running.disks if live and guest.running is not None else ()
    return tuple(disk for part in (guest.running, guest.config) if part is not None for disk in part.disks)


def _taken_disks(change: Change, host: Host) -> list[Disk]:
    """The disks that a domain would newly get by its change."""
    if not change.acts or change.target is None:
        return []
    guest = change.guest
    parts = (guest.running, guest.config) if guest is not None else ()
    had = {disk_key(host, disk.target) for part in parts if part is not None for disk in part.disks}
    return [disk for disk in change.target.disks if disk_key(host, disk.target) not in had]


def _failed_waves(changes: list[Change], desired: Desired, hosts: Mapping[str, Host]) -> dict[str, Change]:
    """Restarts of higher waves, while what a domain of a lower one should run is quarantined: less what is live."""

    def wave(change: Change) -> int:
        domain = desired.hosts[change.host].domains.get(change.domain)
        return domain.policy.wave if domain is not None else 0

    failed = [change for change in changes if change.action is Action.BLOCKED and change.quarantined is not None]
    if not failed:
        return {}
    cause = min(failed, key=lambda change: (wave(change), change.address))
    return {
        change.address: _waiting(change, hosts[change.host], f"wave {wave(cause)}", cause.address)
        for change in changes
        if change.restarts and not change.parked and wave(change) > wave(cause)
    }


def _waiting(change: Change, host: Host, for_what: str, cause: str) -> Change:
    """A restart that waits; what of it is live, or has to be kept on the host, does not."""
    rest = without_boot(host, change)
    live = rest.fields if rest is not None else ()
    return replace(
        rest or replace(change, action=Action.NO_OP, target=None, downtime_seconds=0),
        reason=f"{for_what} is not through: {cause} is quarantined",
        waits_for=(for_what,),
        pending=tuple(f"{field.path} waits for {for_what}" for field in change.fields if field not in live),
    )
