"""Text for people fits the terminal: what is too wide goes on below, under the column that it belongs to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from reconciler.expressions import expression

_NARROWEST = 40  # columns; below that nothing is wrapped
_ESCAPES = expression(r"\x1b\[[0-9;]*m")
_COLUMN_GAP = expression(r"\S {2,}(?=\S)")
_EXCERPT = expression(r" +[0-9]* \| ")  # a source line and its caret belong below each other


def columns(shown: str) -> int:
    """Count the columns of a terminal that a text takes: CJK and emoji take two, combining marks and colours none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in _ESCAPES.sub("", shown)
    )


def fit(text: str, width: int) -> str:
    """Wrap the lines that are wider than `width` columns at blanks. A word that is too wide stays whole, to be copied;
    one that would fit further to the left goes there.

    >>> print(fit("! alpha/web  restart: the spec changed", 40), end="")
    ! alpha/web  restart: the spec changed
    >>> print(fit("! alpha/web  restart: the spec of this domain changed", 40), end="")
    ! alpha/web  restart: the spec of this
                 domain changed
    """
    if width < _NARROWEST:
        return text
    return "".join(line for whole in text.splitlines(keepends=True) for line in _lines(whole, width))


def _lines(line: str, width: int) -> Iterator[str]:
    body = line.rstrip("\n")
    if columns(body) <= width or _EXCERPT.match(body):
        yield line
        return
    hang = " " * _hang(_ESCAPES.sub("", body), width)
    indent = body[: len(body) - len(body.lstrip(" "))]
    current, is_empty = indent, True
    for gap, word in re.findall(r"( *)([^ ]+)", body[len(indent) :]):
        if not is_empty and columns(current + gap + word) > width:
            yield current + "\n"
            current, gap = hang[: max(width - columns(word), len(indent) + 2)], ""
        current, is_empty = current + gap + word, False
    yield current + line[len(body) :]


def _hang(shown: str, width: int) -> int:
    """Return where a line goes on: under its last column that leaves half of the width, or else a bit further in."""
    begins = [gap.end() for gap in _COLUMN_GAP.finditer(shown) if gap.end() <= width // 2]
    return max((columns(shown[:end]) for end in begins), default=len(shown) - len(shown.lstrip(" ")) + 2)
