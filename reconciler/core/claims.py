"""What no two domains may have at once: a disk that one of them writes, a mac, a uuid.

A disk is one of its host, a mac and a uuid are of the whole fleet. `holders` says who keeps what another wants, `order`
hands it over, and `verify` sees that no two live domains ever have it both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.disks import disk_key
from reconciler.core.state import Disk, Domain, Guest, Host, Vif
from reconciler.core.steps import AttachDisk, AttachVif, CreateDisk, DetachVif, Shutdown, Start, Step

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One such thing, as a domain has it or wants it. `key` is the same whatever it is called."""

    key: Key
    what: str
    value: str  # as people know it
    reads_only: bool = False  # it may be had by several, if all of them only read it


Claims = Mapping[Key, Claim]


class Register:
    """Who has what."""

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
        """Somebody else who has it, so that this one cannot."""
        for users in (self._writers,) if claim.reads_only else (self._writers, self._readers):
            for other in users.get(claim.key, ()):
                if other != address:
                    return other
        return None


def claims_of(host: Host, definition: Domain | None) -> Claims:
    """All that a definition claims."""
    if definition is None:
        return {}
    claims = [_uuid(definition.uuid), *map(_mac, definition.vifs), *(_disk(host, disk) for disk in definition.disks)]
    return {claim.key: claim for claim in claims if claim.value}


def live_claims(host: Host, guest: Guest | None) -> Claims:
    """All that a guest has now, as far as its host can tell."""
    return claims_of(host, guest.running) if guest is not None and guest.exists else {}


def without(claims: Claims, others: Claims) -> Claims:
    """What of these is not among the others, or not in the same way."""
    return {
        key: claim for key, claim in claims.items() if key not in others or others[key].reads_only != claim.reads_only
    }


def taken_by(host: Host, step: Step) -> Claims:
    """What a domain has from this step on, or reads in it."""
    match step:
        case Start():
            return claims_of(host, step.definition)
        case AttachVif():
            claim = _mac(step.vif)
        case AttachDisk():
            claim = _disk(host, step.disk)
        case CreateDisk() if step.disk.source is not None:
            claim = _disk_claim(host, step.disk.source, reads_only=True)
        case _:
            return {}
    return {claim.key: claim}


def released_by(host: Host, guest: Guest | None, step: Step) -> Claims:
    """What a domain, so far as observed, has no more after this step."""
    match step:
        case Shutdown():
            return live_claims(host, guest)
        case DetachVif():
            claim = _mac(step.vif)
            return {claim.key: claim}
        case _:
            return {}


def _uuid(uuid: str) -> Claim:
    return Claim(key=("uuid", uuid), what="the uuid", value=uuid)


def _mac(vif: Vif) -> Claim:
    return Claim(key=("mac", vif.mac), what="a mac", value=vif.mac)


def _disk(host: Host, disk: Disk) -> Claim:
    return _disk_claim(host, disk.target, reads_only=disk.access == "ro")


def _disk_claim(host: Host, target: str, *, reads_only: bool) -> Claim:
    return Claim(key=("disk", host.name, disk_key(host, target)), what="a disk", value=target, reads_only=reads_only)
