"""The definition of a domain: one `Domain` type for what a spec asks for, a file says, and a host runs.

Memory is in KiB, disk sizes in bytes, durations in seconds. A domid never enters here: it changes at each boot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import field, fields
from functools import cache
from operator import attrgetter
from typing import Any, Literal

from reconciler.records import dataclass

XlAtom = str | int
XlValue = XlAtom | tuple[XlAtom | tuple[XlAtom, ...], ...]
"""A value of an `[xl]` key: xl.cfg knows strings, non-negative numbers, and lists of them and of such lists."""


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

    @property
    def name(self) -> str:
        """Return the name of its file, without the digest of a staged one."""
        return (self.path or self.source).rpartition("/")[2].removesuffix(f".{self.short}")


Scalar = str | int | float | bool | None

Chosen = tuple[tuple[str, Scalar], ...]
"""Of a device that exists, by key: what xl chose where it was told nothing. Who asks for just that asks for nothing."""

_DOM0 = ("0", "Domain-0")
_USUAL_SCRIPT = "block"  # the one that xl calls for a disk without a script, too


def driver_domain(backend: str | None) -> str | None:
    """Return the domain that serves a device; None for the dom0, which does unless another one is named."""
    return None if backend in _DOM0 else backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A virtual disk, identified by the devid of its `vdev` (`hda`, `0x300` and `768` are one place)."""

    vdev: str = field(compare=False)
    devid: int
    kind: Literal["file", "lv", "device"]  # a device is used as it is; so is whatever is no plain path of the dom0
    target: str  # what xl is given: file path, /dev/<vg>/<lv>, or device; "" for a drive without a medium
    format: str = "raw"
    access: Literal["rw", "ro"] = "rw"
    # what the spec asks for (None leaves it open); what is there is in Host.files, not in a definition
    size_bytes: int | None = field(default=None, compare=False)
    on_delete: Literal["keep", "delete"] = "keep"
    source: str | None = field(default=None, compare=False)  # cloned once, at creation
    allocate: Literal["sparse", "full"] = field(default="sparse", compare=False)
    cdrom: bool = False
    script: str | None = None  # it makes a disk of `target`, which is its own string then
    backend: str | None = None  # the domain that serves it, where `target` is to be found
    backendtype: str | None = None
    direct_io_safe: bool = False
    discard: bool | None = None
    trusted: bool | None = None
    specification: str | None = None
    grant_usage: bool | None = None
    colo: bool | None = None
    colo_host: str | None = None
    colo_port: int | None = None
    colo_export: str | None = None
    active_disk: str | None = None
    hidden_disk: str | None = None
    chosen: Chosen = field(default=(), compare=False, repr=False)

    @property
    def used_as_is(self) -> bool:
        """Return whether nothing of it is ever made, grown or deleted here, whatever its path looks like."""
        return self.cdrom or self.is_elsewhere

    @property
    def is_elsewhere(self) -> bool:
        """Return whether its target is no path of the dom0: a script or another domain knows what it means."""
        return self.script is not None or self.backend is not None

    @property
    def is_on_host(self) -> bool:
        """Return whether its target is a path that has to be there on the host."""
        return bool(self.target) and not self.is_elsewhere

    @property
    def identity(self) -> str:
        """Return what tells it from other disks of the host: its path, or all that leads to it.

        >>> Disk(vdev="xvda", devid=51712, kind="device", target="vg0/web", script="block").identity
        '/dev/vg0/web'
        """
        if self.backend is None and self.script is None:
            return self.target
        if self.backend is None and self.target and str(self.script).rpartition("/")[2] == _USUAL_SCRIPT:
            return self.target if self.target.startswith("/") else f"/dev/{self.target}"  # as that script reads it
        return f"{self.backend or ''}|{self.script or ''}|{self.target}"


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
    gatewaydev: str | None = None
    backend: str | None = None
    mtu: int | None = None
    vlan: str | None = None
    trusted: bool | None = None
    colo: tuple[tuple[str, str], ...] = ()
    chosen: Chosen = field(default=(), compare=False, repr=False)


def usual_vif_type(kind: str) -> str:
    """Return the type that xl gives the interfaces of a domain of this type unless it is told one."""
    return "ioemu" if kind == "hvm" else "vif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The signs by which a started domain counts as ready (seconds; tcp as "address:port"; console a pattern)."""

    timeout_seconds: float = 120
    min_seconds: float = 5
    tcp: str | None = None
    console: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Says how the controller treats a domain. It is no part of what exists on the host, so never a difference."""

    wave: int = 0
    reconcile: bool = True
    restart: Literal["auto", "defer"] = "auto"
    rehearse: Literal["off", "if-possible", "required"] = "off"
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
    vcpus_given: bool = field(default=True, compare=False)  # False: xl is told nothing, and gives one
    cpus: str | tuple[str, ...] | None = None  # several: one entry a vcpu
    cpu_weight: int | None = None
    cap: int | None = None
    pool: str | None = None
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    pci: tuple[str, ...] = ()  # each as `model.pci` writes it
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

    def leaves_open(self, vcpus: int) -> bool:
        """Return whether xl is not told this number of vcpus: one is what it gives by itself.

        It makes nothing of `cpus` where it is told neither vcpus nor maxvcpus, so then it is told.
        """
        pinned = self.cpus is not None or any(key == "cpus_soft" for key, _value in self.xl)
        return not self.vcpus_given and vcpus == 1 and (self.maxvcpus > 1 or not pinned)

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(image for image in (self.kernel, self.ramdisk) if image is not None)


def fingerprint(value: object) -> str:
    """Return the sha256 over all that makes two values equal or different."""
    return hashlib.sha256(canonical_json(value).encode(errors="surrogatepass")).hexdigest()


def _compared(value: object) -> dict[str, Any]:
    names, get = _compared_fields(type(value))  # type: ignore[arg-type]  # mypy doubts that classes can be hashed
    return dict(zip(names, get(value), strict=True))


@cache
def _compared_fields(kind: type) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    """Return the names of the fields that count, sorted, and what gets their values."""
    names = tuple(sorted(field.name for field in fields(kind) if field.compare))
    get = attrgetter(*names)
    return names, get if len(names) > 1 else lambda value: (get(value),)


def all_fields(value: object) -> dict[str, Any]:
    """Tell all fields of a dataclass, and 120.0 as 120: they are equal, and so must be the digests of both."""
    said = {name: getattr(value, name) for name in _fields(type(value))}  # type: ignore[arg-type]  # as above
    for name, one in said.items():
        if isinstance(one, float) and one.is_integer():
            said[name] = int(one)
    return said


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def canonical_json(value: object, of_dataclass: Callable[[Any], dict[str, Any]] = _compared) -> str:
    """Write a value as its one JSON text: sorted keys, no blanks, so that equal values have equal bytes.

    Fields of dataclasses with compare=False are left out, since they make no difference, unless `of_dataclass` says
    what is told of one.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=of_dataclass)


def address_of(host: str, domain: str) -> str:
    return f"{host}/{domain}"
