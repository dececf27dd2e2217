"""The state of the fleet, as a table for people and as a document for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from reconciler.core.diagnostics import Diagnostic
from reconciler.core.plan import Plan
from reconciler.render import diagnostics
from reconciler.render.documents import FORMAT
from reconciler.render.escape import plain
from reconciler.render.paint import Paint, no_paint
from reconciler.status import Condition, DomainStatus

_COLOURS = {
    Condition.READY: "green",
    Condition.RECONCILING: "cyan",
    Condition.STALLED: "red",
    Condition.PENDING_RESTART: "yellow",
    Condition.DRIFTED: "yellow",
    Condition.UNMANAGED: "bright_black",
    Condition.QUARANTINED: "red",
}


def status_text(statuses: Sequence[DomainStatus], plan: Plan, paint: Paint = no_paint) -> str:
    """A line a domain and a line for each host that is silent, then how many domains there are of each kind."""
    address_width = max((len(status.address) for status in statuses), default=0)
    condition_width = max((len(status.condition) for status in statuses), default=0)
    lines = []
    for status in statuses:
        condition = paint(f"{status.condition:<{condition_width}}", _COLOURS[status.condition])
        lines.append(f"{plain(status.address):<{address_width}}  {condition}  {plain(status.reason)}")
        if status.hint is not None:
            lines.append(f"{'':<{address_width}}  {paint('hint:', 'cyan')} {plain(status.hint)}")
    silent = [name for name, summary in plan.hosts.items() if not summary.observed]
    lines += [f"{plain(name)}: not observed, so nothing is known of its domains" for name in silent]
    counted = Counter(status.condition for status in statuses)
    summary = ", ".join(f"{counted[condition]} {condition}" for condition in Condition if counted[condition])
    return "\n".join([*lines, *([""] if lines else []), f"{summary or 'No domain'}."]) + "\n"


def status_document(statuses: Sequence[DomainStatus], plan: Plan, problems: Sequence[Diagnostic]) -> dict[str, Any]:
    """What `status --json` prints."""
    counted = Counter(status.condition for status in statuses)
    return {
        "format": FORMAT,
        "domains": [
            {
                "address": status.address,
                "status": status.condition.value,
                "reason": status.reason,
                "hint": status.hint,
            }
            for status in statuses
        ],
        "hosts": {name: {"observed": summary.observed} for name, summary in sorted(plan.hosts.items())},
        "diagnostics": diagnostics.documents(problems),
        "summary": {condition.value: counted[condition] for condition in Condition},
    }
