"""The lock of a simulated host, which one apply has at a time. Used by its executor, and by its observer to see who.

As on a real host, it ends when its holder dies, and when its holder was silent for a while: a process that was stopped
holds its lock by the kernel's word, but it touches the file no more. Who comes then puts another file in its place, and
the old holder sees before its next step that its lock is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TextIO

from reconciler.decide.holds import QUIET_SECONDS, lock_speaks
from reconciler.fence import Line
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.model.host import LockHolder
from reconciler.person import this_process
from reconciler.simulated.store import Store
from reconciler.state_dir.files import replace_file

_BEAT_SECONDS = 5
_SILENCE_SECONDS = 30


class SimulatedLock:
    """The lock of one simulated host, for one executor."""

    def __init__(self, store: Store, silence_seconds: float | None = None) -> None:
        """With `silence_seconds` None the host tells: a lease of its cluster or, where it has none, 30 s."""
        self._silence_seconds = silence_seconds
        self._host = store.host
        self._store = store
        self._file = store.folder / "apply.lock"
        self._held: TextIO | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold the lock during the block. Raises ReconcilerError (refused) when another has it."""
        with self.taken() as file:
            beating = asyncio.create_task(self._beat(file))
            try:
                yield
            finally:
                beating.cancel()

    @contextmanager
    def taken(self) -> Iterator[TextIO]:
        """Have the lock during the block, without a sign of life."""
        with self._take() as file:
            self._held = file
            try:
                yield file
            finally:
                self._held = None
                if self._is_ours(file):
                    file.truncate(0)

    def ensure(self) -> None:
        """Raise ReconcilerError when the lock was taken from us: somebody else may be at work."""
        if self._held is not None and not self._is_ours(self._held):
            raise world_error(
                "lock lost",
                f"Nothing was heard of this process for a while, so its lock of {self._host} was ended. "
                "Nothing more is begun there.",
                "Run the command again: it looks at the host first and goes on from there.",
                self._host,
                transient=True,
            )

    def holder(self) -> LockHolder | None:
        """Return who has the lock, if anybody: what its file says counts for as long as its process lives."""
        try:
            said = json.loads(self._file.read_text())
            pid = int(said["pid"])
            with suppress(PermissionError):  # it lives, and is somebody else's
                os.kill(pid, 0)
            silent = time.time() - self._file.stat().st_mtime
            by = str(said.get("by") or f"process {pid}")  # versions before 0.2 name no more
            return LockHolder(by=by, since=str(said["since"]), silent_seconds=max(0.0, silent))
        except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError):
            return None

    def unlock(self) -> LockHolder | None:
        """End the lock of a silent holder, and return who that was. Raises ReconcilerError while its holder speaks."""
        with self._store.writing(), self._file.open("a") as file:
            if _locked(file):
                return None
        holder = self.holder()
        if holder is None:
            raise self._refusal(None)
        if holder.silent_seconds < QUIET_SECONDS:
            raise lock_speaks(self._host, holder)
        with self._store.writing():
            replace_file(self._file, b"", durable=False)
        return holder

    def _take(self) -> TextIO:
        with self._store.writing():
            file: TextIO = self._file.open("a")
            if not _locked(file):
                file.close()
                file = self._taken_over()
            if not self._is_ours(file):  # who had it was silent, and somebody else came first
                file.close()
                raise self._refusal(None)
            file.truncate(0)
            since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            said = {"pid": os.getpid(), "by": this_process(), "since": since, "silence": self._borne()}
            file.write(json.dumps(said))
            file.flush()
        return file

    def _taken_over(self) -> TextIO:
        """Return another file in the place of one whose holder was silent for too long."""
        holder = self.holder()
        if holder is None or holder.silent_seconds < self._bears():
            raise self._refusal(holder)
        replace_file(self._file, b"", durable=False)
        file = self._file.open("a")
        if not _locked(file):
            file.close()
            raise self._refusal(None)
        return file

    def _borne(self) -> float:
        """Return for how many seconds the host bears our silence."""
        if self._silence_seconds is not None:
            return self._silence_seconds
        with suppress(OSError):
            line = Line.parse(self._store.line_file.read_text(errors="replace"))
            if line.cluster and line.lease_seconds:
                return line.lease_seconds
        return _SILENCE_SECONDS

    def _bears(self) -> float:
        """Return for how many seconds the holder may be silent, as it has said itself."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return float(json.loads(self._file.read_text())["silence"])
        return _SILENCE_SECONDS

    def _refusal(self, holder: LockHolder | None) -> ReconcilerError:
        by = f"{holder.by}, since {holder.since}" if holder is not None else "a process that has only just begun"
        return refused(
            "host is locked",
            f"{self._host} is being changed by {by}.",
            f"wait until that is done; the lock frees itself {_SILENCE_SECONDS} s after its holder is gone, and after "
            f"{QUIET_SECONDS} s it can be ended: reconciler unlock {self._host}",
            self._host,
        )

    def _is_ours(self, file: TextIO) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.fstat(file.fileno()), self._file.stat())
        return False

    async def _beat(self, file: TextIO) -> None:
        silence_seconds = self._bears()
        while True:
            with suppress(OSError):  # a folder that was removed is told by the next step
                os.utime(file.fileno())
            await asyncio.sleep(min(_BEAT_SECONDS, silence_seconds / 3))


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
