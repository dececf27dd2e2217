"""The log of errors nobody foresaw: their tracebacks, which no user is shown. Used wherever such an error is told."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler.model.diagnostics import IN_THE_LOG, Diagnostic, Kind

KEPT = "please report it with "  # what the hint of a diagnostic begins with whose traceback is in the log
_FILE = "errors.log"
_MAX_BYTES = 1 << 20  # then what is older makes room


def keep(state_dir: Path, problem: Diagnostic) -> Diagnostic:
    """Write the traceback of an error nobody foresaw into the log; the hint names the file from then on.

    Every other diagnostic, and one that was kept already, is given back as it is.
    """
    if problem.trace is None or problem.hint != IN_THE_LOG:
        return problem
    file = state_dir / _FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if file.stat().st_size > _MAX_BYTES:
                file.replace(file.with_suffix(".log.1"))
        with file.open("a", errors="backslashreplace") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {problem.detail}\n{problem.trace}\n")
    except OSError as error:
        lost = f"please report it; its traceback could not be written to {file}: {error.strerror}"
        return replace(problem, hint=lost)
    return replace(problem, hint=f"{KEPT}its traceback, which is in {file}")


def os_problem(error: OSError) -> Diagnostic:
    """Tell of a file or a command of this machine that ended a pass."""
    name = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return Diagnostic(
        kind=Kind.WORLD,
        summary="the pass could not be made",
        detail=f"{name}{error.strerror or error}.",
        hint="look whether the disk of the state directory is full",
        transient=True,
    )
