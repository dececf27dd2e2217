"""Reads and writes the device specs in xl.cfg: the strings in `disk = [...]`, `vif = [...]` and `pci = [...]`.

Called by `config_file` for files, by `running` to compare addresses and paths, by the xl host for hotplug arguments.
Written after xl's own scanners (libxlu_disk_l.l, libxlu_vif.c, xl_parse.c of Xen 4.17 to 4.21).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from reconciler.model.domain import Disk, Vif
from reconciler.model.key_row import Choice, Key, Kind, Value, Whole
from reconciler.model.keys import DISK_KEYS, VIF_KEYS
from reconciler.model.parts import LATER_KEYS_OF_DISKS, given_later, in_cfg
from reconciler.model.quantities import Unfit, rate_of
from reconciler.model.vdev import devid_of
from reconciler.specs.schema_errors import near_miss
from reconciler.texts.cfg_grammar import number_of

_FORMATS = ("raw", "qcow", "qcow2", "vhd", "empty", "qed")
_BACKENDS = ("phy", "tap", "qdisk", "standalone")
_ACCESS: dict[str, Literal["rw", "ro"]] = {"r": "ro", "ro": "ro", "w": "rw", "rw": "rw", "": "rw"}
_DISK_FLAG = re.compile(r"direct-io-safe|(no-)?discard|(no-)?colo|(un)?trusted|grant_usage=[01]")
_DISK_KEY = re.compile(
    r"format|devtype|access|vdev|script|backend|backendtype|specification|colo-(host|port|export)|active-disk|hidden-disk"
)
_DISK_PREFIX = re.compile(r"(raw|qcow2?|vhd|iscsi|e?nbd|drbd|tapdisk|tap2?|aio|ioemu|file|phy):")
_UNKNOWN_PREFIX = re.compile(r"[a-z][a-z0-9]*:[^a-z0-9]")
_UDEV_FOLDER = re.compile(r"block|bus|char|cpu|disk|dri|fd|input|loop|mapper|md|nbd|net|rbd|shm|snd|zvol")
_DISK_OPTIONS = {key.name: key for key in DISK_KEYS if key.in_cfg and key.is_ordinary}
_VIF_OPTIONS = {key.name: key for key in VIF_KEYS}
_VIF_OTHERS = ("netdev", "gatewaydev", "backend", "accel", "mtu", "vlan", "forwarddev", "colo_")
_BDF = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])(?=$|[@,])")


class PciAddress(NamedTuple):
    """The address of a PCI function in dom0, written in full as `xl pci-assignable-list` does."""

    domain: int
    bus: int
    device: int
    function: int

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function:x}"


@dataclass(slots=True)
class _DiskParts:
    """The parts of a disk spec that were read so far. None means "not said yet", as in xl's scanner."""

    target: str | None = None
    vdev: str | None = None
    format: str | None = None
    access: Literal["rw", "ro"] = "rw"
    cdrom: bool = False
    script: str | None = None
    had_prefix: bool = False  # after file: or phy: the position of the format is skipped
    access_given: bool = False
    options: dict[str, Value] = field(default_factory=dict)  # by field of a disk, what is passed on as it stands
    others: list[str] = field(default_factory=list)  # what a domain spec has no word for


def parse_disk(spec: str) -> Disk:
    """Read a disk spec in its old or new form. Raises ValueError with a sentence for what xl refuses."""
    return read_disk(spec)[0]


def read_disk(spec: str) -> tuple[Disk, tuple[str, ...]]:
    """Read a disk spec. Returns with the disk those parts that a `Disk` has no field for (`script=…`, `cdrom`).

    >>> disk, others = read_disk("phy:vg0/web,xvda,w")  # after phy: comes no format, and /dev is put in front
    >>> disk.target, disk.vdev, disk.format, disk.access, others
    ('/dev/vg0/web', 'xvda', 'raw', 'rw', ())
    """
    parts = _DiskParts()
    rest = spec
    while rest := rest.lstrip(" \t\n"):
        rest = _read_disk_part(parts, rest, spec)
    if parts.cdrom:
        parts.access = "ro"
        parts.others.append("devtype=cdrom")
        if not parts.target:
            parts.target, parts.format = "", "empty"
    if parts.vdev is None:
        raise ValueError(f'The disk "{spec}" has no vdev.')
    if parts.target is None:
        raise ValueError(f'The disk "{spec}" has no target.')
    target = parts.target if parts.script else device_path(parts.target)
    options: dict[str, Any] = parts.options
    disk = Disk(
        **options,
        vdev=parts.vdev,
        devid=devid_of(parts.vdev),
        kind=kind_of(target),
        target=target,
        format=parts.format or "raw",
        access=parts.access,
    )
    return disk, tuple(parts.others)


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
    elif _DISK_FLAG.fullmatch(word):
        parts.others.append(word)
    elif equals and _DISK_KEY.fullmatch(key):
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
        case "script":
            _refuse(bool(parts.script), spec, "names two scripts")
            parts.script = value
            parts.others.append(f"script={value}")
        case _:
            unknown = key == "backendtype" and value not in _BACKENDS
            _refuse(unknown, spec, f'has the backendtype "{value}", unknown to xl')
            option = _DISK_OPTIONS.get(key)
            if option is not None and (read := _option(option, value)) is not None:
                parts.options[option.attribute] = read
            else:
                parts.others.append(f"{key}={value}")


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
    hint = near_miss(value, _FORMATS) or f"xl knows {', '.join(_FORMATS)}."
    _refuse(value not in _FORMATS, spec, f'has the format "{value}", which xl does not know', hint)
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
    options = [
        ("format", disk.format),
        ("vdev", disk.vdev),
        ("access", disk.access),
        *given_later(LATER_KEYS_OF_DISKS, disk),
    ]
    parts = [f"{key}={value}" for key, value in options]
    for part in parts:
        if "," in part:
            raise ValueError(f'The disk {disk.vdev} has "{part}": a comma would begin another key for xl.')
    return ",".join([*parts, f"target={disk.target}"])


def parse_vif(spec: str, index: int) -> Vif:
    """Read a vif spec at its place in the list. Raises ValueError for what `xl network-attach` refuses.

    Without a mac in the spec, the mac is "".
    """
    vif, others = read_vif(spec, index)
    for part in others:
        if not part.startswith(_VIF_OTHERS) and part not in ("trusted", "untrusted"):
            raise ValueError(f'The vif "{spec}" has "{part}", which xl does not understand.')
    return vif


def read_vif(spec: str, index: int) -> tuple[Vif, tuple[str, ...]]:
    """Read a vif spec. Returns with the vif those parts that a `Vif` has no field for.

    `xl create` only warns of parts that it does not know.
    """
    found: dict[str, Any] = {"mac": ""}
    others: list[str] = []
    devid = index
    for part in filter(None, (part.lstrip(" ") for part in spec.split(","))):
        name, equals, value = part.partition("=")
        if name == "devid":
            devid = _devid(spec, value)
        elif equals and name in _VIF_OPTIONS and (read := _vif_value(_VIF_OPTIONS[name], value)) is not None:
            found[_VIF_OPTIONS[name].attribute] = read
        else:
            others.append(part)
    return Vif(devid=devid, **found), tuple(others)


def _vif_value(key: Key[Vif], text: str) -> Value:
    match key.name:
        case "mac":
            return _mac(text)
        case "rate":
            rate_of(text)
            return text
        case _:
            return _option(key, text)


def _devid(spec: str, text: str) -> int:
    if not re.match(r"[ \t]*\+?[0-9]{1,9}", text):
        raise ValueError(f'The vif "{spec}" has the devid "{text}", which is no number.')
    return int(re.split(r"[^0-9]", text.strip(" \t+"), maxsplit=1)[0])


def _mac(text: str) -> str | None:
    """Read a mac as xl does: six hexadecimal numbers with any one character between them."""
    match = re.match(r"([0-9a-fA-F]{1,2})" + r".([0-9a-fA-F]{1,2})" * 5, text)
    return ":".join(f"{int(octet, 16):02x}" for octet in match.groups()) if match else None


def vif_spec(vif: Vif) -> str:
    """Write a vif for xl. It always names mac and devid, so that neither is left to chance or to the order."""
    parts = [f"mac={vif.mac}", f"devid={vif.devid}"]
    for key in VIF_KEYS:
        spelled = in_cfg(key.value(vif))
        if key.name != "mac" and spelled is not None:
            parts.append(f"{key.name}={spelled}")
    for part in parts:
        if "," in part:
            raise ValueError(f'The vif with mac {vif.mac} has "{part}": a comma would begin another key for xl.')
    return ",".join(parts)


def pci_address(spec: str) -> PciAddress | None:
    """Read the address in a pci spec; None where it names no device that way."""
    match = _BDF.match(spec)
    if match is None:
        return None
    return PciAddress(int(match[1] or "0", 16), int(match[2], 16), int(match[3], 16), int(match[4], 16))
