"""Diagnostics: for people with the source line and a caret, for GitHub as annotations, for programs as objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reconciler.model.diagnostics import Diagnostic, Kind, Source, exit_code
from reconciler.show.escape import github_message, github_property, plain, plain_lines
from reconciler.show.paint import Paint, no_paint
from reconciler.show.width import columns
from reconciler.specs.secrets import SENSITIVE, secret_at

if TYPE_CHECKING:
    from reconciler.plan.plan import Plan

_LABELS = {Kind.SPEC: "error", Kind.WORLD: "error", Kind.USAGE: "error", Kind.REFUSED: "refused", Kind.NOTE: "note"}
_COLOURS = {Kind.SPEC: "red", Kind.WORLD: "red", Kind.USAGE: "red", Kind.REFUSED: "yellow", Kind.NOTE: "cyan"}
_GITHUB = {Kind.SPEC: "error", Kind.WORLD: "error", Kind.USAGE: "error", Kind.REFUSED: "warning", Kind.NOTE: "notice"}
_EXCERPT_CHARACTERS = 70  # of a long source line, shown around the column


def text(diagnostics: Iterable[Diagnostic], paint: Paint = no_paint) -> str:
    """Write all diagnostics for a terminal, each ended by a newline; "" for none."""
    return "".join(_one(diagnostic, paint) + "\n" for diagnostic in diagnostics)


def github(diagnostics: Iterable[Diagnostic]) -> str:
    """Write one workflow command a line, so that each problem shows up beside its line of the pull request."""
    lines = []
    for diagnostic in diagnostics:
        place = ""
        if diagnostic.source is not None:
            source = diagnostic.source
            place = f"file={github_property(source.path)},line={source.line},col={source.column},"
        message = "\n".join(filter(None, (diagnostic.detail or diagnostic.summary, _hint(diagnostic))))
        title = github_property(diagnostic.summary)
        lines.append(f"::{_GITHUB[diagnostic.kind]} {place}title={title}::{github_message(message)}\n")
    return "".join(lines)


def junit(files: Iterable[str], diagnostics: Iterable[Diagnostic]) -> str:
    """Write a JUnit report: a test case for each file that was read, which fails by what is wrong with it."""
    from xml.sax.saxutils import escape, quoteattr

    found: dict[str, list[Diagnostic]] = {file: [] for file in sorted(files)}
    for problem in diagnostics:
        if exit_code([problem]):
            found.setdefault(problem.source.path if problem.source is not None else "specs", []).append(problem)
    failed = sum(map(bool, found.values()))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites><testsuite name="reconciler validate" tests="{len(found)}" failures="{failed}" errors="0">',
    ]
    for file, problems in found.items():
        lines.append(f'<testcase classname="specs" name={quoteattr(plain(file))} file={quoteattr(plain(file))}>')
        if problems:  # one for each case, as readers of such reports expect
            said = "\n".join(plain(line) for line in text(problems).splitlines())
            title = "; ".join(dict.fromkeys(problem.summary for problem in problems))
            lines.append(f"<failure message={quoteattr(plain(title))}>{escape(said)}</failure>")
        lines.append("</testcase>")
    return "\n".join((*lines, "</testsuite></testsuites>")) + "\n"


def of_plan(plan: Plan, places: Mapping[str, Source]) -> list[Diagnostic]:
    """Tell a whole plan as diagnostics, for `github`. `places` are where the specs ask for what an address becomes."""
    from reconciler.show.summary import headline, in_brief, is_held  # most diagnostics come without a plan
    from reconciler.show.values import before_and_after, pending

    told = [
        problem if problem.source is not None else replace(problem, source=places.get(problem.address or ""))
        for problem in plan.diagnostics
    ]
    told.append(Diagnostic(kind=Kind.NOTE, summary="plan", detail=headline(plan)))
    for change in (*plan.changes, *plan.undecided):
        if change.blocked is None and (change.acts or is_held(change) or change.pending):
            differs = (f"{field.path}: {' → '.join(before_and_after(field))}" for field in change.fields)
            waits = (f"pending: {pending(one)}" for one in change.pending)
            lines = "\n".join((in_brief(change), *differs, *waits))
            place = places.get(change.address)
            told.append(Diagnostic(kind=Kind.NOTE, summary=change.address, detail=lines, source=place))
    return told


def documents(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Make the `diagnostics` of every JSON document."""
    return [document(diagnostic) for diagnostic in diagnostics]


def document(diagnostic: Diagnostic) -> dict[str, Any]:
    source = diagnostic.source
    return {
        "kind": diagnostic.kind.value,
        "summary": diagnostic.summary,
        "detail": diagnostic.detail,
        "hint": diagnostic.hint,
        "address": diagnostic.address,
        "path": source.path if source is not None else None,
        "line": source.line if source is not None else None,
        "column": source.column if source is not None else None,
    }


def _one(diagnostic: Diagnostic, paint: Paint) -> str:
    label = paint(_LABELS[diagnostic.kind] + ":", _COLOURS[diagnostic.kind])
    if diagnostic.source is not None:
        message, *rest = plain_lines(diagnostic.detail or diagnostic.summary)
        lines = [f"{plain(str(diagnostic.source))}: {label} {message}", *(f"  {line}" for line in rest)]
        lines += _excerpt(diagnostic.source, paint)
    else:
        lines = [f"{label} {plain(_titled(diagnostic))}"]
        lines += [f"  {line}" for line in plain_lines(diagnostic.detail) if diagnostic.detail]
    if diagnostic.hint:
        lines.append(f"  {paint('hint:', 'cyan')} {plain(diagnostic.hint)}")
    return "\n".join(lines)


def _titled(diagnostic: Diagnostic) -> str:
    """Return the summary, with the host or domain it is about unless it names that by itself."""
    address = diagnostic.address
    if address is None or address in diagnostic.summary:
        return diagnostic.summary
    return f"{address}: {diagnostic.summary}"


def _hint(diagnostic: Diagnostic) -> str:
    return f"hint: {diagnostic.hint}" if diagnostic.hint else ""


def _excerpt(source: Source, paint: Paint) -> list[str]:
    """Return the source line and, below it, a caret. A line too long for a screen is cut around the column."""
    if not source.text.strip():
        return []
    secret = secret_at(source.text)
    text = source.text if secret is None else source.text[:secret] + SENSITIVE
    column = min(source.column - 1, len(text) if secret is None else secret)
    first = max(0, column - _EXCERPT_CHARACTERS // 2) if len(text) > _EXCERPT_CHARACTERS else 0
    last = min(len(text), first + _EXCERPT_CHARACTERS)
    before = ("…" if first else "") + _shown(text[first:column])
    after = _shown(text[column:last]) + ("…" if last < len(text) else "")
    underlined = _shown(text[column : min(last, column + source.length)])
    number = str(source.line)
    caret = " " * columns(before) + paint("^" * max(1, columns(underlined)), "red")
    return [f"  {number} | {before}{after}", f"  {' ' * len(number)} | {caret}"]


def _shown(piece: str) -> str:
    return plain(piece.replace("\t", "    "))
