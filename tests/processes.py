"""What processes there are on this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def commands() -> list[str]:
    """The command line of each process that runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
    return found
