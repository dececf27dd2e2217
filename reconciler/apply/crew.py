"""Tasks that are at work, whose end is waited for. Used by `follow`.

`asyncio.wait` asks all of them each time, so that each step of many would cost as much as there are others under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Crew:
    """Tasks that were begun and have not ended."""

    def __init__(self) -> None:
        self._at_work: set[asyncio.Task[None]] = set()
        self._ended: list[asyncio.Task[None]] = []
        self._woken: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        """Return whether there is something whose end was not seen yet."""
        return bool(self._at_work or self._ended)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._note)

    def _note(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        self._ended.append(task)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def any_ended(self, seconds: float) -> None:
        """Wait until one has ended, for so long at most. Raises what one of them raised."""
        if not self._ended:
            self._woken = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._woken}, timeout=seconds)
        ended, self._ended = self._ended, []
        for task in ended:
            task.result()

    async def cancel(self) -> None:
        """Cancel all that is at work, and wait for its end."""
        tasks = list(self._at_work)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
