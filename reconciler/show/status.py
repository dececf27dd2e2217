"""The state of the fleet, and what `doctor` found on its hosts: as text for people, as a document for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from reconciler.doctor.case import Finding, State, Verdict
from reconciler.inspect.status import DomainStatus, Status
from reconciler.model.diagnostics import Diagnostic
from reconciler.plan.plan import Plan
from reconciler.show import diagnostics, values
from reconciler.show.documents import FORMAT
from reconciler.show.escape import plain
from reconciler.show.paint import Paint, no_paint

_COLOURS = {
    Status.READY: "green",
    Status.RECONCILING: "cyan",
    Status.STALLED: "red",
    Status.PENDING_RESTART: "yellow",
    Status.DRIFTED: "yellow",
    Status.UNMANAGED: "bright_black",
    Status.QUARANTINED: "red",
}


def status_text(statuses: Sequence[DomainStatus], plan: Plan, paint: Paint = no_paint) -> str:
    """Write a line for each domain and each silent host, then how many domains there are of each kind."""
    address_width = max((len(status.address) for status in statuses), default=0)
    width = max((len(status.status) for status in statuses), default=0)
    widths = [max(map(len, column)) for column in zip(*map(_runs, statuses), strict=True)]
    lines = []
    for status in statuses:
        word = paint(f"{status.status:<{width}}", _COLOURS[status.status])
        cells = (f"{cell:<{width}}" for cell, width in zip(_runs(status), widths, strict=True) if width)
        address = f"{plain(status.address):<{address_width}}"
        lines.append("  ".join((address, word, *cells, plain(status.reason))))
        if status.hint is not None:
            lines.append(f"{'':<{address_width}}  {paint('hint:', 'cyan')} {plain(status.hint)}")
    silent = [name for name, summary in plan.hosts.items() if not summary.observed]
    lines += [f"{plain(name)}: not observed, so nothing is known of its domains" for name in silent]
    counted = Counter(status.status for status in statuses)
    summary = ", ".join(f"{counted[word]} {word}" for word in Status if counted[word])
    return "\n".join([*lines, *([""] if lines else []), f"{summary or 'No domain'}."]) + "\n"


def _runs(status: DomainStatus) -> tuple[str, str]:
    """Name the kernel file that runs (with its digest, if it is staged), and for how long it has."""
    if status.kernel is None:
        return "", ""
    name, digest = status.kernel.path.rpartition("/")[2], status.kernel.short
    file = name if not digest or name.endswith(f".{digest}") else f"{name} ({digest})"
    up = f"up {values.duration(status.running_seconds)}" if status.running_seconds is not None else ""
    return plain(file), up


def status_document(statuses: Sequence[DomainStatus], plan: Plan, problems: Sequence[Diagnostic]) -> dict[str, Any]:
    """Make the document of `status --json`."""
    counted = Counter(status.status for status in statuses)
    return {
        "format": FORMAT,
        "domains": [
            {
                "address": status.address,
                "status": status.status.value,
                "reason": status.reason,
                "hint": status.hint,
                "state": None if status.state is None else status.state.value,
                "kernel": None
                if status.kernel is None
                else {"path": status.kernel.path, "sha256": status.kernel.sha256 or None},
                "running_seconds": status.running_seconds,
            }
            for status in statuses
        ],
        "hosts": {name: {"observed": summary.observed} for name, summary in sorted(plan.hosts.items())},
        "diagnostics": diagnostics.documents(problems),
        "summary": {word.value: counted[word] for word in Status},
    }


_COLOURS_OF_FINDINGS = {State.FOUND: "red", State.UNKNOWN: "yellow"}


def doctor_text(verdicts: Sequence[Verdict], paint: Paint = no_paint) -> str:
    """Write a block for each finding, then how many there are."""
    blocks = [_finding_text(finding, paint) + "\n" for verdict in verdicts for finding in verdict.findings]
    counted = _counted_findings(verdicts)
    unknown = f", {counted[State.UNKNOWN]} unknown" if counted[State.UNKNOWN] else ""
    summary = f"{counted[State.FOUND]} found{unknown}, {counted[State.OK]} ok" if verdicts else "No host"
    return "\n".join([*blocks, f"{summary}.\n"])


def _finding_text(finding: Finding, paint: Paint) -> str:
    label = paint(f"{finding.state}:", _COLOURS_OF_FINDINGS[finding.state])
    lines = [f"{label} {plain(finding.host)}: {finding.check}: {plain(finding.what)}", f"  breaks: {finding.breaks}"]
    if finding.hint is not None:
        lines.append(f"  {paint('hint:', 'cyan')} {plain(finding.hint)}")
    return "\n".join(lines)


def doctor_document(verdicts: Sequence[Verdict], problems: Iterable[Diagnostic]) -> dict[str, Any]:
    """Make the document of `doctor --json`."""
    counted = _counted_findings(verdicts)
    return {
        "format": FORMAT,
        "findings": [_finding(finding) for verdict in verdicts for finding in verdict.findings],
        "hosts": {verdict.host: {"observed": verdict.observed, "ok": list(verdict.ok)} for verdict in verdicts},
        "diagnostics": diagnostics.documents(problems),
        "summary": {state.value: counted[state] for state in State},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "host": finding.host,
        "check": finding.check,
        "state": finding.state.value,
        "address": finding.address,
        "what": finding.what,
        "breaks": finding.breaks,
        "hint": finding.hint,
    }


def _counted_findings(verdicts: Sequence[Verdict]) -> Counter[State]:
    counted = Counter(finding.state for verdict in verdicts for finding in verdict.findings)
    counted[State.OK] = sum(len(verdict.ok) for verdict in verdicts)
    return counted
