"""Reads and writes the one key of a fleet, by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.cluster.etcd import Condition, Delete, Entry, Etcd, Put
from reconciler.cluster.keys import FACTS_BYTES, Fleet, Names, read
from reconciler.fence import new_session
from reconciler.model.diagnostics import refused

_TRIES = 8


def fleet_of(entry: Entry | None, names: Names) -> Fleet:
    """Return what the key says. Raises where it is not understood: nothing is counted anew then."""
    fleet = Fleet() if entry is None else read(Fleet, entry.value, FACTS_BYTES)
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


async def change_fleet(
    etcd: Etcd, names: Names, decide: Callable[[Fleet], Fleet | str], more: tuple[Delete, ...] = ()
) -> Fleet | str:
    """Write the key as decided on what it is, by compare-and-set. Returns what it is then, or why it stays so."""
    for _ in range(_TRIES):
        entry, before = await read_fleet(etcd, names)
        after = decide(before if entry is not None else Fleet(made=new_session()))
        if isinstance(after, str):
            return after
        if len(after.model_dump_json()) > FACTS_BYTES:
            return "more is counted over the fleet than one key can hold, so the next commit has to be accepted first"
        if await _write(etcd, names, entry, after, more):
            return after
    return "the controllers write to etcd at the same time again and again"


async def _write(etcd: Etcd, names: Names, entry: Entry | None, fleet: Fleet, more: tuple[Delete, ...]) -> bool:
    """Write the key if it is as it was read. A try of ours whose answer was lost counts as done."""
    text = fleet.model_dump_json()
    if entry is not None and entry.value == text and not more:
        return True
    condition = Condition(key=names.fleet, written=entry.written if entry is not None else 0)
    if await etcd.commit([condition], [Put(names.fleet, text), *more]):
        return True
    now = await etcd.get(names.fleet)
    return now is not None and now.value == text
