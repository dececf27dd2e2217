"""What failed, and when it is tried again: each domain (or silent host) has a count and a clock of its own. Pure.

The wait doubles with each failure in a row, up to a cap, and is shaken a little, so that what failed together is
not tried again together. A failure belongs to what was asked for: as soon as the specs ask for something else, it is
over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.model.diagnostics import Diagnostic

FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 900.0
_SHAKE = 0.2  # of a wait, either way
_DOUBLINGS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last of `count` failures in a row at an address, while `asked_for` was what the specs asked for."""

    asked_for: str
    count: int
    retry_at: float  # Unix seconds
    problem: str
    transient: bool


class Backoff:
    """`random` gives numbers from 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures: dict[str, Failure] = {}

    @property
    def failures(self) -> Mapping[str, Failure]:
        return self._failures

    def failed(self, address: str, asked_for: str, problem: Diagnostic, now: float) -> None:
        before = self._failures.get(address)
        count = before.count + 1 if before is not None and before.asked_for == asked_for else 1
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(count - 1, _DOUBLINGS_MAX))
        self._failures[address] = Failure(
            asked_for=asked_for,
            count=count,
            retry_at=now + wait * (1 + _SHAKE * (2 * self._random() - 1)),
            problem=(problem.detail or problem.summary).splitlines()[0].rstrip("."),
            transient=problem.transient,
        )

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)

    def keep(self, asked_for: Callable[[str], str]) -> None:
        """Drop the failures of whatever the specs now ask for something else."""
        self._failures = {
            address: failure for address, failure in self._failures.items() if asked_for(address) == failure.asked_for
        }

    def try_all_now(self) -> None:
        """Somebody asks: perhaps it was mended."""
        self._failures = {}

    def waiting(self, now: float) -> dict[str, Failure]:
        """What is not to be tried yet."""
        return {address: failure for address, failure in self._failures.items() if failure.retry_at > now}

    def next_try(self, now: float) -> float | None:
        """When the next one is due (Unix seconds); None when none waits."""
        return min((failure.retry_at for failure in self.waiting(now).values()), default=None)
