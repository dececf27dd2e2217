"""Remembers which domains of a host were ours when it was last observed, for when it does not answer.

It is a hint, never an authority: when it is lost, only the warning is lost that a domain may still run there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from reconciler.model.host import Host, Owner
from reconciler.plan.steps import PlannedStep, RemoveConfig, Rename, WriteConfig
from reconciler.state_dir.files import make_folder, replace_file

_FILE = "sightings.json"
_FORGOTTEN = "forgotten.json"
_NOTING = Lock()  # passes over several hosts note what they saw at the same time


def recall(state_dir: Path) -> dict[str, tuple[str, ...]]:
    """Map each host to the names of our domains at its last observation. Empty when nothing readable is there."""
    try:
        stored = json.loads((state_dir / _FILE).read_text(encoding="utf-8"))
        return {str(host): tuple(str(name) for name in names) for host, names in stored.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def remember(state_dir: Path, hosts: Mapping[str, Host]) -> None:
    """Note our domains on the hosts observed now. Hosts that were not observed keep what was noted before."""
    with _NOTING:
        given_up = forgotten(state_dir)
        if given_up & hosts.keys():
            with suppress(OSError):
                left = json.dumps(sorted(given_up - hosts.keys()))
                replace_file(state_dir / _FORGOTTEN, left.encode(), durable=True)
        before = recall(state_dir)
        now = before | {
            name: tuple(sorted(guest.name for guest in host.guests.values() if guest.owner is Owner.OURS))
            for name, host in hosts.items()
        }
        _store(state_dir, before, now)


def remember_steps(state_dir: Path, done: Iterable[PlannedStep]) -> None:
    """Note the domains that an apply made ours or gave up, in case the host falls silent before the next look."""
    with _NOTING:
        before = recall(state_dir)
        now = {host: set(names) for host, names in before.items()}
        for planned in done:
            names = now.setdefault(planned.host, set())
            match planned.step:
                case WriteConfig():
                    names.add(planned.step.definition.name)
                case Rename():
                    names.discard(planned.step.old)
                    names.add(planned.step.domain)
                case RemoveConfig():
                    names.discard(planned.step.domain)
                case _:
                    pass
        _store(state_dir, before, {host: tuple(sorted(names)) for host, names in now.items()})


def forget(state_dir: Path, host: str) -> None:
    """Forget a host that is given up, and note that until it answers again. Raises OSError."""
    before = recall(state_dir)
    make_folder(state_dir)
    given_up = sorted({*forgotten(state_dir), host})
    replace_file(state_dir / _FORGOTTEN, json.dumps(given_up).encode(), durable=True)
    now = {name: domains for name, domains in before.items() if name != host}
    replace_file(state_dir / _FILE, json.dumps(now, sort_keys=True).encode(), durable=True)


def forgotten(state_dir: Path) -> frozenset[str]:
    """Return the hosts that were given up and have not answered since."""
    try:
        stored = json.loads((state_dir / _FORGOTTEN).read_text(encoding="utf-8"))
        return frozenset(map(str, stored))
    except (OSError, ValueError, TypeError):
        return frozenset()


def _store(state_dir: Path, before: Mapping[str, tuple[str, ...]], now: Mapping[str, tuple[str, ...]]) -> None:
    if now == before:
        return
    with suppress(OSError):  # a hint is not worth failing a plan for
        make_folder(state_dir)
        replace_file(state_dir / _FILE, json.dumps(now, sort_keys=True).encode(), durable=True)
