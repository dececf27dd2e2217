"""Takes parts of definitions by the table of keys: values that are kept, that change live, or that xl.cfg has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.model.copies import replace
from reconciler.model.domain import Domain, Policy, XlValue
from reconciler.model.key_row import LATER, Key, Owner, Takes, Value
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS

KEPT = tuple(key for key in DOMAIN_KEYS if key.kept and "policy" not in key.also)
"""Those that the mark of a config file carries, since xl has no word for them."""

KEPT_OF_POLICY = tuple(key for key in DOMAIN_KEYS if key.kept and "policy" in key.also)
"""Those of them that say how the domain is treated: no difference of what exists, and yet to be noted."""

KEPT_OF_DISKS = tuple(key for key in DISK_KEYS if key.kept)

LATER_KEYS = tuple(key for key in DOMAIN_KEYS if key.boot_entry == LATER and key.of is not None)
LATER_KEYS_OF_DISKS = tuple(key for key in DISK_KEYS if key.boot_entry == LATER and key.of is not None)
LATER_KEYS_OF_VIFS = tuple(key for key in VIF_KEYS if key.boot_entry == LATER and key.of is not None)
"""Those that a boot reads and that came after 0.1."""

SHARES = tuple(key for key in DOMAIN_KEYS if key.share_option is not None)
"""Those that Xen's scheduler knows, in the order in which xl prints them."""

CEILING_OF = {key.floor: key for key in DOMAIN_KEYS if key.floor is not None}
"""By the name of a key, the one whose value a running domain cannot exceed in it."""

_BY_NAME = {key.name: key for key in DOMAIN_KEYS}
_LIVE = tuple(key for key in DOMAIN_KEYS if key.takes is Takes.LIVE)


def key_named(name: str) -> Key[Domain]:
    """Return the row of a key."""
    return _BY_NAME[name]


def limit_of(name: str, definition: Domain) -> tuple[str, int]:
    """Return the name of the ceiling of a key, and the value that it has for this domain."""
    key = CEILING_OF[name]
    most = key.value(definition)
    assert isinstance(most, int)
    return key.name, most


def taken_from(owner: Owner, other: Owner, keys: Iterable[Key[Owner]]) -> Owner:
    """Return `owner` with the values of these keys taken from `other`."""
    values = [(key.attribute, key.value(other)) for key in keys]
    differing: dict[str, Any] = {name: value for name, value in values if not _is_as(getattr(owner, name), value)}
    return replace(owner, **differing) if differing else owner


def _is_as(one: object, other: object) -> bool:
    """Return whether two values are written alike, too: 1 is no True, and 90 no 90.0."""
    return type(one) is type(other) and one == other


def with_kept(definition: Domain, other: Domain) -> Domain:
    """Return a definition with the values of another one that only our config files carry."""
    there = {disk.devid: disk for disk in other.disks}
    disks = (taken_from(disk, there.get(disk.devid, disk), KEPT_OF_DISKS) for disk in definition.disks)
    policy = with_kept_policy(definition.policy, kept_of_policy(other))
    return replace(taken_from(definition, other, KEPT), disks=tuple(disks), policy=policy)


def kept_of_policy(definition: Domain) -> dict[str, Value]:
    """Return by field what the mark of a config file notes of how a domain is treated."""
    return {key.attribute: key.value(definition) for key in KEPT_OF_POLICY}


def with_kept_policy(policy: Policy, noted: Mapping[str, Value]) -> Policy:
    """Return the policy with these values of what a mark notes."""
    values: dict[str, Any] = dict(noted)
    return replace(policy, **values)


def live_values(target: Domain, running: Domain) -> dict[str, Any]:
    """Return by field the values of the target that a running domain can get without a restart.

    They end at the ceilings of the running domain, such as maxmem.
    """
    values: dict[str, Any] = {}
    for key in _LIVE:
        wanted: Any = key.value(target)
        values[key.attribute] = min(wanted, limit_of(key.name, running)[1]) if key.name in CEILING_OF else wanted
    return values


def shares(definition: Domain) -> tuple[tuple[str, int], ...]:
    """Return the values of a domain that the scheduler knows, by key."""
    return tuple((key.name, value) for key in SHARES if isinstance(value := key.meant(definition), int))


def with_shares(definition: Domain, told: Iterable[tuple[str, int]]) -> Domain:
    """Return the definition with these values of the scheduler."""
    values: dict[str, Any] = {key_named(name).attribute: value for name, value in told}
    return replace(definition, **values)


def given_later(keys: Iterable[Key[Owner]], owner: Owner) -> Iterator[tuple[str, XlValue]]:
    """Yield the keys that came after 0.1 and that the owner sets, as xl.cfg spells them."""
    for key in keys:
        value = key.value(owner)
        if value != key.default and (spelled := in_cfg(value)) is not None:
            yield key.name, spelled


def in_cfg(value: Value) -> XlValue | None:
    """Spell a plain value for xl.cfg; None when the key is left out."""
    match value:
        case bool():
            return int(value)
        case str() | int() | None:
            return value
        case tuple():
            return value or None
        case _:
            raise TypeError(f"xl.cfg has no spelling for {value!r}")


def as_written(value: XlValue) -> str | int:
    """Write a value of xl.cfg on one line."""
    match value:
        case int():
            return value
        case str():
            return in_quotes(value)
        case tuple():
            return f"[{', '.join(str(as_written(item)) for item in value)}]"


def in_quotes(text: str) -> str:
    """Quote a string as xl does."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
