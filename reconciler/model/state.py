"""What exists on hosts, or should: one `Domain` type for desired and observed.

Memory is in KiB, disk sizes in bytes, durations in seconds. A domid never enters here: it changes at each boot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from typing import Any, Literal

XlValue = str | int | tuple[str | int, ...]
"""A value of an `[xl]` key: xl.cfg knows strings, non-negative numbers and lists of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A kernel or ramdisk. Two images are equal when their bytes are, whatever they are called.

    `source` is where the bytes come from: a path relative to the spec tree, or an absolute path on the host.
    `path` is the staged file on the host (`<kernel_dir>/<domain>/<file name>.<12 hex of sha256>`).
    """

    sha256: str  # 64 hex; "" while unknown (an absolute source before the host was asked)
    path: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    pin: str = field(default="", compare=False)  # sha256 that an absolute source must have, "" for any

    @property
    def short(self) -> str:
        return self.sha256[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A virtual disk, identified by the devid of its `vdev` (`hda`, `0x300` and `768` are one place)."""

    vdev: str = field(compare=False)
    devid: int
    kind: Literal["file", "lv", "device"]
    target: str  # what xl is given: file path, /dev/<vg>/<lv>, or device
    format: str = "raw"
    access: Literal["rw", "ro"] = "rw"
    # what the spec asks for (None leaves it open); what is there is in Host.files, not in a definition
    size_bytes: int | None = field(default=None, compare=False)
    on_delete: Literal["keep", "delete"] = "keep"
    source: str | None = field(default=None, compare=False)  # cloned once, at creation
    allocate: Literal["sparse", "full"] = field(default="sparse", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """A virtual interface; `mac` and `devid` are always known, None elsewhere leaves the choice to xl."""

    devid: int
    mac: str  # lower case, colons
    named: bool = field(default=False, compare=False)  # the spec gave the mac, so it identifies the vif
    bridge: str | None = None
    ip: str | None = None
    script: str | None = None
    rate: str | None = None
    model: str | None = None
    type: str | None = None
    vifname: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """When a started domain counts as ready (seconds; tcp as "address:port"; console a regular expression)."""

    timeout_seconds: float = 120
    min_seconds: float = 5
    tcp: str | None = None
    console: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the controller treats a domain. Not part of what exists on the host, so never a difference."""

    wave: int = 0
    reconcile: bool = True
    restart: Literal["auto", "defer"] = "auto"
    ready: Ready = Ready()


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The definition of one domain: what a spec asks for, a config file says, or a running domain has."""

    name: str
    uuid: str
    type: Literal["pv", "pvh", "hvm"] = "pv"
    kernel: Image | None = None
    ramdisk: Image | None = None
    cmdline: str | None = None
    bootloader: str | None = None
    bootloader_args: tuple[str, ...] = ()
    firmware: str | None = None
    memory_kib: int
    maxmem_kib: int
    vcpus: int = 1
    maxvcpus: int = 1
    cpus: str | None = None
    cpu_weight: int | None = None
    cap: int | None = None
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    pci: tuple[str, ...] = ()
    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "destroy"
    on_watchdog: str = "destroy"
    xl: tuple[tuple[str, XlValue], ...] = ()  # other xl.cfg keys, sorted by key
    state: Literal["running", "stopped"] = "running"
    autostart: int | None = None  # order among the dom0's autostarted domains, None: not started at boot
    # kept with the domain on the host, so that they outlive its spec file
    prevent_destroy: bool = False
    shutdown_timeout_seconds: float = 90
    on_shutdown_timeout: Literal["fail", "destroy"] = "fail"
    depends_on: tuple[str, ...] = ()
    policy: Policy = field(default=Policy(), compare=False)

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(image for image in (self.kernel, self.ramdisk) if image is not None)


class Power(StrEnum):
    """What a hypervisor says of a domain. Everything but ABSENT holds memory, its name and its devices."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"  # ---s--: shut down and kept (on_poweroff = "preserve", or nobody cleaned up)
    CRASHED = "crashed"  # ---sc-
    REBOOTING = "rebooting"  # ---sr-: about to come back under another domid
    SUSPENDED = "suspended"  # ---ss-: being saved or migrated
    DYING = "dying"  # d, or a nameless zombie
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One domain, seen just now. `boot` tells one start from the next (a domid), `host_boot` one of its host's.

    `devices_connected` None: it has none.
    """

    power: Power
    uuid: str | None = None
    boot: str = ""
    host_boot: str = ""
    devices_connected: bool | None = None
    actual_kib: int = 0
    console: str | None = None  # the end of its console, where the host keeps one


class Owner(StrEnum):
    """Who may change a domain or config file. Only OURS are ever touched."""

    OURS = "ours"
    FOREIGN = "foreign"  # marked by another fleet
    UNMANAGED = "unmanaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Boot inputs that failed: a digest of all that the boot read, its kernel file, and why it failed."""

    boot: str
    kernel: str = ""
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Everything a host holds under one domain name.

    `config` is what the config file says, `candidate` a definition that was written but has not proven itself yet,
    `running` what the live domain has (its own fields from the toolstack, the rest from the file it was started from).
    Of a domain that never got ready, the config itself has not proven itself (`config_proven`).
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
    autostart: int | None = None
    config_exists: bool = False  # a config file of that name is there, whoever wrote it, readable or not
    edited: bool = False  # the body of our file was changed by hand
    problem: str | None = None  # why it could not be read whole (a config xl refuses, a domain `xl list -l` left out)
    commit: str | None = None  # the commit that its config file was written for
    # sentences about what the file it was started from holds and a definition cannot: what xl leaves out as well, and
    # what xl heeds, so that rewriting the file would lose it
    ignored: tuple[str, ...] = field(default=(), compare=False)
    unsaid: tuple[str, ...] = field(default=(), compare=False)

    @property
    def exists(self) -> bool:
        """Whether the hypervisor holds such a domain, in whatever state."""
        return self.power is not Power.ABSENT

    @property
    def definition(self) -> Domain | None:
        """What counts as observed: the live definition, else the config file's."""
        return self.running if self.running is not None else self.config


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """What a path on a host is. `key` names the same thing under any path (device and inode, or major:minor)."""

    kind: Literal["file", "block", "directory", "other"]
    size_bytes: int
    key: str = ""
    real_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as observed (or as replayed). Mappings are treated as immutable: use `with_guest` and `replace`.

    `total_kib` is the machine's memory, `free_kib` what the hypervisor could give away now (claims subtracted).
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
    guests: Mapping[str, Guest] = field(default_factory=dict)
    nameless_kib: int = 0  # memory of zombies that have no name any more
    images: Mapping[str, str] = field(default_factory=dict)  # staged file -> sha256
    digests: Mapping[str, str] = field(default_factory=dict)  # absolute image source -> sha256; missing: not there
    files: Mapping[str, FileFact] = field(default_factory=dict)  # disk targets and sources that exist
    vg_free_bytes: Mapping[str, int] = field(default_factory=dict)

    def with_guest(self, guest: Guest) -> Host:
        return replace(self, guests={**self.guests, guest.name: guest})

    def without_guest(self, name: str) -> Host:
        return replace(self, guests={key: value for key, value in self.guests.items() if key != name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """What specs of a host may use; each of these runs as root in dom0 or reaches hardware."""

    bootloaders: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    xl_keys: tuple[str, ...] = ()
    pci: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The `[simulated]` table: the size and temper of a simulated host."""

    memory_kib: int = 8 * 1024 * 1024
    cpus: int = 8
    seed: int = 0
    latency_seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """A host.toml, resolved. `config_dir` None: the dom0's flavour decides."""

    name: str
    toolstack: Literal["xl", "simulated"]
    connect: str = "local"
    config_dir: str | None = None
    kernel_dir: str = "/var/lib/xen/kernels"
    kernel_roots: tuple[str, ...] = ()
    disk_roots: tuple[str, ...] = ()
    allow: Allow = Allow()
    keep_free_kib: int = 0
    overcommit_vcpus: bool = True
    parallel: int = 4
    max_unavailable: int = 1
    reconcile: bool = True
    simulated: Simulated = Simulated()


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """How much one run may destroy or restart: a count, or a share of our domains (0.2 is 20 %)."""

    max_destroy: int | float = 0.2
    max_restart: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTrust:
    """Which commits `watch` accepts: any, or only those whose head is signed by one of `allowed_signers` (a file)."""

    require_signed: Literal["none", "head"] = "none"
    allowed_signers: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredHost:
    settings: HostSettings
    domains: Mapping[str, Domain]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The whole spec tree, resolved.

    `frozen` are addresses ("host/domain", or "host" for all of a host) whose file could not be read: left alone.
    `prune` is False when anything could not be read, since a missing domain may only have moved.
    """

    fleet: str
    hosts: Mapping[str, DesiredHost]
    brake: Brake = Brake()
    git: GitTrust = GitTrust()
    frozen: frozenset[str] = frozenset()
    prune: bool = True
    postponed: Mapping[str, str] = field(default_factory=dict)  # addresses that this run leaves alone -> why
    commit: str | None = None
    tree_digest: str = ""


FieldPath = str
Scalar = str | int | float | bool | None


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no blanks, so that equal values have equal bytes.

    Of a dataclass all that counts as equal or different is in it: fields with compare=False are left out.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_compared)


def fingerprint(value: Domain | Guest) -> str:
    """sha256 over all that counts as equal or different in a value."""
    return hashlib.sha256(canonical_json(value).encode(errors="surrogatepass")).hexdigest()


def _compared(value: object) -> dict[str, Any]:
    names = _compared_fields(type(value))  # type: ignore[arg-type]  # mypy doubts that classes can be hashed
    return {name: getattr(value, name) for name in names}


@cache
def _compared_fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.compare)


def with_kept(definition: Domain, other: Domain) -> Domain:
    """A definition with what only our config file can say, as another one has it: what must outlive the spec."""
    on_delete = {disk.devid: disk.on_delete for disk in other.disks}
    disks = tuple(replace(disk, on_delete=on_delete.get(disk.devid, disk.on_delete)) for disk in definition.disks)
    return replace(
        definition,
        disks=disks,
        state=other.state,
        prevent_destroy=other.prevent_destroy,
        shutdown_timeout_seconds=other.shutdown_timeout_seconds,
        on_shutdown_timeout=other.on_shutdown_timeout,
        depends_on=other.depends_on,
    )


def as_dict(value: Domain) -> dict[str, Any]:
    """A plain dict of a domain, for storage and tests."""
    return asdict(value)


def address_of(host: str, domain: str) -> str:
    return f"{host}/{domain}"
