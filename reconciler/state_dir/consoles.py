"""Keeps the console of the last boot that failed, a file a domain: on its host the next boot soon writes over it.

Written by `reconcile` when an apply has ended, read by `why`. It is for people; nothing is decided by it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from reconciler.records import dataclass
from reconciler.state_dir.files import make_folder, replace_file

_MODE = 0o600  # a guest may say anything on its console
_MAX_CHARACTERS = 1 << 20
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConsole:
    """The console of a boot that failed: its file, when that was (UTC), and its last lines."""

    path: Path
    at: str
    lines: tuple[str, ...]


def keep(state_dir: Path, address: str, console: str) -> None:
    """Keep a console in the place of the one before it. That it cannot be written costs only this file."""
    file = _file(state_dir, address)
    with suppress(OSError):
        make_folder(file.parent)
        content = console[-_MAX_CHARACTERS:].rstrip("\n") + "\n"
        replace_file(file, content.encode(errors="backslashreplace"), durable=False, mode=_MODE)


def recall(state_dir: Path, address: str) -> KeptConsole | None:
    """Return what was kept of a domain; None for nothing."""
    file = _file(state_dir, address)
    try:
        lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
        at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None
    return KeptConsole(path=file, at=f"{at:%Y-%m-%d %H:%M:%S}", lines=tuple(lines[-_SHOWN:]))


def _file(state_dir: Path, address: str) -> Path:
    return state_dir / "consoles" / f"{address}.log"
