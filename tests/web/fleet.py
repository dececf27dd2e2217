"""A watch loop that is none: what it shows of itself is set by the test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.fleet import FleetView
from reconciler.inspect.observed import Observed
from reconciler.model.diagnostics import Diagnostic
from reconciler.notify import Fared
from reconciler.plan.plan import Plan
from reconciler.watch.view import Metrics, StepUnderWay
from tests.worlds import MIB, desired, domain, guest, host, plan, stopped, unmanaged

SINCE = "2026-11-22T21:45:03+00:00"

# What ends an element, an attribute, a style or a script; what a terminal obeys; what cannot be encoded.
HOSTILE = "</pre></title></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}\x1b[2J\u202e\ud800"


def a_plan() -> Plan:
    """`web` is to be started, `db` to get more memory; `legacy` is not ours."""
    web, db = domain("web"), domain("db")
    world = host(stopped(web), guest(db), unmanaged(domain("legacy")))
    return plan(world, desired(web, domain("db", memory_kib=384 * MIB)))


def a_document(text: str | None = None) -> dict[str, Any]:
    """The status document that goes with `a_plan`; with `text` wherever others than us choose the words."""
    words = {
        key: text for key in ("address", "reason", "hint", "since", "condition", "condition_reason") if text is not None
    }
    if text is not None:
        words["address"] = f"alpha/{text}"
    problem: dict[str, Any] = {
        "kind": "world",
        "summary": "beta does not answer",
        "detail": "ssh gave up.",
        "hint": "ping beta",
    }
    refused = {"summary": "the commit is not signed", "detail": text or "The last good one stays.", "hint": None}
    problem |= dict.fromkeys(("address", "path"), text)
    problem |= dict.fromkeys(("summary", "detail", "hint"), text) if text is not None else {}
    return {
        "format": 1,
        "domains": [
            _domain("db", "drifted", "update: spec changed", "Reconciling") | words,
            _domain("legacy", "unmanaged", "not ours, never changed") | words,
            _domain("web", "drifted", "start: it does not run", "Stalled") | words,
        ],
        "hosts": {"alpha": {"observed": True}, text or "beta": {"observed": False}},
        "diagnostics": [{**problem, "line": text and 3, "column": text and 1}],
        "summary": {"drifted": 2, "unmanaged": 1},
        "watch": {"problems": [refused, problem]},
    }


def _domain(name: str, status: str, reason: str, condition: str | None = None) -> dict[str, Any]:
    since = SINCE if condition is not None else None
    entry = {"address": f"alpha/{name}", "status": status, "reason": reason, "hint": None}
    return {**entry, "condition": condition, "condition_reason": reason if since else None, "since": since}


@dataclass
class FakeReceivers:
    known: dict[str, Fared] = field(default_factory=dict)

    def fared(self) -> dict[str, Fared]:
        return self.known


@dataclass
class FakeView:
    """Implements `WatchView`."""

    made: Plan | None = field(default_factory=a_plan)
    document: dict[str, Any] = field(default_factory=a_document)
    seen: Observed | None = field(default_factory=lambda: Observed(fleet="default", key=b"k", hosts={}))
    numbers: Metrics = field(default_factory=Metrics)
    healthy: bool = True
    ready: bool = True
    asked: int = 0
    problems: list[Diagnostic] = field(default_factory=list)
    changed: int = 0
    known: FleetView = field(default_factory=FleetView)
    state_dir: Path = Path("/nonexistent")
    looked_at: list[str] = field(default_factory=list)
    under_way: tuple[StepUnderWay, ...] = ()
    notifications: FakeReceivers = field(default_factory=lambda: FakeReceivers())

    def revision(self) -> int:
        return self.changed

    def fleet(self) -> FleetView:
        return self.known

    def steps(self) -> tuple[StepUnderWay, ...]:
        return self.under_way

    def status_document(self) -> dict[str, Any]:
        return self.document

    def plan(self) -> Plan | None:
        return self.made

    def observed(self) -> Observed | None:
        return self.seen

    def metrics(self) -> Metrics:
        return self.numbers

    def is_healthy(self) -> bool:
        return self.healthy

    def is_ready(self) -> bool:
        return self.ready

    def reconcile_now(self) -> None:
        self.asked += 1

    def look_at(self, host: str) -> None:
        self.looked_at.append(host)

    def problem(self, problem: Diagnostic) -> None:
        self.problems.append(problem)
