"""What the page shows, as one document, and what differs between two of them. Called by `feed`.

All of it comes from the `WatchView`, and from the history. Nothing in it is trusted: the page shows it as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from reconciler.apply.history import ApplyRecord, Asked, History
from reconciler.decide.holds import in_words
from reconciler.fleet import FleetView, LastSeen
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Domain
from reconciler.model.host import WHOLE_HOST, Guest, Owner
from reconciler.plan.plan import Plan
from reconciler.show.escape import plain_lines
from reconciler.show.text import plan_text
from reconciler.show.values import duration
from reconciler.specs.commit import subject_of
from reconciler.watch.logs import moment
from reconciler.watch.view import WatchView
from reconciler.web.windows import waits_by_window, windows_now

Document = dict[str, Any]

KEYED: Final = ("hosts", "domains", "steps")
"""The parts that map names to entries; of these a change tells single entries, with null for one that is gone."""

_LONGEST_PLAN: Final = 100_000  # characters
_BOOT_ROUNDED_SECONDS: Final = 60  # what hosts tell of up times is not exact, and must not look like news
_NEWEST: Final = Asked(limit=20)
_APPLY_NAMES: Final = 5
_GIT_RETRIED_SECONDS: Final = 3600
_SILENT: Final = "Stalled"  # nobody can say that it goes on


def live_document(view: WatchView, now: float) -> Document:
    """Make the document as of a moment (Unix time). It goes through all domains and reads files: it is for a thread."""
    status, plan, fleet = view.status_document(), view.plan(), view.fleet()
    seen, history = fleet.last_seen(), History(view.state_dir)
    summaries = plan.hosts if plan is not None else {}
    names = sorted({*status.get("hosts", {}), *seen, *(one["address"].partition("/")[0] for one in status["domains"])})
    waits = {change.address: list(change.waits_for) for change in plan.changes} if plan is not None else {}
    hosts = {name: _host(name, seen.get(name), summaries.get(name)) for name in names}
    domains = {}
    for one in status["domains"]:
        address = one["address"]
        entry = _domain(one, hosts[address.partition("/")[0]], seen)
        domains[address] = entry | {"waits_for": waits.get(address, [])}
    document: Document = {
        "controller": _controller(view, fleet, status, domains, now),
        "hosts": hosts,
        "domains": domains,
        "steps": _steps(view, history),
        "applies": _applies(history, fleet, now),
        "windows": _windows(plan, now),
        "problems": problems_of(status),
        "plan": _plan(plan),
    }
    return {part: _printable(value) for part, value in document.items()}


def changes_between(before: Document, after: Document) -> Document:
    """Return what of a document is new; {} where nothing is.

    >>> changes_between({"hosts": {"a": 1, "b": 2}, "plan": "x"}, {"hosts": {"a": 1, "c": 3}, "plan": "y"})
    {'hosts': {'c': 3, 'b': None}, 'plan': 'y'}
    """
    found: Document = {}
    for part, now in after.items():
        was = before.get(part)
        if part in KEYED and was is not None:
            news = {key: value for key, value in now.items() if was.get(key) != value}
            news |= dict.fromkeys(was.keys() - now.keys())
            if news:
                found[part] = news
        elif was != now:
            found[part] = now
    return found


def _controller(
    view: WatchView, fleet: FleetView, status: Mapping[str, Any], domains: Mapping[str, Document], now: float
) -> Document:
    numbers, watch = view.metrics(), status.get("watch", {})
    return {
        "source": watch.get("source"),
        "commit": numbers.last_commit,
        "commit_in_words": _in_words(fleet, numbers.last_commit, now),
        "signer": watch.get("signer"),
        "ready": view.is_ready(),
        "last_pass": _moment(numbers.last_pass_ended),
        "counts": dict(sorted(Counter(one["condition"] for one in domains.values() if one["condition"]).items())),
        "drifted": numbers.drifted,
    }


def _host(name: str, last: LastSeen | None, summary: Any) -> Document:
    host = last.host if last is not None else None
    hold = host.holds.get(WHOLE_HOST) if host is not None else None
    return {
        "observed": last is not None and last.answers,
        "at": _moment(last.at) if last is not None else None,
        "told_by": (last.told_by or None) if last is not None else None,
        "memory_kib": host.total_kib if host is not None else None,
        "free_kib": host.free_kib if host is not None else None,
        "promised_kib": summary.used_kib if summary is not None and summary.observed else None,
        "capacity_kib": summary.capacity_kib if summary is not None and summary.observed else None,
        "cpus": host.cpus if host is not None else None,
        "xen": host.xen_version or None if host is not None else None,
        "hold": in_words(hold) if hold is not None else None,
    }


def _domain(entry: Mapping[str, Any], host: Mapping[str, Any], seen: Mapping[str, LastSeen]) -> Document:
    name, _, domain = entry["address"].partition("/")
    last = seen.get(name)
    guest = last.host.guests.get(domain) if last is not None else None
    hold = last.host.holds.get(domain) if last is not None else None
    silent = not host["observed"]
    shown = guest.running or guest.config if guest is not None else None
    return {
        "condition": _SILENT if silent and entry.get("condition") == "Reconciling" else entry.get("condition"),
        "status": entry["status"],
        "reason": entry.get("condition_reason") or entry["reason"],
        "hint": entry["hint"],
        "since": entry.get("since"),
        "silent": silent,
        "state": guest.power.value if guest is not None else None,
        "ours": guest is None or guest.owner is Owner.OURS,
        "memory_kib": shown.memory_kib if shown is not None else None,
        "vcpus": shown.vcpus if shown is not None else None,
        "kernel": _kernel(shown),
        "booted": _booted(guest, last),
        "hold": in_words(hold) if hold is not None else None,
        "quarantine": [one.kernel or one.reason for one in guest.quarantine if one.holds_boot]
        if guest is not None
        else [],
    }


def _kernel(domain: Domain | None) -> str | None:
    if domain is None or domain.kernel is None:
        return None
    return domain.kernel.path.rpartition("/")[2]


def _booted(guest: Guest | None, last: LastSeen | None) -> str | None:
    if guest is None or last is None or guest.running_seconds is None:
        return None
    began = last.at - guest.running_seconds
    return _moment(round(began / _BOOT_ROUNDED_SECONDS) * _BOOT_ROUNDED_SECONDS)


def _steps(view: WatchView, history: History) -> dict[str, Document]:
    steps = view.steps()
    try:
        usual = history.usual_seconds((one.address, one.kind) for one in steps)
    except ReconcilerError:  # the passes tell that the history is broken
        usual = {}
    return {
        f"{one.address} {one.id}": {
            "address": one.address,
            "step": one.step,
            "began": moment(one.began),
            "usual_seconds": usual.get((one.address, one.kind)),
            "note": one.note,
        }
        for one in steps
    }


def _applies(history: History, fleet: FleetView, now: float) -> list[Document]:
    try:
        return [_apply(one, _in_words(fleet, one.commit, now)) for one in history.records(_NEWEST)]
    except ReconcilerError:
        return []


def _in_words(fleet: FleetView, commit: str | None, now: float) -> str | None:
    """Return who made a commit, and its subject, as git tells."""
    desired = fleet.reading.desired if fleet.reading is not None else None
    if commit is None or desired is None:
        return None
    folder = fleet.root if desired.origin is None else Path(desired.origin.repository)
    return _subject_in_time(folder, commit, desired.commit, int(now // _GIT_RETRIED_SECONDS))


@lru_cache(maxsize=1000)
def _subject_in_time(folder: Path, commit: str, in_force: str | None, _period: int) -> str | None:
    """Ask git once a period where it takes too long: the page waits for it."""
    try:
        return _subject(folder, commit, in_force)
    except TimeoutError:
        return None


@lru_cache(maxsize=1000)
def _subject(folder: Path, commit: str, in_force: str | None) -> str | None:
    """Ask git once: what it does not know now it may know with another commit `in_force`."""
    return subject_of(folder, commit)


def _windows(plan: Plan | None, now: float) -> list[Document]:
    waits = waits_by_window(plan, now)
    return [
        {
            "name": name,
            "kind": window.kind,
            "when": f"{window.schedule} for {duration(window.duration_seconds)}, {window.timezone}",
            "actions": list(window.actions),
            "host": window.host,
            "open": is_open,
            "waiting": waits.get(name, (0, None))[0],
            "opens": _moment(waits.get(name, (0, None))[1]),
        }
        for window, name, is_open in windows_now(plan, now)
    ]


def _apply(one: ApplyRecord, in_words: str | None) -> Document:
    counted = {word: sum(step.outcome == word for step in one.steps) for word in ("done", "failed", "skipped")}
    addresses = list(dict.fromkeys(step.address for step in one.steps))
    problem = next((f"{step.address}: {step.problem.splitlines()[0]}" for step in one.steps if step.problem), None)
    return {
        "began": one.began,
        "ended": one.ended,
        "commit": one.commit,
        "commit_in_words": in_words,
        "by": one.by,
        **counted,
        "addresses": addresses[:_APPLY_NAMES],
        "more": max(0, len(addresses) - _APPLY_NAMES),
        "problem": problem,
    }


def problems_of(status: Mapping[str, Any]) -> list[Document]:
    """List what stands in the way of the fleet, as the last plan and watch (its source, a host) told it; each once."""
    found: dict[tuple[str, str], Document] = {}
    for problem in (*status.get("diagnostics", ()), *status.get("watch", {}).get("problems", ())):
        path, line = problem.get("path"), problem.get("line")
        where = problem.get("address") if path is None else path if line is None else f"{path}:{line}"
        told = {key: problem[key] or "" for key in ("summary", "detail", "hint")}
        found.setdefault((told["summary"], told["detail"]), {"where": where or "", **told})
    return list(found.values())


def _plan(plan: Plan | None) -> str | None:
    if plan is None:
        return None
    text = plan_text(plan)
    if len(text) <= _LONGEST_PLAN:
        return text
    return text[:_LONGEST_PLAN].rpartition("\n")[0] + "\n... the rest is left out here; /api/plan has all of it\n"


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)


def _printable(value: Any) -> Any:
    """Show as an escape what would reorder letters or break the encoding; line breaks stay."""
    if isinstance(value, str):
        return "\n".join(plain_lines(value))
    if isinstance(value, dict):
        return {_printable(key): _printable(one) for key, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, list) else value
