"""The definition of a running domain: what `xl list -l` knows of it, laid over the file that it was started from.

Called by `guests` for every running domain. The JSON knows what the domain really has now; it knows nothing of our
policies, and it spells out defaults that a file leaves open, which therefore stay open here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.vdev import devid_of
from reconciler.texts.cfg_reader import MEMORY_DEFAULT_KIB
from reconciler.texts.devices import PciAddress, device_path, kind_of, pci_address, rate_of, rate_text

_Json = Mapping[str, Any]

_ACTIONS = {"restart_rename": "rename-restart"}  # all others differ from xl.cfg's words only in the underscore
_NIC_TYPES = {"vif": "vif", "vif_ioemu": "ioemu"}
_TOLD_LISTS = frozenset({"disks", "nics", "pcidevs"})


def overlay(config: _Json, base: Domain | None, images: Mapping[str, str]) -> Domain:
    """The running definition. `config` is one of `xl list -l`, `images` has the sha256 of staged files by path.

    `base` is the definition in the file that the domain was started from. Without one the JSON is taken as it is.
    """
    created, built = _part(config, "c_info"), _part(config, "b_info")
    kind = _kind(created)
    # older releases tell what to boot in the part of the domain's type
    built = {**_part(built, f"type.{kind}"), **built}
    name, uuid = _text(created, "name"), _text(created, "uuid")
    start = base or Domain(name=name or "", uuid=uuid or "", memory_kib=0, maxmem_kib=0)
    by_firmware = kind != "hvm" and start.firmware is not None and start.kernel is None
    domain = replace(
        start,
        name=name or start.name,
        uuid=(uuid or start.uuid).lower(),
        type=kind,
        kernel=None if by_firmware else _image(built, "kernel", start.kernel, images),
        ramdisk=_image(built, "ramdisk", start.ramdisk, images),
        cmdline=_text(built, "cmdline"),
        bootloader=_bootloader(built, start),
        bootloader_args=tuple(str(item) for item in _list(built, "bootloader_args")),
        disks=tuple(_disks(config, start)),
        vifs=tuple(_vifs(config, start, base is None)),
        pci=tuple(_pci(config, start)),
        on_poweroff=_action(config, "on_poweroff"),
        on_reboot=_action(config, "on_reboot"),
        on_crash=_action(config, "on_crash"),
        on_watchdog=_action(config, "on_watchdog"),
    )
    return _with_sizes(domain, built, base)


def untold(config: _Json) -> tuple[str, ...]:
    """Sentences: the devices of a running domain that its definition leaves out unless a config file names them."""
    kinds = sorted(key for key, value in config.items() if isinstance(value, list) and value and key not in _TOLD_LISTS)
    return tuple(f"`xl list -l` shows {kind}, and no config file says how they were asked for." for kind in kinds)


def _with_sizes(domain: Domain, built: _Json, base: Domain | None) -> Domain:
    """Memory, cpus and their share. A domain that has shut down has no cpus any more, so the file's count stands."""
    memory, maxmem = _number(built, "target_memkb"), _number(built, "max_memkb")
    available = built.get("avail_vcpus")
    vcpus = len(available) if isinstance(available, list) else domain.vcpus
    share = _part(built, "sched_params")
    weight, cap = _number(share, "weight"), _number(share, "cap")
    return replace(
        domain,
        memory_kib=next(kib for kib in (memory, maxmem, MEMORY_DEFAULT_KIB) if kib is not None),
        maxmem_kib=next(kib for kib in (maxmem, memory, MEMORY_DEFAULT_KIB) if kib is not None),
        vcpus=vcpus,
        maxvcpus=_number(built, "max_vcpus") or 1,
        cpu_weight=weight if base is None or base.cpu_weight is not None else None,
        cap=cap if base is None or base.cap is not None else None,
    )


def _kind(created: _Json) -> Literal["pv", "pvh", "hvm"]:
    match created.get("type"):
        case "hvm":
            return "hvm"
        case "pvh":
            return "pvh"
        case _:
            return "pv"


def _image(built: _Json, key: str, base: Image | None, images: Mapping[str, str]) -> Image | None:
    path = _text(built, key)
    if path is None:
        return None
    known = base.sha256 if base is not None and base.path == path else ""
    return Image(sha256=images.get(path, known), path=path)


def _bootloader(built: _Json, base: Domain) -> str | None:
    """libxl may know the program by its full path, where the file has its name only."""
    path = _text(built, "bootloader")
    if path is not None and base.bootloader is not None and path.endswith(f"/{base.bootloader}"):
        return base.bootloader
    return path


def _disks(config: _Json, base: Domain) -> Iterator[Disk]:
    of_file = {disk.devid: disk for disk in base.disks}
    for part in _parts(config, "disks"):
        vdev = _text(part, "vdev") or ""
        target = _text(part, "pdev_path") or ""
        disk = Disk(
            vdev=vdev,
            devid=devid_of(vdev),
            kind=kind_of(device_path(target)),
            target=target if part.get("script") else device_path(target),
            format=_text(part, "format") or "raw",
            access="rw" if part.get("readwrite") else "ro",
        )
        there = of_file.get(disk.devid)
        if there is not None and there.target == disk.target:
            disk = replace(there, format=disk.format, access=disk.access)
        yield disk


def _vifs(config: _Json, base: Domain, all_is_meant: bool) -> Iterator[Vif]:
    of_file = {vif.devid: vif for vif in base.vifs}
    for index, part in enumerate(_parts(config, "nics")):
        devid = _number(part, "devid")
        vif = _vif(part, index if devid is None else devid)
        there = of_file.get(vif.devid)
        yield vif if there is None or all_is_meant else _as_open_as(there, vif)


def _vif(part: _Json, devid: int) -> Vif:
    amount, interval = _number(part, "rate_bytes_per_interval"), _number(part, "rate_interval_usecs")
    return Vif(
        devid=devid,
        mac=(_text(part, "mac") or "").lower(),
        bridge=_text(part, "bridge"),
        ip=_text(part, "ip"),
        script=_text(part, "script"),
        rate=rate_text(amount, interval) if amount and interval else None,
        model=_text(part, "model"),
        type=_NIC_TYPES.get(_text(part, "nictype") or ""),
        vifname=_text(part, "ifname"),
    )


def _as_open_as(there: Vif, vif: Vif) -> Vif:
    """The vif with nothing said of what its file leaves to xl, and in the file's words where they mean the same."""
    same_script = there.script and vif.script and vif.script.endswith(f"/{there.script}")
    same_rate = there.rate and vif.rate and rate_of(there.rate) == rate_of(vif.rate)
    return Vif(
        devid=vif.devid,
        mac=vif.mac,
        named=there.named,
        bridge=vif.bridge if there.bridge is not None else None,
        ip=vif.ip if there.ip is not None else None,
        script=there.script if same_script else vif.script if there.script is not None else None,
        rate=there.rate if same_rate else vif.rate if there.rate is not None else None,
        model=vif.model if there.model is not None else None,
        type=vif.type if there.type is not None else None,
        vifname=vif.vifname if there.vifname is not None else None,
    )


def _pci(config: _Json, base: Domain) -> Iterator[str]:
    of_file = {pci_address(spec): spec for spec in base.pci}
    for part in _parts(config, "pcidevs"):
        address = PciAddress(*(_number(part, key) or 0 for key in ("domain", "bus", "dev", "func")))
        yield of_file.get(address, str(address))


def _action(config: _Json, event: str) -> str:
    """Every event whose action is not told has libxl's first one, destroy."""
    action = _text(config, event) or "destroy"
    return _ACTIONS.get(action, action.replace("_", "-"))


def _part(config: _Json, key: str) -> _Json:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _parts(config: _Json, key: str) -> list[_Json]:
    return [item for item in _list(config, key) if isinstance(item, dict)]


def _list(config: _Json, key: str) -> list[Any]:
    value = config.get(key)
    return value if isinstance(value, list) else []


def _text(config: _Json, key: str) -> str | None:
    value = config.get(key)
    return value if isinstance(value, str) else None


def _number(config: _Json, key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
