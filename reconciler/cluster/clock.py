"""The clock by which a controller judges its lease. It may stand still or jump, and costs time then, never safety."""

from __future__ import annotations

import time


def boot_time() -> float:
    """Return seconds that go on while the machine is suspended, where the system knows them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()
