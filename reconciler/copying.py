"""Tells how far a copy has come while it goes on: how much of how much, and how fast.

Called by `disks` and `images` of dom0. The copy knows nothing of it: somebody else looks, every two seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from reconciler.model.diagnostics import ReconcilerError
from reconciler.records import dataclass

POLL_SECONDS = 2.0
_KIB, _MIB = 1024, 1024 * 1024

Report = Callable[[str], None]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Copied:
    """How much is there, and how much there will be; None where nobody knows."""

    done_bytes: int
    total_bytes: int | None = None


async def telling(
    copy: Coroutine[Any, Any, Made], measure: Callable[[], Awaitable[Copied | None]], report: Report
) -> Made:
    """Wait for a copy, and meanwhile report how far it has come. That it cannot be measured does not hurt it."""
    teller = asyncio.create_task(_tell(measure, report))
    try:
        return await copy
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)


async def _tell(measure: Callable[[], Awaitable[Copied | None]], report: Report) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(POLL_SECONDS)
        try:
            copied = await measure()
        except ReconcilerError:
            continue
        if copied is not None:
            report(in_words(copied, time.monotonic() - began))


def in_words(copied: Copied, seconds: float) -> str:
    """Say how far a copy has come after so many seconds.

    >>> in_words(Copied(300 * _MIB, 10240 * _MIB), 4.0), in_words(Copied(100 * _KIB), 4.0)
    ('300 of 10240 MiB, 75 MiB/s', '0 MiB, 25 KiB/s')
    """
    total = "" if copied.total_bytes is None else f" of {copied.total_bytes // _MIB}"
    rate = copied.done_bytes / max(seconds, 0.001)
    speed = f"{rate / _MIB:.0f} MiB/s" if rate >= _MIB else f"{rate / _KIB:.0f} KiB/s"
    return f"{copied.done_bytes // _MIB}{total} MiB, {speed}"
