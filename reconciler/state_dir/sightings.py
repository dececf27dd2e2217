"""Remembers what was on each host when it was last observed, for when it does not answer.

That is the names of our domains, and the uuids and macs of all domains, which nobody else may get meanwhile. Where it
cannot be read, or says nothing of a host, that host may have anything (None) until it answers again or is given up.
A file that is not there says that no host was seen yet: a new controller holds nobody up.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from threading import Lock
from typing import Any

from reconciler.model.claims import Key, Unseen, fleet_claims, noted_claims, noted_keys, seen_claims
from reconciler.model.domain import address_of
from reconciler.model.host import Host, Owner
from reconciler.plan.steps import PlannedStep, RemoveConfig, Rename, WriteConfig
from reconciler.records import dataclass
from reconciler.state_dir.files import make_folder, replace_file

_FOLDER = "sightings"  # a file a host, so that a look costs what its own host holds
_OLD_FILE = "sightings.json"  # of all hosts, as versions up to 0.1 wrote it
_FORGOTTEN = "forgotten.json"
_NOTING = Lock()  # passes over several hosts note what they saw at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was on a host: the names of our domains, and by the name of each domain, ours or not, its uuid and macs."""

    ours: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[Key]] = field(default_factory=dict)


Sightings = dict[str, Sighting | None]


def recall(state_dir: Path, known: Iterable[str], leave_out: Collection[str] = ()) -> Sightings:
    """Map each host, but for those to leave out, to what was there at its last observation; None: nobody knows.

    `known` are the hosts of which nobody knows if nothing can be read.
    """
    found = _recall_old(state_dir, known)
    try:
        names = sorted(file.stem for file in (state_dir / _FOLDER).iterdir() if file.suffix == ".json")
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError:
        found, names = dict.fromkeys(known), []
    found |= {name: _recall_one(state_dir, name) for name in names if name not in leave_out}
    return {name: sighting for name, sighting in found.items() if name not in leave_out}


def remember(state_dir: Path, hosts: Mapping[str, Host], known: Iterable[str], unchanged: Collection[str] = ()) -> None:
    """Note what is on the hosts observed now. Hosts that were not observed keep what was noted before.

    Of hosts that are `unchanged`, it is only noted where it was given up meanwhile, or cannot be read any more.
    """
    with _NOTING:
        with suppress(OSError):
            _give_up_no_more(state_dir, hosts.keys())
        _take_old(state_dir, known)
        for name, host in hosts.items():
            if name not in unchanged or _recall_one(state_dir, name) is None:
                _store(state_dir, name, _seen(host))


def remember_steps(state_dir: Path, done: Iterable[PlannedStep], known: Iterable[str]) -> None:
    """Note the domains that an apply made ours or gave up, in case the host falls silent before the next look."""
    with _NOTING:
        _take_old(state_dir, known)
        now: Sightings = {}
        for planned in done:
            if planned.host not in now:
                there = _file(state_dir, planned.host).exists()
                now[planned.host] = _recall_one(state_dir, planned.host) if there else Sighting()
            sighting = now[planned.host]
            if sighting is not None:
                now[planned.host] = _after(sighting, planned)
        for name, sighting in now.items():
            if sighting is not None:
                _store(state_dir, name, sighting)


def forget(state_dir: Path, host: str, known: Iterable[str]) -> None:
    """Forget a host that is given up, and note that until it answers again. Raises OSError."""
    with _NOTING:
        _take_old(state_dir, known)
        make_folder(state_dir)
        given_up = sorted({*forgotten(state_dir), host})
        replace_file(state_dir / _FORGOTTEN, json.dumps(given_up).encode(), durable=True)
        _file(state_dir, host).unlink(missing_ok=True)


def answered(state_dir: Path, hosts: Collection[str]) -> None:
    """Note that these hosts are given up no more, since they have answered. Raises OSError."""
    with _NOTING:
        _give_up_no_more(state_dir, hosts)


def unseen(state_dir: Path, known: Iterable[str], observed: Iterable[str]) -> Unseen:
    """Return what was last seen on hosts that are not observed now, less those that were given up."""
    recalled = recall(state_dir, frozenset(known) - forgotten(state_dir), frozenset(observed))
    silent = sorted(recalled)
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


def _give_up_no_more(state_dir: Path, hosts: Collection[str]) -> None:
    given_up = forgotten(state_dir)
    if not given_up.isdisjoint(hosts):
        left = json.dumps(sorted(given_up.difference(hosts)))
        replace_file(state_dir / _FORGOTTEN, left.encode(), durable=True)


def _seen(host: Host) -> Sighting:
    claims = {guest.name: noted_keys(seen_claims(host, guest)) for guest in host.guests.values()}
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
            claims[definition.name] = claims.get(definition.name, frozenset()) | noted_keys(fleet_claims(definition))
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


def _file(state_dir: Path, host: str) -> Path:
    return state_dir / _FOLDER / f"{host}.json"


def _recall_one(state_dir: Path, host: str) -> Sighting | None:
    try:
        return _read(json.loads(_file(state_dir, host).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def _store(state_dir: Path, host: str, now: Sighting | None) -> None:
    """Note what is on a host, where it is not what was noted before."""
    file, text = _file(state_dir, host), json.dumps(_stored(now) if now is not None else None, sort_keys=True).encode()
    with suppress(OSError):
        if file.read_bytes() == text:
            return
    with suppress(OSError):  # where it cannot be written, nothing can be read the next time, or what was before
        make_folder(file.parent)
        replace_file(file, text, durable=True)


def _recall_old(state_dir: Path, known: Iterable[str]) -> Sightings:
    """Return what an earlier version noted; of a file that cannot be read, that nobody knows."""
    try:
        stored = json.loads((state_dir / _OLD_FILE).read_bytes())
        return {str(host): _read(entry) for host, entry in stored.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return dict.fromkeys(known)


def _take_old(state_dir: Path, known: Iterable[str]) -> None:
    """Note what an earlier version noted host by host, but for hosts that were seen since."""
    if not (state_dir / _OLD_FILE).exists():
        return
    old = _recall_old(state_dir, known)
    for name, sighting in old.items():
        if not _file(state_dir, name).exists():
            _store(state_dir, name, sighting)
    if all(_file(state_dir, name).exists() for name in old):
        with suppress(OSError):
            (state_dir / _OLD_FILE).unlink()


def _stored(sighting: Sighting) -> dict[str, Any]:
    claims = {name: sorted(keys) for name, keys in sighting.claims.items()}
    return {"ours": sorted(sighting.ours), "claims": claims}
