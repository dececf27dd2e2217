"""Turns what exists into a spec: a domain, as it runs or as its config file says, becomes the table of a TOML file.

Called by the command `import`. Pure. Nothing is dropped without a word: what a domain has is in the table, or in a
sentence of `unsaid` (it would be lost) or `ignored` (xl makes nothing of it either). The table is judged by the rules
for specs, and what they refuse is taken out again and told. So what comes out is a spec that resolves.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.importer.names import is_name, near_name
from reconciler.model.disks import place_of
from reconciler.model.domain import Disk, Domain, Image, Vif, XlValue
from reconciler.model.fleet import HostSettings
from reconciler.model.key_row import Key, Kind, Takes
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.parts import key_named
from reconciler.model.paths import absolute, disk_identity, is_normal
from reconciler.model.pci import read_pci
from reconciler.model.quantities import printable, quoted
from reconciler.records import dataclass
from reconciler.specs.resolve.domain import build_domain
from reconciler.specs.resolve.fleet import in_common_of_fleet, in_common_of_host
from reconciler.specs.resolve.host import check_allowed, pci_device, resolve_host
from reconciler.specs.resolve.inputs import Table
from reconciler.specs.resolve.layers import Layer, merge
from reconciler.specs.resolve.rules import PATHS_OF_DISKS, check_alone
from reconciler.specs.schema import DomainSpec, TreeSpec
from reconciler.specs.schema_errors import Complaint, Loc, validate
from reconciler.specs.value_types import DEFAULT_AUTOSTART, LOGICAL_VOLUME
from reconciler.texts.cfg_grammar import as_latin1

_KIB_PER_MIB = 1024
_COMMENT_MAX = 2000  # characters of a line; nobody reads on
_ARRAYS = frozenset({"disk", "vif", "pci"})
_IMPORTED = tuple(
    key for key in DOMAIN_KEYS if key.of is not None and key.in_spec and (key.kept or key.takes is not Takes.NOTHING)
)
_OF_DISKS = tuple(key for key in DISK_KEYS if key.of is not None and key.takes is not Takes.NOTHING)
_NOTHING_IS_NONE = tuple(
    key for key in _IMPORTED if key.kind is Kind.FILE or (key.is_ordinary and key.default is None and key.unset is None)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A domain as a spec. `spec` is `table` on top of the tree's defaults, and nothing complains of it."""

    name: str
    table: Table
    spec: DomainSpec
    unsaid: tuple[str, ...]
    ignored: tuple[str, ...]
    to_bring: tuple[str, ...] = ()  # relative paths of kernels, which lie where xl was called


class NotImportable(ValueError):
    """No spec can be made of a domain; `str()` says why in whole sentences."""


def import_domain(
    domain: Domain, defaults: Table, *, unsaid: Iterable[str] = (), ignored: Iterable[str] = ()
) -> Imported:
    """Make the spec of a domain, for a tree with these `[defaults]`. Its reader told `unsaid` and `ignored`."""
    _check_name(domain.name)
    if domain.bootloader_args and not domain.bootloader:
        domain = replace(domain, bootloader_args=())
        ignored = (*ignored, "bootloader_args is given without a bootloader, so xl makes nothing of it.")
    table, foreign = _in_utf8(_table(domain, defaults))
    table, upward = _without_dots(table)
    kept, spec, refused = _fit(domain.name, table, defaults)
    lost = (*map(as_latin1, unsaid), *foreign, *upward, *_reductions(domain), *refused, *_imposed(domain, defaults))
    if lost:
        kept = {"reconcile": False, **kept}
        spec = spec.but(reconcile=False)
    return Imported(
        name=domain.name,
        table=kept,
        spec=spec,
        unsaid=lost,
        ignored=tuple(map(as_latin1, ignored)),
        to_bring=tuple(image for image in (spec.kernel, spec.ramdisk) if image and not image.startswith("/")),
    )


def host_needs(specs: Iterable[DomainSpec], settings: HostSettings) -> dict[str, Any]:
    """Return what host.toml has to say for these specs: the whole new value of each key that falls short now."""
    roots = {"kernel_roots": list(settings.kernel_roots), "disk_roots": list(settings.disk_roots)}
    allow = {key: list(getattr(settings.allow, key)) for key in ("bootloaders", "scripts", "xl_keys", "pci")}
    short: set[str] = set()
    for spec in specs:
        for complaint in check_allowed(spec, settings):
            key, entry = _need(complaint.loc, spec)
            values = roots[key] if key in roots else allow[key]
            short.add(key)
            if entry not in values:
                values.append(entry)
    needs: dict[str, Any] = {key: values for key, values in roots.items() if key in short}
    allowed = {key: values for key, values in allow.items() if key in short}
    return {**needs, "allow": allowed} if allowed else needs


def as_toml(imported: Imported, origin: str, comments: Mapping[str, Iterable[str]] | None = None) -> str:
    """Write the file: where it came from, what it cannot say, and the table. Same input, same bytes.

    `comments` are those of the config file by key ("": at its end). Each stays by its key; of a key that is not
    written, it stands at the head.
    """
    import tomli_w

    left = {_WRITTEN_AS.get(key, key): lines for key, lines in (comments or {}).items() if key not in _WRITTEN_AS}
    for key, other in _WRITTEN_AS.items():
        left[other] = [*left.get(other, ()), *(comments or {}).get(key, ())]
    tail = left.pop("", ())
    plain, tables = [], []
    for key, value in imported.table.items():
        if key == "xl":
            continue
        text, above = tomli_w.dumps({key: value}), _commented(left.pop(key, ()))
        if text.startswith("["):  # devices with much to say are tables of their own, and what comes behind is theirs
            tables.append(f"\n{above}{text}")
        else:
            plain.append(above + text)
    if "xl" in imported.table:
        own = imported.table["xl"].items()
        lines = [_commented(left.pop(key, ())) + tomli_w.dumps({key: value}) for key, value in own]
        tables.append("\n[xl]\n" + "".join(lines))
    head = [f"Imported from {origin}."]
    if imported.unsaid:
        head += ["", "A spec cannot say this, so it is held; without the line reconcile = false, apply drops it:"]
        head += [f"- {sentence}" for sentence in imported.unsaid]
    rest = [line for lines in left.values() for line in lines]
    above = "".join(_comment(line) for line in head) + ("#\n" if rest else "") + _commented(rest)
    return f"{above}\n{''.join(plain + tables)}{_commented(tail)}"


_WRITTEN_AS = {"builder": "type", "root": "cmdline", "extra": "cmdline"}
"""Keys of xl.cfg that a spec says with another one."""


def _commented(lines: Iterable[str]) -> str:
    return "".join(_comment(as_latin1(line.lstrip("#").strip())) for line in lines)


def _comment(text: str) -> str:
    """Write a comment of one line, which is cut where specs could not be read any more for its length."""
    shown = printable(text)
    return f"# {shown if len(shown) <= _COMMENT_MAX else f'{shown[:_COMMENT_MAX]} …'}".rstrip() + "\n"


def _check_name(name: str) -> None:
    if not is_name(name):
        raise NotImportable(f"{quoted(name)} is no name for a spec; {quoted(near_name(name))} is one.")


def _table(domain: Domain, defaults: Table) -> dict[str, Any]:
    """Make the table of the spec, in the order people read it. Defaults are left out unless the tree's differ."""
    table: dict[str, Any] = {}
    for key in _IMPORTED:
        value = _value(key, domain)
        said = key.name in defaults or (key.name == "vcpus" and domain.vcpus_given)
        if value is not None and (said or value != _usual(key, domain)):
            table[key.name] = value
    devices = {
        "disk": [_disk(disk) for disk in domain.disks],
        "vif": [_vif(vif, index) for index, vif in enumerate(domain.vifs)],
    }
    table |= {key: value for key, value in devices.items() if value or key in defaults}
    others = {key: _as_toml_value(value) for key, value in domain.xl}
    return {**table, "xl": others} if others else table


def _in_utf8(table: Table) -> tuple[dict[str, Any], list[str]]:
    """Read bytes that are no UTF-8, which TOML cannot have, as Latin-1, and say where some are."""
    read = {key: _latin1(value) for key, value in table.items()}
    odd = [key for key, value in table.items() if read[key] != value]
    return read, [f"{key} has bytes that are no UTF-8, and the spec has them as Latin-1." for key in odd]


def _without_dots(table: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take `..` out of paths, which no spec can have: what they mean depends on the links of the host."""
    said = []

    def straight(path: str) -> str:
        if not path.startswith("/"):
            return posixpath.normpath(path)  # it is to be brought into the tree anyway
        if is_normal(path):
            return path
        short = posixpath.normpath(path)
        said.append(f'A spec cannot say ".." in {quoted(path)}: it has {quoted(short)}, the same where no link is.')
        return short

    def of_table(part: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
        return {
            key: straight(value) if key in keys and isinstance(value, str) else value for key, value in part.items()
        }

    disks = {key: [of_table(disk, PATHS_OF_DISKS) for disk in value] for key, value in table.items() if key == "disk"}
    return {**of_table(table, ("kernel", "ramdisk")), **disks}, said


def _latin1(value: Any) -> Any:
    match value:
        case str():
            return as_latin1(value)
        case list():
            return [_latin1(item) for item in value]
        case dict():
            return {key: _latin1(item) for key, item in value.items()}
        case _:
            return value


def _value(key: Key[Domain], domain: Domain) -> Any:
    """Return the value of a key as TOML has it; None when nothing is to be said."""
    match key.kind, key.meant(domain):
        case Kind.FILE, value:
            return value.path if isinstance(value, Image) else None
        case Kind.LINE, value:
            return value or ""
        case Kind.SIZE, int() as kib:
            return kib // _KIB_PER_MIB
        case Kind.DEVICES, tuple() as devices:
            return [_pci(device) for device in devices if isinstance(device, str)]
        case _, tuple() as items:
            return list(items)
        case Kind.ORDER, int() | None as order:
            return _autostart(order)
        case Kind.DURATION, int() | float() as seconds:
            return _duration(seconds)
        case _, value:
            return value or None if key.name == "uuid" else value


def _usual(key: Key[Domain], domain: Domain) -> Any:
    """Return what a spec without the key means; None when the key has to be written."""
    if key.floor is not None:
        return _value(key_named(key.floor), domain)
    match key.kind:
        case Kind.LINE:
            return ""
        case Kind.ORDER:
            return False
        case Kind.DURATION if isinstance(key.default, float):
            return _duration(key.default)
        case _ if key.name == "type":
            return None  # people read it first
        case _:
            usual = key.unset if key.default is None else key.default
            return list(usual) if isinstance(usual, tuple) else usual


def _as_toml_value(value: XlValue) -> Any:
    return list(map(_as_toml_value, value)) if isinstance(value, tuple) else value


def _autostart(order: int | None) -> bool | int:
    return False if order is None else True if order == DEFAULT_AUTOSTART else order


def _duration(seconds: float) -> str:
    """Write a duration that is at least as long."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{math.ceil(seconds * 1000)}ms"


def _disk(disk: Disk) -> dict[str, Any]:
    table: dict[str, Any] = {"vdev": disk.vdev}
    key, place = place_of(disk)
    if key == "lv" and not re.fullmatch(LOGICAL_VOLUME, place):
        key, place = "device", disk.target
    if place or not disk.cdrom:
        table[key] = place
    asked = {key.name: key.value(disk) for key in _OF_DISKS if key.value(disk) != key.default}
    if disk.cdrom:
        asked.pop("access", None)  # nobody writes to a CD
    return table | asked


def _vif(vif: Vif, index: int) -> dict[str, Any]:
    """Return the interface with its mac, which then identifies it; a file may leave that open."""
    given: dict[str, Any] = {}
    for key in VIF_KEYS:
        if key.of is None and vif.devid != index:
            given[key.name] = vif.devid
        elif key.of is not None and key.value(vif) not in (None, (), ""):
            given[key.name] = dict(vif.colo) if key.kind is Kind.TABLE else key.value(vif)
    return given


def _pci(text: str) -> str | dict[str, Any]:
    """Return a device as a spec has it: its address, or a table where there is more to say."""
    device = read_pci(text)
    if text == device.bdf:
        return text
    table: dict[str, Any] = {"bdf": device.bdf} if device.bdf else {"name": device.name}
    slot = {} if device.vslot is None else {"vslot": f"{device.vslot:02x}"}
    policy = {} if device.rdm_policy is None else {"rdm_policy": device.rdm_policy}
    return {**table, **slot, **(device.flags or {}), **policy}


def _fit(name: str, table: dict[str, Any], defaults: Table) -> tuple[dict[str, Any], DomainSpec, tuple[str, ...]]:
    """Take out what no spec may say. Returns the rest, the spec it makes, and why each part was taken out."""
    refused: list[str] = []
    while True:
        spec, complaints = validate(DomainSpec, merge((Layer("", defaults), Layer("", table))))
        if spec is not None and not complaints:
            complaints = tuple(check_alone(spec)) or tuple(_twice(name, spec))
            if not complaints:
                return table, spec, tuple(refused)
        entries = {_entry(complaint.loc): complaint for complaint in reversed(complaints)}
        culprits = {entry: complaint for entry, complaint in entries.items() if _is_in(table, entry)}
        if not culprits:
            raise NotImportable(" ".join([*refused, *(complaint.detail for complaint in complaints)]))
        refused += [_taken_out(table, entry, complaint) for entry, complaint in culprits.items()]
        table = _without(table, culprits)


def _twice(name: str, spec: DomainSpec) -> Iterator[Complaint]:
    """List what a spec has twice, which xl takes and which would destroy the disk or confuse the network."""
    settings, _ = resolve_host("HOST", {"toolstack": "xl"})
    assert settings is not None
    domain = build_domain(name, spec.but(kernel=None, ramdisk=None), settings, TreeSpec(), {})
    for rule in (in_common_of_fleet, in_common_of_host):
        yield from (found.complaint for found in rule({name: domain}))


def _entry(loc: Loc) -> Loc:
    """Return what to take out when the value at `loc` is wrong: a whole disk, since half of one would be another."""
    if loc[0] in ("disk", "pci", "xl"):
        return loc[:2]
    return loc[:3] if loc[0] == "vif" else loc[:1]


def _is_in(table: Table, entry: Loc) -> bool:
    value: Any = table
    for step in entry:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _taken_out(table: Table, entry: Loc, complaint: Complaint) -> str:
    if entry[0] != "disk":
        return f"{complaint.detail} It is left out."
    disk = table["disk"][entry[1]]
    target = next((disk[key] for key in ("path", "lv", "device", "target") if key in disk), "no medium")
    return f"{complaint.detail} The disk {disk['vdev']} ({quoted(target)}) is left out."


def _without(table: dict[str, Any], entries: Iterable[Loc]) -> dict[str, Any]:
    """Return a copy without these entries. An [xl] or an array that becomes empty goes, too."""
    gone = set(entries)
    kept: dict[str, Any] = {}
    for key, value in table.items():
        if key in _ARRAYS:
            items = [item for index, item in enumerate(value) if (key, index) not in gone]
            if key == "vif":
                items = [
                    {name: part for name, part in vif.items() if (key, index, name) not in gone}
                    for index, vif in enumerate(value)
                ]
            value = items
        elif key == "xl":
            value = {name: setting for name, setting in value.items() if (key, name) not in gone}
        if (key,) not in gone and not (key == "xl" and not value):
            kept[key] = value
    return kept


def _reductions(domain: Domain) -> Iterator[str]:
    """List where the table says less exactly what the domain has."""
    for key in _IMPORTED:
        kib = key.value(domain) if key.kind is Kind.SIZE else 0
        if isinstance(kib, int) and kib % _KIB_PER_MIB:
            yield f"{key.name} is {kib} KiB, and a spec counts whole MiB."


def _imposed(domain: Domain, defaults: Table) -> Iterator[str]:
    """List what the tree's defaults give a domain that has nothing of the kind, and that no spec can take away."""
    for key in _NOTHING_IS_NONE:
        if key.kind is not Kind.ORDER and key.name in defaults and key.value(domain) is None:
            yield f"The tree's [defaults] give it a {key.name}, which it does not have."
    of_domain = {key for key, _value in domain.xl}
    for key in defaults.get("xl", {}):
        if key not in of_domain:
            yield f"The tree's [defaults] give it xl.{key}, which it does not have."


def _need(loc: Loc, spec: DomainSpec) -> tuple[str, str]:
    """Return the key of host.toml, and the entry in it, that would allow what a spec has at `loc`."""
    match loc:
        case ("disk", int(index), "script"):
            return "scripts", spec.disk[index].script or ""
        case ("disk", int(index), "active-disk" | "hidden-disk" as key):
            return "disk_roots", posixpath.dirname(
                disk_identity(absolute(getattr(spec.disk[index], PATHS_OF_DISKS[key])))
            )
        case ("disk", int(index), _):
            disk = spec.disk[index]
            if disk.lv is not None:
                return "disk_roots", disk.lv.partition("/")[0]
            place = disk_identity(absolute(disk.path or disk.device or ""))
            return "disk_roots", place if disk.device is not None else posixpath.dirname(place)
        case ("vif", int(index), _):
            return "scripts", spec.vif[index].script or ""
        case ("pci", int(index)):
            return "pci", pci_device(spec.pci[index]).device
        case ("xl", key):
            return "xl_keys", str(key)
        case ("kernel" | "ramdisk" as key,):
            return "kernel_roots", posixpath.dirname(absolute(getattr(spec, key)))
        case (str(key),) if (allowed_by := key_named(key).allowed_by) is not None:
            return allowed_by, getattr(spec, key)
        case _:
            raise AssertionError(f"host.toml has no say about {loc}")
