"""Compares the disks that specs mean with those that exist: when the size differs, and when two are the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.expressions import expression
from reconciler.model.domain import Disk, Domain
from reconciler.model.paths import disk_identity

if TYPE_CHECKING:
    from reconciler.model.host import FileFact, Host

# names with a number in them that no two disks have; a serial number alone (`ata-QEMU_HARDDISK_QM00003`) and what
# people chose (`virtio-data`, `dm-name-`) are the same on many virtual dom0s
_WWN = r"[23][0-9a-f]{16}|eui\.|uuid\."
_WORLD_WIDE = expression(
    rf"/dev/disk/(by-id/(wwn-|scsi-({_WWN})|nvme-({_WWN})|dm-uuid-mpath-({_WWN})|dm-uuid-LVM-|lvm-pv-uuid-|md-uuid-)"
    r"|by-path/.*-iscsi-)"
)
_HERE = expression(r"localhost|\b127\.|[=@]")  # the host itself, or more than a place
_LARGEST_EXTENT_BYTES = 64 * 1024 * 1024
"""LVM rounds a volume up to whole extents: 4 MiB as a rule, seldom more than this."""


def may_share(*accesses: str) -> bool:
    """Return whether uses of one disk may stand side by side: only if all of them only read it.

    The one rule about sharing. One that reads what another writes has caches that go stale.

    >>> may_share("ro", "ro"), may_share("ro", "rw"), may_share("rw", "rw")
    (True, False, False)
    """
    return all(access == "ro" for access in accesses)


def has_live_medium(disk: Disk, definition: Domain) -> bool:
    """Return whether the medium is put in and taken out live: xl does so in the emulated drives of hvm domains."""
    return disk.cdrom and definition.type == "hvm"


def place_of(disk: Disk) -> tuple[str, str]:
    """Return the key by which a spec says where a disk is, and its value."""
    if disk.script is not None:
        return "target", disk.target
    if disk.kind == "lv":
        return "lv", disk.target.removeprefix("/dev/")
    is_device = disk.target.startswith("/dev/") if disk.used_as_is else disk.kind == "device"
    return "device" if is_device else "path", disk.target


def missing_bytes(disk: Disk, fact: FileFact | None) -> int:
    """Return by how many bytes the spec wants a disk larger than it is: negative for smaller, 0 if nobody can tell.

    Only a raw disk has the size of the file or volume that holds it.
    """
    if fact is None or disk.size_bytes is None or disk.format != "raw" or disk.kind == "device":
        return 0
    difference = disk.size_bytes - fact.size_bytes
    rounded_up = disk.kind == "lv" and -_LARGEST_EXTENT_BYTES < difference < 0
    return 0 if rounded_up else difference


def growth_bytes(host: Host, disk: Disk) -> int:
    """Return how many more bytes a disk needs. For a new disk these are all of it, or all of its source."""
    fact = host.files.get(disk.target)
    if fact is not None:
        return max(0, missing_bytes(disk, fact))
    source = host.files.get(disk.source) if disk.source is not None else None
    return disk.size_bytes or (source.size_bytes if source is not None else 0)


def grows_in(disk: Disk) -> str | None:
    """Return the volume group, or the path of the file, in which a disk takes its growth at once; None: as it fills."""
    if disk.kind == "lv":
        return volume_group(disk)
    at_once = disk.kind == "file" and (disk.allocate == "full" or disk.source is not None)
    return disk.target if at_once else None


def volume_group(disk: Disk) -> str:
    """Return the group of a logical volume, whose target is /dev/GROUP/VOLUME."""
    return disk.target.split("/")[2]


def world_wide(disk: Disk) -> str | None:
    """Return the name of a disk that is one and the same whichever host names it; None for what belongs to its host.

    >>> def device(target: str, script: str | None = None) -> Disk:
    ...     return Disk(vdev="xvda", devid=51712, kind="device", target=target, script=script)
    >>> world_wide(device("/dev/disk/by-id/wwn-0x5000")), world_wide(device("/dev/sda"))
    ('/dev/disk/by-id/wwn-0x5000', None)
    >>> world_wide(device("/dev/disk/by-id/scsi-36001405abcdef012")), world_wide(device("/dev/disk/by-id/ata-QM3"))
    ('/dev/disk/by-id/scsi-36001405abcdef012', None)
    >>> world_wide(device("iqn=iqn.2001-05.org:a,portal=10.0.0.1,password=p", script="block-iscsi"))
    'iqn=iqn.2001-05.org:a'
    >>> world_wide(device("10.0.0.1 1234", script="block-nbd"))
    'block-nbd 10.0.0.1 1234'
    """
    if disk.backend is not None or not disk.target:
        return None
    if disk.script is None or disk.identity.startswith("/"):
        return world_wide_path(disk.identity)
    return _over_network(disk.script.rpartition("/")[2], disk.target)


def _over_network(script: str, target: str) -> str | None:
    """Return the name of what a script reaches over the network: without who asks for it, and their password."""
    if script == "block-iscsi":
        return next((part for part in target.split(",") if part.startswith("iqn=")), None)
    reaches_out = script in ("block-nbd", "block-enbd") and not _HERE.search(target)
    return f"{script} {target}" if reaches_out else None


def world_wide_path(target: str) -> str | None:
    """Return the path of a disk if it has the number in it that only this disk has; None for what is its host's."""
    return disk_identity(target) if _WORLD_WIDE.match(target) else None


def disk_key(host: Host, target: str) -> str:
    """Return one name for a disk under all its paths: device and inode if the host could tell, else the path."""
    fact = host.files.get(target)
    if fact is None:
        return disk_identity(target)
    return fact.key or disk_identity(fact.real_path or target)


def named_disks(host: Host, specs: Iterable[Domain]) -> Mapping[str, frozenset[str]]:
    """Map every disk that a spec or a guest of this host names to the names of these domains.

    A spec also names the disk that it only clones.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for domain in specs:
        for disk in domain.disks:
            named[disk_key(host, disk.identity)].add(domain.name)
            if disk.source is not None:
                named[disk_key(host, disk.source)].add(domain.name)
    for guest in host.guests.values():
        for definition in filter(None, (guest.config, guest.candidate, guest.running)):
            for disk in definition.disks:
                named[disk_key(host, disk.identity)].add(guest.name)
    return {key: frozenset(names) for key, names in named.items()}
