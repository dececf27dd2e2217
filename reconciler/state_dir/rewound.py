"""Keeps which rewound branches `watch` refused, and which of them a person accepts.

Both are small files in the folder of the source, beside the commit in force: what was refused, and what may follow it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reconciler.records import dataclass
from reconciler.state_dir.files import replace_file

_REFUSED, _ACCEPTED = "rewound.json", "rewound-accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """A head of a branch that does not go on from the accepted commit, and the source (its URL and branch)."""

    head: str
    accepted: str
    source: str


_REWOUND = TypeAdapter(Rewound)


def note(folder: Path, rewound: Rewound) -> None:
    """Note what was refused. That it cannot be written costs only the command that would accept it."""
    if _read(folder) != rewound:
        with suppress(OSError):
            replace_file(folder / _REFUSED, _REWOUND.dump_json(rewound), durable=False)


def refused(state_dir: Path) -> Iterator[tuple[Path, Rewound]]:
    """Yield what was refused by any watch with this state directory, and the folder of its source."""
    for file in sorted(state_dir.glob(f"git/*/{_REFUSED}")):
        rewound = _read(file.parent)
        if rewound is not None:
            yield file.parent, rewound


def accept(folder: Path, head: str) -> None:
    """Let this head follow the accepted commit. Raises OSError."""
    replace_file(folder / _ACCEPTED, f"{head}\n".encode(), durable=True)


def is_accepted(folder: Path, head: str) -> bool:
    """Return whether a person said that this head may follow."""
    try:
        return (folder / _ACCEPTED).read_text(encoding="ascii").strip() == head
    except (OSError, ValueError):
        return False


def forget(folder: Path) -> None:
    """Forget all of it, since a commit is in force that goes on."""
    for name in (_REFUSED, _ACCEPTED):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _read(folder: Path) -> Rewound | None:
    try:
        return _REWOUND.validate_json((folder / _REFUSED).read_bytes())
    except (OSError, ValidationError):
        return None
