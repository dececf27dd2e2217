"""Colour as an argument: renderers name what they want painted, the commands decide whether anything is."""

from __future__ import annotations

from collections.abc import Callable

Paint = Callable[[str, str], str]
"""(text, colour name of click.style or "bold") -> text."""


def no_paint(text: str, colour: str) -> str:
    """Leave text without colours: for pipes, files, `NO_COLOR` and tests."""
    return text


def ansi(text: str, colour: str) -> str:
    """Colour text for terminals."""
    import click

    return click.style(text, bold=True) if colour == "bold" else click.style(text, fg=colour)
