"""Ending what must not outlive this process: processes that it began, ssh's master connections, folders in /tmp.

Code that makes such a thing registers here how to end it, and takes that back once it has ended it. Normally nothing is
left when a command is over. When a second signal makes the process leave at once, all that is left is ended first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_endings: list[Callable[[], None]] = []
_spared: set[int] = set()


def must_end(end: Callable[[], None]) -> Callable[[], None]:
    """Have `end` called if the process leaves early. Call the returned function when that is no longer needed."""
    _endings.append(end)

    def forget() -> None:
        with suppress(ValueError):  # it was called already
            _endings.remove(end)

    return forget


@contextmanager
def spared(child: int) -> Iterator[None]:
    """Let a child outlive us, if we leave early: what it has begun is finished, and has a bound of its own."""
    _spared.add(child)
    try:
        yield
    finally:
        _spared.discard(child)


def end_all() -> None:
    """End what is left, the newest first."""
    with _undisturbed():
        while _endings:
            end = _endings.pop()
            with suppress(Exception):  # whatever hinders one ending must not hinder the others
                end()
        for child in set(_children()) - _spared:
            kill_group(child)
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore signals in the block: people press Ctrl-C again, and an ending that is cut short ends nothing."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _children() -> list[int]:
    """List our processes that were begun just now, so that nobody could register them; where the system knows."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 -- every command ends here, and pathlib loads slowly
            with suppress(OSError), open(f"/proc/self/task/{thread}/children") as children:  # noqa: PTH123
                found += map(int, children.read().split())
    return found


def leave(code: int) -> NoReturn:
    """End the process now, without waiting for anything that goes on in it. Locks go with it."""
    end_all()
    os._exit(code)


def kill_group(leader: int) -> None:
    """Kill a process that leads a session of its own, with all that it began."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
