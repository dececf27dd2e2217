"""Builds a Domain from a merged and checked DomainSpec, in the units of the model; nothing is left to derive later."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Literal

from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif
from reconciler.model.fleet import HostSettings
from reconciler.model.key_row import Key, Owner
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.parts import CEILING_OF
from reconciler.model.paths import absolute, relative
from reconciler.model.vdev import devid_of
from reconciler.specs.resolve.host import pci_device
from reconciler.specs.resolve.images import staged_path
from reconciler.specs.resolve.inputs import TreeFile
from reconciler.specs.schema import MAC_PREFIX, DiskSpec, DomainSpec, TreeSpec, VifSpec
from reconciler.specs.schema_errors import Complaint
from reconciler.specs.spec import Spec

NAMESPACE = uuid.UUID("5b6c4a52-9d0b-5e7c-8b0e-2f6d3c1a7e94")
"""Of all derived UUIDs. It must never change: a domain is known by its UUID."""

_BYTES_PER_KIB = 1024
_MAC_OCTETS = 6
_GOES_ON = "Domains that run go on as they last worked."


def domain_uuid(fleet: str, name: str) -> str:
    """Derive the UUID of a domain whose spec gives none."""
    return str(uuid.uuid5(_namespace(fleet), name))


@cache
def _namespace(fleet: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, fleet)


def derived_mac(domain: str, index: int, prefix: str = MAC_PREFIX, attempt: int = 0) -> str:
    """Derive the MAC of the interface at `index` of a domain by its UUID, behind the octets of `mac_prefix`."""
    seed = f"{domain}/{index}" + (f"/{attempt}" if attempt else "")
    tail = hashlib.sha256(seed.encode()).digest()[: _MAC_OCTETS - len(prefix.split(":"))]
    return f"{prefix.lower()}:{tail.hex(':')}"


def check_images(spec: DomainSpec, files: Mapping[str, TreeFile]) -> Iterator[Complaint]:
    """Check that the kernel and ramdisk that lie in the tree can be used, and are what their pins say."""
    images = (("kernel", spec.kernel, spec.kernel_sha256), ("ramdisk", spec.ramdisk, spec.ramdisk_sha256))
    for key, path, pin in images:
        if path is None or path.startswith("/") or ".." in path.split("/"):
            continue
        file = files[path]
        if file.problem is not None:
            yield Complaint(loc=(key,), summary=f"Unusable {key}", detail=f"{file.problem} {_GOES_ON}", hint=file.hint)
        elif pin is not None and pin.lower() != file.sha256:
            yield Complaint(
                loc=(f"{key}_sha256",),
                summary=f"{key.capitalize()} has other bytes than its pin",
                detail=f"{path} has the sha256 {file.sha256}, but {key}_sha256 says {pin.lower()}. {_GOES_ON}",
                hint=f'If these bytes are the right ones, write {key}_sha256 = "{file.sha256}".',
            )


def build_domain(
    name: str,
    spec: DomainSpec,
    settings: HostSettings,
    shared: TreeSpec,
    files: Mapping[str, TreeFile],
) -> Domain:
    """Build the domain that a spec without complaints asks for."""
    identity = spec.uuid.lower() if spec.uuid is not None else domain_uuid(shared.fleet, spec.renamed_from or name)
    memory_kib = spec.memory_kib if spec.memory_kib is not None else spec.maxmem_kib
    assert memory_kib is not None  # check_alone has seen to it
    known = {"memory": memory_kib, "vcpus": spec.vcpus}
    ceilings: dict[str, Any] = {
        key.attribute: getattr(spec, key.attribute) or known[floor] for floor, key in CEILING_OF.items()
    }
    return Domain(
        name=name,
        uuid=identity,
        type=spec.type,
        kernel=_image(spec.kernel, spec.kernel_sha256, name, settings, files),
        ramdisk=_image(spec.ramdisk, spec.ramdisk_sha256, name, settings, files),
        cmdline=_cmdline(spec),
        memory_kib=memory_kib,
        vcpus=spec.vcpus,
        vcpus_given="vcpus" in spec.given,
        disks=tuple(_disk(disk) for disk in spec.disk),
        vifs=tuple(_vif(vif, index, identity, shared.mac_prefix) for index, vif in enumerate(spec.vif)),
        pci=tuple(str(pci_device(device)) for device in spec.pci),
        xl=tuple(sorted(spec.xl.items())),
        depends_on=tuple(dict.fromkeys(spec.depends_on)),
        policy=_policy(spec),
        **ceilings,
        **_ordinary(*_DOMAIN, spec),
    )


_Get = Callable[[Spec], tuple[Any, ...]]


def _getter(keys: Iterable[Key[Owner]]) -> tuple[tuple[str, ...], _Get]:
    """Return the fields of the keys that are passed on as they stand, and what gets their values."""
    attributes = tuple(key.attribute for key in keys if key.is_ordinary)
    return attributes, attrgetter(*attributes)


_DOMAIN, _DISK, _VIF = _getter(DOMAIN_KEYS), _getter(DISK_KEYS), _getter(VIF_KEYS)


def _ordinary(attributes: tuple[str, ...], get: _Get, spec: Spec) -> dict[str, Any]:
    """Return the values of keys that are passed on as they stand."""
    return dict(zip(attributes, get(spec), strict=True))


def _image(
    path: str | None, pin: str | None, domain: str, settings: HostSettings, files: Mapping[str, TreeFile]
) -> Image | None:
    """Return an image. One of the tree is known by its bytes already, one of the host once the host was asked."""
    if path is None:
        return None
    if path.startswith("/"):
        return Image(sha256="", source=absolute(path), pin=(pin or "").lower())
    source = relative(path)
    if not _is_usable(files[path], pin):
        return Image(sha256="", source=source, pin=(pin or "").lower())
    sha256 = files[path].sha256
    return Image(sha256=sha256, path=staged_path(settings.kernel_dir, domain, source, sha256), source=source)


def _is_usable(file: TreeFile, pin: str | None) -> bool:
    return file.problem is None and (pin is None or pin.lower() == file.sha256)


def _cmdline(spec: DomainSpec) -> str | None:
    """Join `root` and `extra` as xl does: root=R, a blank, E."""
    if spec.cmdline is not None:
        return spec.cmdline or None
    parts = [f"root={spec.root}"] if spec.root else []
    parts += [spec.extra] if spec.extra else []
    return " ".join(parts) or None


def _disk(disk: DiskSpec) -> Disk:
    kind: Literal["file", "lv", "device"] = "device"
    target = disk.path or disk.device or disk.target or ""
    if disk.lv is not None:
        kind, target = "lv", f"/dev/{disk.lv}"
    elif disk.path is not None:
        kind = "file"
    used_as_is = disk.cdrom or disk.script is not None or disk.backend is not None
    return Disk(
        vdev=disk.vdev,
        devid=devid_of(disk.vdev),
        kind="device" if used_as_is else kind,
        target=absolute(target) if target and disk.script is None else target,
        format=disk.format,
        access="ro" if disk.cdrom else disk.access,
        cdrom=disk.cdrom,
        size_bytes=disk.size_kib * _BYTES_PER_KIB if disk.size_kib is not None else None,
        source=absolute(disk.source) if disk.source is not None else None,
        allocate=disk.allocate,
        **_ordinary(*_DISK, disk),
    )


def _vif(vif: VifSpec, index: int, identity: str, mac_prefix: str) -> Vif:
    return Vif(
        devid=index if vif.devid is None else vif.devid,
        mac=vif.mac.lower() if vif.mac is not None else derived_mac(identity, index, mac_prefix),
        named=vif.mac is not None,
        script=vif.script,
        rate=vif.rate,
        type=vif.type,
        colo=vif.colo,
        **_ordinary(*_VIF, vif),
    )


def _policy(spec: DomainSpec) -> Policy:
    ready = _ready(spec.ready.timeout_seconds, spec.ready.min_seconds, spec.ready.tcp, spec.ready.console)
    return Policy(wave=spec.wave, reconcile=spec.reconcile, restart=spec.restart, rehearse=spec.rehearse, ready=ready)


@lru_cache(typed=True)  # most domains have the same
def _ready(timeout_seconds: float, min_seconds: float, tcp: str | None, console: str | None) -> Ready:
    return Ready(timeout_seconds=timeout_seconds, min_seconds=min_seconds, tcp=tcp, console=console)
