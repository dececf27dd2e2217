"""Measures work against a floor, on a machine that others use as well.

What is measured is a process of its own, in seconds of the processor: others there change these far less than time that
passes. Work and floor run by turns, so that both have the same company; of each pair the ratio is taken, and of all
ratios the median.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Seconds = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How long some work took, and how long the floor. `at_most` is the goal for their ratio, if it has one."""

    what: str
    seconds: float
    floor: float
    ratio: float
    at_most: float | None = None
    mib: int | None = None  # the most memory that the work had
    mib_at_most: int | None = None

    @property
    def is_kept(self) -> bool:
        """Return whether the goal is reached; what has none cannot fail it."""
        slow = self.at_most is not None and self.ratio > self.at_most
        large = self.mib is not None and self.mib_at_most is not None and self.mib > self.mib_at_most
        return not slow and not large

    def line(self) -> str:
        goal = "" if self.at_most is None else f"  at most {self.at_most:g}"
        memory = "" if self.mib is None else f"  {self.mib} MiB"
        bound = "" if self.mib_at_most is None else f", at most {self.mib_at_most}"
        missed = "" if self.is_kept else "  MISSED"
        times = f"{self.seconds:9.3f} s {self.floor:8.3f} s {self.ratio:7.2f} ×"
        return f"{self.what:<48}{times}{goal}{memory}{bound}{missed}"


@dataclass(frozen=True, slots=True)
class Used:
    """What one process took: seconds of the processor, and the most memory in MiB."""

    seconds: float
    mib: int


def python(*arguments: str, expected: Sequence[int] = (0,)) -> Used:
    """Run a Python program to its end. Raises AssertionError when it ends otherwise than expected.

    Linux counts the memory of who starts a process among its own, so whoever measures should stay small.
    """
    command = [sys.executable, *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode in expected, f"{' '.join(arguments)} ended with {child.returncode}"
    return Used(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)


# Where this is set, each process would compile all that it imports anew.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def against(
    what: str, work: Callable[[], Used], floor: Callable[[], Used], *, at_most: float | None = None, rounds: int = 5
) -> Figure:
    """Run work and floor by turns, after one round that nobody counts: files are in memory then, and compiled."""
    floor(), work()
    pairs = [(floor(), work()) for _ in range(rounds)]
    return Figure(
        what=what,
        seconds=median(work.seconds for _, work in pairs),
        floor=median(floor.seconds for floor, _ in pairs),
        ratio=median(work.seconds / floor.seconds for floor, work in pairs),
        at_most=at_most,
        mib=max(work.mib for _, work in pairs),
    )
