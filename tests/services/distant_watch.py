"""`reconciler`, run so that simulated hosts are reached over a real network, by the door in `RECONCILER_TEST_DOOR`."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing, suppress

from reconciler.cli import main
from reconciler.model.host import Host
from reconciler.simulated import host
from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver
from reconciler.toolstack import Question
from tests.services.door import WORD

_KNOCK_SECONDS = 2.0
_observe, _reach = SimulatedObserver.observe, SimulatedExecutor._reach


async def knock(name: str) -> None:
    address, _, port = os.environ["RECONCILER_TEST_DOOR"].rpartition(":")
    with suppress(OSError, TimeoutError, EOFError):
        async with asyncio.timeout(_KNOCK_SECONDS):
            reader, writer = await asyncio.open_connection(address, int(port))
            with closing(writer):
                await reader.readexactly(len(WORD))
                return
    raise host._unreachable(name)


async def _observed(self: SimulatedObserver, question: Question) -> Host:
    await knock(self.name)
    return await _observe(self, question)


async def _reached(self: SimulatedExecutor) -> bool:
    await knock(self.name)
    return await _reach(self)


if __name__ == "__main__":
    SimulatedObserver.observe = _observed  # type: ignore[method-assign]
    SimulatedExecutor._reach = _reached  # type: ignore[method-assign]
    main()
