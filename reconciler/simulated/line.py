"""The line that says which session may act on a simulated host, as `dom0.sending.fence` keeps it on a real one.

A change of the host is made under the lock of its state, and only while the line is exactly ours (`host`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from reconciler.fence import TRIES, Fencing, Line, taken_over
from reconciler.model.diagnostics import world_error
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from reconciler.state_dir.files import replace_file


async def take_host(store: Store, fencing: Fencing, lock: SimulatedLock) -> Line:
    """Make the line ours. Raises ReconcilerError (refused) where the host is another's."""
    for _ in range(TRIES):
        text, silent = _text(store), None
        with suppress(OSError):
            silent = max(0.0, time.time() - _path(store).stat().st_mtime)
        wanted = await fencing.line_for(store.host, Line.parse(text), silent)
        if _written(store, text, wanted, lock):
            fencing.took(store.host, wanted)
            return wanted
    detail = f"Somebody else took {store.host} again and again."
    raise world_error("host not taken", detail, None, store.host, transient=True)


def _written(store: Store, seen: str, wanted: Line, lock: SimulatedLock) -> bool:
    """Write a line in place of what was seen. Returns whether that was still there. Raises when the lock was lost."""
    with store.alone():
        lock.ensure()
        if _text(store) != seen:
            return False
        if seen != wanted.text:
            replace_file(_path(store), wanted.text.encode(), durable=True)
        _note_spoken(store)
        return True


def check(store: Store, line: Line) -> None:
    """Raise ReconcilerError (moved) unless the line is exactly ours. To be called under the lock of the state."""
    text = _text(store)
    if text != line.text:
        raise taken_over(store.host, store.host, text)
    _note_spoken(store)


def read_line(store: Store) -> Line:
    return Line.parse(_text(store))


def _note_spoken(store: Store) -> None:
    with suppress(OSError):
        os.utime(_path(store))


def _path(store: Store) -> Path:
    return store.folder / "line"


def _text(store: Store) -> str:
    try:
        return _path(store).read_text(errors="replace")
    except OSError:
        return ""
