"""Decides whether a restart is rehearsed: whether its new boot inputs can be booted beside the running domain first.

Called by `decide` for each restart of a domain whose spec says `rehearse`. Where there is no way, `if-possible`
restarts without it and says so, and `required` blocks with the reason:

>>> from tests.worlds import NEW, desired, domain, guest, host, kernel, plan
>>> from reconciler.model.domain import Policy
>>> def wanted(rehearse):
...     return desired(domain("web", kernel=kernel("web", NEW), policy=Policy(rehearse=rehearse)))
>>> world = host(guest(domain("web")), snapshots={})
>>> [step.step.kind for step in plan(world, wanted("required")).steps][:4]
['stage_image', 'rehearse', 'rehearse_end', 'write_config']
>>> [step.step.kind for step in plan(world, wanted("off")).steps][:2]
['stage_image', 'write_config']
"""

from __future__ import annotations

import math
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.decide.changes import Action, Change, Consent, make_blocked
from reconciler.decide.diff import Pending
from reconciler.decide.partial import without_boot
from reconciler.decide.safety_rules import Block, HostIndex
from reconciler.expressions import expression
from reconciler.model.boot import boot_digest
from reconciler.model.disks import disk_key
from reconciler.model.domain import Disk, Domain, Ready, Vif, fingerprint
from reconciler.model.fleet import HostSettings, RehearsalSettings
from reconciler.model.host import SAID_NOTHING, Guest, Host, Power, Quarantined
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.rehearsal import ENDING, Clone, Rehearsal, SnapshotFact
from reconciler.specs.resolve.domain import NAMESPACE, derived_mac
from reconciler.specs.resolve.xl_keys import HARMLESS, HARMLESS_BY_SUBJECT

_VCPUS_MAX = 2
_MAC_PREFIX = "02:72:65"  # locally administered, and none that macs of domains are derived behind
_SCREEN = frozenset(HARMLESS_BY_SUBJECT["Its screen over the network"])  # fixed ports and displays
_PRESERVED: Mapping[str, Any] = {key.attribute: "preserve" for key in DOMAIN_KEYS if key.boot_entry == "on"}
_SOFT_RESET = "on_soft_reset"
_KEPT_KEYS = HARMLESS - _SCREEN - {_SOFT_RESET}
_EXTENT_BYTES = 4 * 1024 * 1024
_SNAPSHOT_SECONDS = 1.0  # of one disk, while its domain is paused
_COPY_BYTES_PER_SECOND = 100 * 1024 * 1024
_DEVICE_NAME_MAX = 127  # of device-mapper
# What LVM takes for volumes of its own (lib/misc/lvm-string.c, apply_lvname_restrictions).
_LVM_OWN = expression(
    r"^(snapshot|pvmove)|_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|"
    r"vdata|vorigin|wcorig)"
)


class _NoWayError(Exception):
    """Says why there is no way to rehearse."""


def heed_rehearsal(
    host: Host,
    settings: HostSettings,
    fleet: str,
    index: HostIndex,
    change: Change,
    consent: Consent,
) -> Change:
    """Return the restart with its rehearsal, or without one where there is no way: blocked if one is required."""
    guest, target = change.guest, change.target
    if guest is None or target is None or not _is_rehearsed(change, guest, target):
        return change
    said = said_nothing(guest, target, settings)
    if said is not None and change.address in consent.retry:
        change, said = replace(change, quarantine=()), None
    if said is not None:
        hint = f"to rehearse it once more: reconciler apply --retry {change.address}"
        return _without(host, change, f"its rehearsal said nothing about the kernel: {said.reason}", hint)
    maker = _Maker(host, settings.rehearsal, fleet, index, guest, target)
    try:
        assert guest.running is not None
        rehearsal, control = maker.make(target), maker.make(guest.running, ready=target.policy.ready)
    except _NoWayError as why:
        hint = 'see docs/rehearsal.md; to restart without one: rehearse = "if-possible"'
        return _without(host, change, str(why), hint)
    return replace(change, rehearsal=rehearsal, control=control, no_verdict=no_verdict(target, settings))


def without_rehearsal(host: Host, change: Change, why: str, hint: str | None = None) -> Change:
    """Return a restart whose rehearsal cannot be had after all, since others have the memory that it takes."""
    return _without(host, replace(change, rehearsal=None, control=None), why, hint)


def no_verdict(target: Domain, settings: HostSettings) -> Quarantined:
    """Return what is noted on the host of a rehearsal that said nothing, so that it is not made again.

    It is another one as soon as the boot inputs, the spec or host.toml change.
    """
    return Quarantined(boot=SAID_NOTHING + fingerprint([target, target.policy, settings]))


def said_nothing(guest: Guest, target: Domain, settings: HostSettings) -> Quarantined | None:
    """Find the note of a rehearsal of this definition that said nothing; None where there was none."""
    if all(one.holds_boot for one in guest.quarantine):
        return None
    boot = no_verdict(target, settings).boot
    return next((one for one in guest.quarantine if one.boot == boot), None)


def _is_rehearsed(change: Change, guest: Guest, target: Domain) -> bool:
    """Return whether this takes a running domain down for boot inputs that are new to it."""
    if target.policy.rehearse == "off" or change.action is not Action.RESTART or change.leads_back:
        return False
    if guest.power is not Power.RUNNING or guest.running is None or target.state != "running":
        return False
    before = guest.config if guest.config is not None and guest.config_proven else guest.running
    return boot_digest(before) != boot_digest(target)


def _without(host: Host, change: Change, why: str, hint: str | None) -> Change:
    """Restart without a rehearsal, and say so; where one is required, do what can be done without a boot."""
    guest, target = change.guest, change.target
    assert guest is not None
    assert target is not None
    if target.policy.rehearse == "if-possible":
        return replace(change, unrehearsed=why)
    reason = f"its restart has to be rehearsed, and cannot be: {why}"
    rest = without_boot(host, change)
    if rest is None:
        return make_blocked(host, change.domain, Block(reason, hint), guest, change.fields, Action.RESTART)
    live = {field.path for field in rest.fields}
    waiting = tuple(Pending(field=one, why="needs a rehearsal") for one in change.fields if one.path not in live)
    return replace(rest, reason=reason, blocked=reason, hint=hint, pending=waiting, would=Action.RESTART)


class _Maker:
    """Makes rehearsals of definitions of one domain."""

    def __init__(
        self, host: Host, settings: RehearsalSettings, fleet: str, index: HostIndex, guest: Guest, target: Domain
    ) -> None:
        self._host, self._settings, self._guest = host, settings, guest
        self._memory_kib = settings.memory_kib or target.memory_kib
        self._vcpus = min(_VCPUS_MAX, target.vcpus)
        self._name = f"{guest.name}{ENDING}"
        self._uuid = rehearsal_uuid(fleet, guest.name)
        running = guest.running.disks if guest.running is not None else ()
        self._written = {disk_key(host, disk.identity) for disk in running if disk.access == "rw"}
        self._index = index

    def make(self, definition: Domain, ready: Ready | None = None) -> Rehearsal:
        """Return the rehearsal of a definition. Raises _NoWayError with the reason where there is no way."""
        guest, settings = self._guest, self._settings
        assert guest.running is not None
        if self._host.snapshots is None:
            raise _NoWayError(f"xm of {self._host.name} cannot rehearse: that takes xl")
        if self._name in self._host.guests:
            raise _NoWayError(f"there is a domain {self._name} on {self._host.name}, which is none of our rehearsals")
        disks = [self._disk(disk, definition) for disk in definition.disks]
        clones = tuple(clone for _, clone in disks if clone is not None)
        pause = self._pause(clones)
        self._check_room(clones)
        own_bridge = f"rr{self._uuid.replace('-', '')[:10]}"
        signs = definition.policy.ready if ready is None else ready
        throwaway = replace(
            definition,
            name=self._name,
            uuid=self._uuid,
            memory_kib=self._memory_kib,
            maxmem_kib=self._memory_kib,
            vcpus=self._vcpus,
            maxvcpus=self._vcpus,
            vcpus_given=True,
            cpus=definition.cpus if isinstance(definition.cpus, str) else None,
            disks=tuple(disk for disk, _ in disks),
            vifs=tuple(self._vif(vif, settings.bridge or own_bridge) for vif in definition.vifs),
            pci=(),
            xl=(*(one for one in definition.xl if one[0] in _KEPT_KEYS), (_SOFT_RESET, "preserve")),
            state="running",
            autostart=None,
            **_PRESERVED,
        )
        timeout_seconds = settings.timeout_seconds or signs.timeout_seconds
        return Rehearsal(
            of=guest.name,
            of_uuid=guest.running.uuid,
            definition=throwaway,
            clones=clones,
            bridge=own_bridge if definition.vifs and settings.bridge is None else None,
            ready=replace(signs, tcp=None, timeout_seconds=timeout_seconds),
            pause_seconds=pause,
            has_less_memory=self._memory_kib < definition.memory_kib,
        )

    def _disk(self, disk: Disk, definition: Domain) -> tuple[Disk, Clone | None]:
        """Return what the throwaway gets for a disk, and the snapshot that this is, if it is one."""
        if disk.cdrom:
            return replace(disk, target="", kind="file", script=None, backend=None), None
        shown = disk.target or disk.vdev
        if disk.is_elsewhere:
            raise _NoWayError(f"there is no way to snapshot {shown}, which a script or another domain knows")
        key = disk_key(self._host, disk.identity)
        users = (*self._index.disks.get(key, ()), *self._index.held.get(key, ()))
        others = [(name, access) for name, access in users if name != self._guest.name]
        writer = next((name for name, access in others if "rw" in (access, disk.access)), None)
        if writer is not None:
            raise _NoWayError(f"there is no way to snapshot {shown}, which {writer} has as well")
        if disk.access == "ro" and key not in self._written:
            return disk, None
        if disk.format != "raw":
            raise _NoWayError(f"there is no way to snapshot {shown} while it is in use: its format is {disk.format}")
        clone = self._clone(disk, self._fact(disk))
        plain = replace(disk, target=clone.target, size_bytes=None, source=None, on_delete="keep", colo=None)
        alone = replace(plain, colo_host=None, colo_port=None, colo_export=None, active_disk=None, hidden_disk=None)
        return alone, clone

    def _fact(self, disk: Disk) -> SnapshotFact:
        known = (self._host.snapshots or {}).get(disk.target)
        if known is None:
            there = self._host.files.get(disk.target)
            why = "nobody knows how" if there is not None else "it is only made by this very change"
            raise _NoWayError(f"there is no way to snapshot {disk.target}: {why}")
        if known.way is None:
            raise _NoWayError(f"there is no way to snapshot {disk.target}: {known.why_not}")
        return known

    def _clone(self, disk: Disk, fact: SnapshotFact) -> Clone:
        settings, origin = self._settings, disk.target
        if {"|", "\n"}.intersection(origin + fact.room):  # what is said of it on the host is lines with | in them
            raise _NoWayError(f"there is no way to snapshot {origin!r}, with such a character in its path")
        folder = origin.rpartition("/")[0]
        room = fact.size_bytes
        if fact.way in ("lvm", "thin"):
            group, volume = _volume_of(origin, fact.room)
            folder = f"/dev/{group}"
            origin = f"{folder}/{volume}"
            _check_volume(group, f"{self._name}-{disk.vdev}", origin)
        if fact.way == "lvm":
            room = _classic_bytes(_bytes_of(settings.snapshot_size, fact.size_bytes), fact.size_bytes)
        if fact.way == "copy" and (not settings.pause or fact.size_bytes > settings.copy_limit_bytes):
            raise _NoWayError(
                f"there is no way to snapshot {disk.target}: its file system has no reflinks, and [rehearsal] of "
                "host.toml allows no copy of that size while the domain is paused"
            )
        assert fact.way is not None
        kept = 0 if fact.way == "lvm" else _bytes_of(settings.keep_free, fact.total_bytes)
        return Clone(
            way=fact.way,
            origin=origin,
            target=f"{folder}/{self._name}-{disk.vdev}",
            size_bytes=fact.size_bytes,
            room=fact.room,
            room_bytes=room,
            keep_free_bytes=kept,
            vdev=disk.vdev,
        )

    def _pause(self, clones: Sequence[Clone]) -> float:
        """Return for how long the domain is paused while its disks are snapshot: several have to be of one instant."""
        copied = sum(clone.size_bytes for clone in clones if clone.way == "copy")
        if len(clones) < 2 and not copied:
            return 0
        if not self._settings.pause:
            raise _NoWayError(
                f"its {len(clones)} disks can be snapshot at one instant only while it is paused for a second or two, "
                "and [rehearsal] of host.toml does not say pause = true"
            )
        return math.ceil(_SNAPSHOT_SECONDS * len(clones) + copied / _COPY_BYTES_PER_SECOND)

    def _check_room(self, clones: Sequence[Clone]) -> None:
        """Look whether there is room for this rehearsal alone: `plan` lets those that share a room wait in turn."""
        free_bytes = room_for_snapshots(self._host, self._index.growth)
        for room, needed in room_needed(clones).items():
            own = [clone for clone in clones if clone.room == room]
            kept = max(clone.keep_free_bytes for clone in own)
            copied = sum(clone.size_bytes for clone in own if clone.way == "copy")  # is written at once
            free = free_bytes[room]
            if needed > free or free - copied < kept:
                more = f" ({_mib(kept)} MiB are kept free)" if kept else ""
                raise _NoWayError(
                    f"its snapshots need {_mib(needed)} MiB of room in {room}, and {_mib(free)} MiB are free{more}"
                )

    def _vif(self, vif: Vif, bridge: str) -> Vif:
        mac = derived_mac(self._uuid, vif.devid, _MAC_PREFIX)
        bare = replace(vif, mac=mac, named=True, bridge=bridge, ip=None, script=None, vifname=None)
        return replace(bare, gatewaydev=None, backend=None, vlan=None, colo=())


def rehearsal_uuid(fleet: str, name: str) -> str:
    """Return the uuid of the throwaway of a domain: never that of the domain itself."""
    return str(uuid.uuid5(uuid.uuid5(uuid.uuid5(NAMESPACE, fleet), name), "rehearsal"))


def room_needed(clones: Iterable[Clone]) -> dict[str, int]:
    """Return what these snapshots take of each volume group, pool or file system, in bytes."""
    wanted: dict[str, int] = defaultdict(int)
    for clone in clones:
        wanted[clone.room] += clone.room_bytes
    return wanted


def room_for_snapshots(host: Host, growth: Mapping[str, int]) -> dict[str, int]:
    """Return how many bytes each room has for snapshots, without those by which volume groups and files will grow.

    `growth` has them by group, and by the path of a file: it is in the file system with the longest name before it.
    """
    free = {fact.room: fact.free_bytes for fact in (host.snapshots or {}).values() if fact.way is not None}
    systems = sorted((room for room in free if room.startswith("/")), key=len, reverse=True)
    for name, grows in growth.items():
        room = next((one for one in systems if name.startswith(f"{one.rstrip('/')}/")), name)
        if room in free:
            free[room] = max(0, free[room] - grows)
    return free


def _volume_of(path: str, room: str) -> tuple[str, str]:
    """Return group and name of the logical volume that a path leads to: LVM takes no others. `room`: GROUP[/POOL]."""
    group = room.partition("/")[0]
    mapped = path.removeprefix(f"/dev/mapper/{group.replace('-', '--')}-")  # device-mapper doubles each hyphen
    if mapped != path and "-" not in mapped.replace("--", ""):
        return group, mapped.replace("--", "-")
    volume = path.removeprefix(f"/dev/{group}/")
    if volume == path or "/" in volume:
        raise _NoWayError(
            f"there is no way to snapshot {path}: its path does not tell which volume it is; write /dev/{group}/ and "
            "the name of the volume"
        )
    return group, volume


def _check_volume(group: str, name: str, origin: str) -> None:
    """Raise where LVM could not make a snapshot of this name. Device-mapper doubles hyphens, and puts one between."""
    device = f"{group.replace('-', '--')}-{name.replace('-', '--')}-cow"
    why = None
    if len(device) > _DEVICE_NAME_MAX:
        why = f"the name of its snapshot, {group}/{name}, would be {len(device) - _DEVICE_NAME_MAX} characters too long"
    elif _LVM_OWN.search(name) or not re.fullmatch(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]*", name):
        why = f"its snapshot would be called {name}, and LVM takes no such name"
    if why is not None:
        raise _NoWayError(f"there is no way to snapshot {origin}: {why}")


def _classic_bytes(wanted: int, size_bytes: int) -> int:
    """Return the size of a classic snapshot, in whole extents. As large as its volume it must never fill up.

    That takes its table of what was written as well, 16 bytes a chunk of 4 KiB: LVM gives less where it needs less.
    """
    if wanted >= size_bytes:
        wanted = size_bytes + size_bytes // 100 + _EXTENT_BYTES
    return -(-max(wanted, _EXTENT_BYTES) // _EXTENT_BYTES) * _EXTENT_BYTES


def _bytes_of(size: int | float, whole: int) -> int:
    return int(size * whole) if isinstance(size, float) else size


def _mib(size_bytes: int) -> int:
    return size_bytes // (1 << 20)
