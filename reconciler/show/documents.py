"""The JSON documents that scripts read: keys in a fixed order and no clock, so the same input gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from reconciler.apply.outages import Outage
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.decide.changes import Change
from reconciler.decide.diff import FieldChange
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.fleet import Desired
from reconciler.plan.plan import LedgerEntry, Plan
from reconciler.plan.steps import PlannedStep, WayBack
from reconciler.show import diagnostics, values
from reconciler.show.rehearsals import rehearsal_document, step_document
from reconciler.show.summary import counts, headline

FORMAT = 1
_PIECES_AT_ONCE = 10_000


def as_text(document: Mapping[str, Any]) -> str:
    """Write a document in ASCII, so that no control character or odd encoding of a terminal gets in the way.

    Its pieces are put together some at a time: to join, and to free, millions of them at once takes 0.1 s, in which no
    other thread gets on.
    """
    pieces, parts = json.JSONEncoder(indent=2).iterencode(document), list[str]()
    while part := "".join(islice(pieces, _PIECES_AT_ONCE)):
        parts.append(part)
    return "".join((*parts, "\n"))


def plan_document(plan: Plan) -> dict[str, Any]:
    """Make the document of `plan --json`."""
    return {
        "format": FORMAT,
        "digest": plan.digest,
        "commit": plan.commit,
        "title": headline(plan),
        "hosts": {
            name: {
                "observed": summary.observed,
                "memory_kib": summary.memory_kib,
                "capacity_kib": summary.capacity_kib,
                "used_kib": summary.used_kib,
            }
            for name, summary in sorted(plan.hosts.items())
        },
        "changes": [_change(change) for change in sorted((*plan.changes, *plan.undecided), key=_address)],
        "steps": [_step(step) for step in plan.steps],
        "fallbacks": [_way_back(way) for way in plan.ways_back],
        "ledger": [_ledger(entry) for entry in plan.ledger],
        "unmanaged": list(plan.unmanaged),
        "diagnostics": diagnostics.documents(plan.diagnostics),
        "summary": {**counts(plan), "most_down_at_once": plan.most_down_at_once},
    }


def _address(change: Change) -> str:
    return change.address


def apply_document(
    result: ApplyResult,
    problems: Sequence[Diagnostic],
    outages: Sequence[Outage] = (),
    *,
    by: str,
    commit: str | None,
) -> dict[str, Any]:
    """Make the document of `apply --json`. `problems` are those of the plan and of hosts, `by` is user@machine."""
    return {
        "format": FORMAT,
        **who(by),
        "commit": commit,
        "done": [_result(step) for step in result.done],
        "failed": [_result(step) for step in result.failed],
        "skipped": [_result(step) for step in result.skipped],
        "outages": [_outage(outage) for outage in outages],
        "diagnostics": diagnostics.documents(problems),
        "summary": {"done": len(result.done), "failed": len(result.failed), "skipped": len(result.skipped)},
    }


def who(by: str | None) -> dict[str, str | None]:
    """Tell user and machine apart; null for both where nobody noted who it was."""
    user, _, machine = by.rpartition("@") if by else (None, "", None)
    return {"user": user, "host": machine}


def validate_document(desired: Desired, problems: Sequence[Diagnostic]) -> dict[str, Any]:
    """Make the document of `validate --json`."""
    return {
        "format": FORMAT,
        "diagnostics": diagnostics.documents(problems),
        "summary": {
            "hosts": len(desired.hosts),
            "domains": sum(len(host.domains) for host in desired.hosts.values()),
            "frozen": sorted(desired.frozen),
        },
    }


def error_document(problems: Sequence[Diagnostic]) -> dict[str, Any]:
    """Make the document that any command prints with --json when it could not begin."""
    return {"format": FORMAT, "diagnostics": diagnostics.documents(problems)}


def _change(change: Change) -> dict[str, Any]:
    return {
        "address": change.address,
        "action": change.action.value,
        "reason": change.reason,
        "fields": [_field(field) for field in change.fields],
        "downtime_seconds": change.downtime_seconds,
        "waits_for": list(change.waits_for),
        "blocked": change.blocked,
        "pending": [values.pending(waiting) for waiting in change.pending],
        "hint": change.hint,
        "would": change.would.value if change.would is not None else None,
        **rehearsal_document(change),
    }


def _field(field: FieldChange) -> dict[str, Any]:
    return {"path": field.path, "before": field.before, "after": field.after, "effect": field.effect.value}


def _step(step: PlannedStep) -> dict[str, Any]:
    return {
        "id": step.id,
        "kind": step.step.kind,
        "address": step.address,
        "needs": list(step.needs),
        "memory_kib": step.delta_kib,
        "wave": step.wave,
        **step_document(step.step),
    }


def _way_back(way: WayBack) -> dict[str, Any]:
    return {
        "address": way.address,
        "after": list(way.after),
        "steps": [_step(step) for step in way.steps],
    }


def _ledger(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "host": entry.host,
        "step": entry.step,
        "used_kib": entry.used_kib,
        "capacity_kib": entry.capacity_kib,
    }


def _outage(outage: Outage) -> dict[str, Any]:
    return {
        "address": outage.address,
        "outcome": outage.outcome.value,
        "down_seconds": outage.down_seconds,
        "paused_seconds": outage.paused_seconds,
        "problem": outage.problem,
        "way_back_problem": outage.way_back_problem,
    }


def _result(result: StepResult) -> dict[str, Any]:
    return {
        "step": result.step.id,
        "kind": result.step.step.kind,
        "address": result.step.address,
        "seconds": round(result.seconds, 3),
        "problem": diagnostics.document(result.problem) if result.problem is not None else None,
        "reason": result.reason,
        **({"note": result.note} if result.note is not None else {}),
    }
