"""Declares what the loop shows of itself while it runs. The web server gets a `WatchView` and nothing else of the loop.

None of it costs a look at a host. What is long is made on another thread, from values that do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

from reconciler.fleet import FleetView
from reconciler.inspect.observed import Observed
from reconciler.model.diagnostics import Diagnostic
from reconciler.notify import Fared
from reconciler.plan.plan import Plan
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Numbers for monitoring. Totals count from the start of this process; times are Unix seconds."""

    domains_by_condition: Mapping[str, int] = field(default_factory=dict)  # "Ready", "Reconciling", "Stalled", "Held"
    domains_by_host: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # host -> the same
    drifted: int = 0  # domains that differ from their spec, after what the last pass repaired
    passes_total: int = 0  # passes that came to their end, failed ones included
    pass_failures_total: int = 0  # passes that met a problem: a host, a spec, the source or a step
    last_pass_seconds: float | None = None
    steps_done_total: int = 0
    steps_failed_total: int = 0
    last_commit: str | None = None  # the commit in force, None for a tree without git
    last_pass_ended: float | None = None
    downtime_seconds_by_address: Mapping[str, float] = field(default_factory=dict)  # what a restart of it usually takes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUnderWay:
    """A step that is being done now, since a time in Unix seconds; `note` is what it told last."""

    address: str
    id: str
    kind: str
    step: str  # in words
    began: float
    note: str | None = None


class Receivers(Protocol):
    def fared(self) -> Mapping[str, Fared]:
        """Return how each receiver fares, by name. It reads a file, so it is for a thread."""


class WatchView(Protocol):
    @property
    def state_dir(self) -> Path: ...

    def revision(self) -> int:
        """Return a number that grows whenever something of this view changes."""

    def fleet(self) -> FleetView:
        """Return the fleet as the passes over single hosts last saw it."""

    def steps(self) -> tuple[StepUnderWay, ...]:
        """Return what is being done now, on all hosts, in the order in which it was begun."""

    def status_document(self) -> dict[str, Any]:
        """Make the document of `status --json`; each domain in it also has "condition" and "since" (UTC, ISO 8601)."""

    def plan(self) -> Plan | None:
        """Return the plan that was made last; None before the first one."""

    def observed(self) -> Observed | None:
        """Return the hosts as the loop last observed them; None before the first pass."""

    def metrics(self) -> Metrics: ...

    @property
    def notifications(self) -> Receivers:
        """Tell of those who are told what happens."""

    def is_healthy(self) -> bool:
        """Return whether the loop turns: it waits, or gave a sign of life within the last half hour."""

    def is_ready(self) -> bool:
        """Return whether a first pass has been made."""

    def reconcile_now(self) -> None:
        """Ask for a pass as soon as the running one has ended. Several askings make one pass."""

    def look_at(self, host: str) -> None:
        """Ask for a pass over one host."""

    def problem(self, problem: Diagnostic) -> None:
        """Write down what went wrong in answering."""
