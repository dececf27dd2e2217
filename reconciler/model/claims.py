"""Names what no two domains may have at once: a disk that one of them writes, a PCI device, a mac, a uuid.

A disk and a PCI device belong to their host; a mac, a uuid and a disk under a world-wide name to the whole fleet.
`handover` says who keeps what another one wants, `edges` hands it over, and `verify` checks that no two live domains
ever have it both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field

from reconciler.model.disks import disk_key, may_share, world_wide, world_wide_path
from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.host import Guest, Host, Power
from reconciler.model.pci import read_pci
from reconciler.records import dataclass

Key = tuple[str, ...]
_WIDE = "world-wide disk"
_READ = "world-wide disk, read"  # as it is noted; the claim on it has the same key as a writer's


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One such thing that a domain has or wants. `key` is the same under whatever name or path it is known."""

    key: Key
    what: str
    value: str  # as people know it
    reads_only: bool = False  # it may be had by several, if all of them only read it

    @property
    def counts_over_fleet(self) -> bool:
        """Return whether no two domains of all hosts may have it."""
        return self.key[0] in ("uuid", "mac", _WIDE)


Claims = Mapping[Key, Claim]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What was last seen on hosts that are not observed now.

    `untold` are hosts of which nobody knows that any more: anything may be there.
    """

    names: Mapping[str, str] = field(default_factory=dict)  # domain of ours -> its host
    claims: Mapping[str, Claims] = field(default_factory=dict)  # address, ours or not -> its uuid and macs
    untold: tuple[str, ...] = ()


class Register:
    """Remembers which domain has which claims.

    >>> disk = Claim(key=("disk", "alpha", "/srv/a.img"), what="a disk", value="/srv/a.img")
    >>> register = Register()
    >>> register.add("alpha/old", {disk.key: disk})
    >>> register.in_the_way("alpha/new", disk), register.in_the_way("alpha/old", disk)
    ('alpha/old', None)
    >>> register.remove("alpha/old", {disk.key: disk})
    >>> register.in_the_way("alpha/new", disk) is None
    True
    """

    def __init__(self) -> None:
        self._writers: dict[Key, dict[str, None]] = defaultdict(dict)
        self._readers: dict[Key, dict[str, None]] = defaultdict(dict)  # apart: there may be many, and they do not mind

    def add(self, address: str, claims: Claims) -> None:
        for key, claim in claims.items():
            (self._readers if claim.reads_only else self._writers)[key][address] = None

    def remove(self, address: str, claims: Claims) -> None:
        for key, claim in claims.items():
            (self._readers if claim.reads_only else self._writers)[key].pop(address, None)

    def in_the_way(self, address: str, claim: Claim) -> str | None:
        """Return the address of another domain whose claim excludes this one; None when there is none."""
        for users in (self._writers,) if claim.reads_only else (self._writers, self._readers):
            for other in users.get(claim.key, ()):
                if other != address:
                    return other
        return None


def claims_of(host: Host, definition: Domain | None) -> Claims:
    """Return all claims of a definition."""
    if definition is None:
        return {}
    disks = [disk_claim(host, disk) for disk in definition.disks]
    claims = [*(claim for claim in disks if claim.value), *_pci_claims(host, definition)]
    return {**fleet_claims(definition), **{claim.key: claim for claim in claims}}


def live_claims(host: Host, guest: Guest | None) -> Claims:
    """Return all claims of a guest that exists. If its host cannot tell, all that its files name count."""
    if guest is None or not (guest.exists or guest.power is Power.SAVED):
        return {}
    if guest.running is not None:
        return claims_of(host, guest.running)
    written = {key: claim for one in (guest.candidate, guest.config) for key, claim in claims_of(host, one).items()}
    return {**written, **_served_claims(host, guest)}


def _served_claims(host: Host, guest: Guest) -> Claims:
    """Return the claims on what the backends of the host serve to a guest that xl does not tell about."""
    if guest.devices is None:
        return {}
    disks = [target_claim(host, target, reads_only=may_share(access)) for target, access in guest.devices.disks or ()]
    wide = [
        _wide_claim(name, reads_only=may_share(access))
        for target, access in guest.devices.disks or ()
        if (name := world_wide_path(target)) is not None
    ]
    macs = [_mac_claim(mac) for mac in guest.devices.macs]
    return {claim.key: claim for claim in (*disks, *wide, *macs)}


def fleet_claims(definition: Domain | None) -> Claims:
    """Return the claims of a definition that count over all hosts."""
    if definition is None:
        return {}
    wide = [claim for disk in definition.disks if (claim := _wide_claim_of(disk)) is not None]
    claims = [uuid_claim(definition.uuid), *map(mac_claim, definition.vifs), *wide]
    return {claim.key: claim for claim in claims if claim.value}


def seen_claims(host: Host, guest: Guest) -> Claims:
    """Return what a guest has over all hosts, and what it would have were it started."""
    uuid = uuid_claim(guest.uuid)
    own = {uuid.key: uuid} if guest.uuid else {}
    live = {key: claim for key, claim in live_claims(host, guest).items() if claim.counts_over_fleet}
    return {**own, **fleet_claims(guest.config), **fleet_claims(guest.candidate), **live}


def noted_keys(claims: Claims) -> frozenset[Key]:
    """Return what to note of claims, so that those who only read a disk share it also when nobody answers."""
    return frozenset((_READ, claim.value) if _is_wide_read(claim) else key for key, claim in claims.items())


def noted_claims(keys: Iterable[Key]) -> Claims:
    """Return the claims of which only the keys were noted."""
    kinds: Mapping[str, Callable[[str], Claim]] = {
        "uuid": uuid_claim,
        "mac": _mac_claim,
        _READ: lambda name: _wide_claim(name, reads_only=True),
        _WIDE: _wide_claim,
    }
    writes_last = sorted(keys, key=lambda key: key[0] != _READ)  # what was read before may be written by now
    claims = [kinds[kind](value) for kind, value in writes_last if kind in kinds]
    return {claim.key: claim for claim in claims}


def _is_wide_read(claim: Claim) -> bool:
    return claim.reads_only and claim.key[0] == _WIDE


def without(claims: Claims, others: Claims) -> Claims:
    """Return those of these claims that are not among the others, or not in the same way (reading or writing)."""
    return {
        key: claim for key, claim in claims.items() if key not in others or others[key].reads_only != claim.reads_only
    }


def uuid_claim(uuid: str) -> Claim:
    return Claim(key=("uuid", uuid), what="the uuid", value=uuid)


def mac_claim(vif: Vif) -> Claim:
    return _mac_claim(vif.mac)


def _mac_claim(mac: str) -> Claim:
    return Claim(key=("mac", mac), what="a mac", value=mac)


def _wide_claim(name: str, *, reads_only: bool = False) -> Claim:
    """Make the claim on a disk under a world-wide name; where only that was noted, somebody may write to it."""
    return Claim(key=(_WIDE, name), what="a disk", value=name, reads_only=reads_only)


def _wide_claim_of(disk: Disk) -> Claim | None:
    name = world_wide(disk)
    return None if name is None else _wide_claim(name, reads_only=may_share(disk.access))


def _pci_claims(host: Host, definition: Domain) -> Iterator[Claim]:
    """Yield a claim on each device of the host that one of a domain's stands for, by address, `*` or name."""
    for device in map(read_pci, definition.pci):
        for address in device.on(host.pci):
            yield Claim(key=("pci", host.name, address), what="a PCI device", value=address)


def disk_claim(host: Host, disk: Disk) -> Claim:
    return target_claim(host, disk.identity, reads_only=may_share(disk.access))


def disk_claims(host: Host, disk: Disk) -> Claims:
    """Return the claims on a disk: as one of its host, and under its world-wide name."""
    claims = [disk_claim(host, disk), _wide_claim_of(disk)]
    return {claim.key: claim for claim in claims if claim is not None and claim.value}


def target_claim(host: Host, target: str, *, reads_only: bool) -> Claim:
    return Claim(key=("disk", host.name, disk_key(host, target)), what="a disk", value=target, reads_only=reads_only)
