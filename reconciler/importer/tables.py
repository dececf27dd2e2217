"""From what exists to a spec: a domain, as it runs or as its config file says, becomes the table of a TOML file.

Called by the command `import`. Pure. Nothing is dropped without a word: what a domain has is in the table, or in a
sentence of `unsaid` (it would be lost) or `ignored` (xl makes nothing of it either). The rules are those that specs are
judged by: what they refuse is taken out again and told, so what comes out is a spec that resolves.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.fleet import HostSettings
from reconciler.model.paths import absolute, disk_identity
from reconciler.model.units import printable, quoted
from reconciler.specs.resolve.host import check_allowed, pci_address
from reconciler.specs.resolve.inputs import Table
from reconciler.specs.resolve.layers import Layer, merge
from reconciler.specs.resolve.rules import check_alone
from reconciler.specs.schema import DEFAULT_AUTOSTART, LOGICAL_VOLUME, NAME, DomainSpec
from reconciler.specs.schema_errors import Complaint, Loc, validate
from reconciler.specs.tree import HOST_FILE, TAKEN_NAMES

_KIB_PER_MIB = 1024
_ARRAYS = frozenset({"disk", "vif", "pci"})
_PLAIN_BDF = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])(.*)", re.DOTALL)
_VIF_KEYS = ("mac", "bridge", "ip", "script", "rate", "model", "type", "vifname")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A domain as a spec. `spec` is `table` on top of the tree's defaults, and nothing complains of it."""

    name: str
    table: Table
    spec: DomainSpec
    unsaid: tuple[str, ...]
    ignored: tuple[str, ...]


class NotImportable(ValueError):
    """No spec can be made of a domain; `str()` says why in whole sentences."""


def import_domain(
    domain: Domain, defaults: Table, *, unsaid: Iterable[str] = (), ignored: Iterable[str] = ()
) -> Imported:
    """The spec of a domain, for a tree with these `[defaults]`. `unsaid` and `ignored` are what its reader told.

    A spec that lacks something is held (`reconcile = false`), so that no apply takes it away before a person decides.
    """
    _check_name(domain.name)
    table = _table(domain, defaults)
    kept, spec, refused = _fit(table, defaults)
    lost = (*unsaid, *_reductions(domain), *refused, *_imposed(domain, defaults))
    if lost:
        kept = {"reconcile": False, **kept}
        spec = spec.model_copy(update={"reconcile": False})
    return Imported(
        name=domain.name,
        table=kept,
        spec=spec,
        unsaid=lost,
        ignored=(*ignored, *_moved(domain)),
    )


def host_needs(specs: Iterable[DomainSpec], settings: HostSettings) -> dict[str, Any]:
    """What host.toml has to say for these specs: the whole new value of each key that falls short now."""
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


def as_toml(imported: Imported, origin: str) -> str:
    """The file: where it came from, what it cannot say, and the table. Same input, same bytes."""
    import tomli_w

    head = [f"Imported from {origin}."]
    if imported.unsaid:
        head += ["", "A spec cannot say this, so it is held; without the line reconcile = false, apply drops it:"]
        head += [f"- {sentence}" for sentence in imported.unsaid]
    comments = "".join(f"# {printable(line)}".rstrip() + "\n" for line in head)
    return f"{comments}\n{tomli_w.dumps(imported.table)}"


def _check_name(name: str) -> None:
    if re.fullmatch(NAME, name) is None:
        raise NotImportable(
            f"{quoted(name)} is no name for a spec: that is a letter, then up to 39 letters, digits, dots, underscores "
            "or dashes."
        )
    if name in TAKEN_NAMES or f"{name}.toml" == HOST_FILE:
        raise NotImportable(f"{quoted(name)} is no name for a spec: it stands for something else.")


def _table(domain: Domain, defaults: Table) -> dict[str, Any]:
    """The keys of the spec, in the order people read them; one that says the default only where the tree's differs."""
    memory, maxmem = domain.memory_kib // _KIB_PER_MIB, domain.maxmem_kib // _KIB_PER_MIB
    values: dict[str, tuple[Any, Any]] = {  # key: (value, default)
        "type": (domain.type, None),
        "kernel": (domain.kernel.path if domain.kernel is not None else None, None),
        "ramdisk": (domain.ramdisk.path if domain.ramdisk is not None else None, None),
        "cmdline": (domain.cmdline or "", ""),
        "bootloader": (domain.bootloader, None),
        "bootloader_args": (list(domain.bootloader_args), []),
        "firmware": (domain.firmware, None),
        "memory": (memory, None),
        "maxmem": (maxmem, memory),
        "vcpus": (domain.vcpus, 1),
        "maxvcpus": (domain.maxvcpus, domain.vcpus),
        "cpus": (domain.cpus, None),
        "cpu_weight": (domain.cpu_weight or 256, 256),
        "cap": (domain.cap or 0, 0),
        "pci": ([_pci(device)[0] for device in domain.pci], []),
        "on_poweroff": (domain.on_poweroff, "destroy"),
        "on_reboot": (domain.on_reboot, "restart"),
        "on_crash": (domain.on_crash, "destroy"),
        "on_watchdog": (domain.on_watchdog, "destroy"),
        "state": (domain.state, "running"),
        "autostart": (_autostart(domain.autostart), False),
        "depends_on": (list(domain.depends_on), []),
        "prevent_destroy": (domain.prevent_destroy, False),
        "shutdown_timeout": (_duration(domain.shutdown_timeout_seconds), "90s"),
        "on_shutdown_timeout": (domain.on_shutdown_timeout, "fail"),
        "uuid": (domain.uuid or None, None),
        "disk": ([_disk(disk) for disk in domain.disks], []),
        "vif": ([_vif(vif) for vif in domain.vifs], []),
    }
    table = {
        key: value
        for key, (value, default) in values.items()
        if value is not None and (value != default or key in defaults)
    }
    others = {key: list(value) if isinstance(value, tuple) else value for key, value in domain.xl}
    return {**table, "xl": others} if others else table


def _autostart(order: int | None) -> bool | int:
    return False if order is None else True if order == DEFAULT_AUTOSTART else order


def _duration(seconds: float) -> str:
    """A duration that is at least as long."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{math.ceil(seconds * 1000)}ms"


def _disk(disk: Disk) -> dict[str, Any]:
    table: dict[str, Any] = {"vdev": disk.vdev}
    volume = disk.target.removeprefix("/dev/")
    if disk.kind == "file":
        table["path"] = disk.target
    elif disk.kind == "lv" and re.fullmatch(LOGICAL_VOLUME, volume):
        table["lv"] = volume
    else:
        table["device"] = disk.target
    asked = {"format": (disk.format, "raw"), "access": (disk.access, "rw"), "on_delete": (disk.on_delete, "keep")}
    return table | {key: value for key, (value, default) in asked.items() if value != default}


def _vif(vif: Vif) -> dict[str, Any]:
    """The interface with its mac, which then identifies it; a file may leave that open."""
    given = {key: getattr(vif, key) for key in _VIF_KEYS}
    return {key: value for key, value in given.items() if value is not None and (key, value) != ("mac", "")}


def _pci(device: str) -> tuple[str, str]:
    """The address as a spec has it, and what xl was told besides."""
    match = _PLAIN_BDF.fullmatch(device)
    if match is None:
        return device, ""
    domain, bus, slot = (int(number or "0", 16) for number in match.groups()[:3])
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{match[4]}", match[5]


def _fit(table: dict[str, Any], defaults: Table) -> tuple[dict[str, Any], DomainSpec, tuple[str, ...]]:
    """The table less what no spec may say, the spec it makes, and why the rest was taken out.

    Each round takes out at least one entry of the table, so there are not many.
    """
    refused: list[str] = []
    while True:
        spec, complaints = validate(DomainSpec, merge((Layer("", defaults), Layer("", table))))
        if spec is not None and not complaints:
            complaints = tuple(check_alone(spec))
            if not complaints:
                return table, spec, tuple(refused)
        entries = {_entry(complaint.loc): complaint for complaint in reversed(complaints)}
        culprits = {entry: complaint for entry, complaint in entries.items() if _is_in(table, entry)}
        if not culprits:
            raise NotImportable(" ".join([*refused, *(complaint.detail for complaint in complaints)]))
        refused += [_taken_out(table, entry, complaint) for entry, complaint in culprits.items()]
        table = _without(table, culprits)


def _entry(loc: Loc) -> Loc:
    """What has to go when the value at `loc` is wrong: a disk as a whole, since half of one would be another disk."""
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
    target = next(disk[key] for key in ("path", "lv", "device") if key in disk)
    if not target:
        return f"disk {disk['vdev']} is an empty drive, which a domain spec cannot say."
    return f"{complaint.detail} The disk {disk['vdev']} ({quoted(target)}) is left out."


def _without(table: dict[str, Any], entries: Iterable[Loc]) -> dict[str, Any]:
    """A copy without these entries; an [xl] or an array that is empty then goes, too."""
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
    """What the table says less exactly than the domain."""
    for device in domain.pci:
        address, options = _pci(device)
        if options:
            yield f"pci {address} has {quoted(options.lstrip(','))}, which a domain spec cannot say."
    for key, kib in (("memory", domain.memory_kib), ("maxmem", domain.maxmem_kib)):
        if kib % _KIB_PER_MIB:
            yield f"{key} is {kib} KiB, and a spec counts whole MiB."


def _imposed(domain: Domain, defaults: Table) -> Iterator[str]:
    """What the defaults of the tree give a domain that has nothing of the kind, and no spec can take away."""
    for key in ("kernel", "ramdisk", "bootloader", "firmware", "cpus"):
        if key in defaults and getattr(domain, key) is None:
            yield f"The tree's [defaults] give it a {key}, which it does not have."
    of_domain = {key for key, _value in domain.xl}
    for key in defaults.get("xl", {}):
        if key not in of_domain:
            yield f"The tree's [defaults] give it xl.{key}, which it does not have."


def _moved(domain: Domain) -> Iterator[str]:
    """What means the same only once a person has done something."""
    for image in domain.images:
        if image.path and not image.path.startswith("/"):
            yield f"{quoted(image.path)} is looked for in the spec tree now, so copy the file there."
    for index, vif in enumerate(domain.vifs):
        if vif.devid != index and not vif.mac:
            yield f"vif {index} has devid={vif.devid}; a spec numbers interfaces in their order, so it gets {index}."


def _need(loc: Loc, spec: DomainSpec) -> tuple[str, str]:
    """The key of host.toml, and the entry in it, that would allow what a spec has at `loc`."""
    match loc:
        case ("disk", int(index), _):
            disk = spec.disk[index]
            if disk.lv is not None:
                return "disk_roots", disk.lv.partition("/")[0]
            place = disk_identity(absolute(disk.path or disk.device or ""))
            return "disk_roots", place if disk.device is not None else posixpath.dirname(place)
        case ("vif", int(index), _):
            return "scripts", spec.vif[index].script or ""
        case ("pci", int(index)):
            return "pci", pci_address(spec.pci[index])
        case ("xl", key):
            return "xl_keys", str(key)
        case ("kernel" | "ramdisk" as key,):
            return "kernel_roots", posixpath.dirname(absolute(getattr(spec, key)))
        case (key,):
            assert key in ("bootloader", "firmware"), key
            return "bootloaders", getattr(spec, key)
        case _:
            raise AssertionError(f"host.toml has no say about {loc}")
