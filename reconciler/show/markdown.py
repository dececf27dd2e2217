"""A plan as Markdown, for the comment of a merge request: a table to skim, details to unfold."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.decide.changes import Change
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.plan.plan import Plan
from reconciler.show import values
from reconciler.show.escape import html, markdown, markdown_code
from reconciler.show.rehearsals import rehearsal_lines
from reconciler.show.steps import in_words
from reconciler.show.summary import (
    headline,
    is_held,
    is_quiet,
    left_to_others,
    memory_by_host,
    shown_action,
    why_held,
)
from reconciler.show.text import SYMBOLS

# A comment has a limit (65,536 characters on GitHub), and a table of hundreds of rows is read by nobody.
_ROWS_MAX = 100
_DETAILS_MAX = 40
_STEPS_MAX = 100


def plan_markdown(plan: Plan) -> str:
    """Write the whole plan."""
    every = sorted((*plan.changes, *plan.undecided), key=lambda change: change.address)
    shown = [change for change in every if not is_quiet(change)]
    sections = [f"### {markdown(headline(plan))}"]
    sections += _diagnostics(plan)
    if shown:
        sections.append("\n".join(_table(shown)))
    detailed = [change for change in shown if change.fields or change.pending or change.hint]
    sections += ["\n".join(_details(change)) for change in detailed[:_DETAILS_MAX]]
    if plan.steps:
        sections.append("\n".join(_steps(plan)))
    sections += [f"{markdown_code(host)}: {markdown(sentence)}" for host, sentence in memory_by_host(plan)]
    if others := left_to_others(plan):
        sections.append("Not ours, never changed: " + ", ".join(map(markdown_code, others[:_ROWS_MAX])))
    return "\n\n".join(sections) + "\n"


def _diagnostics(plan: Plan) -> Iterator[str]:
    for diagnostic in plan.diagnostics[:_DETAILS_MAX]:
        if not (diagnostic.kind is Kind.REFUSED and _is_in_table(diagnostic, plan)):
            place = f"{markdown_code(str(diagnostic.source))}: " if diagnostic.source is not None else ""
            yield f"> **{diagnostic.kind.value}** {place}{markdown(diagnostic.detail or diagnostic.summary)}"


def _is_in_table(diagnostic: Diagnostic, plan: Plan) -> bool:
    return any(change.address == diagnostic.address and change.blocked for change in plan.changes)


def _table(changes: list[Change]) -> Iterator[str]:
    yield "| | domain | action | why |"
    yield "|---|---|---|---|"
    for change in changes[:_ROWS_MAX]:
        why = markdown(why_held(change) or change.reason)
        if change.waits_for:
            why += "; waits for " + markdown(", ".join(change.waits_for))
        symbol = markdown_code(SYMBOLS[shown_action(change)].strip())
        held = ", held" if is_held(change) else ""
        yield f"| {symbol} | {markdown_code(change.address)} | {shown_action(change).value}{held} | {why} |"
    if len(changes) > _ROWS_MAX:
        yield f"| | and {len(changes) - _ROWS_MAX} more | | |"


def _details(change: Change) -> Iterator[str]:
    yield f"<details><summary>{html(change.address)}: {shown_action(change).value}</summary>"
    yield ""
    if change.fields:
        yield "| key | before | after | effect |"
        yield "|---|---|---|---|"
    for field in change.fields:
        before, after = map(markdown_code, values.before_and_after(field))
        effect = "at the next start" if field.waits else field.effect.value
        yield f"| {markdown_code(field.path)} | {before} | {after} | {effect} |"
    if change.fields:
        yield ""
    notes = [f"- {markdown(line)}" for line in rehearsal_lines(change)]
    notes += [f"- pending: {markdown(values.pending(waiting))}" for waiting in change.pending]
    notes += [f"- hint: {markdown_code(change.hint)}"] if change.hint is not None else []
    if notes:
        yield from notes
        yield ""
    yield "</details>"


def _steps(plan: Plan) -> Iterator[str]:
    yield f"<details><summary>{len(plan.steps)} steps</summary>"
    yield ""
    for step in plan.steps[:_STEPS_MAX]:
        needs = f" (after {', '.join(step.needs)})" if step.needs else ""
        yield f"- {step.id} {markdown_code(step.address)}: {markdown(in_words(step.step))}{needs}"
    if len(plan.steps) > _STEPS_MAX:
        yield f"- and {len(plan.steps) - _STEPS_MAX} more"
    yield ""
    yield "</details>"
