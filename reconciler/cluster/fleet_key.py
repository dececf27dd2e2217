"""Reads and writes the one key of a fleet, by compare-and-set."""

from __future__ import annotations

from reconciler.cluster.etcd import Condition, Delete, Entry, Etcd, Put
from reconciler.cluster.keys import Fleet, Names, read
from reconciler.model.diagnostics import refused

TRIES = 8


def fleet_of(entry: Entry | None, names: Names) -> Fleet:
    """Return what the key says. Raises where it is not understood: nothing is counted anew then."""
    fleet = Fleet() if entry is None else read(Fleet, entry.value)
    if fleet is None:
        raise refused(
            "a key in etcd is not understood",
            f"{names.fleet} in etcd is not understood, so nobody knows what is counted, and nothing is begun.",
            f"upgrade this controller if a newer one wrote it; if not: etcdctl del {names.fleet}",
        )
    return fleet


async def read_fleet(etcd: Etcd, names: Names) -> tuple[Entry | None, Fleet]:
    entry = await etcd.get(names.fleet)
    return entry, fleet_of(entry, names)


async def write_fleet(
    etcd: Etcd, names: Names, entry: Entry | None, fleet: Fleet, more: tuple[Delete, ...] = ()
) -> bool:
    """Write the key if it is as it was read. A try of ours whose answer was lost counts as done."""
    text = fleet.model_dump_json()
    if entry is not None and entry.value == text and not more:
        return True
    condition = Condition(key=names.fleet, written=entry.written if entry is not None else 0)
    if await etcd.commit([condition], [Put(names.fleet, text), *more]):
        return True
    now = await etcd.get(names.fleet)
    return now is not None and now.value == text
