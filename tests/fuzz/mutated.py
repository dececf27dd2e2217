"""Strategies of hostile text: seeds that are sound, each with a few edits that mean harm."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

NASTY = (
    *("'", '"', "\\", "`", "$(touch pwned)", "${IFS}", ";", "|", "&", "\n", "\r", "\0", "\t", " ", "", "#", ",", "="),
    *("..", "../../etc/passwd", "/", "//", "/dev/../etc", "~", "-rf", "--", "*", "%s%n", "{}", "[]", "null", "true"),
    *("\x1b[2J", "\x1b]0;x\a", "\x9b31m", "\u202e", "\u2028", "\x85", "\u00e9", "\u0663", "\u00b2", "\udcff", "\ufeff"),
    *(
        "<script>alert(1)</script>",
        '"><img src=x onerror=x>',
        "&lt;",
        "]]>",
        "::error::x",
        "@everyone",
        "[a](http://b)",
    ),
    *("0", "-1", "4294967295", "4294967296", "18446744073709551616", "1e400", "nan", "inf", "0x1g", "1_0", "00"),
    *("9" * 5000, "A" * 3000, "[" * 400, "{" * 400, "(" * 400, '{"a":' * 400, "((a)" * 100),
)
"""What quotes, paths, numbers, terminals, pages and parsers have been led astray by."""

_WORD = re.compile(r"[^\s\"',=:\[\]{}()|/]+")
_Edit = tuple[str, int, str]


def _insert(text: str, at: int, token: str) -> str:
    return text[:at] + token + text[at:]


def _word(text: str, at: int, token: str) -> str:
    """Put the token in the place of the word that begins at or behind `at`."""
    found = _WORD.search(text, at) or _WORD.search(text)
    return text if found is None else text[: found.start()] + token + text[found.end() :]


def _cut(text: str, at: int, token: str) -> str:
    return text[:at] + text[at + 1 + len(token) :]


def _end(text: str, at: int, token: str) -> str:
    return text[:at] + token


def _line(text: str, at: int, token: str) -> str:
    """Say the line at this place once more, with the token behind it."""
    start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
    line = text[start : end if end >= 0 else None]
    return f"{text[:start]}{line}{token}\n{text[start:]}"


_EDITS: dict[str, Callable[[str, int, str], str]] = {
    "word": _word,
    "insert": _insert,
    "cut": _cut,
    "line": _line,
    "end": _end,
}


def edited(seed: str, edits: Sequence[_Edit]) -> str:
    """Make the edits one after another. Each place is a share of the text, in millionths."""
    text = seed
    for how, where, token in edits:
        text = _EDITS[how](text, where * len(text) // 1_000_000, token)
    return text


def hostile(seeds: Sequence[str]) -> st.SearchStrategy[str]:
    tokens = st.sampled_from(NASTY) | st.text(max_size=4)
    edit = st.tuples(st.sampled_from(tuple(_EDITS)), st.integers(0, 999_999), tokens)
    return st.builds(edited, st.sampled_from(tuple(seeds)), st.lists(edit, max_size=5))
