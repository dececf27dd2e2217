"""Digests all that a boot reads. By this digest a failed boot is remembered, and not tried again."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from reconciler.model.copies import replace
from reconciler.model.disks import has_live_medium
from reconciler.model.domain import Disk, Domain, Image, Vif, canonical_json
from reconciler.model.host import Guest, Quarantined
from reconciler.model.key_row import LATER, Key, Kind
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.parts import LATER_KEYS, LATER_KEYS_OF_DISKS, LATER_KEYS_OF_VIFS, given_later, taken_from

ROLLED_BACK = "rolled back by hand"  # the reason of what `reconciler rollback` left, which did not fail
_REMEMBERED = 10  # failed boots kept for a domain
_RECORDED = tuple(
    (key.boot_entry, key) for key in DOMAIN_KEYS if key.of is not None and key.boot_entry not in ("", LATER)
)
_RECORDED_OF_DISKS = tuple(key for key in DISK_KEYS if key.boot_entry == "disks")
_RECORDED_OF_VIFS = tuple(key for key in VIF_KEYS if key.boot_entry == "vifs")
_SHARED = ("images", "bootloader", "on")  # entries of the digest that several keys make up together


def boot_digest(definition: Domain) -> str:
    """Return the sha256 over all that a boot reads: kernel, ramdisk, command line, devices, and what is set at a start.

    So every value whose change takes a restart is in it. Values that change live or are only kept are not in it
    (memory within maxmem, vcpus, weights, prevent_destroy …): changing these does not make a bad kernel worth another
    try.

    >>> web = Domain(name="web", uuid="", memory_kib=1 << 20, maxmem_kib=1 << 20, cmdline="root=/dev/xvda1")
    >>> boot_digest(web) == boot_digest(replace(web, memory_kib=1 << 19)) == boot_digest(replace(web, cap=50))
    True
    >>> boot_digest(web) == boot_digest(replace(web, cmdline="root=/dev/xvda2"))
    False
    """
    return _digest(_This(definition))


class _This:
    """A value by its identity: two that are equal may differ in what is not compared, such as paths of kernels."""

    __slots__ = ("definition",)

    def __init__(self, definition: Domain) -> None:
        self.definition = definition

    def __hash__(self) -> int:
        return id(self.definition)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _This) and other.definition is self.definition


@lru_cache(maxsize=256)  # the decisions and steps of one domain ask for the same some times, one after the other
def _digest(this: _This) -> str:
    return hashlib.sha256(canonical_json(_boot_inputs(this.definition)).encode()).hexdigest()


def _boot_inputs(definition: Domain) -> dict[str, object]:
    """Collect the boot inputs by entry of the digest.

    The entries of 0.1 keep their shapes, since its digests are on hosts; later keys count as they did in `[xl]`.
    """
    inputs: dict[str, object] = {}
    shared: dict[str, list[object]] = {entry: [] for entry in _SHARED}
    for entry, key in _RECORDED:
        value = _as_recorded(key, definition)
        if entry in shared:
            shared[entry] += value if isinstance(value, list | tuple) else (value,)
        else:
            inputs[entry] = value
    later = ([name, value] for name, value in given_later(LATER_KEYS, definition))
    return (
        inputs
        | shared
        | {
            "disks": [_disk_inputs(disk, definition) for disk in definition.disks],
            "vifs": [_vif_inputs(vif) for vif in definition.vifs],
            LATER: sorted([*(list(pair) for pair in definition.xl), *later], key=lambda pair: str(pair[0])),
        }
    )


def _as_recorded(key: Key[Domain], definition: Domain) -> object:
    value = key.value(definition)
    if key.kind is Kind.FILE:
        return [value.sha256 or value.path] if isinstance(value, Image) else []
    if key.kind is Kind.LINE:
        return value or ""  # xl lists an empty one for none
    return value


def _disk_inputs(disk: Disk, definition: Domain) -> list[object]:
    known = [key.value(disk) for key in _RECORDED_OF_DISKS]
    target = "" if has_live_medium(disk, definition) else disk.target
    return [disk.devid, target, *known, *(list(pair) for pair in given_later(LATER_KEYS_OF_DISKS, disk))]


def _vif_inputs(vif: Vif) -> list[object]:
    known = [key.value(vif) for key in _RECORDED_OF_VIFS]
    return [*known, *(list(pair) for pair in given_later(LATER_KEYS_OF_VIFS, vif))]


def quarantined(guest: Guest | None, definition: Domain) -> Quarantined | None:
    """Find the remembered failed boot that this definition would repeat; None when it repeats none."""
    if guest is None or not guest.quarantine:
        return None
    digest = boot_digest(definition)
    return next((entry for entry in guest.quarantine if entry.boot == digest), None)


def failed_before(guest: Guest | None, definition: Domain) -> Quarantined | None:
    """Find the same, but skip what a rollback left behind: that definition did boot."""
    entry = quarantined(guest, definition)
    return None if entry is None or entry.reason == ROLLED_BACK else entry


def with_quarantined(guest: Guest | None, definition: Domain, reason: str) -> tuple[Quarantined, ...]:
    """Add this definition to the remembered failed boots, and drop the oldest when there are many."""
    entry = Quarantined(boot=boot_digest(definition), kernel=_kernel(definition), reason=reason)
    before = [other for other in (guest.quarantine if guest is not None else ()) if other.boot != entry.boot]
    return (*before[-(_REMEMBERED - 1) :], entry)


def before_this(guest: Guest) -> Domain | None:
    """Return the proven definition before the one that runs now, which a rollback leads to; None: none is kept."""
    return guest.config if guest.unproven and guest.config_proven else guest.previous


def as_before(desired: Domain, before: Domain) -> Domain:
    """Return the desired domain with the boot inputs and the ready signs of an earlier definition."""
    booted = taken_from(desired, before, (key for key in DOMAIN_KEYS if key.rolled_back))
    return replace(booted, policy=replace(desired.policy, ready=before.policy.ready))


def boots_the_same(one: Domain, other: Domain) -> bool:
    """Return whether a rollback from one to the other would change nothing."""
    return as_before(one, other) == one


def left_by_rollback(guest: Guest, desired: Domain) -> tuple[Quarantined, ...]:
    """Quarantine what a rollback leaves: what runs now, and what the specs ask for.

    Otherwise the next apply would undo the rollback.
    """
    if guest.definition is None:
        return with_quarantined(guest, desired, ROLLED_BACK)
    left = with_quarantined(guest, guest.definition, ROLLED_BACK)
    return with_quarantined(replace(guest, quarantine=left), desired, ROLLED_BACK)


def _kernel(definition: Domain) -> str:
    return definition.kernel.path if definition.kernel is not None else ""
