"""Waiting until something is seen, in one way for all steps; and the signs of life that every wait gives.

Used by everything that looks again and again: the executors, the ready gate, the door to a host. A wait says what it
waits for, ends with an error when its time is over, and tells whoever supervises the program that it is alive.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from reconciler.model.diagnostics import ReconcilerError
from reconciler.records import dataclass

_LEAST_SECONDS = 0.001  # a shorter sleep may be lost in rounding, and then a virtual clock stands still for ever
POLL_SECONDS = 1.0
ASK_SECONDS = 0.5  # how often it is asked whether to stop

Seen = TypeVar("Seen")


class Clock(Protocol):
    """The clock that a wait goes by: the machine's, or that of a simulated host."""

    def now(self) -> float:
        """Return seconds, from any origin."""

    async def sleep(self, seconds: float) -> None: ...


class MachineClock:
    """The clock of this machine, which nobody can set back."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class NotYet:
    """Says that a look found nothing yet, with the news of it, and the error if no time is left for another look."""

    news: str | None = None
    too_late: Callable[[], ReconcilerError] | None = None  # None: the look itself knows when it is too late
    poll_seconds: float | None = None  # until the next look; None: as long as between any two


async def wait_until(
    look: Callable[[], Awaitable[Seen | NotYet]],
    *,
    clock: Clock,
    seconds: float = math.inf,
    report: Callable[[str], None] = lambda _: None,
    poll_seconds: float = POLL_SECONDS,
) -> Seen:
    """Look again and again, at least once, until `look` returns something else than NotYet, and return that.

    News are reported once each. When `seconds` are over and the last look still found nothing, its error is raised.
    `look` may raise by itself when it sees that no waiting will help.
    """
    began, told = clock.now(), None
    while True:
        seen = await look()
        if not isinstance(seen, NotYet):
            return seen
        give_sign_of_life()
        left = seconds - (clock.now() - began)
        if left <= 0 and seen.too_late is not None:
            raise seen.too_late()
        if seen.news is not None and seen.news != told:
            told = seen.news
            report(told)
        pause = poll_seconds if seen.poll_seconds is None else seen.poll_seconds
        await clock.sleep(max(min(pause, left), _LEAST_SECONDS))


class UnderWay:
    """What is under way, by name, with the moment at which it began by the loop's clock: for who shows it."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    @asynccontextmanager
    async def during(self, name: str) -> AsyncIterator[None]:
        self.began[name] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self.began[name]


Stop = Callable[[], str | None]
"""Gives a reason when what is under way is to be given up, or not to be begun; None as long as it may go on."""


def never() -> None:
    """Say that nothing is to stop."""


async def unless_stopped(work: Coroutine[Any, Any, Seen], stop: Stop) -> Seen | None:
    """Wait for something that can be given up, and cancel it once `stop` gives a reason. Returns None then."""
    doing = asyncio.create_task(work)
    try:
        while not doing.done():
            await asyncio.wait({doing}, timeout=ASK_SECONDS)
            if not doing.done() and stop() is not None:
                break
    finally:
        doing.cancel()  # no effect on what is done
        await asyncio.gather(doing, return_exceptions=True)
    return None if doing.cancelled() else doing.result()


# Is called with each sign of life of this task and of those that it begins; None: nobody listens.
_listener: ContextVar[Callable[[], None] | None] = ContextVar("sign_of_life", default=None)


def give_sign_of_life() -> None:
    """Say that what is under way here is waiting or copying within its bounds, and not stuck."""
    listener = _listener.get()
    if listener is not None:
        listener()


@contextmanager
def signs_of_life(told: Callable[[], None]) -> Iterator[None]:
    """Have `told` called with each sign given inside the block, also in tasks that are begun there."""
    token = _listener.set(told)
    try:
        yield
    finally:
        _listener.reset(token)
