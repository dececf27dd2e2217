"""Disks as the specs mean them against what is there: one place for what counts as another size, or the same disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from reconciler.model.domain import Disk, Domain
from reconciler.model.host import FileFact, Host
from reconciler.model.paths import disk_identity

_LARGEST_EXTENT_BYTES = 64 * 1024 * 1024
"""LVM rounds a volume up to whole extents: 4 MiB as a rule, seldom more than this."""


def missing_bytes(disk: Disk, fact: FileFact | None) -> int:
    """How much larger the spec wants a disk than it is; negative where it wants less, 0 where nobody can tell.

    Only raw disks show their size in what holds them.
    """
    if fact is None or disk.size_bytes is None or disk.format != "raw" or disk.kind == "device":
        return 0
    difference = disk.size_bytes - fact.size_bytes
    rounded_up = disk.kind == "lv" and -_LARGEST_EXTENT_BYTES < difference < 0
    return 0 if rounded_up else difference


def growth_bytes(host: Host, disk: Disk) -> int:
    """How many more bytes a disk needs than there are: of a new one all that it or its source has."""
    fact = host.files.get(disk.target)
    if fact is not None:
        return max(0, missing_bytes(disk, fact))
    source = host.files.get(disk.source) if disk.source is not None else None
    return disk.size_bytes or (source.size_bytes if source is not None else 0)


def volume_group(disk: Disk) -> str:
    """The group of a logical volume, whose target is /dev/GROUP/VOLUME."""
    return disk.target.split("/")[2]


def disk_key(host: Host, target: str) -> str:
    """One name for a disk whatever path leads to it: device and inode where the host could tell, else the path."""
    fact = host.files.get(target)
    if fact is None:
        return disk_identity(target)
    return fact.key or disk_identity(fact.real_path or target)


def named_disks(host: Host, specs: Iterable[Domain]) -> Mapping[str, frozenset[str]]:
    """Every disk that a spec of this host names, be it only to clone it, or that a domain there has: who names it."""
    named: dict[str, set[str]] = defaultdict(set)
    for domain in specs:
        for disk in domain.disks:
            named[disk_key(host, disk.target)].add(domain.name)
            if disk.source is not None:
                named[disk_key(host, disk.source)].add(domain.name)
    for guest in host.guests.values():
        for definition in filter(None, (guest.config, guest.candidate, guest.running)):
            for disk in definition.disks:
                named[disk_key(host, disk.target)].add(guest.name)
    return {key: frozenset(names) for key, names in named.items()}
