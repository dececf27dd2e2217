"""Parses `xenstore-ls -f`: since when domains run, and the devices that the host serves them.

Called by the observer of xl hosts. Which devices there are is read from libxl's own record, which a guest cannot write
to. Their states are those of both ends, as the ready gate sees them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Literal

from reconciler.expressions import expression
from reconciler.model.host import Devices
from reconciler.records import dataclass

_LINE = expression(r'(?P<path>/[^ ]*) = "(?P<value>.*)"')
_START_TIME = expression(r"/vm/(?P<uuid>[0-9a-f-]{36})/start_time")
_DEVICE = expression(r"/libxl/(?P<domid>[0-9]+)/device/(?P<kind>vbd|vif)/(?P<devid>[0-9]+)/(?P<key>[a-z-]+)")
_TYPE = expression(r"/libxl/(?P<domid>[0-9]+)/type")
_SECONDS = expression(r"(?P<whole>[0-9]{1,12})(?:\.[0-9]*)?")
_PREFIX = expression(r"[a-z0-9]+:(?=/|$)")  # of a backend in qemu: aio:/srv/web.img, or aio: for nothing
_BACKEND = expression(
    r"(?P<record>/local/domain/0/backend/(?P<kind>vbd|tap2?|vif)/(?P<domid>[0-9]+)/(?P<devid>[0-9]+))/(?P<key>[a-z]+)"
)
_FRONTEND_TYPE = expression(r"/local/domain/(?P<domid>[0-9]+)/device/vbd/(?P<devid>[0-9]+)/(?P<key>device-type)")
_OSTYPE = expression(r"(?P<vm>/vm/[^/ ]+)/image/ostype")
_VM = expression(r"/local/domain/(?P<domid>[0-9]+)/vm")
_PCI_NAME = expression(r'/libxl/pci/([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)-([0-7])/name = "(.*)"')
CONNECTED = "4"
INITIALISING = "1"
WAITING_FOR_HOTPLUG = "2"  # of a network back end whose guest has connected


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The parts of xenstore that matter here."""

    booted: Mapping[str, int] = field(default_factory=dict)  # uuid -> seconds since 1970
    devices: Mapping[int, Devices] = field(default_factory=dict)  # by domid, of the domains that libxl knows
    unplugged: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """By domid the numbers of interfaces that a guest has connected, while no hotplug script has put them on a bridge.

    An attach that failed, or was cut short, leaves such a one, in what xl lists as well.
    """


def read_store(lines: Iterable[str]) -> Store:
    """Read the lines of `xenstore-ls -f`, in any order. Lines about other things are passed over."""
    values = {match["path"]: match["value"] for line in lines if (match := _LINE.fullmatch(line)) is not None}
    booted: dict[str, int] = {}
    kinds: dict[int, str] = {}
    records: dict[int, dict[tuple[str, str], dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for path, value in values.items():
        if (start := _START_TIME.fullmatch(path)) and (seconds := _SECONDS.fullmatch(value)):
            booted[start["uuid"]] = int(seconds["whole"])
        elif known := _TYPE.fullmatch(path):
            kinds[int(known["domid"])] = value
        elif found := _DEVICE.fullmatch(path):
            records[int(found["domid"])][found["kind"], found["devid"]][found["key"]] = value
    devices = {
        domid: _devices(records.get(domid, {}), kinds.get(domid), values) for domid in sorted({*kinds, *records})
    }
    return Store(
        booted=booted,
        devices=devices,
        unplugged={domid: frozenset(_unplugged(found, values)) for domid, found in records.items()},
    )


def pci_names(lines: Iterable[str]) -> dict[str, str]:
    """Return the names that `xl pci-assignable-add -n` gave PCI devices, by their addresses.

    >>> pci_names(['/libxl/pci/0000-01-00-0/name = "nic0"'])
    {'0000:01:00.0': 'nic0'}
    """
    found = (match for line in lines if (match := _PCI_NAME.fullmatch(line)) is not None)
    return {f"{match[1]}:{match[2]}:{match[3]}.{match[4]}": match[5] for match in found}


def backends_as_libxl_has_them(lines: Iterable[str]) -> Iterator[str]:
    """Add to lines of xenstore what libxl would have noted of the devices that xend has made.

    xend's own note of a device is the back end, which belongs to the dom0. A disk by blktap counts as any other.
    """
    kinds: dict[str, str] = {}
    for line in lines:
        yield line
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        value = match["value"]
        if found := _BACKEND.fullmatch(match["path"]):
            kind = "vif" if found["kind"] == "vif" else "vbd"
            noted = f"/libxl/{found['domid']}/device/{kind}/{found['devid']}"
            yield f'{noted}/backend = "{found["record"]}"'
            yield f'{noted}/{found["key"]} = "{value}"'
        elif found := _FRONTEND_TYPE.fullmatch(match["path"]):
            yield f'/libxl/{found["domid"]}/device/vbd/{found["devid"]}/{found["key"]} = "{value}"'
        elif found := _OSTYPE.fullmatch(match["path"]):
            kinds[found["vm"]] = "hvm" if value == "hvm" else "pv"
        elif found := _VM.fullmatch(match["path"]):
            kinds[f"domain {found['domid']}"] = value
    for domain, vm in kinds.items():
        if domain.startswith("domain ") and vm in kinds:
            yield f'/libxl/{domain.removeprefix("domain ")}/type = "{kinds[vm]}"'


def _devices(
    records: Mapping[tuple[str, str], Mapping[str, str]], kind: str | None, values: Mapping[str, str]
) -> Devices:
    disks: list[tuple[str, Literal["rw", "ro"]]] = []
    macs, states, all_told = [], [], True
    for (device, _), record in records.items():
        is_cdrom = record.get("device-type") == "cdrom"
        if has_to_connect(is_cdrom, record.get("params"), is_hvm=kind == "hvm"):
            states += [values.get(f"{record.get(end, '')}/state", "none") for end in ("frontend", "backend")]
        if device == "vif":
            macs.append(record.get("mac", "").lower())
        elif target := _PREFIX.sub("", record.get("params", "")):
            disks.append((target, "ro" if record.get("mode") == "r" else "rw"))
        elif not is_cdrom:
            all_told = False
    return Devices(
        disks=tuple(disks) if all_told else None,
        macs=tuple(filter(None, macs)),
        connected=are_connected(states, is_hvm=kind == "hvm"),
    )


def _unplugged(records: Mapping[tuple[str, str], Mapping[str, str]], values: Mapping[str, str]) -> Iterator[int]:
    for (device, devid), record in records.items():
        states = [values.get(f"{record.get(end, '')}/state") for end in ("frontend", "backend")]
        if device == "vif" and states == [CONNECTED, WAITING_FOR_HOTPLUG]:
            yield int(devid)


def has_to_connect(is_cdrom: bool, params: str | None, *, is_hvm: bool) -> bool:
    """Return whether a guest that is up has connected this device. `params` is what its backend opens; None: unknown.

    Of a drive without a medium no backend comes up. In an HVM domain Linux leaves each drive to its emulation.

    >>> [has_to_connect(True, params, is_hvm=False) for params in ("/srv/a.iso", "aio:/srv/a.iso", "aio:", "", None)]
    [True, True, False, False, True]
    >>> has_to_connect(True, "/srv/a.iso", is_hvm=True), has_to_connect(False, "/srv/a.img", is_hvm=True)
    (False, True)
    """
    return not is_cdrom or not (is_hvm or (params is not None and not _PREFIX.sub("", params)))


def are_connected(states: Iterable[str], *, is_hvm: bool) -> bool | None:
    """Return whether all disks and interfaces are connected on both ends; None when none of them has to be.

    The guest of an HVM domain may never touch them, since it has emulated ones: then they stay where they began.
    """
    seen = tuple(states)
    if not seen:
        return None
    if is_hvm and CONNECTED not in seen and INITIALISING in seen:
        return None
    return all(state == CONNECTED for state in seen)
