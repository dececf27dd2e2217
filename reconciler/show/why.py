"""Everything about one domain: as text for people, as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.decide.changes import Change
from reconciler.decide.diff import Effect, FieldChange
from reconciler.inspect.why import Explanation
from reconciler.show import diagnostics, values
from reconciler.show.documents import FORMAT
from reconciler.show.escape import plain
from reconciler.show.history import apply_record, moment, steps_in_words
from reconciler.show.paint import Paint, no_paint
from reconciler.show.summary import in_brief, is_default, is_new
from reconciler.state_dir.consoles import KeptConsole


def why_text(why: Explanation, paint: Paint = no_paint) -> str:
    """Tell what happens, who asks for it, what differs and where, what it waits for, and what was done last."""
    sections = [[f"{paint(plain(why.address), 'bold')}  {plain(_title(why))}"], list(_asked_by(why))]
    if why.change is not None:
        sections += [list(_fields(why, why.change)), list(_outlook(why.change, paint))]
    sections += [list(_past(why)), list(_console(why))]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def why_document(why: Explanation) -> dict[str, Any]:
    """Make the document of `why --json`."""
    change = why.change
    return {
        "format": FORMAT,
        "address": why.address,
        "managed": False if why.is_unmanaged else None if change is None else True,
        "action": change.action.value if change is not None else None,
        "reason": change.reason if change is not None else _title(why),
        "file": why.file if why.is_declared else None,
        "commits": dict(why.commits),
        "host_commit": why.host_commit,
        "fields": [_field(why, field) for field in change.fields] if change is not None else [],
        "downtime_seconds": change.downtime_seconds if change is not None else 0,
        "waits_for": list(change.waits_for) if change is not None else [],
        "blocked": change.blocked if change is not None else None,
        "pending": [values.pending(waiting) for waiting in change.pending] if change is not None else [],
        "hint": change.hint if change is not None else None,
        "last_apply": apply_record(why.last_apply) if why.last_apply is not None else None,
        "console": _console_document(why.console),
        "diagnostics": diagnostics.documents(why.problems),
    }


def _console_document(console: KeptConsole | None) -> dict[str, Any] | None:
    return None if console is None else {"path": str(console.path), "at": console.at, "lines": list(console.lines)}


def _field(why: Explanation, field: FieldChange) -> dict[str, Any]:
    source = why.sources.get(field.path)
    place = {"path": source.path, "line": source.line, "column": source.column} if source is not None else None
    return {
        "path": field.path,
        "before": field.before,
        "after": field.after,
        "effect": field.effect.value,
        "source": place,
    }


def _title(why: Explanation) -> str:
    change = why.change
    if change is None:
        return "is not ours, so it is never changed" if why.is_unmanaged else "its host did not answer"
    return in_brief(change)


def _asked_by(why: Explanation) -> Iterator[str]:
    """List the files, each with its commit, the domain's own first."""
    if not why.is_declared:
        last = f"; the last commit that touched it: {why.commits[why.file]}" if why.file in why.commits else ""
        yield plain(f"No spec asks for it: there is no {why.file}{last}")
        return
    yield "Asked for by:"
    paths = list(dict.fromkeys((why.file, *(source.path for source in why.sources.values()))))
    width = max(len(plain(path)) for path in paths)
    for path in paths:
        yield f"  {plain(path):<{width}}  {plain(why.commits.get(path, 'in no commit'))}"


def _fields(why: Explanation, change: Change) -> Iterator[str]:
    """Write each field, what it costs, and the line that says so; of a new domain only what is not usual."""
    rows, is_all_new = [], is_new(change)
    for field in change.fields:
        if is_default(change, field):
            continue
        before, after = values.before_and_after(field)
        source = why.sources.get(field.path)
        place = f"{source.path}:{source.line}" if source is not None else "set by no spec"
        cells = (after, "") if is_all_new else (f"{before} → {after}", _effect(field))
        rows.append((plain(field.path), *cells, plain(place)))
    if not rows:
        return
    yield "What it will have:" if is_all_new else "What differs:"
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for path, shown, effect, place in rows:
        cost = f"{effect:<{widths[2]}}  " if widths[2] else ""
        yield f"  {path:<{widths[0]}}  {shown:<{widths[1]}}  {cost}{place}"


def _effect(field: FieldChange) -> str:
    if field.waits:
        return "at the next start"
    return "needs a restart" if field.effect is Effect.RESTART else "live"


def _outlook(change: Change, paint: Paint) -> Iterator[str]:
    if change.restarts and change.downtime_seconds is None:
        yield "It goes down and comes back; nobody knows yet how long that takes."
    elif change.restarts:
        yield f"It goes down and comes back, which took {values.duration(change.downtime_seconds or 0)} before."
    yield from (f"It waits for {plain(what)}." for what in change.waits_for)
    yield from (f"Pending: {values.pending(waiting)}." for waiting in change.pending)
    if change.hint is not None:
        yield f"{paint('hint:', 'cyan')} {plain(change.hint)}"


def _console(why: Explanation) -> Iterator[str]:
    if why.console is None:
        return
    yield f"Its last boot that failed, {why.console.at} UTC, left this console in {plain(str(why.console.path))}:"
    yield from (f"  {plain(line)}" for line in why.console.lines)


def _past(why: Explanation) -> Iterator[str]:
    if why.host_commit is not None:
        yield f"Its config file on the host is of commit {plain(why.host_commit[:12])}."
    if why.last_apply is not None:
        record = why.last_apply
        commit = f" of commit {plain(record.commit[:12])}" if record.commit else ""
        yield f"Last apply that was about it: {moment(record)} UTC{commit}, {steps_in_words(record)}."
        for step in record.steps:
            if step.problem is not None and step.outcome == "failed":
                yield f"  {plain(step.kind)} failed: {plain(step.problem.splitlines()[0])}"
