"""Compares the observed with the desired definition of a domain, and says what it takes to change each field.

`compare` answers for one pair of definitions; what the differences mean for a domain as a whole (create, restart,
blocked …) is decided in `decide`. Equal pairs cost one `==`; deepdiff describes only nested values that differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from reconciler.model.disks import has_live_medium, missing_bytes, place_of
from reconciler.model.domain import Disk, Domain, Image, Scalar, Vif, usual_vif_type
from reconciler.model.host import Host
from reconciler.model.key_row import Key, Kind, Owner, Takes
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.parts import KEPT_OF_POLICY, as_written
from reconciler.model.quantities import same_rate
from reconciler.records import dataclass
from reconciler.specs.resolve.xl_keys import is_usual
from reconciler.specs.secrets import concealed, holds_secret


class Effect(StrEnum):
    """The cost to the running domain of changing a field."""

    LIVE = "live"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A field that differs. `path` is the spec's key; memory is in KiB, sizes of disks in bytes. It has no secrets."""

    path: str
    before: Scalar
    after: Scalar
    effect: Effect
    waits: bool = False  # not worth a restart of its own: applied whenever the domain is next started

    def __post_init__(self) -> None:
        for side, value in (("before", self.before), ("after", self.after)):
            if value is not None and (shown := concealed(self.path, value)) is not value:
                object.__setattr__(self, side, shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A field that differs and has to wait. `why` goes on after its path: "needs a restart"."""

    field: FieldChange
    why: str

    def __str__(self) -> str:
        return f"{self.field.path} {self.why}"


_EFFECTS = {Takes.LIVE: Effect.LIVE, Takes.RESTART: Effect.RESTART, Takes.CEILING: Effect.RESTART}
_KEYS = tuple(key for key in DOMAIN_KEYS if key.of is not None and key.takes in _EFFECTS and key.in_spec)
_DISK_KEYS = tuple(key for key in DISK_KEYS if key.of is not None and key.takes in _EFFECTS)
_VIF_KEYS = tuple(key for key in VIF_KEYS if key.of is not None and key.takes in _EFFECTS)
_LIVE_DISK_KEYS = frozenset(key.name for key in DISK_KEYS if key.takes is Takes.LIVE)

Options = Mapping[str, Scalar]
"""A disk or an interface by the keys of its table."""


def compare(current: Domain, desired: Domain, host: Host, *, running: bool) -> tuple[FieldChange, ...]:
    """Return the fields that differ, sorted by path; () when none do. Only what the desired side declares counts.

    `running` says that `current` is live, so that a change can cost a restart.
    """
    if current == desired and not _grows(desired, host):
        return ()
    changes = [*_plain(current, desired), *_tables(current, desired, host)]
    if not running:
        changes = [replace(change, effect=Effect.LIVE, waits=False) for change in changes]
    return tuple(sorted(changes, key=lambda change: change.path))


def _grows(desired: Domain, host: Host) -> bool:
    return any(missing_bytes(disk, host.files.get(disk.target)) for disk in desired.disks)


def noted_fields(written: Domain, desired: Domain) -> tuple[FieldChange, ...]:
    """The fields that only say how a domain is treated, and of which its mark notes another value."""
    pairs = [(key.name, shown(key, written), shown(key, desired)) for key in KEPT_OF_POLICY]
    return tuple(
        FieldChange(path=name, before=before, after=after, effect=Effect.LIVE)
        for name, before, after in pairs
        if before != after
    )


def fields_of_new(desired: Domain, host: Host) -> tuple[FieldChange, ...]:
    """Return what a domain that does not exist yet will have, as field changes from nothing."""
    pairs = [(key.name, shown(key, desired)) for key in _KEYS]
    disks = _disks(desired, desired, None)
    pairs += [(f"disk[{disk.vdev}]", _summary(disks[disk.devid])) for disk in desired.disks]
    pairs += [(f"vif[{devid}]", _summary(vif)) for devid, vif in _vifs(desired, desired).items()]
    pairs += [(f"xl.{key}", as_written(value)) for key, value in desired.xl]
    said = [(path, value) for path, value in pairs if value not in (None, "", False)]
    return tuple(_from_nothing(path, value) for path, value in sorted(said))


@lru_cache(maxsize=1024, typed=True)  # most of them are the same for all domains
def _from_nothing(path: str, value: Scalar) -> FieldChange:
    return FieldChange(path=path, before=None, after=value, effect=Effect.LIVE)


def shown(key: Key[Owner], owner: Owner) -> Scalar:
    """Return the value of a key as a difference shows it: memory in KiB, images by name and digest, lists as text."""
    meant = key.meant(owner)
    if meant is None or isinstance(meant, int):
        return meant
    match key.kind, meant:
        case _, Image() as image:
            return f"{image.name} ({image.short})" if image.short else image.path
        case Kind.LINE, value if not value:
            return None  # xl lists an empty one for none
        case Kind.PER_VCPU, value if value == "all" or (isinstance(value, tuple) and set(value) == {"all"}):
            return None  # without a word, xl lets it run on all of them, too
        case Kind.WORDS, tuple() as words:
            return " ".join(map(str, words))
        case Kind.PER_VCPU, tuple() as entries:
            return as_written(entries)
        case _, tuple() as names:
            return ", ".join(name if isinstance(name, str) else "=".join(name) for name in names) or None
        case _, value:
            return value


def align_vifs(desired: Domain, current: Domain) -> Domain:
    """Give the desired interfaces the devids that they have already; new ones get free devids.

    An interface is known by its mac, so removing the first of two named ones does not renumber the second.
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


def _plain(current: Domain, desired: Domain) -> Iterator[FieldChange]:
    """Compare the keys that are no tables."""
    for key in _KEYS:
        value = key.value(current)
        if value == key.value(desired) and not isinstance(value, Image):  # equal images may have other names
            continue
        before, after = shown(key, current), shown(key, desired)
        if before != after and not _same_bytes(key.meant(current), key.meant(desired)):
            lowered = isinstance(before, int) and isinstance(after, int) and after < before
            waits = key.takes is Takes.CEILING and lowered
            yield FieldChange(path=key.name, before=before, after=after, effect=_EFFECTS[key.takes], waits=waits)


def _same_bytes(one: object, other: object) -> bool:
    """Return whether both are the same image under whatever names."""
    return isinstance(one, Image) and isinstance(other, Image) and one == other and one.sha256 != ""


def _tables(current: Domain, desired: Domain, host: Host) -> Iterator[FieldChange]:
    """Compare disks, interfaces and [xl]."""
    same = current.disks == desired.disks and not _grows(desired, host)  # as is mostly so
    there, wanted = ({}, {}) if same else (_disks(current, desired, host), _disks(desired, desired, None, current))
    if there != wanted:
        vdevs = {disk.devid: disk.vdev for disk in (*current.disks, *desired.disks)}
        for path, before, after in _inside(there, wanted):
            name = f"disk[{vdevs[int(path[0])]}]"
            yield _change(name, path[1:], before, after, _disk_effect(path, before, desired, host))
    before, after = _order(current, desired)
    if before != after:
        yield FieldChange(path="disk", before=", ".join(before), after=", ".join(after), effect=Effect.RESTART)
    if current.vifs != desired.vifs:
        for path, before, after in _inside(_vifs(current, desired), _vifs(desired, desired, current)):
            whole_live = len(path) == 1 and desired.type != "hvm" and not holds_secret(str(_summary(after)))
            yield _change(f"vif[{path[0]}]", path[1:], before, after, Effect.LIVE if whole_live else Effect.RESTART)
    if current.xl != desired.xl:
        for path, before, after in _inside(_written(current), _written(desired)):
            yield _change(f"xl.{path[0]}", (), before, after, Effect.RESTART)


def _order(current: Domain, desired: Domain) -> tuple[list[str], list[str]]:
    """Return the order of the disks if none had to move, new ones last, and the order that is wanted.

    A boot loader reads the first disk, and guests number disks by their order, so only a start gives a new order.
    """
    wanted = {disk.devid: disk.vdev for disk in desired.disks}
    there = {disk.devid for disk in current.disks}
    kept = [wanted[disk.devid] for disk in current.disks if disk.devid in wanted]
    return [*kept, *(disk.vdev for disk in desired.disks if disk.devid not in there)], list(wanted.values())


def _change(name: str, below: Sequence[object], before: object, after: object, effect: Effect) -> FieldChange:
    path = ".".join((name, *map(str, below)))
    return FieldChange(path=path, before=_summary(before), after=_summary(after), effect=effect)


def _written(domain: Domain) -> dict[str, Scalar]:
    return {key: as_written(value) for key, value in domain.xl if not is_usual(key, value, domain.type)}


def _disks(domain: Domain, wanted: Domain, host: Host | None, current: Domain | None = None) -> dict[int, Options]:
    """Return the disks by their place, with all that they or those of the other side say.

    `host` is given for disks that exist, so that their real sizes are compared.
    """
    asked = {disk.devid: disk for disk in wanted.disks}
    others = asked if current is None else {disk.devid: disk for disk in current.disks}
    return {
        disk.devid: {
            **({place_of(disk)[0]: disk.target} if disk.target else {}),
            **_options(_DISK_KEYS, disk, others.get(disk.devid)),
            **_size(disk, asked.get(disk.devid), host),
        }
        for disk in domain.disks
    }


def _size(disk: Disk, wanted: Disk | None, host: Host | None) -> Options:
    """Return the size of a disk, if that is asked for."""
    if wanted is None or wanted.size_bytes is None or wanted.format != "raw":  # others hide their size
        return {}
    missing = missing_bytes(wanted, host.files.get(disk.target)) if host is not None else 0
    return {"size": wanted.size_bytes - missing}


def _vifs(domain: Domain, wanted: Domain, current: Domain | None = None) -> dict[int, Options]:
    asked = {vif.devid: vif for vif in wanted.vifs}
    usual = usual_vif_type(wanted.type)  # xl lists it also where nothing was said

    def said(vif: Vif) -> Vif:
        rate = asked.get(vif.devid, vif).rate
        rate = rate if same_rate(vif.rate, rate) else vif.rate
        kind = None if vif.type == usual else vif.type
        return vif if (rate, kind) == (vif.rate, vif.type) else replace(vif, rate=rate, type=kind)

    others = {vif.devid: said(vif) for vif in (wanted if current is None else current).vifs}
    return {vif.devid: _options(_VIF_KEYS, said(vif), others.get(vif.devid)) for vif in domain.vifs}


def _options(keys: Iterable[Key[Owner]], device: Owner, other: Owner | None) -> Options:
    """Return what a device or the one of the other side says."""
    return {
        key.name: shown(key, device) if other is None or not _is_chosen(key, device, other) else shown(key, other)
        for key in keys
        if _says(key, device) or (other is not None and other is not device and _says(key, other))
    }


def _is_chosen(key: Key[Owner], device: Owner, wanted: Owner) -> bool:
    """Return whether xl chose by itself for a device what is wanted of it; of a program it tells the whole path."""
    chosen = dict(device.chosen).get(key.name) if isinstance(device, Disk | Vif) else None
    value = shown(key, wanted)
    in_folder = isinstance(chosen, str) and isinstance(value, str) and chosen.endswith(f"/{value}")
    return not _says(key, device) and chosen is not None and (chosen == value or in_folder)


def _says(key: Key[Owner], device: Owner) -> bool:
    """Return whether a device has a value of a key, and not only the lack of what the key adds."""
    value = key.value(device)
    return value is not None and not (value == key.default and key.default in (False, ()))


def _inside(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Iterator[tuple[list[Any], Any, Any]]:
    """Find where two tables differ: the path, and both values. (deepdiff is imported here, as it is slow to load.)"""
    from deepdiff import DeepDiff
    from deepdiff.helper import notpresent

    for differences in DeepDiff(before, after, view="tree", threshold_to_diff_deeper=0).values():
        for difference in differences:
            old = None if difference.t1 is notpresent else difference.t1
            new = None if difference.t2 is notpresent else difference.t2
            yield difference.path(output_format="list"), old, new


def _disk_effect(path: Sequence[object], before: object, desired: Domain, host: Host) -> Effect:
    wanted = next((disk for disk in desired.disks if disk.devid == path[0]), None)
    if wanted is not None and holds_secret(wanted.target) and (len(path) == 1 or path[1] == "target"):
        return Effect.RESTART  # xl attaches what stands in its arguments, which all of the dom0 can read
    if len(path) == 1:
        return Effect.LIVE if before is None and desired.type != "hvm" else Effect.RESTART
    if path[1] in ("path", "device", "lv") and wanted is not None and has_live_medium(wanted, desired):
        return Effect.LIVE
    if path[1] == "size":  # a vnd keeps the size it was configured with; a loop device or a volume can follow
        kind = wanted.kind if wanted is not None else "file"
        return Effect.RESTART if host.flavour == "netbsd" and kind == "file" else Effect.LIVE
    return Effect.LIVE if path[1] in _LIVE_DISK_KEYS else Effect.RESTART


def _summary(value: object) -> Scalar:
    """Write a nested value as one readable scalar."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    assert value is None or isinstance(value, str | int | float | bool)
    return value
