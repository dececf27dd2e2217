"""What was read of a spec tree before, so that a later reading opens only the files that changed. Filled by `tree`.

A file is taken to be the same while its size, its time of change and its inode are. One that changed only a moment
before it was read is not remembered: the clock of file systems is coarse, and a second change within one of its ticks
would not be seen. Neither is one that could not be read: the right to read it changes none of the three.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_SETTLED_NS = 1_000_000_000


class FileMemory(Generic[T]):
    """One kind of thing that is known of files, by path."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], T]] = {}
        self._asked_for: set[str] = set()
        self.reads = 0  # how often a file had to be read

    def recall(self, path: str, read: Callable[[], T], is_whole: Callable[[T], bool]) -> T:
        """What `read` gave when this file, links followed, was last as it is now; else what it gives now."""
        self._asked_for.add(path)
        signature = _signature(path)
        if signature is not None and path in self._known and self._known[path][0] == signature:
            return self._known[path][1]
        self.reads += 1
        value = read()
        settled = signature is not None and time.time_ns() - signature[1] > _SETTLED_NS
        if signature is not None and settled and signature == _signature(path) and is_whole(value):
            self._known[path] = (signature, value)
        else:
            self._known.pop(path, None)
        return value

    def forget_the_rest(self) -> None:
        """Drop what was not asked for since the last call: files that are gone."""
        self._known = {path: entry for path, entry in self._known.items() if path in self._asked_for}
        self._asked_for = set()


class LastResult(Generic[T]):
    """The result of a computation, kept until what goes into it differs."""

    def __init__(self) -> None:
        self._kept: tuple[object, T] | None = None

    def recall(self, inputs: object, compute: Callable[[], T]) -> T:
        if self._kept is None or self._kept[0] != inputs:
            self._kept = (inputs, compute())
        return self._kept[1]


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # 10,000 of them: a Path each would cost more than the call
    except (OSError, ValueError):  # gone, or a name that no file can have
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
