"""Renders the outcome of an apply for people: failures and their reasons stand out, what was done is a count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from reconciler.apply.outages import Outage, Outcome
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.show import values
from reconciler.show.escape import plain, plain_lines
from reconciler.show.paint import Paint, no_paint
from reconciler.show.steps import in_words

_LISTED_RESTARTS = 20


def apply_text(result: ApplyResult, outages: Sequence[Outage] = (), paint: Paint = no_paint) -> str:
    """Tell what was done, what failed, which domains fell back or were down, what was skipped and why."""
    sections = [_failed(step, paint) for step in result.failed]
    notes = [f"{plain(one.step.address)} {plain(one.note)}." for one in result.done if one.note is not None]
    sections += ["\n".join(notes)] if notes else []
    sections += ["\n".join(lines) for lines in (_ways_back(outages, paint), _restarts(outages)) if lines]
    skipped = _skipped(result.skipped)
    if skipped:
        sections.append("\n".join(("Skipped:", *skipped)))
    sections.append(paint(_headline(result), "bold"))
    return "\n\n".join(sections) + "\n"


def _ways_back(outages: Sequence[Outage], paint: Paint) -> list[str]:
    """Write a line for each domain that did not come up with its new definition."""
    return [_way_back(outage, paint) for outage in outages if outage.outcome is not Outcome.RESTARTED]


def _way_back(outage: Outage, paint: Paint) -> str:
    address = plain(outage.address)
    down = f", down for {values.duration(outage.down_seconds)}" if outage.down_seconds is not None else ""
    match outage.outcome:
        case Outcome.FELL_BACK:
            return f"{paint('fell back:', 'yellow')} {address} runs its last proven definition again{down}."
        case Outcome.CAME_BACK:
            return f"{address} runs again as it was{down}."
        case Outcome.UNTOUCHED:
            paused = f" (it was paused for {values.duration(outage.paused_seconds)})" if outage.paused_seconds else ""
            return f"{address} runs as before: it failed its rehearsal, and never went down{paused}."
        case Outcome.CLEARED:
            rest = "has nothing to fall back to; what was started is cleared away, its disks are kept"
            return f"{paint('stalled:', 'red')} {address} {rest}."
        case Outcome.STALLED:
            first = f" {plain(outage.problem)}" if outage.problem is not None else ""
            second = plain(outage.way_back_problem or "")
            return f"{paint('stalled:', 'red')} {address}:{first} The way back failed too: {second}"
        case Outcome.RESTARTED:
            raise AssertionError("told by _restarts")
        case _:
            assert_never(outage.outcome)


def _restarts(outages: Sequence[Outage]) -> list[str]:
    """Tell how long each restart took its domain down; of many, only the longest."""
    down = {
        outage.address: outage.down_seconds
        for outage in outages
        if outage.outcome is Outcome.RESTARTED and outage.down_seconds is not None
    }
    if len(down) > _LISTED_RESTARTS:
        longest = max(down, key=lambda address: (down[address], address))
        return [f"{len(down)} domains were down, the longest {plain(longest)} for {values.duration(down[longest])}."]
    return [f"{plain(address)} was down for {values.duration(seconds)}." for address, seconds in down.items()]


def _headline(result: ApplyResult) -> str:
    done = _addresses(result.done) - _addresses(result.failed) - _addresses(result.skipped)
    parts = [f"{len(result.done)} {'step' if len(result.done) == 1 else 'steps'} done"]
    parts += [f"{len(result.failed)} failed"] if result.failed else []
    parts += [f"{len(result.skipped)} skipped"] if result.skipped else []
    complete = f" Complete: {', '.join(sorted(map(plain, done)))}." if 0 < len(done) <= 20 else ""
    complete = f" Complete: {len(done)} domains." if len(done) > 20 else complete
    return f"Applied: {', '.join(parts)}.{complete}"


def _addresses(results: tuple[StepResult, ...]) -> set[str]:
    return {result.step.address for result in results}


def _failed(result: StepResult, paint: Paint) -> str:
    assert result.problem is not None
    lines = [f"{paint('failed:', 'red')} {plain(result.step.address)}: {in_words(result.step.step)}"]
    lines += plain_lines(result.problem.detail or result.problem.summary)
    lines += [f"{paint('hint:', 'cyan')} {plain(result.problem.hint)}"] if result.problem.hint else []
    return "\n  ".join(lines)


def _skipped(results: tuple[StepResult, ...]) -> list[str]:
    """Write one line for each domain and reason, however many of its steps were skipped."""
    steps: dict[tuple[str, str], int] = {}
    for result in results:
        key = (result.step.address, result.reason or "")
        steps[key] = steps.get(key, 0) + 1
    return [
        f"  {plain(address)}  {count} {'step' if count == 1 else 'steps'}: {plain(reason)}"
        for (address, reason), count in sorted(steps.items())
    ]
