"""Holds what may never happen: the safety rules that block a change, each with what the user can do about it.

Called by `decide` for one domain at a time. Rules between domains are in `handover`, over the whole plan in `refusals`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final

from reconciler.decide.diff import FieldChange
from reconciler.model.disks import disk_key, grows_in, growth_bytes, may_share, missing_bytes, volume_group
from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.fleet import HostSettings
from reconciler.model.host import NAMELESS, FileFact, Guest, Host, Owner, Power
from reconciler.model.parts import CEILING_OF, key_named
from reconciler.model.pci import is_allowed, read_pci
from reconciler.records import dataclass
from reconciler.specs.secret_files import secret_files
from reconciler.specs.secrets import concealed_text

MIB: Final = 1024 * 1024
_OVS_SCRIPT: Final = "vif-openvswitch"


@dataclass(frozen=True, slots=True)
class Block:
    """The reason why a change may not begin, and what the user can do."""

    reason: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class HostIndex:
    """Knows who holds which disk and which mac on a host, beside the domains that the specs declare there."""

    disks: Mapping[str, tuple[tuple[str, str], ...]]  # disk key -> (domain, access)
    macs: Mapping[str, str]  # mac -> unmanaged domain
    growth: Mapping[str, int]  # volume group, or path of a file -> bytes that the specs ask of it beside what it has
    untold: tuple[str, ...] = ()  # domains that are there, of which nobody knows what they have
    unread: tuple[str, ...] = ()  # the same of domains whose files a newer version wrote
    uuids: Mapping[str, int] = field(default_factory=dict)  # of config files of ours: how many have it
    held: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # the disks of domains of ours
    misnamed: Mapping[str, Guest] = field(default_factory=dict)  # domain -> somebody's file of another name with it
    strangers: Mapping[str, tuple[Guest, ...]] = field(default_factory=dict)  # uuid -> who has it and is not ours

    @staticmethod
    def of(host: Host, desired: Mapping[str, Domain]) -> HostIndex:
        disks: dict[str, list[tuple[str, str]]] = {}
        macs: dict[str, str] = {}
        growth: dict[str, int] = defaultdict(int)
        for guest in host.guests.values():
            if guest.owner is Owner.OURS:
                continue
            for target, access in _served(guest):
                disks.setdefault(disk_key(host, target), []).append((guest.name, access))
            macs.update(dict.fromkeys(guest.devices.macs, guest.name) if guest.devices is not None else {})
            for definition in filter(None, (guest.running, guest.config)):
                for disk in definition.disks:
                    disks.setdefault(disk_key(host, disk.identity), []).append((guest.name, disk.access))
                macs.update({vif.mac: guest.name for vif in definition.vifs if vif.mac})
        for domain in desired.values():
            for disk in domain.disks:
                disks.setdefault(disk_key(host, disk.identity), []).append((domain.name, disk.access))
                if (name := grows_in(disk)) is not None:
                    growth[name] += growth_bytes(host, disk)
        untold = (one.name for one in host.guests.values() if one.owner is not Owner.OURS and _is_untold(one))
        held = {key: tuple(holders) for key, holders in disks.items()}
        unread = (one.name for one in host.guests.values() if one.newer is not None and one.definition is None)
        ours = (one.config for one in host.guests.values() if one.owner is Owner.OURS and one.config is not None)
        uuids = Counter(config.uuid for config in ours)
        misnamed: dict[str, Guest] = {}
        strangers: dict[str, tuple[Guest, ...]] = {}
        for guest in host.guests.values():
            if guest.owner is Owner.OURS:
                continue
            if guest.config is not None and guest.config.name != guest.name:
                misnamed.setdefault(guest.config.name, guest)
            uuid = guest.uuid if guest.exists else guest.config.uuid if guest.config is not None else ""
            if uuid:
                strangers[uuid] = (*strangers.get(uuid, ()), guest)
        of_ours = _held_by_ours(host)
        return HostIndex(held, macs, growth, tuple(untold), tuple(unread), uuids, of_ours, misnamed, strangers)

    def twins(self, guest: Guest) -> int:
        """Return how many config files of ours have the uuid of this one."""
        return self.uuids.get(guest.config.uuid, 0) if guest.config is not None else 0


def _held_by_ours(host: Host) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return the domains of ours that have each disk, in a config file or as they run."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for guest in host.guests.values():
        if guest.owner is Owner.OURS:
            for definition in filter(None, (guest.running, guest.config, guest.candidate)):
                for disk in definition.disks:
                    key = disk_key(host, disk.identity)
                    found[key] = (*found.get(key, ()), (guest.name, disk.access))
    return found


def _served(guest: Guest) -> tuple[tuple[str, str], ...]:
    told = guest.devices.disks if guest.devices is not None and guest.running is None else None
    return told or ()


def _is_untold(guest: Guest) -> bool:
    return guest.exists and guest.running is None and (guest.devices is None or guest.devices.disks is None)


def block_newer(guest: Guest) -> Block | None:
    """Why a domain is left alone that a newer version of this program looks after; None if it is not."""
    if guest.newer is None:
        return None
    return Block(
        f"a newer version of reconciler manages it and wrote {guest.newer}, which this version does not know",
        "upgrade reconciler on this controller",
    )


def block_second_file(host: Host, target: Domain, index: HostIndex) -> Block | None:
    """Block a domain that somebody's config file of another name defines too: there would be two of it."""
    other = index.misnamed.get(target.name)
    if other is None:
        return None
    file, right = _file_of(host, other.name), _file_of(host, target.name)
    there = host.guests.get(target.name)
    if there is None or not there.config_exists:
        hint = f"mv {file} {right}"
    elif there.config is not None and there.config.name == target.name:
        hint = f"move {file} away: {right} is its config file"
    else:
        whose = f"defines {there.config.name}" if there.config is not None else "cannot be read"
        hint = f"rename both files after the domains in them: {right} {whose}"
    return Block(
        f"the config file {file} on the host defines it too, under another name",
        f"in the folder of the config files there: {hint}",
    )


def _file_of(host: Host, domain: str) -> str:
    return domain if host.flavour == "netbsd" else f"{domain}.cfg"


def block_destroy(
    host: Host, guest: Guest, index: HostIndex, *, any_specs: bool, is_kept: bool = False
) -> Block | None:
    """Return why a domain that no spec names may not be destroyed; None when it may.

    `is_kept`: its last spec, which is gone, said so.
    """
    if not any_specs:
        return Block(
            "the spec tree names no domain at all, and an empty tree never destroys anything",
            "check that the path of the spec tree is right",
        )
    if guest.definition is None or (guest.config is None and guest.config_exists):
        return Block("its config file cannot be read, so nobody knows what must be kept", guest.problem)
    on_host = guest.definition.prevent_destroy or (guest.config is not None and guest.config.prevent_destroy)
    if on_host or is_kept:
        where = "is kept with the domain on the host" if on_host else "was said by the last commit that named it"
        return Block(
            f"prevent_destroy {where}",
            f"restore {host.name}/{guest.name}.toml with prevent_destroy = false, apply, then remove the file",
        )
    doomed = [disk for disk in guest.definition.disks if disk.on_delete == "delete"]
    if doomed and index.unread:
        return _unread(index, doomed[0].target)
    return next(filter(None, (_block_untold(host, index, guest, disk) for disk in doomed)), None)


def block_change(
    host: Host,
    settings: HostSettings,
    guest: Guest | None,
    target: Domain,
    index: HostIndex,
    fields: tuple[FieldChange, ...],
) -> Block | None:
    """Return the first rule that stands against bringing this domain to its target; None when none does."""
    current = guest.definition if guest is not None else None
    reasons = (
        _block_image(host, guest, target),
        _block_uuid(guest, target),
        _block_vcpus(host, settings, target),
        _block_bridges(host, target.vifs),
        _block_pci(host, settings, target),
        _block_secrets(host, target),
        _block_unnamed_vifs(current, target, fields),
        _block_stranger(index, guest, target),
    )
    shared = (
        _block_macs(index, guest, target),
        *(_block_disk(host, index, current, target, disk) for disk in target.disks),
        *(_block_untold(host, index, guest, disk) for disk in target.disks),
    )
    why = next((block for block in (*reasons, *shared) if block is not None), None)
    named = why.reason.replace(",", "").split() if why is not None and why in shared else []
    copy = next((one for one in index.strangers.get(target.uuid, ()) if one.name in named and not one.exists), None)
    if why is None or copy is None or copy.name == target.name:
        return why
    file = _file_of(host, copy.name)
    return Block(why.reason, f"{file} on the host has its uuid, so it is a copy: move it away, or give it all its own")


def _block_stranger(index: HostIndex, guest: Guest | None, target: Domain) -> Block | None:
    """Block a domain that seems to be there already, under another name or under none."""
    others = (one for one in index.strangers.get(target.uuid, ()) if one.exists and one.name != target.name)
    other = next(others, None)
    if other is None or (guest is not None and guest.exists):
        return None
    if other.power in (Power.RUNNING, Power.PAUSED):
        mend = f"xl rename {other.domid} {target.name}"
    elif other.power in (Power.CRASHED, Power.SHUTDOWN):
        mend = f"xl destroy {other.domid}"
    else:  # a migration, or what is being made, saved or ended
        mend = "see what becomes of it: xl list -v"
    if not other.name.startswith(NAMELESS) and other.power is not Power.MIGRATING:
        mend = f"give the spec a uuid of its own; or, if {other.name} is this domain: {mend}"
    return Block(f"its uuid is that of {other.name}, which is on the host already", mend)


def _block_image(host: Host, guest: Guest | None, target: Domain) -> Block | None:
    mend = "put the right file there, or correct the spec"
    for image in target.images:
        if not image.sha256 and not image.path:
            return Block(f"{image.source} is not there, or not as pinned", mend)
        if not image.source and host.images.get(image.path) != image.sha256:
            if guest is not None and guest.exists and guest.owner is not Owner.OURS:
                mend = (
                    "put the right file there; or have it shut down when it suits, and then adopt it: it starts from "
                )
                mend += "the kernel of its spec"
            return Block(f"{image.path}, which it boots, is gone from the host, and nothing has its bytes", mend)
    return None


def _block_uuid(guest: Guest | None, target: Domain) -> Block | None:
    if guest is None or not guest.exists or guest.running is None or guest.running.uuid == target.uuid:
        return None
    if target.state == "stopped":  # it gets the new one when it is down
        return None
    return Block(
        "its uuid cannot change while it runs",
        f'put uuid = "{guest.running.uuid}" into the spec, or stop the domain first (state = "stopped")',
    )


def _block_vcpus(host: Host, settings: HostSettings, target: Domain) -> Block | None:
    asked = [(key.name, key.value(target)) for key in (key_named("vcpus"), CEILING_OF["vcpus"])]
    over = [(name, number) for name, number in asked if isinstance(number, int) and number > host.cpus]
    if settings.overcommit_vcpus or not over:
        return None
    key, number = over[0]
    return Block(
        f"it asks for {number} {key} and the host has {host.cpus} cpus",
        f"lower {key} to {host.cpus}, or set overcommit_vcpus = true in host.toml",
    )


def _block_bridges(host: Host, vifs: Iterable[Vif]) -> Block | None:
    if host.bridges is None:
        return None
    named = (bridge_of(vif) for vif in vifs)
    missing = next((bridge for bridge in named if bridge is not None and bridge not in host.bridges), None)
    if missing is None:
        return None
    there = ", ".join(sorted(host.bridges)) or "none"
    return Block(f"bridge {missing} does not exist on the host", f"create it, or use one that is there: {there}")


def bridge_of(vif: Vif) -> str | None:
    """Return the bridge without the tags that Open vSwitch's script takes, as in ovsbr0.42 or ovsbr0:100:200."""
    if vif.bridge is None or vif.script is None or vif.script.rpartition("/")[2] != _OVS_SCRIPT:
        return vif.bridge
    return re.split("[.:]", vif.bridge, maxsplit=1)[0]


def _block_pci(host: Host, settings: HostSettings, target: Domain) -> Block | None:
    """Block names and `*` that stand for devices which host.toml does not allow: only the host knows for which."""
    for device in map(read_pci, target.pci):
        if device.is_one_function or is_allowed(device, settings.allow.pci, host.pci):
            continue
        named = ", ".join(found) if (found := device.on(host.pci)) != (device.device,) else ""
        entries = json.dumps([*settings.allow.pci, device.device])
        return Block(
            f"the PCI device {device.device}{f' is {named} on the host, which' if named else ''} "
            f"is not allowed by {settings.name}/host.toml",
            f"to allow it, write under [allow] in {settings.name}/host.toml: pci = {entries}",
        )
    return None


def _block_secrets(host: Host, target: Domain) -> Block | None:
    missing = next((path for _, path in secret_files(target) if path not in host.files), None)
    if missing is None:
        return None
    return Block(f"{missing}, which holds a password of it, is not there on the host", "put it there, in one line")


def _block_unnamed_vifs(current: Domain | None, target: Domain, fields: tuple[FieldChange, ...]) -> Block | None:
    """Block removing an unnamed interface from the middle.

    Only the index tells unnamed ones apart, so those behind it would look changed.
    """
    if current is None:
        return None
    named = {vif.mac for vif in target.vifs if vif.named}
    unnamed = {vif.devid for vif in target.vifs if not vif.named}
    before = [vif for vif in current.vifs if vif.mac not in named]
    changed = any(change.path.startswith(f"vif[{devid}].") for devid in unnamed for change in fields)
    if len(unnamed) >= len(before) or not changed:
        return None
    return Block(
        "an interface was removed from the middle of unnamed ones, so it is unclear which one is meant",
        "give each vif of this domain its mac, as `xl network-list` shows it",
    )


def _block_macs(index: HostIndex, guest: Guest | None, target: Domain) -> Block | None:
    running = guest.running if guest is not None and guest.exists else None
    has = {vif.mac for vif in running.vifs} if running is not None else set()
    given = next((vif.mac for vif in target.vifs if vif.named and vif.mac not in has), None)
    if index.unread and given is not None:
        return _unread(index, given)
    if index.untold and given is not None:  # one that is derived comes from the uuid, which every row shows
        return _untold(index, given)
    taken = next((vif.mac for vif in target.vifs if vif.mac in index.macs and index.macs[vif.mac] != target.name), None)
    if taken is None:
        return None
    return Block(f"mac {taken} is in use by the unmanaged domain {index.macs[taken]}", "choose another mac")


def _block_untold(host: Host, index: HostIndex, guest: Guest | None, disk: Disk) -> Block | None:
    """Block a disk that exists and may belong to a domain of which the host tells nothing."""
    running = guest.running if guest is not None and guest.exists else None
    holds = {one.target for one in running.disks} if running is not None else set()
    if index.unread and disk.target in host.files and disk.target not in holds:
        return _unread(index, disk.target)
    if not index.untold or disk.target not in host.files or disk.target in holds:
        return None
    return _untold(index, disk.target)


def _unread(index: HostIndex, what: str) -> Block:
    return Block(
        f"{what} may belong to {index.unread[0]}, whose files only a newer version can read",
        "upgrade reconciler on this controller",
    )


def _untold(index: HostIndex, what: str) -> Block:
    return Block(
        f"{what} may be in use by {index.untold[0]}, of which the host tells neither disks nor macs",
        "look at `xl list -v` on the host, and clear that domain away if nobody needs it",
    )


def _block_disk(host: Host, index: HostIndex, current: Domain | None, target: Domain, disk: Disk) -> Block | None:
    for name, access in index.disks.get(disk_key(host, disk.identity), ()):
        if name != target.name and not may_share(access, disk.access):
            shown = concealed_text(disk.target)
            return Block(f"{shown} is also a disk of {name}, and sharing it would destroy it", None)
    fact = host.files.get(disk.target)
    block = _block_absent_disk(host, current, disk) if fact is None else _block_present_disk(disk, fact)
    return block or _block_full_group(host, index, disk)


def _block_full_group(host: Host, index: HostIndex, disk: Disk) -> Block | None:
    """Block a volume whose group lacks room: a volume has all its bytes from the beginning."""
    if disk.kind != "lv" or growth_bytes(host, disk) == 0:
        return None
    group = volume_group(disk)
    wanted, free = index.growth[group], host.vg_free_bytes.get(group)
    if free is None:
        return Block(
            f"nobody knows how much is free in volume group {group}: the host tells of no such group",
            "look at `vgs` on the host, or correct the spec",
        )
    if wanted <= free:
        return None
    return Block(
        f"the disks that specs ask for in volume group {group} need {wanted // MIB} MiB and {free // MIB} MiB are free",
        f"lower a size, or extend {group} on the host",
    )


def _block_present_disk(disk: Disk, fact: FileFact) -> Block | None:
    if fact.kind not in ("file", "block"):
        return Block(f"{disk.target} is a {fact.kind}, not a disk", None)
    if missing_bytes(disk, fact) < 0:
        return Block(
            f"{disk.target} has {fact.size_bytes} bytes and the spec asks for {disk.size_bytes}: disks never shrink",
            f"raise the size of disk {disk.vdev} in the spec",
        )
    return None


def _block_absent_disk(host: Host, current: Domain | None, disk: Disk) -> Block | None:
    if not disk.is_on_host:
        return None
    if disk.cdrom:
        hint = "put it there, or leave path out for an empty drive"
        return Block(f"{disk.target}, the medium of drive {disk.vdev}, does not exist on the host", hint)
    before = next((old for old in current.disks if old.devid == disk.devid), None) if current is not None else None
    if before is not None and before.target == disk.target:
        return Block(
            f"{disk.target} was a disk of it and is gone, and an empty one in its place would hide the loss",
            f"{_IS_IT_MOUNTED[disk.kind]} If it is lost, restore it from a backup",
        )
    if before is not None and disk.source is None:
        return Block(
            f"disk {disk.vdev} changes to {disk.target}, which does not exist, so its contents would be lost",
            f"copy {before.target} there first, or name a source",
        )
    if disk.kind == "device":
        return Block(f"device {disk.target} does not exist on the host", _IS_IT_MOUNTED[disk.kind])
    source = host.files.get(disk.source) if disk.source is not None else None
    if disk.source is not None and source is None:
        hint = "put it there; if another domain is to have it as a disk, apply again once that one has been created"
        return Block(f"{disk.source}, the source of disk {disk.vdev}, is not there on the host", hint)
    if source is not None and missing_bytes(disk, source) < 0:
        return Block(
            f"{disk.source}, the source of disk {disk.vdev}, has {source.size_bytes} bytes, more than the "
            f"{disk.size_bytes} of the disk",
            f"raise the size of disk {disk.vdev} in the spec, or leave it out",
        )
    if disk.size_bytes is None and disk.source is None:
        return Block(f"{disk.target} does not exist, and the spec gives neither its size nor a source", _missing(disk))
    return None


_IS_IT_MOUNTED = {
    "file": "is the file system mounted that should hold it?",
    "lv": "is its volume group active (`vgs`, `vgchange -ay`)?",
    "device": "is it attached, or its volume group active (`vgchange -ay`)?",
}


def _missing(disk: Disk) -> str:
    """Ask first where a disk is that should be there: one that is made in its place is empty."""
    return f"{_IS_IT_MOUNTED[disk.kind]} If there never was one, add its size, and it is made, empty"
