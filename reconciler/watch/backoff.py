"""Remembers what failed and decides when it is tried again: each domain or silent host has a count of its own. Pure.

The wait is 10 s after the first failure and doubles with each failure in a row, up to 15 minutes. It is varied by a
fifth at random, so that domains which failed together are not tried again together. A failure is forgotten as soon as
the specs ask for something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.apply.result import ApplyResult
from reconciler.fleet import asked_for
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.fleet import Desired
from reconciler.plan.plan import Plan
from reconciler.records import dataclass

FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 900.0
_SHAKE = 0.2  # of a wait, either way
_DOUBLINGS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last of `count` failures in a row at one address, with a digest of what the specs asked for then."""

    asked_for: str
    count: int
    retry_at: float  # Unix seconds
    problem: str
    transient: bool


class Backoff:
    """Keeps the failures by address. `random` must give numbers from 0 to 1.

    >>> from reconciler.model.diagnostics import Kind
    >>> lost = Diagnostic(kind=Kind.WORLD, summary="no answer", detail="")
    >>> backoff = Backoff(random=lambda: 0.5)  # the middle: no wait is varied
    >>> for now in (0, 10, 30):
    ...     backoff.failed("alpha/web", "digest of its spec", lost, now)
    ...     print(backoff.next_try(now))
    10.0
    30.0
    70.0
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures: dict[str, Failure] = {}

    def another(self) -> Backoff:
        """Return one of the same temper without failures, for another host."""
        return Backoff(self._random)

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
        """Forget the failures of every address for which the specs ask for something else by now."""
        self._failures = {
            address: failure for address, failure in self._failures.items() if asked_for(address) == failure.asked_for
        }

    def try_all_now(self) -> None:
        """Forget all failures, since a person asks for a pass and may have mended the cause."""
        self._failures = {}

    def waiting(self, now: float) -> dict[str, Failure]:
        """Return the failures that must not be tried again yet, by address."""
        return {address: failure for address, failure in self._failures.items() if failure.retry_at > now}

    def next_try(self, now: float) -> float | None:
        """Return when the next try is due, in Unix seconds; None when nothing waits for one."""
        return min((failure.retry_at for failure in self.waiting(now).values()), default=None)


def learn(backoff: Backoff, desired: Desired, result: ApplyResult, now: float) -> None:
    """Count the failures and successes of an apply."""
    problems = {failed.step.address: failed.problem for failed in reversed(result.failed) if failed.problem}
    for address, problem in problems.items():
        backoff.failed(address, asked_for(desired, address), problem, now)
    unfinished = {skipped.step.address for skipped in result.skipped}
    for address in {done.step.address for done in result.done} - unfinished - set(problems):
        backoff.succeeded(address)


def learn_of_hosts(backoff: Backoff, desired: Desired, plan: Plan, now: float) -> None:
    """Count silent hosts as failures, so that they are looked at again soon at first, then less often."""
    silent = {problem.address: problem for problem in plan.diagnostics if problem.transient}
    for host in desired.hosts:
        if host in silent:
            backoff.failed(host, asked_for(desired, host), silent[host], now)
        else:
            backoff.succeeded(host)
