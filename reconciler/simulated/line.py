"""The line that says which session may act on a simulated host, as `dom0.sending.fence` keeps it on a real one.

A change of the host is made under the lock of its state, and only while the line is exactly ours (`host`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reconciler.fence import TRIES, Fencing, Line, taken_over
from reconciler.model.diagnostics import world_error
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from reconciler.state_dir.files import replace_file

_MOST_BYTES = 64 * 1024  # many times what a line has


async def take_host(store: Store, fencing: Fencing, lock: SimulatedLock) -> Line:
    """Make the line ours. Raises ReconcilerError (refused) where the host is another's."""
    for _ in range(TRIES):
        text, silent = _text(store), None
        with suppress(OSError):
            silent = max(0.0, time.time() - store.line_file.stat().st_mtime)
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
            replace_file(store.line_file, wanted.text.encode(), durable=True)
        _note_spoken(store)
        return True


def check(store: Store, line: Line) -> None:
    """Raise ReconcilerError (moved) unless the line is exactly ours. To be called under the lock of the state."""
    text = ""
    with _only_if_there(store):
        file = os.open(store.line_file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(file, _MOST_BYTES).decode(errors="replace")
            if text == line.text:
                os.utime(file)  # we have spoken
        finally:
            os.close(file)
    if text != line.text:
        raise taken_over(store.host, store.host, text)


def _note_spoken(store: Store) -> None:
    with suppress(OSError):
        os.utime(store.line_file)


def _text(store: Store) -> str:
    with _only_if_there(store):
        return store.line_file.read_text(errors="replace")
    return ""


@contextmanager
def _only_if_there(store: Store) -> Iterator[None]:
    """Go on where the line is not there. One that cannot be read may be another's: then nothing is done."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        detail = (
            f"{store.line_file}, which says who may act on {store.host}, cannot be read: {error.strerror or error}."
        )
        raise world_error("host not known", detail, "Mend that, and run the command again.", store.host) from error
