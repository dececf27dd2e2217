"""Signals that end an apply: the first one asks it to stop, the second one leaves at once. Used by `act.apply`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from reconciler.cli.output import print_message

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}


class LeftAtOnce(KeyboardInterrupt):
    """A second signal came. It passes through everything that holds errors back, as Ctrl-C does."""


class Stopping:
    """Remembers whether a signal came, and which one was the first."""

    def __init__(self) -> None:
        self._first: signal.Signals | None = None
        self._told = False

    @property
    def exit_code(self) -> int | None:
        """Return the exit code as a shell has it: 130 after Ctrl-C, 143 after SIGTERM; None without a signal."""
        return None if self._first is None else 128 + self._first

    def reason(self) -> str | None:
        """Return why no more steps begin, once a signal came.

        The first time it is asked for, a person is told that the signal was heeded.
        """
        if self._first is None:
            return None
        if not self._told:
            self._told = True
            print_message(
                "Asked to stop: nothing more is begun, and what is down for a restart is brought back first. "
                "Once more leaves at once.\n"
            )
        return f"not begun, since apply was {_WORDS[self._first]}"

    def heed(self, number: int, frame: FrameType | None) -> None:
        """Note a signal. This is the handler of signals."""
        if self._first is not None:
            raise LeftAtOnce
        self._first = signal.Signals(number)


@contextmanager
def heeding_signals() -> Iterator[Stopping]:
    """Heed signals in the block, except those that we were started to ignore (`nohup`, a job of sh)."""
    stopping = Stopping()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, stopping.heed)
    try:
        yield stopping
    finally:
        for number in heeded:
            signal.signal(number, before[number])
