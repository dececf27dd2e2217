"""Holds a domain, or all of a host, and lifts that again. Called by `reconciler hold` and from the page of watch.

No lock is taken: it is one small file on the host, which every step looks for before it begins.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.fence import Alone
from reconciler.model.fleet import Desired
from reconciler.model.host import WHOLE_HOST, Hold
from reconciler.open import executing
from reconciler.person import person

REASON_MAX = 500  # characters
LONGEST_DAYS = 366


async def hold(
    desired: Desired, root: Path, state_dir: Path, address: str, *, seconds: float | None, reason: str
) -> Hold:
    """Hold an address or a host for so long; None: until it is lifted. Raises ReconcilerError."""
    host, _, domain = address.partition("/")
    async with executing(desired, root, state_dir, host, Alone()) as executor:
        said = " ".join(reason.split())[:REASON_MAX]
        return await executor.hold(domain or WHOLE_HOST, seconds=seconds, by=person(), reason=said)


async def unhold(desired: Desired, root: Path, state_dir: Path, address: str) -> bool:
    """Lift the hold of an address or a host. Returns whether there was one. Raises ReconcilerError."""
    host, _, domain = address.partition("/")
    async with executing(desired, root, state_dir, host, Alone()) as executor:
        return await executor.unhold(domain or WHOLE_HOST)
