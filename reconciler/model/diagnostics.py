"""Describes what went wrong, where, and what to do about it. Operating errors are values, not tracebacks."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from reconciler.records import dataclass


class Kind(StrEnum):
    """Says who has to act on a diagnostic, and so decides the exit code."""

    SPEC = "spec"  # a spec file is wrong: exit 4
    WORLD = "world"  # a host, a file or a command failed: exit 1
    USAGE = "usage"  # the command was called wrongly: exit 1
    REFUSED = "refused"  # a safety rule or a missing consent: exit 3
    NOTE = "note"  # worth telling, no failure


_EXIT_CODES = {Kind.SPEC: 4, Kind.WORLD: 1, Kind.USAGE: 1, Kind.REFUSED: 3, Kind.NOTE: 0}
IN_THE_LOG = "please report it with its traceback, which is in the log"
_ABOUT_MAX = 200  # characters of what an error says of itself
_SEVERITY = (1, 4, 3, 0)  # several at once: 1 before 4 before 3 before 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place in a file: 1-based line and column (in characters), with the text of that line."""

    path: str
    line: int = 1
    column: int = 1
    text: str = ""
    length: int = 1  # characters to underline

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One problem. `summary` is fixed and short, `detail` a full sentence, `hint` something to copy or do."""

    kind: Kind
    summary: str
    detail: str = ""
    hint: str | None = None
    address: str | None = None
    source: Source | None = None
    transient: bool = False  # may go away by itself (ssh down), so trying again makes sense
    later: bool = False  # but not at once: the host needs time, or has to be mended, first
    moved: bool = False  # a step found the world so that it is not needed as planned: nothing was done, or went wrong
    boot_failed: bool = False  # it booted and failed, or is nothing that boots; False: nobody knows
    console: str | None = field(default=None, compare=False, repr=False)  # of a boot that failed; for a file alone
    trace: str | None = field(default=None, compare=False, repr=False)  # of an error nobody foresaw; for the log alone


class ReconcilerError(Exception):
    """Carries diagnostics up to the one place that prints them and chooses the exit code."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(d.detail or d.summary for d in diagnostics))
        self.diagnostics = diagnostics


def world_error(
    summary: str,
    detail: str = "",
    hint: str | None = None,
    address: str | None = None,
    *,
    transient: bool = False,
    later: bool = False,
    boot_failed: bool = False,
) -> ReconcilerError:
    """Make the error for a failure of a host, file or command (exit 1)."""
    return ReconcilerError(
        Diagnostic(
            kind=Kind.WORLD,
            summary=summary,
            detail=detail,
            hint=hint,
            address=address,
            transient=transient,
            later=later,
            boot_failed=boot_failed,
        )
    )


def usage_error(summary: str, detail: str, hint: str | None = None) -> ReconcilerError:
    """Make the error for an argument that nobody knows or understands (exit 1)."""
    return ReconcilerError(Diagnostic(kind=Kind.USAGE, summary=summary, detail=detail, hint=hint))


def refused(summary: str, detail: str = "", hint: str | None = None, address: str | None = None) -> ReconcilerError:
    """Make the error for a refusal by a safety rule (exit 3)."""
    return ReconcilerError(Diagnostic(kind=Kind.REFUSED, summary=summary, detail=detail, hint=hint, address=address))


def moved_on(summary: str, detail: str, hint: str, address: str) -> ReconcilerError:
    """Make the error of a step that is not needed as it was planned, since the world moved meanwhile (exit 3)."""
    return ReconcilerError(
        Diagnostic(kind=Kind.REFUSED, summary=summary, detail=detail, hint=hint, address=address, moved=True)
    )


def unforeseen(doing: str, error: Exception, address: str | None = None) -> Diagnostic:
    """Make the diagnostic of an error that no code expected, met at a boundary: one step, one host, one file.

    Such an error says nothing about what was worked on, so trying again makes sense. Its traceback is for a log.
    """
    import traceback

    about = " ".join(str(error).split())[:_ABOUT_MAX]
    return Diagnostic(
        kind=Kind.WORLD,
        summary="an error nobody foresaw",
        detail=f"An error that nobody foresaw came up while {doing}: {type(error).__name__}"
        + (f" ({about})." if about else "."),
        hint=IN_THE_LOG,
        address=address,
        transient=True,
        trace="".join(traceback.format_exception(error)),
    )


def exit_code(diagnostics: tuple[Diagnostic, ...] | list[Diagnostic]) -> int:
    """Return the exit code of a run that met these diagnostics: 1 goes before 4 before 3 before 0."""
    codes = {_EXIT_CODES[d.kind] for d in diagnostics}
    return next((code for code in _SEVERITY if code in codes), 0)
