"""How a problem looks: its place, the line, the caret under the right column, the hint."""

from __future__ import annotations

import pytest

from reconciler.model.diagnostics import Diagnostic, Kind, Source
from reconciler.show import diagnostics


def at(text: str, column: int, length: int) -> str:
    source = Source(path="specs/alpha/web.toml", line=12, column=column, text=text, length=length)
    problem = Diagnostic(kind=Kind.SPEC, summary="Unknown key", detail='This file has no key "memroy".', source=source)
    return diagnostics.text([problem])


def test_place_line_caret_and_hint() -> None:
    source = Source(path="specs/alpha/web.toml", line=3, column=1, text="memroy = 512", length=6)
    problem = Diagnostic(
        kind=Kind.SPEC,
        summary="Unknown key",
        detail='This file has no key "memroy".',
        hint='Did you mean "memory"?',
        source=source,
    )
    assert diagnostics.text([problem]) == (
        'specs/alpha/web.toml:3:1: error: This file has no key "memroy".\n'
        "  3 | memroy = 512\n"
        "    | ^^^^^^\n"
        '  hint: Did you mean "memory"?\n'
    )
    assert diagnostics.document(problem) == {
        "kind": "spec",
        "summary": "Unknown key",
        "detail": 'This file has no key "memroy".',
        "hint": 'Did you mean "memory"?',
        "address": None,
        "path": "specs/alpha/web.toml",
        "line": 3,
        "column": 1,
    }


@pytest.mark.parametrize(
    ("text", "column", "length", "excerpt"),
    [
        ("\tmemory = x", 11, 1, ("       memory = x", "                ^")),  # a tab counts as four columns
        ("名前 = x", 6, 1, ("   名前 = x", "          ^")),  # CJK is two columns wide
        ("a = \x1b[0m", 5, 4, (r"   a = \x1b[0m", "       ^^^^^^^")),  # escaped characters are longer
        ("memory = 1", 99, 1, ("   memory = 1", "             ^")),  # a column past the end points there
    ],
    ids=["tab", "wide", "escaped", "past-the-end"],
)
def test_the_caret_is_under_its_column(text: str, column: int, length: int, excerpt: tuple[str, str]) -> None:
    line, caret = at(text, column, length).splitlines()[1:3]
    assert (line.replace("  12 |", "  "), caret.replace("     |", "  ")) == excerpt


def test_a_very_long_line_is_cut_around_the_column() -> None:
    line, caret = at("x" * 5000 + "!" + "y" * 5000, 5001, 1).splitlines()[1:3]
    assert len(line) < 140
    assert line.index("!") == caret.index("^")


def test_what_is_not_about_a_line_names_its_host_and_keeps_its_lines() -> None:
    problem = Diagnostic(
        kind=Kind.WORLD, summary="not ready", detail="Its console:\n  panic\r", hint="look", address="alpha/web"
    )
    assert diagnostics.text([problem]) == ("error: alpha/web: not ready\n  Its console:\n    panic\n  hint: look\n")


def test_the_label_says_who_has_to_act() -> None:
    said = {kind: diagnostics.text([Diagnostic(kind=kind, summary="s")]) for kind in Kind}
    assert said == {
        Kind.SPEC: "error: s\n",
        Kind.WORLD: "error: s\n",
        Kind.USAGE: "error: s\n",
        Kind.REFUSED: "refused: s\n",
        Kind.NOTE: "note: s\n",
    }
