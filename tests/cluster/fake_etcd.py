"""An etcd that is a value: its clock is ours, it may be wiped and restored, and what it answers may be lost."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.cluster.etcd import Condition, Delete, Entry, Etcd, Listing, Put
from reconciler.model.diagnostics import world_error


@dataclass
class Store:
    now: float = 0.0
    revision: int = 1
    entries: dict[str, Entry] = field(default_factory=dict)
    leases: dict[int, tuple[int, float]] = field(default_factory=dict)  # id -> seconds, and when it runs out
    last_lease: int = 0
    used: float | None = None  # of the quota

    def expire(self) -> None:
        gone = {lease for lease, (_, end) in self.leases.items() if end <= self.now}
        for lease in gone:
            self.drop(lease)

    def drop(self, lease: int) -> None:
        self.leases.pop(lease, None)
        self.entries = {key: one for key, one in self.entries.items() if one.lease != lease}

    def wipe(self) -> None:
        """As when all data is lost: revisions begin anew, and the id of the cluster is the same."""
        self.revision, self.entries, self.leases = 1, {}, {}

    def snapshot(self) -> Store:
        return copy.deepcopy(self)

    def restore(self, older: Store) -> None:
        self.revision, self.entries = older.revision, dict(older.entries)
        self.leases = {lease: (seconds, self.now + seconds) for lease, (seconds, _) in older.leases.items()}


class FakeEtcd(Etcd):
    """One client. `cut` has it reach nobody; `loses` has the answer to its next transaction lost."""

    def __init__(self, store: Store) -> None:
        self.endpoints = ("http://etcd:2379",)
        self.cluster_id = "c1"
        self.store = store
        self.cut = self.loses = False

    def close(self) -> None:
        """Nothing is open."""

    def _reach(self) -> Store:
        if self.cut:
            raise world_error("etcd does not answer", "No member of the etcd answers.", None, transient=True)
        self.store.expire()
        return self.store

    async def list(self, prefix: str, *, since: int = 0, page: int = 0) -> Listing:
        store = self._reach()
        found = [one for key, one in sorted(store.entries.items()) if key.startswith(prefix)]
        newer = tuple(one for one in found if one.written >= since)
        return Listing(entries=newer, revision=store.revision, count=len(found))

    async def get(self, key: str) -> Entry | None:
        return self._reach().entries.get(key)

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Put | Delete]) -> bool:
        done = self._commit(conditions, operations)
        if self.loses:  # the first try was done and nobody heard of it, so there is a second one
            self.loses = False
            return self._commit(conditions, operations)
        return done

    def _commit(self, conditions: Sequence[Condition], operations: Sequence[Put | Delete]) -> bool:
        store = self._reach()
        for one in conditions:
            there = store.entries.get(one.key)
            if one.written != (there.written if there is not None else 0):
                return False
        store.revision += 1
        for operation in operations:
            if isinstance(operation, Delete):
                store.entries.pop(operation.key, None)
                continue
            if operation.lease and operation.lease not in store.leases:
                raise world_error("etcd has refused", "requested lease not found", None, transient=True)
            store.entries[operation.key] = Entry(
                key=operation.key,
                value=operation.value,
                written=store.revision,
                lease=operation.lease,
            )
        return True

    async def grant(self, seconds: int) -> int:
        store = self._reach()
        store.last_lease += 1
        store.leases[store.last_lease] = (seconds, store.now + seconds)
        return store.last_lease

    async def keep_alive(self, lease: int) -> int:
        store = self._reach()
        if lease not in store.leases:
            return 0
        seconds, _ = store.leases[lease]
        store.leases[lease] = (seconds, store.now + seconds)
        return seconds

    async def revoke(self, lease: int) -> None:
        self._reach().drop(lease)

    async def has_room(self) -> bool:
        return True

    async def used(self) -> float | None:
        return self.store.used
