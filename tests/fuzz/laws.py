"""What holds whatever comes in, and how a breach is told."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from html.parser import HTMLParser
from types import FrameType

from reconciler.model.diagnostics import Diagnostic
from reconciler.show import diagnostics

SECONDS_MAX = 5.0
"""Of the processor, for one input. Each takes milliseconds."""


class HangError(AssertionError):
    """One input took more than it may."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise HangError in a block that computes for too long; a machine that has no time for us is no reason."""

    def over(number: int, frame: FrameType | None) -> None:
        raise HangError(f"one input took more than {SECONDS_MAX:g} seconds of the processor")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def is_plain(text: str) -> None:
    """No terminal takes any of it for an instruction."""
    odd = {char for char in text if not char.isprintable() and char != "\n"}
    assert not odd, f"a terminal is shown {sorted(odd)!r}"


def are_foreseen(problems: Iterable[Diagnostic]) -> None:
    """Each is a sentence that a terminal can show, and none an error that nobody foresaw."""
    problems = list(problems)
    for problem in problems:
        assert problem.trace is None, problem.trace
        assert problem.detail, problem
    is_plain(diagnostics.text(problems))
    said = diagnostics.github(problems)
    assert all(line.startswith("::") for line in said.splitlines()), said


_CODE = re.compile(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)")


def is_tame_markdown(text: str) -> None:
    """No HTML but the folds that we write, no mention of a person, no link."""
    outside = _CODE.sub("", text)
    assert "<script" not in outside
    assert "<img" not in outside
    assert "@everyone" not in outside
    assert outside.count("<details>") == outside.count("</details>")


@dataclass(slots=True)
class _Tags:
    """What a browser makes of a page: its elements and the names of their attributes."""

    found: list[tuple[str, ...]]


class _Reader(HTMLParser):
    def __init__(self, tags: _Tags) -> None:
        super().__init__()
        self._tags = tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags.found.append((tag, *(name for name, _ in attrs)))


def elements(page: str) -> list[tuple[str, ...]]:
    """List the elements of a page, each with the names of its attributes."""
    tags = _Tags([])
    _Reader(tags).feed(page)
    return tags.found


def strings_in(value: object) -> Iterator[str]:
    """List all text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings_in(key)
            yield from strings_in(inner)
    elif isinstance(value, (list, tuple, frozenset, set)):
        for inner in value:
            yield from strings_in(inner)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from strings_in(getattr(value, field.name))
