"""Remembers what was read of a spec tree, so that a later reading opens only files that changed. Filled by `tree`.

A file is taken to be the same while its size, its time of change and its inode are. One that changed only a moment
before it was read is not remembered: the clock of file systems is coarse, and a second change within one of its ticks
would not be seen. Neither is one that could not be read: the right to read it changes none of the three. Where the tree
is that of a commit, git names what each file holds, and that name alone counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_QUIET_NS = 1_000_000_000  # without a change: longer than a tick of any file system's clock


class FileMemory(Generic[T]):
    """One kind of thing that is known of files, by their names in the tree."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, T]] = {}
        self._asked_for: set[str] = set()
        self.reads = 0  # how often a file had to be read

    def recall(
        self, name: str, path: str, content: str | None, read: Callable[[], T], is_whole: Callable[[T], bool]
    ) -> T:
        """Return what `read` gave for the file at `path`, if the file (links followed) is as it was then; else read it.

        `content` is git's name of the file's content, where git knows it.
        """
        self._asked_for.add(name)
        signature = content or _signature(path)
        if signature is not None and name in self._known and self._known[name][0] == signature:
            return self._known[name][1]
        self.reads += 1
        value = read()
        if is_whole(value) and (content is not None or _is_quiet(path, signature)):
            self._known[name] = (signature, value)
        else:
            self._known.pop(name, None)
        return value

    def forget_the_rest(self) -> None:
        """Drop what was not asked for since the last call: files that are gone."""
        self._known = {name: entry for name, entry in self._known.items() if name in self._asked_for}
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


def _is_quiet(path: str, signature: object) -> bool:
    """Return whether a file is still as it was before it was read, and has been so for a while."""
    now = _signature(path)
    return now is not None and now == signature and time.time_ns() - now[1] > _QUIET_NS
