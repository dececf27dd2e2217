"""Renders the history: a table for people, every step for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from reconciler.apply.history import ApplyRecord
from reconciler.show import values
from reconciler.show.documents import FORMAT, who
from reconciler.show.escape import plain, plain_lines
from reconciler.show.paint import Paint, no_paint

_SHORT = 12  # characters of a commit or digest
_NAMED = 2  # domains of one apply
_HEADER = ("when (UTC)", "commit", "signer", "by", "digest", "done", "failed", "skipped", "took", "domains")
_NUMBERS = frozenset({"done", "failed", "skipped"})


def history_text(records: Sequence[ApplyRecord], paint: Paint = no_paint, *, more: bool = False) -> str:
    """Write applies, newest first, each with the problems it met. `more`: there are others besides."""
    rows = [_HEADER, *(_row(record) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    header, *lines = (_aligned(row, widths) for row in rows)
    output = [paint(header, "bold")]
    for record, line in zip(records, lines, strict=True):
        output += [line, *(f"  {problem}" for problem in _problems(record, paint))]
    if more:
        output.append(f"These are the last {len(records)}; --limit {2 * len(records)} tells of more, --json of all.")
    return "\n".join(output) + "\n"


def history_document(records: Sequence[ApplyRecord]) -> dict[str, Any]:
    """Make the document of `history --json`."""
    return {"format": FORMAT, "applies": [apply_record(record) for record in records]}


def apply_record(record: ApplyRecord) -> dict[str, Any]:
    """Make the entry of one apply. `ended` and `seconds` are null when it was cut short or still runs."""
    counted = _outcomes(record)
    return {
        "id": record.id,
        "began": record.began,
        "ended": record.ended,
        "seconds": _seconds(record),
        "commit": record.commit,
        "signer": record.signer,
        **who(record.by),
        "digest": record.digest,
        "steps": [
            {
                "step": step.step,
                "kind": step.kind,
                "address": step.address,
                "outcome": step.outcome,
                "seconds": step.seconds,
                "paused_seconds": step.paused_seconds,
                "problem": step.problem,
            }
            for step in record.steps
        ],
        "summary": {"planned": record.planned, **counted},
    }


def moment(record: ApplyRecord) -> str:
    """Write the time when it began in UTC, to the second."""
    return plain(record.began.partition(".")[0].replace("T", " ").rstrip("Z"))


def steps_in_words(record: ApplyRecord) -> str:
    """Count steps in words: `4 steps done, 1 failed`."""
    counted = _outcomes(record)
    parts = [f"{counted['done']} {'step' if counted['done'] == 1 else 'steps'} done"]
    parts += [f"{counted[outcome]} {outcome}" for outcome in ("failed", "skipped") if counted[outcome]]
    return ", ".join(parts)


def _row(record: ApplyRecord) -> tuple[str, ...]:
    counted, seconds = _outcomes(record), _seconds(record)
    return (
        moment(record),
        plain(record.commit[:_SHORT]) if record.commit else "-",
        plain(record.signer) if record.signer else "-",
        plain(record.by) if record.by else "-",
        plain(record.digest[:_SHORT]),
        str(counted["done"]),
        str(counted["failed"]),
        str(counted["skipped"]),
        values.duration(seconds) if seconds is not None else "never ended",
        _domains(record),
    )


def _domains(record: ApplyRecord) -> str:
    """Name the domains that an apply was about; of many, how many there were on which host."""
    addresses = sorted({step.address for step in record.steps})
    if len(addresses) <= _NAMED:
        return plain(", ".join(addresses)) or "-"
    hosts = sorted({address.partition("/")[0] for address in addresses})
    return f"{len(addresses)} on {plain(hosts[0]) if len(hosts) == 1 else f'{len(hosts)} hosts'}"


def _aligned(row: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = zip(row, _HEADER, widths, strict=True)
    return "  ".join(
        f"{cell:>{width}}" if name in _NUMBERS else f"{cell:<{width}}" for cell, name, width in cells
    ).rstrip()


def _problems(record: ApplyRecord, paint: Paint) -> Iterator[str]:
    for step in record.steps:
        if step.outcome == "failed":
            first, *more = plain_lines(step.problem or "")
            yield f"{paint('failed:', 'red')} {plain(step.address)}: {plain(step.kind)}: {first}"
            yield from (f"  {line}" for line in more)
    unheard = record.planned - len(record.steps)
    if record.ended is None and unheard > 0:
        yield f"{unheard} of {record.planned} steps are not known to have ended: it was cut short, or still runs."


def _outcomes(record: ApplyRecord) -> dict[str, int]:
    counted = Counter(step.outcome for step in record.steps)
    return {outcome: counted[outcome] for outcome in ("done", "failed", "skipped")}


def _seconds(record: ApplyRecord) -> float | None:
    """Return how long it took by this machine's clock; a simulated host's own clock goes much faster."""
    if record.ended is None:
        return None
    taken = datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)
    return round(taken.total_seconds(), 1)
