"""What differs between the observed and the desired definition of a domain, and what it takes to mend it.

`compare` answers for one pair of definitions; what the differences mean for a domain as a whole (create, restart,
blocked …) is decided in `policy`. Equal pairs cost one `==`; deepdiff describes only the nested values that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from reconciler.model.disks import missing_bytes
from reconciler.model.domain import Disk, Domain, Image, Scalar, Vif
from reconciler.model.host import Host
from reconciler.specs.resolve.host import pci_address


class Effect(StrEnum):
    """What applying one field costs the running domain."""

    LIVE = "live"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One field that differs. `path` is the spec's key; memory in KiB, disk sizes in bytes, images by digest."""

    path: str
    before: Scalar
    after: Scalar
    effect: Effect
    waits: bool = False  # not worth a restart of its own: applied whenever the domain is next started


_LIVE = frozenset(
    {"memory", "vcpus", "cpu_weight", "cap", "autostart"}
    | {"prevent_destroy", "shutdown_timeout", "on_shutdown_timeout", "depends_on"}
)
_LIVE_DISK_KEYS = frozenset({"on_delete"})
_CEILINGS = frozenset({"maxmem", "maxvcpus"})  # raised: restart; lowered: waits for one


def compare(current: Domain, desired: Domain, host: Host, *, running: bool) -> tuple[FieldChange, ...]:
    """The fields that differ, sorted by path; () when nothing does. Only what the desired side declares counts.

    `running`: whether `current` is live, so that a change can cost a restart.
    """
    before, after = _view(current, desired, host), _view(desired, desired, host)
    if before == after:
        return ()
    changes = [
        FieldChange(
            path=path, before=old, after=new, effect=effect, waits=running and _is_lowered_ceiling(path, old, new)
        )
        for path, old, new, effect in _differences(before, after, current, desired, host)
    ]
    if not running:
        changes = [replace(change, effect=Effect.LIVE) for change in changes]
    return tuple(sorted(changes, key=lambda change: change.path))


def fields_of_new(desired: Domain, host: Host) -> tuple[FieldChange, ...]:
    """What a domain that does not exist yet will have, as field changes from nothing."""
    view = _view(desired, desired, host)
    pairs = [(key, value) for key, value in view.items() if key not in ("disk", "vif", "xl")]
    pairs += [(f"disk[{_vdev(desired, devid)}]", _summary(disk)) for devid, disk in view["disk"].items()]
    pairs += [(f"vif[{index}]", _summary(vif)) for index, vif in view["vif"].items()]
    pairs += [(f"xl.{key}", str(value)) for key, value in view["xl"].items()]
    shown = [(path, value) for path, value in pairs if value not in (None, "", False)]
    return tuple(FieldChange(path=path, before=None, after=value, effect=Effect.LIVE) for path, value in sorted(shown))


def align_vifs(desired: Domain, current: Domain) -> Domain:
    """The desired domain with the devids that its interfaces have already; new ones take free devids.

    A vif is the one with its mac; so removing the first of two named ones does not renumber the second.
    """
    placed = [(vif.devid, vif.mac) for vif in current.vifs]
    if not placed or [(vif.devid, vif.mac) for vif in desired.vifs] == placed:
        return desired
    there = {vif.mac: vif.devid for vif in current.vifs}
    kept = {there[vif.mac] for vif in desired.vifs if vif.mac in there}
    free = (number for number in range(1000) if number not in kept)
    by_index = {vif.devid: vif for vif in current.vifs}
    aligned = []
    for vif in desired.vifs:
        if vif.mac in there:
            devid = there[vif.mac]
        elif not vif.named and vif.devid in by_index and vif.devid not in kept:
            devid = vif.devid
            kept.add(devid)
        else:
            devid = next(free)
        aligned.append(replace(vif, devid=devid))
    return replace(desired, vifs=tuple(aligned))


def _view(domain: Domain, reference: Domain, host: Host) -> dict[str, Any]:
    """A domain as spec keys, lists keyed by identity; what the reference (the desired side) leaves open is left out."""
    wanted_disks = {disk.devid: disk for disk in reference.disks}
    wanted_vifs = {vif.devid: vif for vif in reference.vifs}
    return {
        "uuid": domain.uuid,
        "type": domain.type,
        "kernel": _image(domain.kernel),
        "ramdisk": _image(domain.ramdisk),
        "cmdline": domain.cmdline or None,  # xl lists an empty one for none
        "bootloader": domain.bootloader,
        "bootloader_args": " ".join(domain.bootloader_args),
        "firmware": domain.firmware,
        "memory": domain.memory_kib,
        "maxmem": domain.maxmem_kib,
        "vcpus": domain.vcpus,
        "maxvcpus": domain.maxvcpus,
        "cpus": domain.cpus,
        "cpu_weight": domain.cpu_weight or 256,
        "cap": domain.cap or 0,
        "pci": ", ".join(pci_address(device) for device in domain.pci),
        "on_poweroff": domain.on_poweroff,
        "on_reboot": domain.on_reboot,
        "on_crash": domain.on_crash,
        "on_watchdog": domain.on_watchdog,
        "autostart": domain.autostart,
        "prevent_destroy": domain.prevent_destroy,
        "shutdown_timeout": domain.shutdown_timeout_seconds,
        "on_shutdown_timeout": domain.on_shutdown_timeout,
        "depends_on": ", ".join(domain.depends_on),
        "disk": {
            disk.devid: _disk(disk, wanted_disks.get(disk.devid), domain, reference, host) for disk in domain.disks
        },
        "vif": {vif.devid: _vif(vif, wanted_vifs.get(vif.devid)) for vif in domain.vifs},
        "xl": dict(domain.xl),
    }


def _image(image: Image | None) -> str | None:
    return None if image is None else image.short or image.path


def _disk(disk: Disk, wanted: Disk | None, domain: Domain, reference: Domain, host: Host) -> dict[str, Scalar]:
    shown: dict[str, Scalar] = {
        disk.kind if disk.kind != "file" else "path": disk.target,
        "format": disk.format,
        "access": disk.access,
        "on_delete": disk.on_delete,
    }
    if wanted is not None and wanted.size_bytes is not None and wanted.format == "raw":  # others hide their size
        there = (
            wanted.size_bytes
            if domain is reference
            else wanted.size_bytes - missing_bytes(wanted, host.files.get(disk.target))
        )
        shown["size"] = there
    return shown


def _vif(vif: Vif, wanted: Vif | None) -> dict[str, Scalar]:
    shown: dict[str, Scalar] = {"mac": vif.mac}
    for key in ("bridge", "ip", "script", "rate", "model", "type", "vifname"):
        value = getattr(vif, key)
        if value is not None or (wanted is not None and getattr(wanted, key) is not None):
            shown[key] = value
    return shown


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], current: Domain, desired: Domain, host: Host
) -> Iterator[tuple[str, Scalar, Scalar, Effect]]:
    vdevs = {disk.devid: disk.vdev for disk in (*current.disks, *desired.disks)}
    for key in after:
        if before[key] == after[key]:
            continue
        if key in ("disk", "vif", "xl"):
            yield from _nested(key, before[key], after[key], vdevs, desired, host)
        else:
            yield key, before[key], after[key], Effect.LIVE if key in _LIVE else Effect.RESTART


def _nested(
    key: str, before: Mapping[Any, Any], after: Mapping[Any, Any], vdevs: Mapping[int, str], desired: Domain, host: Host
) -> Iterator[tuple[str, Scalar, Scalar, Effect]]:
    """Differences inside disks, vifs and [xl], found by deepdiff (imported here: it is slow to load)."""
    from deepdiff import DeepDiff
    from deepdiff.helper import notpresent

    for differences in DeepDiff(before, after, view="tree", threshold_to_diff_deeper=0).values():
        for difference in differences:
            path = difference.path(output_format="list")
            old = None if difference.t1 is notpresent else difference.t1
            new = None if difference.t2 is notpresent else difference.t2
            yield (
                _path_text(key, path, vdevs),
                _summary(old),
                _summary(new),
                _nested_effect(key, path, old, new, desired, host),
            )


def _nested_effect(key: str, path: list[Any], old: Any, new: Any, desired: Domain, host: Host) -> Effect:
    whole = len(path) == 1
    if key == "disk":
        if whole:
            return Effect.LIVE if old is None and desired.type != "hvm" else Effect.RESTART
        if path[1] == "size":  # a vnd keeps the size it was configured with; a loop device or a volume can follow
            kind = next((disk.kind for disk in desired.disks if disk.devid == path[0]), "file")
            return Effect.RESTART if host.flavour == "netbsd" and kind == "file" else Effect.LIVE
        return Effect.LIVE if path[1] in _LIVE_DISK_KEYS else Effect.RESTART
    if key == "vif" and whole and desired.type != "hvm":
        return Effect.LIVE
    return Effect.RESTART


def _path_text(key: str, path: list[Any], vdevs: Mapping[int, str]) -> str:
    if key == "xl":
        return f"xl.{path[0]}"
    name = vdevs[path[0]] if key == "disk" else path[0]
    return f"{key}[{name}]" + (f".{path[1]}" if len(path) > 1 else "")


def _vdev(domain: Domain, devid: int) -> str:
    return next((disk.vdev for disk in domain.disks if disk.devid == devid), hex(devid))


def _summary(value: Any) -> Scalar:
    """A nested value as one readable scalar."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    if isinstance(value, tuple | list):
        return ", ".join(str(item) for item in value)
    assert value is None or isinstance(value, str | int | float | bool)
    return value


def _is_lowered_ceiling(path: str, old: Scalar, new: Scalar) -> bool:
    return path in _CEILINGS and isinstance(old, int) and isinstance(new, int) and new < old
