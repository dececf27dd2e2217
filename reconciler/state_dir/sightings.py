"""Remembers what was on each host when it was last observed, for when it does not answer.

That is the names of our domains, and the uuids and macs of all domains, which nobody else may get meanwhile. Where it
cannot be read, or says nothing of a host, that host may have anything (None) until it answers again or is given up.
A file that is not there says that no host was seen yet: a new controller holds nobody up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from reconciler.model.claims import Key, Unseen, fleet_claims, noted_claims, seen_claims
from reconciler.model.domain import address_of
from reconciler.model.host import Host, Owner
from reconciler.plan.steps import PlannedStep, RemoveConfig, Rename, WriteConfig
from reconciler.state_dir.files import make_folder, replace_file

_FILE = "sightings.json"
_FORGOTTEN = "forgotten.json"
_NOTING = Lock()  # passes over several hosts note what they saw at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was on a host: the names of our domains, and by the name of each domain, ours or not, its uuid and macs."""

    ours: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[Key]] = field(default_factory=dict)


Sightings = dict[str, Sighting | None]


def recall(state_dir: Path, known: Iterable[str]) -> Sightings:
    """Map each host to what was there at its last observation; None: nobody knows.

    `known` are the hosts of which nobody knows if nothing can be read.
    """
    try:
        stored = json.loads((state_dir / _FILE).read_bytes())
        return {str(host): _read(entry) for host, entry in stored.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return dict.fromkeys(known)


def remember(state_dir: Path, hosts: Mapping[str, Host], known: Iterable[str]) -> None:
    """Note what is on the hosts observed now. Hosts that were not observed keep what was noted before."""
    with _NOTING:
        given_up = forgotten(state_dir)
        if given_up & hosts.keys():
            with suppress(OSError):
                left = json.dumps(sorted(given_up - hosts.keys()))
                replace_file(state_dir / _FORGOTTEN, left.encode(), durable=True)
        before = recall(state_dir, known)
        _store(state_dir, before, before | {name: _seen(host) for name, host in hosts.items()})


def remember_steps(state_dir: Path, done: Iterable[PlannedStep], known: Iterable[str]) -> None:
    """Note the domains that an apply made ours or gave up, in case the host falls silent before the next look."""
    with _NOTING:
        before = recall(state_dir, known)
        now = dict(before)
        for planned in done:
            sighting = now.get(planned.host, Sighting())
            if sighting is not None:
                now[planned.host] = _after(sighting, planned)
        _store(state_dir, before, now)


def forget(state_dir: Path, host: str, known: Iterable[str]) -> None:
    """Forget a host that is given up, and note that until it answers again. Raises OSError."""
    with _NOTING:
        before = recall(state_dir, known)
        make_folder(state_dir)
        given_up = sorted({*forgotten(state_dir), host})
        replace_file(state_dir / _FORGOTTEN, json.dumps(given_up).encode(), durable=True)
        _write(state_dir, {name: sighting for name, sighting in before.items() if name != host})


def unseen(state_dir: Path, known: Iterable[str], observed: Iterable[str]) -> Unseen:
    """Return what was last seen on hosts that are not observed now, less those that were given up."""
    recalled = recall(state_dir, frozenset(known) - forgotten(state_dir))
    silent = sorted(recalled.keys() - frozenset(observed))
    told = {host: seen for host in silent if (seen := recalled[host]) is not None}
    return Unseen(
        names={domain: host for host, seen in told.items() for domain in sorted(seen.ours)},
        claims={
            address_of(host, domain): noted_claims(keys)
            for host, seen in told.items()
            for domain, keys in sorted(seen.claims.items())
        },
        untold=tuple(host for host in silent if host not in told),
    )


def forgotten(state_dir: Path) -> frozenset[str]:
    """Return the hosts that were given up and have not answered since."""
    try:
        stored = json.loads((state_dir / _FORGOTTEN).read_text(encoding="utf-8"))
        return frozenset(map(str, stored))
    except (OSError, ValueError, TypeError):
        return frozenset()


def _seen(host: Host) -> Sighting:
    claims = {guest.name: frozenset(seen_claims(host, guest)) for guest in host.guests.values()}
    return Sighting(
        ours=frozenset(guest.name for guest in host.guests.values() if guest.owner is Owner.OURS),
        claims={name: keys for name, keys in claims.items() if keys},
    )


def _after(sighting: Sighting, planned: PlannedStep) -> Sighting:
    """Return what is there after a step."""
    ours, claims = set(sighting.ours), dict(sighting.claims)
    match planned.step:
        case WriteConfig(definition=definition):
            ours.add(definition.name)
            claims[definition.name] = claims.get(definition.name, frozenset()) | fleet_claims(definition).keys()
        case Rename(domain=domain, old=old):
            ours.discard(old)
            ours.add(domain)
            claims[domain] = claims.pop(old, frozenset())
        case RemoveConfig(domain=domain):
            ours.discard(domain)
            claims.pop(domain, None)
        case _:
            return sighting
    return Sighting(ours=frozenset(ours), claims=claims)


def _read(entry: Any) -> Sighting | None:
    """Read what was noted of one host. Version 0.1 noted the names of our domains and nothing else."""
    match entry:
        case list():
            return Sighting(ours=frozenset(map(str, entry)))
        case {"ours": list(ours), "claims": dict(claims)}:
            with suppress(TypeError, ValueError):
                keys = {
                    name: frozenset((str(kind), str(value)) for kind, value in each) for name, each in claims.items()
                }
                return Sighting(ours=frozenset(map(str, ours)), claims=keys)
    return None


def _store(state_dir: Path, before: Sightings, now: Sightings) -> None:
    if now == before and None not in before.values():
        return
    with suppress(OSError):  # where it cannot be written, nothing can be read the next time, or what was before
        make_folder(state_dir)
        _write(state_dir, now)


def _write(state_dir: Path, sightings: Sightings) -> None:
    stored = {host: None if one is None else _stored(one) for host, one in sightings.items()}
    replace_file(state_dir / _FILE, json.dumps(stored, sort_keys=True).encode(), durable=True)


def _stored(sighting: Sighting) -> dict[str, Any]:
    claims = {name: sorted(keys) for name, keys in sighting.claims.items()}
    return {"ours": sorted(sighting.ours), "claims": claims}
