"""Finds the definition of a running domain: what `xl list -l` tells, laid over the file that it was started from.

Called by `guests` for every running domain. The JSON tells what the domain really has now. It knows nothing of our
policies, and it lists defaults of keys that the file does not set; these keys stay unset here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import field
from typing import Any, Literal

from reconciler.expressions import expression
from reconciler.model.copies import replace
from reconciler.model.domain import Disk, Domain, Image, Vif, driver_domain, usual_vif_type
from reconciler.model.key_row import Choice, Key, Kind, Value, Whole
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.paths import file_name
from reconciler.model.pci import FLAGS, PciDevice, read_pci
from reconciler.model.quantities import rate_text, same_rate
from reconciler.model.vdev import devid_of
from reconciler.records import dataclass
from reconciler.texts.cfg_reader import MEMORY_DEFAULT_KIB
from reconciler.texts.devices import placed

_Json = Mapping[str, Any]

_WORDS = {"restart_rename": "rename-restart"}  # all others differ from xl.cfg's only in the underscore
_EVERY_FUNCTION = 0xFFFFFFFF
_LEFT_OUT = "destroy"  # of the actions, libxl leaves out its first one
_NIC_TYPES = {"vif": "vif", "vif_ioemu": "ioemu"}
_LISTED = tuple(key for key in DOMAIN_KEYS if key.listed and (key.is_ordinary or isinstance(key.kind, Whole)))
_LISTED_OF_DISKS = tuple(key for key in DISK_KEYS if key.listed and key.is_ordinary)
_LISTED_OF_VIFS = tuple(key for key in VIF_KEYS if key.listed)
_COLO = expression(r"coloft_(forwarddev)|colo_(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The digests of files that a domain booted, from the mark of the config file that it was started from.

    xl tells only paths. A staged file never changes. Any other file may have since, so its bytes now prove nothing.
    """

    digests: Mapping[str, str] = field(default_factory=dict)  # path -> sha256
    by_name: bool = False  # a mark of 0.1 has no paths: a file of the same name as the staged one is what was adopted

    def sha256(self, path: str, staged: Image | None) -> str:
        """Return the sha256 of what was booted from this path; "" when nobody knows."""
        same_name = staged is not None and file_name(staged.path).rpartition(".")[0] == file_name(path)
        return self.digests.get(path, staged.sha256 if staged is not None and self.by_name and same_name else "")


def overlay(config: _Json, base: Domain | None, images: Mapping[str, str], recorded: Recorded | None = None) -> Domain:
    """Return the running definition. `config` is one of `xl list -l`, `images` has the sha256 of staged files by path.

    `base` is the definition in the file that the domain was started from, `recorded` what that file's mark says of what
    was booted. Without a base the JSON is taken as it is. Raises ValueError with a sentence for what is none of xl's.
    """
    _check_whole(config)
    recorded = recorded or Recorded()
    created, built = _part(config, "c_info"), _part(config, "b_info")
    kind = _kind(created)
    # older releases tell what to boot in the part of the domain's type
    built = {**_part(built, f"type.{kind}"), **built}
    name, uuid = _text(created, "name"), _text(created, "uuid")
    start = base or Domain(name=name or "", uuid=uuid or "", memory_kib=0, maxmem_kib=0)
    by_firmware = kind != "hvm" and start.firmware is not None and start.kernel is None
    listed = {**config, "c_info": created, "b_info": built}
    ordinary: dict[str, Any] = {key.attribute: _value(listed, key, base) for key in _LISTED}
    return replace(
        start,
        **ordinary,
        name=name or start.name,
        uuid=(uuid or start.uuid).lower(),
        vcpus_given=start.vcpus_given if base is not None else _number(built, "max_vcpus") is not None,
        type=kind,
        kernel=None if by_firmware else _image(built, "kernel", start.kernel, images, recorded),
        ramdisk=_image(built, "ramdisk", start.ramdisk, images, recorded),
        cmdline=_text(built, "cmdline"),
        disks=tuple(_disks(config, start)),
        vifs=tuple(_vifs(config, start, base is None)),
        pci=tuple(_pci(config, start)),
        **_sizes(built, start),
    )


def without_unplugged(config: _Json | None, unplugged: Collection[int]) -> _Json | None:
    """Return what a domain runs with, but for interfaces that no hotplug script has brought up: those are to come."""
    if config is None or not unplugged:
        return config
    nics = enumerate(_parts(config, "nics"))
    return {**config, "nics": [nic for at, nic in nics if nic.get("devid", at) not in unplugged]}


def _value(listed: _Json, key: Key[Domain], base: Domain | None) -> Value:
    """Read a key from the JSON. A key that its file leaves unset stays unset where xl fills in a value."""
    *parts, name = key.listed
    for part in parts:
        listed = _part(listed, part)
    told = _told(listed, name, key)
    there = None if base is None else key.value(base)
    if base is not None and there is None and key.unset is not None:
        return None
    if told is None:
        is_action = isinstance(key.kind, Choice) and key.default is not None
        return _LEFT_OUT if is_action else key.default
    return _in_words_of(told, there)


def _told(part: _Json, name: str, key: Key[Any]) -> Value:
    """Return what a part of the JSON says of a key that is passed on as it stands; None when nothing."""
    match key.kind:
        case Choice():
            word = _text(part, name)
            return None if word is None else _WORDS.get(word, word.replace("_", "-"))
        case Whole():
            return _number(part, name)
        case Kind.FLAG:
            value = part.get(name)
            return value if isinstance(value, bool) else {"True": True, "False": False}.get(str(value))
        case Kind.WORDS:
            return tuple(str(item) for item in _list(part, name)) or None
        case _:
            word = _text(part, name)
            return driver_domain(word) if key.name == "backend" else word


def _sizes(built: _Json, start: Domain) -> dict[str, Any]:
    """Return memory and vcpus. A domain that has shut down has no cpus any more, so the file's count stands."""
    memory, maxmem = _number(built, "target_memkb"), _number(built, "max_memkb")
    available = built.get("avail_vcpus")
    return {
        "memory_kib": next(kib for kib in (memory, maxmem, MEMORY_DEFAULT_KIB) if kib is not None),
        "maxmem_kib": next(kib for kib in (maxmem, memory, MEMORY_DEFAULT_KIB) if kib is not None),
        "vcpus": len(available) if isinstance(available, list) else start.vcpus,
    }


def _kind(created: _Json) -> Literal["pv", "pvh", "hvm"]:
    match created.get("type"):
        case "hvm":
            return "hvm"
        case "pvh":
            return "pvh"
        case _:
            return "pv"


def _image(built: _Json, key: str, base: Image | None, images: Mapping[str, str], recorded: Recorded) -> Image | None:
    path = _text(built, key)
    if path is None:
        return None
    known = base.sha256 if base is not None and base.path == path else recorded.sha256(path, base)
    return Image(sha256=images.get(path) or known, path=path)


def _in_words_of(value: Value, there: Value) -> Value:
    """Use the file's name of a program where libxl tells its full path."""
    is_one = isinstance(value, str) and isinstance(there, str) and value.endswith(f"/{there}")
    return there if is_one else value


def _disks(config: _Json, base: Domain) -> Iterator[Disk]:
    of_file = {disk.devid: disk for disk in base.disks}
    for part in _parts(config, "disks"):
        vdev = _text(part, "vdev") or ""
        devid = devid_of(vdev)
        there = of_file.get(devid)
        told: dict[str, Any] = {key.attribute: _meant(part, key) for key in _LISTED_OF_DISKS}
        if there is not None:  # what its file leaves to xl stays open
            left = [key for key in _LISTED_OF_DISKS if key.value(there) == key.default]
            chosen = tuple((key.name, told[key.attribute]) for key in left if told[key.attribute] != key.default)
            told |= {key.attribute: key.default for key in left} | {"chosen": chosen}
        told |= {
            "format": _format(_text(part, "format")),
            "access": "rw" if part.get("readwrite") else "ro",
            "cdrom": bool(part.get("is_cdrom")),
        }
        disk = placed(Disk(vdev=vdev, devid=devid, kind="device", target="", **told), _text(part, "pdev_path") or "")
        if there is not None and there.target == disk.target:
            differs = any(getattr(there, name) != value for name, value in told.items())
            disk = replace(there, **told) if differs else there
        elif there is not None and there.cdrom and disk.cdrom:  # the same drive with another medium
            disk = replace(there, target=disk.target, **told)
        yield disk


def _format(word: str | None) -> str:
    """Return the format of a disk; an empty drive has the usual one."""
    return "raw" if word is None or word in ("empty", "unknown") else word


def _meant(part: _Json, key: Key[Disk]) -> Value:
    """Return what the JSON says of an option of a disk. What xl uses by itself was not said."""
    told = _told(part, key.listed[0], key)
    return key.default if told is None or told == key.unset or told == "unknown" else told


def _vifs(config: _Json, base: Domain, all_is_meant: bool) -> Iterator[Vif]:
    of_file = {vif.devid: vif for vif in base.vifs}
    number_of = {vif.mac: vif.devid for vif in base.vifs}  # xm tells none
    usual = usual_vif_type(_kind(_part(config, "c_info")))
    for index, part in enumerate(_parts(config, "nics")):
        devid = _number(part, "devid")
        vif = _vif(part, index if devid is None else devid)
        if devid is None:
            vif = replace(vif, devid=number_of.get(vif.mac, _unused(index, number_of.values())))
        there = of_file.get(vif.devid)
        if vif.type == usual and (there is None or there.type is None):
            vif = replace(vif, type=None)  # xl lists it also where nothing was said
        yield vif if there is None or all_is_meant else _as_open_as(there, vif)


def _unused(devid: int, used: Collection[int]) -> int:
    """Return the first number from this one on that none of the others has."""
    return next(number for number in range(devid, devid + len(used) + 1) if number not in used)


def _vif(part: _Json, devid: int) -> Vif:
    amount, interval = _number(part, "rate_bytes_per_interval"), _number(part, "rate_interval_usecs")
    told = {key.attribute: _told(part, key.listed[0], key) for key in _LISTED_OF_VIFS}
    plain: dict[str, Any] = {name: _plain(value) for name, value in told.items()}
    colo = ((match[1] or match[2], str(part[name])) for name in part if (match := _COLO.fullmatch(name)))
    return Vif(
        devid=devid,
        mac=(_text(part, "mac") or "").lower(),
        rate=rate_text(amount, interval) if amount and interval else None,
        type=_NIC_TYPES.get(_text(part, "nictype") or ""),
        colo=tuple(sorted(colo)),
        **plain,
    )


def _plain(value: Value) -> Value:
    """Return a value without the blanks around it, which mean as little here as in the file."""
    return value.strip(" ") or None if isinstance(value, str) else value


def _as_open_as(there: Vif, vif: Vif) -> Vif:
    """Unset in a vif what its file leaves to xl, and use the file's words where they mean the same."""
    left = [key for key in VIF_KEYS if key.of is not None and key.value(there) is None]
    open_now: dict[str, Any] = {key.attribute: None for key in left}
    chosen = tuple((key.name, value) for key in left if isinstance(value := key.value(vif), str | int))
    same: dict[str, Any] = {
        "named": there.named,
        "chosen": chosen,
        "rate": there.rate if same_rate(there.rate, vif.rate) else vif.rate,
    }
    in_words: dict[str, Any] = {
        key.attribute: _in_words_of(key.value(vif), key.value(there)) for key in _LISTED_OF_VIFS
    }
    return replace(vif, **same | in_words | open_now)


def _pci(config: _Json, base: Domain) -> Iterator[str]:
    """List the PCI devices, in the words of the file where it has them: for all functions of one it may have `*`."""
    of_file = {read_pci(spec).device: spec for spec in base.pci}
    seen = set()
    for part in _parts(config, "pcidevs"):
        device = _pci_device(part)
        every_function = f"{device.bdf[:-1]}*" if device.bdf else ""
        names = (f"name={_text(part, 'name')}", device.device, every_function)
        spec = next((of_file[name] for name in names if name in of_file), str(device))
        if spec not in seen:
            seen.add(spec)
            yield spec


def _pci_device(part: _Json) -> PciDevice:
    domain, bus, slot, function = (_number(part, key) or 0 for key in ("domain", "bus", "dev", "func"))
    name, slot_of_guest = _text(part, "name"), _number(part, "vdevfn")
    every = (_number(part, "vfunc_mask") or 1) == _EVERY_FUNCTION
    by_name = name is not None and not any((domain, bus, slot, function))
    policy = _text(part, "rdm_policy")
    return PciDevice(
        bdf="" if by_name else f"{domain:04x}:{bus:02x}:{slot:02x}.{'*' if every else f'{function:x}'}",
        name=(name or "") if by_name else "",
        vslot=slot_of_guest >> 3 if slot_of_guest else None,
        flags={flag: True for flag in FLAGS if part.get(flag) is True},
        rdm_policy=policy if policy == "relaxed" else None,
    )


def differences_at_start(running: Domain | None, base: Domain | None) -> int:
    """Count the keys fixed at the start in which the two differ. What xl changes live proves nothing."""
    if running is None or base is None:
        return 0
    return sum(_evidence(key, running) != _evidence(key, base) for key in DOMAIN_KEYS if key.boot_entry)


def _evidence(key: Key[Domain], domain: Domain) -> object:
    """Return the value of a key that was fixed at the start, in a form in which equal means the same."""
    if key.name == "disk":
        return [(disk.devid, disk.target, disk.format, disk.access) for disk in domain.disks]
    if key.name == "vif":
        return {vif.devid: vif for vif in domain.vifs}
    if key.of is None:
        return domain.xl
    value = key.of(domain)
    return value.path if isinstance(value, Image) else value


def _check_whole(config: _Json) -> None:
    """Raise where a part is missing that xl always tells: without it, all that it holds would look as if left out."""
    if not isinstance(config.get("b_info"), dict):
        raise ValueError("what it was built with is missing (b_info).")
    odd = [key for key in ("disks", "nics", "pcidevs") if not isinstance(config.get(key, []), list | None)]
    if odd:
        raise ValueError(f"{odd[0]} is no list.")


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
