"""Tells which hosts have not answered yet, once looking at them has taken two seconds. Called by `session`.

On a terminal that is one line in place, which goes when they have; elsewhere it is one line, once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TextIO

from reconciler.show.escape import plain

TICK_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
_NAMED = 5
_CLEAR = "\r\x1b[K"


class SilentHosts:
    """Shows who is waited for, of the hosts that are asked: their names, and since when, by the loop's clock."""

    def __init__(self, asked: Mapping[str, float], stream: TextIO | None = None) -> None:
        self._asked = asked
        self._stream = sys.stderr if stream is None else stream
        self._in_place = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = False

    async def show(self) -> None:
        """Show it until cancelled."""
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                self._tell(asyncio.get_running_loop().time())
        finally:
            if self._in_place and self._shown:
                self._write(_CLEAR)

    def _tell(self, now: float) -> None:
        silent = dict(self._silent(now))
        if self._in_place:
            line = f"{_in_words(silent)} … {max(silent.values()):.0f} s" if silent else ""
            if line or self._shown:
                self._write(_CLEAR + line[: shutil.get_terminal_size().columns - 1])
            self._shown = bool(line)
        elif silent and not self._shown:
            self._write(f"{_in_words(silent)}.\n")
            self._shown = True

    def _silent(self, now: float) -> Iterator[tuple[str, float]]:
        for name, since in sorted(self._asked.items()):
            if now - since >= PATIENCE_SECONDS:
                yield name, now - since

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody reads it, which is no reason to stop
            self._stream.write(text)
            self._stream.flush()


def _in_words(silent: Mapping[str, float]) -> str:
    """Name some of the hosts.

    >>> _in_words({"alpha": 2.0}), _in_words(dict.fromkeys("abcdefg", 2.0))
    ('Waiting for alpha to answer', 'Waiting for a, b, c, d, e and 2 more to answer')
    """
    names = ", ".join(map(plain, list(silent)[:_NAMED]))
    more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
    return f"Waiting for {names}{more} to answer"
