"""This module decides where output goes: data to stdout, all else to stderr; colour only on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

import click

from reconciler.cli.settings import Settings
from reconciler.model.diagnostics import Diagnostic
from reconciler.show import diagnostics as render_diagnostics
from reconciler.show.paint import Paint, ansi, no_paint
from reconciler.show.width import fit
from reconciler.state_dir import error_log


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person sees this stream or types into it. A closed stream is None."""
    return stream is not None and stream.isatty()


def paint_for(stream: TextIO | None) -> Paint:
    """Return the colours for a stream that is to have them."""
    return ansi if wants_color(stream) else no_paint


def wants_color(stream: TextIO | None) -> bool:
    """Return whether a stream is to have colours: as --color says, else the environment, else whether it is a terminal.

    Sources of the rules: https://no-color.org, https://force-color.org, https://bixense.com/clicolors
    """
    settings = _settings()
    if settings is not None and settings.color != "auto":
        return settings.color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def print_data(text: str) -> None:
    """Print to stdout what a program reads."""
    _write(sys.stdout, text)


def print_text(text: str) -> None:
    """Print to stdout what a person reads: no wider than the terminal, where it is one."""
    _write(sys.stdout, _fitted(text, sys.stdout))


def print_message(text: str) -> None:
    """Print to stderr what a person may want to know beside the data."""
    _write(sys.stderr, _fitted(text, sys.stderr))


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    print_message(render_diagnostics.text(kept(diagnostics), paint_for(sys.stderr)))


def kept(problems: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return the same diagnostics with the tracebacks of errors nobody foresaw moved to the log."""
    settings = _settings()
    if settings is None:
        return tuple(problems)
    return tuple(error_log.keep(settings.state_dir, problem) for problem in problems)


def _settings() -> Settings | None:
    context = click.get_current_context(silent=True)
    return context.find_object(Settings) if context is not None else None


def _fitted(text: str, stream: TextIO | None) -> str:
    return fit(text, shutil.get_terminal_size().columns) if is_terminal(stream) else text


def _write(stream: TextIO | None, text: str) -> None:
    """Write text and flush at once, so that both streams keep their order when they go to one place.

    (click.echo would write UTF-8 to a terminal that says it knows only ASCII.)
    """
    if stream is not None and text:
        stream.write(text)
        stream.flush()
