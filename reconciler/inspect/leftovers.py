"""Finds what lies on a host for domains and belongs to none: disks, and staged kernels. Pure.

Called by `reconciler leftovers`. Who uses a disk is known by what specs say, and by the definitions and devices that
the host tells; where one of these cannot be read, nothing can be called left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from reconciler.doctor.facts import Facts
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host
from reconciler.model.paths import absolute, folder_of
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A file or volume, or (`staged`) a folder of staged kernels and ramdisks. `size_bytes` None: nobody asked."""

    kind: Literal["disk", "staged"]
    path: str
    size_bytes: int | None = None


def leftovers_of(host: Host, facts: Facts, desired: Desired) -> tuple[Leftover, ...] | None:
    """Return what no spec, config file or domain names, by path. None: what lies there could not be found out."""
    if facts.in_roots is None:
        return None
    named = _named(host, desired)
    disks = (
        Leftover(kind="disk", path=path, size_bytes=size)
        for path, size in facts.in_roots.items()
        if absolute(path) not in named
    )
    folders = {folder_of(path) for path in host.images} - {folder_of(path) for path in host.images if path in named}
    staged = (Leftover(kind="staged", path=folder) for folder in folders if not _has_domain(host, desired, folder))
    return tuple(sorted((*disks, *staged), key=lambda one: (one.kind, one.path)))


def unreadable(host: Host) -> tuple[str, ...]:
    """Name the domains of which the host does not tell all, so that they may use anything."""
    return tuple(
        sorted(
            name
            for name, guest in host.guests.items()
            if guest.problem is not None
            or guest.newer is not None
            or (guest.config_exists and guest.config is None)
            or (guest.exists and guest.running is None)
            or (guest.devices is not None and guest.devices.disks is None)
        )
    )


def _has_domain(host: Host, desired: Desired, folder: str) -> bool:
    name = folder.rpartition("/")[2]
    part = desired.hosts[host.name]
    return name in host.guests or name in part.domains or f"{host.name}/{name}" in desired.frozen


def _named(host: Host, desired: Desired) -> frozenset[str]:
    """Return the paths of all disks, sources and images that somebody names, also as they really are."""
    paths = {path for domain in desired.hosts[host.name].domains.values() for path in _paths_of(domain)}
    for guest in host.guests.values():
        paths |= {path for definition in _definitions(guest) for path in _paths_of(definition)}
        if guest.devices is not None and guest.devices.disks is not None:
            paths |= {target for target, _ in guest.devices.disks}
    paths |= {target for one in host.leftovers for _, _, target in one.clones}  # of rehearsals
    real = {fact.real_path for path, fact in host.files.items() if path in paths and fact.real_path}
    return frozenset(absolute(path) for path in paths | real if path.startswith("/"))


def _definitions(guest: Guest) -> Iterator[Domain]:
    for one in (guest.config, guest.candidate, guest.previous, guest.running):
        if one is not None:
            yield one


def _paths_of(domain: Domain) -> Iterator[str]:
    for disk in domain.disks:
        yield disk.target
        if disk.source is not None:
            yield disk.source
    for image in domain.images:
        yield from (image.path, image.source)
