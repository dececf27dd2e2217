"""Hosts that a person gave up with `forget`: what each controller remembers of them goes, until they answer again.

etcd keeps which these are, so that also a controller on another machine, or one that comes later, goes by it. Where it
has lost that, each counts again with what it may use at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from reconciler.state_dir import sightings


class GivenUp:
    """The hosts that were given up, as one controller goes by them."""

    def __init__(self) -> None:
        self.state_dir: Path | None = None
        self.hosts: frozenset[str] = frozenset()
        self._is_first = True

    async def heed(self, hosts: frozenset[str], known: Collection[str]) -> None:
        """Go by what etcd says now. Where that cannot be noted, it is tried again."""
        if self.state_dir is None or (hosts == self.hosts and not self._is_first):
            return
        with suppress(OSError):
            await asyncio.to_thread(self._note, self.state_dir, hosts, known)
            self.hosts, self._is_first = hosts, False

    def _note(self, state_dir: Path, hosts: frozenset[str], known: Collection[str]) -> None:
        before = sightings.forgotten(state_dir) if self._is_first else self.hosts
        for host in sorted(hosts - before):
            sightings.forget(state_dir, host, known)
        sightings.answered(state_dir, before - hosts)
