"""Reads and writes the device specs in xl.cfg: the strings in `disk = [...]` and `vif = [...]`.

Called by `config_file` for files, by `running` to compare paths, by the xl host for hotplug arguments. (`model.pci`
has those in `pci = [...]`.) Written after xl's own scanners (libxlu_disk_l.l, libxlu_vif.c, xl_parse.c of Xen 4.17 to
4.21).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Literal

from reconciler.expressions import expression
from reconciler.model.copies import replace
from reconciler.model.domain import Disk, Vif, driver_domain
from reconciler.model.key_row import Choice, Key, Kind, Owner, Value, Whole
from reconciler.model.keys import DISK_FORMATS, DISK_KEYS, VIF_KEYS
from reconciler.model.parts import LATER_KEYS_OF_DISKS, in_cfg
from reconciler.model.paths import absolute, is_normal
from reconciler.model.quantities import Unfit, rate_of
from reconciler.model.vdev import devid_of
from reconciler.records import dataclass
from reconciler.specs.schema_errors import near_miss
from reconciler.texts.cfg_grammar import number_of

_FORMATS = (*DISK_FORMATS, "empty")
_ACCESS: dict[str, Literal["rw", "ro"]] = {"r": "ro", "ro": "ro", "w": "rw", "rw": "rw", "": "rw"}
_DISK_PREFIX = expression(r"(raw|qcow2?|vhd|iscsi|e?nbd|drbd|tapdisk|tap2?|aio|ioemu|file|phy):")
_PLAIN_DISK = expression(  # as most of those that `disk_spec` writes
    rf"format=(?P<format>{'|'.join(DISK_FORMATS)}),vdev=(?P<vdev>[a-z0-9]+),access=(?P<access>r[ow])"
    r",target=(?P<target>/[^\n]*[^,\n])"
)
_PLAIN_VIF = expression(  # the same of `vif_spec`
    r"mac=(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5}),devid=(?P<devid>[0-9]{1,18})(?:,bridge=(?P<bridge>[^,= ]+))?"
)
_UNKNOWN_PREFIX = expression(r"[a-z][a-z0-9]*:[^a-z0-9]")
_UDEV_FOLDER = expression(r"block|bus|char|cpu|disk|dri|fd|input|loop|mapper|md|nbd|net|rbd|shm|snd|zvol")
_DISK_OPTIONS = {key.name: key for key in DISK_KEYS if key.in_cfg and key.is_ordinary and key.spelled is None}
_VIF_OPTIONS = {key.name: key for key in VIF_KEYS if key.of is not None and key.spelled is None}
_FIRST_OF_DISK = ("format", "vdev", "access")  # in the order that 0.1 wrote them
_NUMBER = expression(r"[ \t]*\+?([0-9]{1,18})")
_NO_MAC = "00:00:00:00:00:00"
_COLO = expression(r"forwarddev|colo_([a-z0-9_]+)")


def _flags(keys: Iterable[Key[Owner]]) -> dict[str, tuple[Key[Owner], bool]]:
    """Map each word that xl has for a flag to its key, and to the value that it means."""
    words = ((key, value, word) for key in keys for value, word in zip((True, False), key.spelled or (), strict=False))
    return {word: (key, value) for key, value, word in words if word}


_DISK_FLAGS = _flags(DISK_KEYS)
_VIF_FLAGS = _flags(VIF_KEYS)


@dataclass(slots=True)
class _DiskParts:
    """The parts of a disk spec that were read so far. None means "not said yet", as in xl's scanner."""

    target: str | None = None
    vdev: str | None = None
    format: str | None = None
    access: Literal["rw", "ro"] = "rw"
    cdrom: bool = False
    had_prefix: bool = False  # after file: or phy: the position of the format is skipped
    access_given: bool = False
    options: dict[str, Value] = field(default_factory=dict)  # by field of a disk, what is passed on as it stands
    others: list[str] = field(default_factory=list)  # what is beyond the bounds of its key


def parse_disk(spec: str) -> Disk:
    """Read a disk spec in its old or new form. Raises ValueError with a sentence for what xl refuses."""
    return read_disk(spec)[0]


def read_disk(spec: str) -> tuple[Disk, tuple[str, ...]]:
    """Read a disk spec. Returns with the disk those parts that a domain spec cannot say.

    >>> disk, others = read_disk("phy:vg0/web,xvda,w")  # after phy: comes no format, and /dev is put in front
    >>> disk.target, disk.vdev, disk.format, disk.access, others
    ('/dev/vg0/web', 'xvda', 'raw', 'rw', ())
    """
    if (plain := _PLAIN_DISK.fullmatch(spec)) is not None:
        path = absolute(plain["target"]) if is_normal(plain["target"]) else plain["target"]
        devid, access = devid_of(plain["vdev"]), _ACCESS[plain["access"]]
        plain_disk = Disk(
            vdev=plain["vdev"], devid=devid, kind=kind_of(path), target=path, format=plain["format"], access=access
        )
        return plain_disk, ()
    parts = _DiskParts()
    rest = spec
    while rest := rest.lstrip(" \t\n"):
        rest = _read_disk_part(parts, rest, spec)
    if parts.cdrom:
        parts.access = "ro"
        if not parts.target or parts.format == "empty":
            parts.target, parts.format = "", None
    elif parts.format == "empty":
        parts.others.append("format=empty")
    if parts.vdev is None:
        raise ValueError(f'The disk "{spec}" has no vdev.')
    if parts.target is None:
        raise ValueError(f'The disk "{spec}" has no target.')
    options: dict[str, Any] = parts.options | {"backend": driver_domain(_text_of(parts.options.get("backend")))}
    disk = Disk(
        **options,
        vdev=parts.vdev,
        devid=devid_of(parts.vdev),
        kind="device",
        target=parts.target,
        format=parts.format or "raw",
        access=parts.access,
        cdrom=parts.cdrom,
    )
    return placed(disk, parts.target), tuple(parts.others)


def _text_of(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def placed(disk: Disk, target: str) -> Disk:
    """Return a disk with a target as xl has it, and the kind that this path tells of."""
    path = target if disk.script is not None else device_path(target)
    if disk.script is None and is_normal(path):
        path = absolute(path)  # /srv//a.img is /srv/a.img
    return replace(disk, target=path, kind="device" if disk.used_as_is else kind_of(path))


def _read_disk_part(parts: _DiskParts, rest: str, spec: str) -> str:
    """Take one part off the front of `rest`, in the order of xl's scanner rules; returns what is left."""
    if rest.startswith("target="):
        value = rest.removeprefix("target=").removesuffix(",")
        _refuse("\n" in value, spec, "has a line break in its target")
        _refuse(bool(parts.target), spec, "names its target twice")
        parts.target = value
        return ""
    if match := _DISK_PREFIX.match(rest):
        _take_prefix(parts, match[1], spec)
        return rest[match.end() :]
    _refuse(
        _UNKNOWN_PREFIX.match(rest) is not None, spec, f'begins "{rest.partition(":")[0]}:", which xl does not know'
    )
    word = rest.partition(",")[0]
    key, equals, value = word.partition("=")
    if word == "cdrom":
        parts.cdrom = True
    elif word in _DISK_FLAGS:
        flag, value_of_flag = _DISK_FLAGS[word]
        parts.options[flag.attribute] = value_of_flag
    elif equals and (key in _DISK_OPTIONS or key in (*_FIRST_OF_DISK, "devtype")):
        _take_key(parts, key, value, spec)
    else:
        _refuse(bool(equals), spec, f'has "{word}", which xl does not understand')
        _take_position(parts, word, spec)
    return rest[len(word) + 1 :]


def _take_prefix(parts: _DiskParts, prefix: str, spec: str) -> None:
    parts.had_prefix = True
    if prefix in _FORMATS:
        _set_format(parts, prefix, spec)
    elif prefix in ("iscsi", "nbd", "enbd", "drbd"):
        _take_key(parts, "script", f"block-{prefix}", spec)


def _take_key(parts: _DiskParts, key: str, value: str, spec: str) -> None:
    match key:
        case "format":
            _set_format(parts, value, spec)
        case "access":
            parts.access = _access(value, spec)
        case "vdev":
            _refuse(bool(parts.vdev), spec, "names its vdev twice")
            parts.vdev = value
        case "devtype":
            _refuse(value not in ("cdrom", "disk"), spec, f'has the devtype "{value}", which xl does not know')
            parts.cdrom = value == "cdrom"
        case _:
            option = _DISK_OPTIONS[key]
            before = parts.options.get(option.attribute)
            again = isinstance(before, str) and (before != value or not isinstance(option.kind, Choice))
            _refuse(again and bool(before), spec, f"has two values for {key}")
            if isinstance(option.kind, Choice):
                _refuse(value not in option.kind.words, spec, f'has the {key} "{value}", unknown to xl')
            read = _option(option, value)
            if read is None or read == "":
                parts.others.append(f"{key}={value}")
            else:
                parts.options[option.attribute] = read


def _option(key: Key[Disk] | Key[Vif], text: str) -> Value:
    """Read a value that has no meaning of its own here; None when it is not of the kind of its key."""
    match key.kind:
        case Choice():
            return text if text in key.kind.words else None
        case Whole():
            number = number_of(text)
            return number if number is not None and key.kind.least <= number <= key.kind.most else None
        case Kind.FLAG:
            return {"1": True, "0": False}.get(text)
        case _:
            return text


def _take_position(parts: _DiskParts, value: str, spec: str) -> None:
    if parts.target is None:
        parts.target = value
    elif not parts.had_prefix and parts.format is None:
        if not parts.target and ":" in value:
            parts.format = "empty"
            _set_vdev(parts, value, spec)
        else:
            _set_format(parts, value, spec)
    elif parts.vdev is None:
        _set_vdev(parts, value, spec)
    elif not parts.access_given:
        parts.access_given = True
        parts.access = _access(value, spec)
    else:
        raise ValueError(f'The disk "{spec}" has more parts than target, format, vdev and access.')


def _set_vdev(parts: _DiskParts, value: str, spec: str) -> None:
    """Take a vdev, which may have a device type behind it: `hdc:cdrom`."""
    vdev, colon, devtype = value.rpartition(":")
    if not colon:
        parts.vdev = value
        return
    _refuse(devtype not in ("cdrom", "disk"), spec, f'has the device type "{devtype}", which xl does not know')
    parts.vdev = vdev
    parts.cdrom = devtype == "cdrom"


def _set_format(parts: _DiskParts, value: str, spec: str) -> None:
    value = value or "raw"
    if value not in _FORMATS:
        hint = near_miss(value, _FORMATS) or f"xl knows {', '.join(_FORMATS)}."
        _refuse(True, spec, f'has the format "{value}", which xl does not know', hint)
    _refuse(parts.format not in (None, value), spec, "names two formats")
    parts.format = value


def _access(value: str, spec: str) -> Literal["rw", "ro"]:
    hint = 'The "w!" of xm let two domains write to one disk; write w, for one of them.' if value == "w!" else None
    _refuse(value not in _ACCESS, spec, f'has the access "{value}"; xl knows r and w', hint)
    return _ACCESS[value]


def _refuse(wrong: bool, spec: str, what: str, hint: str | None = None) -> None:
    if wrong:
        raise Unfit(f'The disk "{spec}" {what}.', hint)


def device_path(target: str) -> str:
    """Return the path that xl's block script opens: a relative one lies under /dev (`phy:vg0/web`)."""
    return f"/dev/{target}" if target and not target.startswith("/") else target


def kind_of(target: str) -> Literal["file", "lv", "device"]:
    """Guess the kind of a target by its path alone: /dev/<volume group>/<volume> is a logical volume."""
    if not target.startswith("/dev/"):
        return "file"
    folder, slash, name = target.removeprefix("/dev/").partition("/")
    return "lv" if slash and name and "/" not in name and not _UDEV_FOLDER.fullmatch(folder) else "device"


def disk_spec(disk: Disk) -> str:
    """Write a disk for xl. The target comes last, since `target=` swallows the rest, commas and all."""
    if disk.target.endswith(",") or disk.target != disk.target.strip("\n"):
        raise ValueError(f'The disk target "{disk.target}" ends with a comma or a line break, which xl drops.')
    empty = disk.cdrom and not disk.target
    parts = [f"format={'empty' if empty else disk.format}", f"vdev={disk.vdev}", f"access={disk.access}"]
    parts += ["devtype=cdrom"] if disk.cdrom else []
    parts += _said(LATER_KEYS_OF_DISKS, disk)
    for part in parts:
        if "," in part:
            raise ValueError(f'The disk {disk.vdev} has "{part}": a comma would begin another key for xl.')
    return ",".join([*parts, f"target={disk.target}"])


def _said(keys: Iterable[Key[Owner]], device: Owner) -> list[str]:
    """Write what is passed on as it stands, where it is set."""
    said = []
    for key in keys:
        value = key.value(device)
        if key.worked_out or value is None or value == key.default:
            continue
        said.append(key.spelled[0 if value else 1] if key.spelled is not None else f"{key.name}={in_cfg(value)}")
    return said


def parse_vif(spec: str, index: int) -> Vif:
    """Read a vif spec at its place in the list. Raises ValueError for what `xl network-attach` refuses.

    Without a mac in the spec, the mac is "".
    """
    vif, ignored, unsaid = read_vif(spec, index)
    for part in (*ignored, *unsaid):
        if not part.startswith("accel="):
            raise ValueError(f'The vif "{spec}" has "{part}", which xl does not understand.')
    return vif


def read_vif(spec: str, index: int) -> tuple[Vif, tuple[str, ...], tuple[str, ...]]:
    """Read a vif spec.

    Returns with the vif those parts that xl makes nothing of (`xl create` only warns of them), and those that it heeds
    and no domain spec can say.
    Blanks around a value are left out: xl-create-image writes them, and what reads the values drops them.
    """
    if (plain := _PLAIN_VIF.fullmatch(spec)) is not None and plain["mac"] != _NO_MAC:
        return Vif(devid=int(plain["devid"]), mac=plain["mac"], bridge=plain["bridge"]), (), ()
    found: dict[str, Any] = {"mac": ""}
    ignored: list[str] = []
    unsaid: list[str] = []
    colo: dict[str, str] = {}
    devid = index
    for part in filter(None, (part.lstrip(" ") for part in spec.split(","))):
        name, equals, value = part.partition("=")
        name = "gatewaydev" if name == "netdev" else name
        if name == "devid":
            devid = _count(value)
        elif part in _VIF_FLAGS:
            flag, value_of_flag = _VIF_FLAGS[part]
            found[flag.attribute] = value_of_flag
        elif equals and not value.strip(" ") and name in _VIF_OPTIONS:
            found.pop(_VIF_OPTIONS[name].attribute, None)
            ignored.append(part)
        elif equals and (match := _COLO.fullmatch(name)):
            colo[match[1] or name] = value.strip(" ")
        elif equals and name in _VIF_OPTIONS and (read := _vif_value(_VIF_OPTIONS[name], value)) is not None:
            found[_VIF_OPTIONS[name].attribute] = read
        elif equals and name in _VIF_OPTIONS and isinstance(_VIF_OPTIONS[name].kind, Whole) and _count(value):
            unsaid.append(part)  # a 0 means nothing to xl
        else:
            ignored.append(part)
    found["backend"] = driver_domain(found.get("backend"))
    return Vif(devid=devid, **found, colo=tuple(sorted(colo.items()))), tuple(ignored), tuple(unsaid)


def _vif_value(key: Key[Vif], text: str) -> Value:
    """Read a value; None where xl, or what it passes it to, makes nothing of it."""
    match key.name:
        case "mac":
            return _mac(text)
        case "rate":
            rate_of(text)
            return text
        case _ if isinstance(key.kind, Whole):
            return _option(key, str(_count(text)))
        case _:
            return _option(key, text.strip(" "))


def _count(text: str) -> int:
    number = _NUMBER.match(text)
    if number is None:
        raise ValueError(f'A vif has "{text[:40]}" where xl expects a number.')
    return int(number[1])


def _mac(text: str) -> str | None:
    """Read a mac as xl does: six hexadecimal numbers with any one character between them; zeros stand for none."""
    match = re.match(r"([0-9a-fA-F]{1,2})" + r".([0-9a-fA-F]{1,2})" * 5, text)
    mac = ":".join(f"{int(octet, 16):02x}" for octet in match.groups()) if match else None
    return None if mac == _NO_MAC else mac


def vif_spec(vif: Vif) -> str:
    """Write a vif for xl. It always names mac and devid, so that neither is left to chance or to the order."""
    parts = [f"mac={vif.mac}", f"devid={vif.devid}"]
    for key in VIF_KEYS:
        value = key.value(vif) if key.of is not None else None
        if key.name not in ("mac", "colo") and value is not None:
            parts.append(key.spelled[0 if value else 1] if key.spelled is not None else f"{key.name}={in_cfg(value)}")
    parts += [f"{'' if name == 'forwarddev' else 'colo_'}{name}={value}" for name, value in vif.colo]
    for part in parts:
        if "," in part:
            raise ValueError(f'The vif with mac {vif.mac} has "{part}": a comma would begin another key for xl.')
    return ",".join(parts)
