"""Asks for consent at the terminal. Called by the commands that do what cannot be taken back."""

from __future__ import annotations

import sys

from reconciler.cli.output import is_terminal, print_message
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError
from reconciler.show.escape import plain


def refusal(question: str, look: str) -> Diagnostic | None:
    """Ask, and return None after a yes. Nothing else counts as one, not even an empty line.

    `question` is printable; `look` says what to look at, before --yes, where there is no terminal.
    """
    if not is_terminal(sys.stdin):
        detail, hint = "There is no terminal to ask at, so nothing was done.", f"{look} with --yes"
        return Diagnostic(kind=Kind.REFUSED, summary="no consent", detail=detail, hint=hint)
    print_message(f"{question} Only yes is taken as consent: ")
    if sys.stdin.readline().strip().lower() in ("yes", "y"):
        return None
    return Diagnostic(kind=Kind.REFUSED, summary="no consent", detail="Nothing was done.")


def ask_consent(question: str, look: str) -> None:
    """Ask as `refusal` does. Raises ReconcilerError (refused) for all but a yes."""
    if (problem := refusal(plain(question), look)) is not None:
        raise ReconcilerError(problem)
