"""Holds a domain, or all of a host, and lifts that again. Called by `reconciler hold` and from the page of watch.

No lock is taken: it is one small file on the host, which every step looks for before it begins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reconciler.fence import Alone
from reconciler.model.fleet import Desired
from reconciler.model.host import WHOLE_HOST, Hold
from reconciler.open import open_host
from reconciler.person import person
from reconciler.toolstack import Executor

REASON_MAX = 500  # characters
LONGEST_DAYS = 366


async def hold(
    desired: Desired, root: Path, state_dir: Path, address: str, *, seconds: float | None, reason: str
) -> Hold:
    """Hold an address or a host for so long; None: until it is lifted. Raises ReconcilerError."""
    host, _, domain = address.partition("/")
    async with _executor(desired, root, state_dir, host) as executor:
        said = " ".join(reason.split())[:REASON_MAX]
        return await executor.hold(domain or WHOLE_HOST, seconds=seconds, by=person(), reason=said)


async def unhold(desired: Desired, root: Path, state_dir: Path, address: str) -> bool:
    """Lift the hold of an address or a host. Returns whether there was one. Raises ReconcilerError."""
    host, _, domain = address.partition("/")
    async with _executor(desired, root, state_dir, host) as executor:
        return await executor.unhold(domain or WHOLE_HOST)


@asynccontextmanager
async def _executor(desired: Desired, root: Path, state_dir: Path, host: str) -> AsyncIterator[Executor]:
    opened = open_host(desired.hosts[host].settings, desired.fleet, state_dir)
    try:
        yield opened.executor(desired.commit, root, Alone())
    finally:
        await opened.observer.close()
