"""Keeps a simulated host under `<state dir>/hosts/<name>/`. Used by the simulated host and by `reconciler sim`.

`journal` keeps which domains run, which files there are, and what small texts hold; `blobs/` has the bytes of all other
files by their sha256. Every change is made under a lock, so that two processes lose nothing and a kill or a power cut
at any instant leaves an old state or the new one. The clock and the pending faults are files of their own: they belong
to the simulation and not to the host. Reading a host never writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic_core import ValidationError

from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.shapes import Shape
from reconciler.simulated.journal import (
    NOT_THERE,
    BrokenStateError,
    Journal,
    Mark,
    Stamp,
    StoredFile,
    StoredHost,
    stamp_of,
)
from reconciler.state_dir.files import make_folder, replace_file

__all__ = ["FAULTS", "Fault", "Store", "StoredFile", "StoredHost"]

Fault = Literal["unreachable", "create-fails", "lost-reply", "slow", "disk-full"]
FAULTS: tuple[Fault, ...] = ("unreachable", "create-fails", "lost-reply", "slow", "disk-full")


_FAULT_COUNTS = Shape[dict[Fault, int]](dict[Fault, int])
_SMALL_BYTES = 16 * 1024  # a config file, hold or list of failed boots; a file of its own would cost more to keep


class Store:
    """Reads and writes one simulated host on disk. Nothing is created there before the first change."""

    def __init__(self, state_dir: Path, host: str) -> None:
        self.host = host
        self.folder = state_dir / "hosts" / host
        self._clock_file = self.folder / "clock"
        self._clock_read: tuple[Stamp, float] | None = None
        self._faults_file = self.folder / "faults.json"
        self.line_file = self.folder / "line"  # who may act on the host: see `line`
        self._locks = {what: self.folder / f"{what}.lock" for what in ("state", "faults")}
        self._blobs = self.folder / "blobs"
        self._journal = Journal(self.folder)

    def read(self) -> StoredHost:
        """Return the host as it was last stored, until it is read or changed again. One never changed is empty."""
        try:
            return self._journal.catch_up()
        except BrokenStateError as error:
            raise self._broken(error.file, str(error)) from None
        except OSError as error:
            raise self._broken(self.folder / "state.json", str(error)) from None

    @property
    def mark(self) -> Mark:
        """Return what tells the host as it was read last from how it is stored at any other time."""
        return self._journal.mark

    @contextmanager
    def held_still(self) -> Iterator[None]:
        """Keep others from changing the host in the block, so that a state and the bytes it names fit together."""
        try:
            lock = os.open(self._locks["state"], os.O_RDONLY | os.O_CLOEXEC)
        except NOT_THERE:
            yield  # never changed yet
            return
        except OSError as error:
            raise self._broken(self._locks["state"], str(error)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def change(self) -> Iterator[StoredHost]:
        """Open a draft of the host that is stored when the block ends, and dropped when it raises."""
        with self._locked("state"):
            draft = self.read()
            yield draft
            for unused in self._journal.write(draft):
                (self._blobs / unused).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Read all of the host, and write it anew where what was noted of changes has become more than that."""
        if not self.folder.exists():
            return
        with self._locked("state"):
            self.read()
            self._journal.tidy()

    def put(self, draft: StoredHost, path: str, content: bytes) -> None:
        """Make `path` a file with this content, in a draft of `change`."""
        sha256, text = hashlib.sha256(content).hexdigest(), _small_text(content)
        blob = self._blobs / sha256
        if text is None and not blob.exists():
            make_folder(self._blobs)
            replace_file(blob, content, durable=True)
        draft.files[path] = StoredFile(sha256=sha256, size_bytes=len(content), text=text)

    def content(self, host: StoredHost, path: str) -> bytes:
        """Return the bytes of a file. A path that nobody put there holds its own name.

        A disk gives no bytes, since its zeros are left out.
        """
        stored = host.files.get(path)
        if stored is None:
            return path.encode()
        if stored.text is not None:
            return stored.text.encode()
        if stored.sha256 is None:
            return b""
        try:
            with open(f"{self._blobs}/{stored.sha256}", "rb") as blob:  # noqa: PTH123 -- paths take long to put together
                return blob.read()
        except OSError as error:
            raise self._broken(self._blobs / stored.sha256, str(error)) from None

    def text(self, host: StoredHost, path: str) -> str:
        """Return the same as a text. Bytes that are no UTF-8 are surrogates in it."""
        stored = host.files.get(path)
        if stored is not None and stored.text is not None:
            return stored.text
        return self.content(host, path).decode(errors="surrogateescape")

    def digest(self, host: StoredHost, path: str) -> str:
        """Return the sha256 of what a path holds."""
        stored = host.files.get(path)
        if stored is not None and stored.sha256 is not None:
            return stored.sha256
        return hashlib.sha256(self.content(host, path)).hexdigest()

    def read_clock(self) -> float:
        """Return the seconds on the host's clock when it was last written, by whoever that was."""
        try:
            stamp = stamp_of(self._clock_file)  # steps ask for the time far more often than it moves on
            if self._clock_read is None or self._clock_read[0] != stamp:
                self._clock_read = stamp, float(self._clock_file.read_text())
            return self._clock_read[1]
        except NOT_THERE:
            return 0.0
        except (OSError, ValueError) as error:
            raise self._broken(self._clock_file, str(error)) from None

    def wall_clock(self) -> float:
        """Return the seconds since 1970 on the host's clock: waiting there moves it on, and so does time here."""
        return time.time() + self.read_clock()

    def write_clock(self, seconds: float) -> None:
        """Store the seconds on the host's clock."""
        with self.writing():
            replace_file(self._clock_file, repr(seconds).encode(), durable=True)
            self._clock_read = stamp_of(self._clock_file), seconds

    def read_faults(self) -> dict[Fault, int]:
        """Return the faults that are still to come, with how many times each."""
        try:
            return _FAULT_COUNTS.validate_json(self._faults_file.read_bytes())
        except NOT_THERE:
            return {}
        except (OSError, ValidationError) as error:
            raise self._broken(self._faults_file, str(error).splitlines()[0]) from None

    def set_fault(self, fault: Fault, times: int) -> None:
        """Have the next `times` commands that can meet this fault meet it; 0 takes it away."""
        with self._locked("faults"):
            counts = {**self.read_faults(), fault: times}
            pending = {kind: count for kind, count in counts.items() if count > 0}
            replace_file(self._faults_file, _FAULT_COUNTS.dump_json(pending), durable=True)

    def has_faults(self) -> bool:
        """Return whether any fault is to come."""
        return os.access(self._faults_file, os.F_OK)

    def take_fault(self, fault: Fault) -> bool:
        """Return whether the command at hand meets this fault. If it does, one is used up."""
        if not self.has_faults() or fault not in self.read_faults():
            return False
        with self._locked("faults"):
            counts = self.read_faults()
            left = counts.pop(fault, 0)
            if left > 1:
                counts[fault] = left - 1
            replace_file(self._faults_file, _FAULT_COUNTS.dump_json(counts), durable=True)
            return left > 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from changing the host in the block, before its first change as well."""
        with self._locked("state"):
            yield

    @contextmanager
    def _locked(self, what: Literal["state", "faults"]) -> Iterator[None]:
        """Hold the lock of one file. There are two, as a command that changes the state may use up a fault."""
        with self.writing():
            lock = os.open(self._locks[what], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the host's folder, and turn what hinders writing into it into a clear error."""
        try:
            make_folder(self.folder)
            yield
        except OSError as error:
            raise world_error(
                "simulated host cannot be stored",
                f"The simulated host {self.host} cannot be stored under {self.folder}: {error}.",
                hint="Name a folder that can be written with --state-dir or RECONCILER_STATE_DIR.",
                address=self.host,
            ) from None

    def _broken(self, file: Path, problem: str) -> ReconcilerError:
        return world_error(
            "simulated host cannot be read",
            f"The stored state of the simulated host {self.host} is broken: {file}: {problem}.",
            hint=f"To begin again with an empty host, remove its folder: rm -r {shlex.quote(str(self.folder))}",
            address=self.host,
        )


def _small_text(content: bytes) -> str | None:
    """Return the text that a small file holds; None where it is large, or no text."""
    if len(content) > _SMALL_BYTES:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
