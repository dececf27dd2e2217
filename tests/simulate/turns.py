"""An event loop that always takes its turns in the same order, and whose time moves only when nothing else is to do.

So a run of the product is a function of what it is given. `Turns` counts them, and can end the process at any of them
as kill -9 does: between two turns is each await of the controller.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
KILLED = 137
LONGEST_SECONDS = 6 * 3600.0  # no run of a command lasts as long; one that waits for ever gets there in no time


class HangsError(BaseException):
    """Nothing is left that could ever happen, or nothing has come of it in hours."""


@dataclass
class Turns:
    """What the loops of one process count, and where it ends."""

    die_at: int = 0  # 0: nowhere
    count: int = 0
    seconds: float = 0.0  # that have passed by waiting
    began: float = 0.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)  # what is done at a time

    def at(self, seconds: float, does: Callable[[], None]) -> None:
        """Have something done once so much time has passed."""
        self.due.append((seconds, does))

    def begin(self) -> None:
        self.began = time.time()

    def now(self) -> float:
        return self.began + self.seconds

    def take(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            os._exit(KILLED)


class _Selector(selectors.BaseSelector):
    """Waits for nothing but what is there already, and lets time pass instead."""

    def __init__(self, turns: Turns) -> None:
        self._real = selectors.DefaultSelector()
        self._turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns.take()
        found = self._real.select(0)
        if found or timeout == 0:
            return found
        if timeout is None or self._turns.seconds > LONGEST_SECONDS:
            raise HangsError
        self._turns.seconds += max(timeout, 1e-6)
        return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Any:
        return self._real.get_map()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        super().__init__(_Selector(turns))
        for seconds, does in turns.due:
            self.call_later(seconds, does)

    def time(self) -> float:
        return self._turns.seconds


async def _in_this_thread(work: Callable[..., T], /, *args: Any, **keys: Any) -> T:
    """Do what a thread would have done, at a moment that is always the same."""
    await asyncio.sleep(0)
    return work(*args, **keys)


def fill_up(folder: Path, but: Path) -> None:
    """Have no room for files in a folder from here on, but in one that lies in it."""
    replaces = os.replace

    def replace(source: Any, target: Any, **keys: Any) -> None:
        path = Path(os.fsdecode(target))
        if path.is_relative_to(folder) and not path.is_relative_to(but):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replaces(source, target, **keys)

    vars(os)["replace"] = replace


def steer(turns: Turns, random: Random) -> None:
    """Have all loops, clocks, threads and chances of this process be steered from here on. There is no way back."""
    turns.begin()
    mtime = os.utime

    def utime(path: Any, times: Any = None, **keys: Any) -> None:
        mtime(path, times or (turns.now(), turns.now()), **keys)

    replaced: dict[Any, dict[str, Any]] = {
        asyncio.events: {"new_event_loop": lambda: _Loop(turns)},
        asyncio: {"to_thread": _in_this_thread},
        time: {"time": turns.now, "monotonic": lambda: turns.seconds},
        os: {"utime": utime, "fsync": lambda opened: None},
        secrets: {
            "token_hex": lambda count=32: random.randbytes(count or 32).hex(),
            "token_bytes": lambda count=32: random.randbytes(count or 32),
        },
    }
    for module, functions in replaced.items():
        for name, function in functions.items():
            setattr(module, name, function)
