"""What waits for which window, and which are open. Called by `host_metrics` and `live`."""

from __future__ import annotations

from datetime import UTC, datetime

from reconciler.decide.windows import Shut, is_open, name_of
from reconciler.model.fleet import Window
from reconciler.plan.plan import Plan


def waits_by_window(plan: Plan | None, now: float) -> dict[str, tuple[int, float | None]]:
    """Map each window that something waits for to how many domains do, and when it opens for the first (Unix time)."""
    found: dict[str, tuple[int, float | None]] = {}
    if plan is None or not plan.windows:
        return found
    shut = Shut(plan.windows, datetime.fromtimestamp(now, UTC))
    for change in plan.changes:
        wait = shut.wait(change.address, change.would) if change.awaits_window and change.would else None
        if wait is not None:
            count, first = found.get(wait.name, (0, None))
            opens = wait.opens.timestamp() if wait.opens is not None else None
            found[wait.name] = count + 1, min((one for one in (first, opens) if one is not None), default=None)
    return found


def windows_now(plan: Plan | None, now: float) -> list[tuple[Window, str, bool]]:
    """Return each window with its name, and whether it is open."""
    at = datetime.fromtimestamp(now, UTC)
    return [(one, name_of(one), is_open(one, at)) for one in (plan.windows if plan is not None else ())]
