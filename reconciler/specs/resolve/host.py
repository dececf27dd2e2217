"""Builds HostSettings from a host.toml, and checks that the domains of a host use only what it allows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from reconciler.model.fleet import Allow, HostSettings, RehearsalSettings, Simulated, Window
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.paths import absolute, disk_identity, disk_root, folder_of, is_inside, is_normal
from reconciler.model.pci import FLAGS, PciDevice, may_be_allowed, read_pci
from reconciler.specs.resolve.inputs import Table
from reconciler.specs.resolve.rules import OWN_KEYS, PATHS_OF_DISKS, check_path
from reconciler.specs.resolve.xl_keys import HARMLESS
from reconciler.specs.schema import AllowSpec, DiskSpec, DomainSpec, HostSpec, PciSpec, RehearsalSpec, WindowSpec
from reconciler.specs.schema_errors import Complaint, Loc, validate

_CONFIG_DIRS = ("/etc/xen", "/usr/pkg/etc/xen")  # Debian's and NetBSD's: before the host is asked, either may be it
_PORT_MAX = 65535


def resolve_host(name: str, table: Table) -> tuple[HostSettings | None, tuple[Complaint, ...]]:
    """Resolve the settings, or report what is wrong with them."""
    spec, complaints = validate(HostSpec, table)
    if spec is None:
        return None, complaints
    complaints += tuple(_check_settings(spec))
    return (None if complaints else _build(name, spec)), complaints


def _check_settings(spec: HostSpec) -> Iterator[Complaint]:
    paths: list[tuple[Loc, str]] = [(("kernel_dir",), spec.kernel_dir)]
    if spec.config_dir is not None:
        paths.append((("config_dir",), spec.config_dir))
    paths += [(("kernel_roots", index), root) for index, root in enumerate(spec.kernel_roots or ())]
    for loc, path in paths:
        yield from check_path(loc, path)
    for index, root in enumerate(spec.disk_roots):
        yield from check_path(("disk_roots", index), root, disk_root)
    port = spec.connect.rpartition(":")[2]
    if port.isdigit() and not 1 <= int(port) <= _PORT_MAX:
        detail = f"connect must have a port from 1 to {_PORT_MAX}."
        yield Complaint(loc=("connect",), summary="Value out of range", detail=detail)


def _build(name: str, spec: HostSpec) -> HostSettings:
    config_dir = absolute(spec.config_dir) if spec.config_dir is not None else None
    roots = spec.kernel_roots
    if roots is None:
        roots = ("/", "/boot", *((config_dir,) if config_dir else _CONFIG_DIRS))
    allow, simulated = spec.allow, spec.simulated
    return HostSettings(
        name=name,
        toolstack=spec.toolstack,
        connect=spec.connect,
        config_dir=config_dir,
        kernel_dir=absolute(spec.kernel_dir),
        kernel_roots=tuple(absolute(root) for root in roots),
        disk_roots=tuple(disk_root(root) for root in spec.disk_roots),
        allow=_build_allow(allow),
        keep_free_kib=spec.keep_free_kib,
        overcommit_vcpus=spec.overcommit_vcpus,
        parallel=spec.parallel,
        max_unavailable=spec.max_unavailable,
        reconcile=spec.reconcile,
        windows=build_windows(spec.window, name),
        rehearsal=_build_rehearsal(spec.rehearsal),
        simulated=Simulated(
            memory_kib=simulated.memory_kib,
            cpus=simulated.cpus,
            seed=simulated.seed,
            latency_seconds=simulated.latency_seconds,
        ),
    )


def build_windows(specs: Iterable[WindowSpec], host: str | None = None) -> tuple[Window, ...]:
    return tuple(
        Window(
            kind=spec.kind,
            schedule=spec.schedule,
            duration_seconds=spec.duration_seconds,
            timezone=spec.timezone,
            actions=spec.actions,
            domains=spec.domains,
            reason=spec.reason,
            host=host,
        )
        for spec in specs
    )


def _build_rehearsal(spec: RehearsalSpec) -> RehearsalSettings:
    return RehearsalSettings(
        memory_kib=spec.memory_kib,
        bridge=spec.bridge,
        timeout_seconds=spec.timeout_seconds,
        snapshot_size=spec.snapshot_size,
        keep_free=spec.keep_free,
        copy_limit_bytes=spec.copy_limit_kib * 1024,
        pause=spec.pause,
    )


def _build_allow(allow: AllowSpec) -> Allow:
    return Allow(
        bootloaders=allow.bootloaders,
        scripts=allow.scripts,
        xl_keys=allow.xl_keys,
        pci=tuple(read_pci(device).device for device in allow.pci),
    )


def pci_device(spec: PciSpec) -> PciDevice:
    """Return the device that a spec without complaints names."""
    given = {flag: getattr(spec, flag) for flag in FLAGS}
    return PciDevice(
        bdf=read_pci(spec.bdf).bdf if spec.bdf is not None else "",
        name=spec.name or "",
        vslot=None if spec.vslot is None else int(spec.vslot, 16),
        flags={flag: value for flag, value in given.items() if value is not None},
        rdm_policy=spec.rdm_policy,
    )


_BOOTLOADERS = tuple(key for key in DOMAIN_KEYS if key.allowed_by == "bootloaders")


def check_allowed(spec: DomainSpec, settings: HostSettings) -> Iterator[Complaint]:
    """Report all that a domain asks of its host and that host.toml does not allow."""
    for key in ("kernel", "ramdisk"):
        path = getattr(spec, key)
        if path is not None and path.startswith("/"):
            yield from _check_image(key, path, settings)
    for index, disk in enumerate(spec.disk):
        yield from _check_disk(disk, index, settings)
    allow = settings.allow
    for row in _BOOTLOADERS:
        value = getattr(spec, row.attribute)
        if value is not None and value not in allow.bootloaders:
            entries = (*allow.bootloaders, value)
            yield _not_allowed((row.name,), f'{row.name} "{value}"', settings, "bootloaders", entries)
    devices: list[tuple[str, int, str | None]] = [("disk", at, disk.script) for at, disk in enumerate(spec.disk)]
    devices += [("vif", at, vif.script) for at, vif in enumerate(spec.vif)]
    for array, index, script in devices:
        if script is not None and script not in allow.scripts:
            loc = (array, index, "script")
            yield _not_allowed(loc, f'The script "{script}"', settings, "scripts", (*allow.scripts, script))
    for index, device in enumerate(map(pci_device, spec.pci)):
        if not may_be_allowed(device, allow.pci):  # names, and `*`, by what they are there: decide.safety_rules
            entries = (*allow.pci, device.device)
            yield _not_allowed(("pci", index), f"The PCI device {device.device}", settings, "pci", entries)
    for key in spec.xl:
        if key not in allow.xl_keys and key not in OWN_KEYS and key not in HARMLESS:
            yield _not_allowed(("xl", key), f"The xl.cfg key {key}", settings, "xl_keys", (*allow.xl_keys, key), True)


def _not_allowed(
    loc: Loc, what: str, settings: HostSettings, key: str, entries: tuple[str, ...], at_key: bool = False
) -> Complaint:
    return Complaint(
        loc=loc,
        summary="Not allowed on this host",
        detail=f"{what} is not allowed by {settings.name}/host.toml.",
        hint=f"To allow it, write under [allow] in {settings.name}/host.toml: {key} = {json.dumps(entries)}",
        at_key=at_key,
    )


def _check_image(key: str, path: str, settings: HostSettings) -> Iterator[Complaint]:
    if not is_normal(path):  # complained of already
        return
    folder = folder_of(absolute(path))
    if folder not in settings.kernel_roots:
        roots = json.dumps([*settings.kernel_roots, folder])
        yield Complaint(
            loc=(key,),
            summary="Outside of kernel_roots",
            detail=f"{path} does not lie directly in one of the kernel_roots of {settings.name}.",
            hint=f"To allow it, write in {settings.name}/host.toml: kernel_roots = {roots}",
        )


def _check_disk(disk: DiskSpec, index: int, settings: HostSettings) -> Iterator[Complaint]:
    named = {"lv": f"/dev/{disk.lv}" if disk.lv is not None else None}
    named |= {key: getattr(disk, field) for key, field in PATHS_OF_DISKS.items()}
    for key, path in named.items():
        if path is None or not is_normal(path):
            continue
        place = disk_identity(absolute(path))
        named_itself = key == "device" and place in settings.disk_roots
        if named_itself or any(is_inside(place, root) for root in settings.disk_roots):
            continue
        if place in settings.disk_roots:
            detail = f"{place} is itself a folder of disks."
            yield Complaint(loc=("disk", index, key), summary="Outside of disk_roots", detail=detail)
            continue
        folder = disk.lv.partition("/")[0] if key == "lv" and disk.lv is not None else folder_of(place)
        roots = json.dumps([*settings.disk_roots, folder])
        yield Complaint(
            loc=("disk", index, key),
            summary="Outside of disk_roots",
            detail=f"{place} does not lie under one of the disk_roots of {settings.name}.",
            hint=f"To allow it, write in {settings.name}/host.toml: disk_roots = {roots}",
        )
