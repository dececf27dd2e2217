"""Domains that get another name: found by their uuid, and planned as if they had the new one already.

A spec that has the uuid of a domain of ours, which no spec names any more, is that domain under another name. So is one
of two config files of ours with one uuid, which a rename that was cut short has left: the next run ends it. Everything
is decided on a world in which each has its new name; the first step of its chain makes that come true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.decide.changes import Action, Change
from reconciler.model.domain import Domain, Image, address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host, Owner
from reconciler.plan.steps import Rename, StageImage, Step


def as_renamed(hosts: Mapping[str, Host], desired: Desired) -> Mapping[str, Host]:
    """Return the hosts as they are when each domain has the name that its spec gives it."""
    return {name: _host_as_renamed(host, desired) for name, host in hosts.items()}


def _host_as_renamed(host: Host, desired: Desired) -> Host:
    wanted = desired.hosts[host.name].domains
    leaving = {
        guest.config.uuid: guest
        for guest in host.guests.values()
        if _is_ours(guest) and guest.config is not None and guest.name not in wanted
        if address_of(host.name, guest.name) not in desired.frozen
    }
    pairs = [(leaving[one.uuid], one.name) for one in wanted.values() if one.uuid in leaving] if leaving else []
    pairs = [(old, new) for old, new in pairs if new not in host.guests or _is_ours(host.guests[new])]
    if not pairs:
        return host
    guests, images, holds = dict(host.guests), dict(host.images), dict(host.holds)
    for old, new in pairs:
        guests[new] = _with_name(guests.pop(old.name), new, guests.get(new))
        for image in old.config.images if old.config is not None else ():
            if host.images.get(image.path) == image.sha256:
                images[_moved(image, old.name, new).path] = image.sha256
        if old.name in holds:
            holds.setdefault(new, holds[old.name])
    return replace(host, guests=guests, images=images, holds=holds)


def _is_ours(guest: Guest) -> bool:
    return guest.owner is Owner.OURS and guest.newer is None


def _with_name(guest: Guest, new: str, begun: Guest | None) -> Guest:
    """Return a guest under its new name. `begun` is what a rename that was cut short has brought there already."""
    seen = begun if begun is not None and begun.exists else guest
    names = (guest.name, new)
    return replace(
        guest,
        name=new,
        config=_called(guest.config, guest.name, new),
        # one that does not run is written anew where it is still asked for
        candidate=_called(guest.candidate, guest.name, new) if guest.unproven else None,
        running=None if seen.running is None else replace(seen.running, name=new),
        previous=guest.previous or (begun.previous if begun is not None else None),
        quarantine=guest.quarantine or (begun.quarantine if begun is not None else ()),
        autostart=guest.autostart if guest.autostart is not None or begun is None else begun.autostart,
        power=seen.power,
        actual_kib=seen.actual_kib,
        running_seconds=seen.running_seconds,
        domid=seen.domid,
        uuid=seen.uuid,
        listed_as=None if seen.listed_as in names else seen.listed_as,
        devices=seen.devices,
        served=seen.served,
        renamed_from=guest.name,
    )


def _called(definition: Domain | None, old: str, new: str) -> Domain | None:
    if definition is None:
        return None
    kernel = None if definition.kernel is None else _moved(definition.kernel, old, new)
    ramdisk = None if definition.ramdisk is None else _moved(definition.ramdisk, old, new)
    return replace(definition, name=new, kernel=kernel, ramdisk=ramdisk)


def _moved(image: Image, old: str, new: str) -> Image:
    """Return a staged image at its place under the new name; one that lies elsewhere stays where it is."""
    folder, _, name = image.path.rpartition("/")
    if folder.rpartition("/")[2] != old:
        return image
    return replace(image, path=f"{folder.rpartition('/')[0]}/{new}/{name}")


def renaming(guest: Guest, host: Host) -> tuple[Step, ...]:
    """Return the steps by which a domain gets its new name: what it boots from is there first."""
    old, config = guest.renamed_from, guest.config
    if old is None or config is None:
        return ()
    staged = [
        StageImage(domain=guest.name, image=replace(image, source=_moved(image, guest.name, old).path))
        for image in config.images
        if _moved(image, guest.name, old).path != image.path and host.images.get(image.path) == image.sha256
    ]
    rename = Rename(domain=guest.name, old=old, uuid=config.uuid, definition=config, proven=guest.config_proven)
    return (*staged, rename)


def heirs(desired: Desired) -> dict[str, str]:
    """Map each uuid that a spec asks for to its address."""
    return {
        one.uuid: address_of(host, one.name) for host, part in desired.hosts.items() for one in part.domains.values()
    }


def old_names(desired: Desired) -> dict[str, str]:
    """Map each address whose spec says renamed_from to that name."""
    return {
        address_of(host, name): old for host, part in desired.hosts.items() for name, old in part.renamed_from.items()
    }


def keepers(hosts: Mapping[str, Host]) -> dict[str, str]:
    """Map the uuid of each domain of ours to the address that it has on its host."""
    return {
        guest.config.uuid: address_of(host.name, guest.name)
        for host in hosts.values()
        for guest in host.guests.values()
        if guest.owner is Owner.OURS and guest.config is not None
    }


def with_rename_hints(changes: list[Change]) -> list[Change]:
    """Add to a create and a destroy, as when a file was renamed, the line by which the domain stays the same one."""
    by_disk: dict[tuple[str, str], str] = {}
    by_all_else: dict[tuple[str, Domain], str] = {}
    for change in changes:
        one = change.guest.definition if change.action is Action.DESTROY and change.guest is not None else None
        for disk in one.disks if one is not None else ():
            by_disk[change.host, disk.target] = change.domain
        if one is not None and not one.disks:
            by_all_else[change.host, _nameless(one)] = change.domain
    if not by_disk and not by_all_else:
        return changes
    return [_with_hint(change, by_disk, by_all_else) for change in changes]


def _with_hint(
    change: Change, by_disk: Mapping[tuple[str, str], str], by_all_else: Mapping[tuple[str, Domain], str]
) -> Change:
    target = change.target
    if change.action is not Action.CREATE or target is None:
        return change
    disks = [(change.host, disk.target) for disk in target.disks]
    old = next((by_disk[disk] for disk in disks if disk in by_disk), None)
    if not disks:
        old = by_all_else.get((change.host, _nameless(target)))
    if old is None:
        return change
    line = f'renamed_from = "{old}"'
    return replace(
        change, hint=f"if this is {old} under another name, put into its spec, and nothing is destroyed: {line}"
    )


def _nameless(definition: Domain) -> Domain:
    """Return all of a definition but its name, and what derives from that."""
    vifs = tuple(replace(vif, mac="", named=False) for vif in definition.vifs)
    return replace(definition, name="", uuid="", vifs=vifs, autostart=None)
