"""What the loop shows of itself while it runs. The HTTP side is handed a `WatchView` and nothing else of the loop.

All of it is read on the loop's own thread, between two of its steps, and costs no look at a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from reconciler.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Numbers for monitoring. Totals count from the start of this process; times are Unix seconds."""

    domains_by_condition: Mapping[str, int] = field(default_factory=dict)  # "Ready", "Reconciling", "Stalled", "Held"
    drifted: int = 0  # domains that differ from their spec, after what the last pass repaired
    passes_total: int = 0  # passes that came to their end, failed ones included
    pass_failures_total: int = 0  # passes that met a problem: a host, a spec, the source or a step
    last_pass_seconds: float | None = None
    steps_done_total: int = 0
    steps_failed_total: int = 0
    last_commit: str | None = None  # the commit in force, None for a tree without git
    last_pass_ended: float | None = None
    downtime_seconds_by_address: Mapping[str, float] = field(default_factory=dict)  # what a restart of it usually takes


class WatchView(Protocol):
    def status_document(self) -> dict[str, Any]:
        """As `status --json` prints it; each domain also has "condition" and "since" (UTC, ISO 8601)."""

    def plan(self) -> Plan | None:
        """The current plan, as last made; None before the first."""

    def metrics(self) -> Metrics: ...

    def is_healthy(self) -> bool:
        """Whether the loop turns: a pass ended, or waits, or began not too long ago."""

    def is_ready(self) -> bool:
        """Whether a first pass has been made."""

    def reconcile_now(self) -> None:
        """Ask for a pass as soon as the running one has ended. Several askings before it make one pass."""
