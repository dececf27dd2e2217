"""Holds what is observed of a host: domains, files, images and memory. Memory is in KiB, disk sizes in bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import Literal

from reconciler.model.diagnostics import Diagnostic
from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.rehearsal import Leftover, SnapshotFact
from reconciler.records import dataclass

NAMELESS = "(null)"
"""What a host shows in the place of a name that is not there."""


class Power(StrEnum):
    """The state of a domain's life. All but SAVED and ABSENT hold memory, name and devices."""

    RUNNING = "running"
    PAUSED = "paused"  # --p---: somebody paused it
    STARTING = "starting"  # --p---, never ran, and `xl list -l` leaves it out: xl is making it just now
    UNFINISHED = "half-made"  # the same, and nobody is seen to be making it
    SHUTDOWN = "shutdown"  # ---s--: shut down and kept (on_poweroff = "preserve", or nobody cleaned up)
    CRASHED = "crashed"  # ---sc-
    REBOOTING = "rebooting"  # ---sr-: about to come back under another domid
    SUSPENDED = "suspended"  # ---ss-: being saved or migrated
    MIGRATING = "migrating"  # listed as NAME--incoming or NAME--migratedaway
    DYING = "dying"  # d, or a nameless zombie
    SAVED = "saved"  # gone, and an image waits in the save folder of xendomains to be restored
    ABSENT = "absent"

    @property
    def holds(self) -> bool:
        """Return whether the hypervisor holds the domain."""
        return self not in (Power.SAVED, Power.ABSENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One domain as seen just now. `boot` (a domid) differs between two starts, `host_boot` between two of its host.

    With `devices_connected` None it has no devices that have to be connected.
    """

    power: Power
    uuid: str | None = None
    boot: str = ""
    host_boot: str = ""
    devices_connected: bool | None = None
    any_connected: bool | None = None  # whether it got hold of at least one of them; None: it has none, or needs none
    actual_kib: int = 0
    console: str | None = None  # the end of its console, where the host keeps one


class Owner(StrEnum):
    """Says who may change a domain or config file. Only OURS are ever touched."""

    OURS = "ours"
    FOREIGN = "foreign"  # marked by another fleet
    UNMANAGED = "unmanaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Boot inputs that failed: a digest of all that the boot read, its kernel file, and why it failed."""

    boot: str
    kernel: str = ""
    reason: str = field(default="", compare=False)

    @property
    def holds_boot(self) -> bool:
        """Return whether it keeps boot inputs from being tried; else it only notes what a rehearsal came to."""
        return not self.boot.startswith(SAID_NOTHING)


SAID_NOTHING = "rehearsal:"
"""How the entries of a quarantine begin that note a rehearsal which said nothing about the kernel."""

WHOLE_HOST = ""
"""What a hold of a whole host is under, where those of domains are under their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Somebody's word, kept on a host, that nothing is to be begun with a domain, or with any domain there.

    `begins` and `ends` are seconds since 1970 by the host's clock; with `ends` None it lasts until it is lifted.
    """

    begins: float
    ends: float | None = None
    by: str = ""
    reason: str = ""
    is_ahead: bool = False  # the host's clock is before its beginning, so nobody knows how much of it is left


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Who has a host's lock: `by` names user, machine and process, and `since` is a time in UTC, in words.

    `silent_seconds` is how long ago the holder was last heard.
    """

    by: str
    since: str
    silent_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The devices that a host's backends serve to a domain, which are known even if xl tells nothing about it."""

    disks: tuple[tuple[str, Literal["rw", "ro"]], ...] | None = ()  # target and access; None: one is not told
    macs: tuple[str, ...] = ()
    connected: bool | None = None  # on both ends; None: it has none that have to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Everything that a host holds under one domain name.

    `config` is the definition in the config file, `candidate` one that was written but is not proven yet, and `running`
    the one that the live domain has (its own fields from the toolstack, the rest from the file it was started from).
    The config of a domain that never got ready is not proven either (`config_proven`).
    """

    name: str
    owner: Owner
    config: Domain | None = None
    candidate: Domain | None = None
    running: Domain | None = None
    unproven: bool = False  # runs, from the candidate or from a config that never got ready
    config_proven: bool = True
    previous: Domain | None = None  # the definition before the last one that was promoted: where a rollback leads
    quarantine: tuple[Quarantined, ...] = ()  # not tried again until they change, or --retry
    power: Power = Power.ABSENT
    # memory it holds now, which a balloon may move towards running.memory_kib
    actual_kib: int = field(default=0, compare=False)
    running_seconds: float | None = field(default=None, compare=False)  # since it booted, where the host can tell
    domid: int | None = field(default=None, compare=False)
    uuid: str = field(default="", compare=False)  # as the host shows it; "" of one that is not there
    listed_as: str | None = None  # the name that the host lists it under, where that is not its own; "(null)": none
    # the name that its host still has it under, in whole or in part, in a world where it has its new one already
    renamed_from: str | None = field(default=None, compare=False)
    saved_image: str | None = None  # where its image waits, of a domain that is SAVED
    devices: Devices | None = field(default=None, compare=False)  # None: its host does not tell
    # whether xl's process that acts on its on_* is there; None: its host does not tell
    served: bool | None = field(default=None, compare=False)
    autostart: int | None = None
    config_exists: bool = False  # a config file of that name is there, whoever wrote it, readable or not
    edited: bool = False  # the body of our file was changed by hand
    problem: str | None = None  # why it could not be read whole (a config xl refuses, a domain `xl list -l` left out)
    newer: str | None = None  # which of its files a newer version of reconciler wrote: it is left alone
    wave_noted: bool = field(default=True, compare=False)  # its marks say its wave; those of 0.1 do not
    commit: str | None = None  # the commit that its config file was written for
    # sentences about what the file it was started from holds and a definition cannot: what xl leaves out as well, and
    # what xl heeds, so that rewriting the file would lose it
    ignored: tuple[str, ...] = field(default=(), compare=False)
    unsaid: tuple[str, ...] = field(default=(), compare=False)
    # of a config file that is nobody's, by the key that they stand by; "": at the end
    comments: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)

    @property
    def exists(self) -> bool:
        """Return whether the hypervisor holds such a domain, in whatever state."""
        return self.power.holds

    @property
    def definition(self) -> Domain | None:
        """Return the definition that counts as observed: the live one, else the config file's."""
        return self.running if self.running is not None else self.config


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """Describes a path on a host. `key` is the same under every path (device and inode, or major:minor)."""

    kind: Literal["file", "block", "directory", "other"]
    size_bytes: int
    key: str = ""
    real_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as observed, or as replayed. Its mappings are never changed: use `replace`.

    `total_kib` is the machine's memory, `free_kib` is what the hypervisor could give away now (claims subtracted).
    """

    name: str
    total_kib: int
    free_kib: int
    cpus: int
    flavour: Literal["debian", "netbsd"] = "debian"
    xen_version: str = ""
    boot_id: str = ""  # another one after each boot of the dom0
    autoballoon: bool = False  # dom0 shrinks when xl create needs memory
    bridges: frozenset[str] | None = None  # None: any bridge is taken to exist
    pci: Mapping[str, str] | None = None  # address -> the name that xl gave it, or ""; None: it does not tell
    guests: Mapping[str, Guest] = field(default_factory=dict)
    nameless_kib: int = 0  # memory of what is left of domains that live on in another row
    images: Mapping[str, str] = field(default_factory=dict)  # staged file -> sha256
    digests: Mapping[str, str] = field(default_factory=dict)  # absolute image source -> sha256; missing: not there
    # file outside kernel_dir that a spec asks for or a running domain names -> sha256, as it is now
    unstaged: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileFact] = field(default_factory=dict)  # disk targets and sources that exist
    vg_free_bytes: Mapping[str, int] = field(default_factory=dict)
    # disk target -> how it can be snapshot, of the domains whose restart is rehearsed; None: the host does not tell
    snapshots: Mapping[str, SnapshotFact] | None = field(default=None, compare=False)
    leftovers: tuple[Leftover, ...] = field(default=(), compare=False)  # of rehearsals, under way or cut short
    # by domain name, those that last now; no part of what a plan is bound to, since each step looks for itself
    holds: Mapping[str, Hold] = field(default_factory=dict, compare=False)
    locked: LockHolder | None = field(default=None, compare=False)
    # commands, and since when, that change the host and have not ended, whoever sent them
    under_way: tuple[str, ...] = field(default=(), compare=False)
    # those that are under way past their time and cannot be killed: they keep the host
    stuck: tuple[str, ...] = field(default=(), compare=False)
    notes: tuple[Diagnostic, ...] = field(default=(), compare=False)  # oddities of the host that are no domain's state


# what `==` leaves out, and decisions or conditions may yet depend on
_OF_HOST = [one.name for one in fields(Host) if not one.compare and one.name != "snapshots"]
_OF_GUEST = [one.name for one in fields(Guest) if not one.compare and one.name != "running_seconds"]
_OF_PART: Mapping[type, Callable[[object], object]] = {
    kind: attrgetter(*(one.name for one in fields(kind) if not one.compare))
    for kind in (Domain, Image, Disk, Vif, Quarantined)
}


def is_same(one: Host | None, other: Host | None) -> bool:
    """Return whether two looks lead to the same decisions. Times and free room, which go on, are not compared."""
    if one is None or other is None:
        return one is other
    return (
        one == other
        and all(getattr(one, name) == getattr(other, name) for name in _OF_HOST)
        and _ways(one) == _ways(other)
        and all(_is_same_guest(guest, other.guests[guest.name]) for guest in one.guests.values())
    )


def _is_same_guest(one: Guest, other: Guest) -> bool:
    parts = ((one.config, other.config), (one.candidate, other.candidate), (one.running, other.running))
    return (
        all(getattr(one, name) == getattr(other, name) for name in _OF_GUEST)
        and all(mine is theirs or _left_out(mine) == _left_out(theirs) for mine, theirs in parts)
        and list(map(_OF_PART[Quarantined], one.quarantine)) == list(map(_OF_PART[Quarantined], other.quarantine))
    )


def _left_out(definition: Domain | None) -> list[object]:
    if definition is None:
        return []
    parts = (definition, *definition.images, *definition.disks, *definition.vifs)
    return [_OF_PART[type(part)](part) for part in parts]


def _ways(host: Host) -> dict[str, SnapshotFact] | None:
    """Return how disks can be snapshot. Guests write, so that the free room is another one at each look."""
    if host.snapshots is None:
        return None
    return {target: replace(fact, free_bytes=0) for target, fact in host.snapshots.items()}
