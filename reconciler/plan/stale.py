"""Binds a plan to what was observed, and finds what of it has moved since. Called by `plan`, and by who follows one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property

from reconciler.decide.changes import Action, Change
from reconciler.model.domain import canonical_json, fingerprint
from reconciler.model.host import Guest, Host, Owner
from reconciler.model.memory import needed_kib
from reconciler.model.parts import kept_of_policy


def adopted_by(changes: Iterable[Change]) -> dict[str, frozenset[str]]:
    """Return the domains that these changes adopt, by host."""
    found: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        if change.action is Action.ADOPT:
            found[change.host].add(change.domain)
    return {host: frozenset(names) for host, names in found.items()}


def base_of(host: Host, adopted: Collection[str]) -> Mapping[str, str]:
    """Return a fingerprint of each thing on a host that a plan is bound to which adopts these domains there.

    Each has a name for people.
    """
    return _Base(host, adopted)


class _Base(Mapping[str, str]):
    """The fingerprints, worked out once somebody asks for them: a plan that is only looked at needs none."""

    def __init__(self, host: Host, adopted: Collection[str]) -> None:
        self._host = host
        self._adopted = adopted

    @cached_property
    def _facts(self) -> dict[str, str]:
        return _facts_of(self._host, self._adopted)

    def __getitem__(self, name: str) -> str:
        return self._facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)


def _facts_of(host: Host, adopted: Collection[str]) -> dict[str, str]:
    facts = {"boot of the dom0": host.boot_id, "total memory": str(host.total_kib)}
    facts |= {f"domain {name}": _fingerprint(guest, adopted) for name, guest in host.guests.items()}
    facts |= {f"staged file {path}": sha256 for path, sha256 in host.images.items()}
    facts |= {f"file {path}": sha256 for path, sha256 in host.digests.items()}
    facts |= {f"file {path}": sha256 for path, sha256 in host.unstaged.items() if path in _booted_by(host, adopted)}
    facts |= {f"disk {path}": f"{fact.kind} {fact.key}" for path, fact in host.files.items()}
    return dict(sorted(facts.items()))


def _booted_by(host: Host, names: Collection[str]) -> frozenset[str]:
    """Return the paths of the kernels and ramdisks that these running domains name."""
    running = [host.guests[name].running for name in names if name in host.guests]
    return frozenset(image.path for definition in running if definition is not None for image in definition.images)


def moved(base: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of all that differs between what a plan was bound to and what is there now."""
    return tuple(sorted(name for name in base.keys() | now.keys() if base.get(name) != now.get(name)))


def _fingerprint(guest: Guest, adopted: Collection[str]) -> str:
    """Return the fingerprint of a guest: all of it if it is ours or is being adopted.

    Of any other guest only what it takes from ours is in it (disks, macs, memory). Its owner may change the rest, and a
    plan that never touches it is not refused for that.
    """
    if guest.owner is Owner.OURS or guest.name in adopted:
        files = [definition for definition in (guest.config, guest.candidate) if definition is not None]
        return fingerprint([guest, *map(kept_of_policy, files)])
    definitions = [definition for definition in (guest.running, guest.config) if definition is not None]
    taken = {
        "uuids": [definition.uuid for definition in definitions],
        "memory_kib": needed_kib(guest.running, guest.running.memory_kib) if guest.running is not None else None,
        "exists": guest.exists,
        "disks": sorted({(disk.target, disk.access) for one in definitions for disk in one.disks}),
        "macs": sorted({vif.mac for one in definitions for vif in one.vifs if vif.mac}),
        "config": guest.config_exists,
    }
    return hashlib.sha256(canonical_json(taken).encode(errors="surrogatepass")).hexdigest()
