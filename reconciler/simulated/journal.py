"""Stores all that a simulated host has: its whole state now and then, and one line for each change since.

So a step costs what it changes, however large the host is. Used by `store`, which holds the lock while it writes.
`state.json` names the journal, `journal.N.jsonl`: its first lines make the whole state out of nothing, some entries
each, since what reads or writes very many at once lets no other thread go on meanwhile; the lines after them are the
changes since. A line that was cut short is no change; the next writer cuts it off. Reading needs no lock and writes
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic_core import ValidationError

from reconciler.records import dataclass
from reconciler.shapes import Field, Shape
from reconciler.simulated.guest import Instance, settled_kib
from reconciler.simulated.tables import Table, TableDraft
from reconciler.state_dir.files import replace_file

_WHOLE_AGAIN_BYTES = 256 * 1024  # changes of this size, and of the whole state's, give way to a new journal
_IN_ONE_LINE = 100  # entries of a whole state
NOT_THERE = (FileNotFoundError, NotADirectoryError)
V = TypeVar("V")
Stamp = tuple[int, int, int]
"""Tells the contents of a file that is only ever replaced from each other: its inode, time and size."""

Mark = tuple[Stamp | None, int]
"""Tells the states of one host from each other: its state file, and how far the journal goes."""

SETTLED = "settled"  # domains that hold as much memory until somebody changes them; their sum is in KiB
MOVING = "moving"  # domains whose memory, or whose being there, changes with time alone


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file or volume. With `sha256` None it is full of zeros, as a new disk is.

    What a small text file holds stands here, as `text`; the bytes of all others are in `blobs/`.
    """

    sha256: str | None
    size_bytes: int
    kind: Literal["file", "block"] = "file"
    text: str | None = None

    @property
    def blob(self) -> str | None:
        """Return the name of the file that its bytes are in; None where they are in none."""
        return self.sha256 if self.text is None else None


@dataclass(slots=True, kw_only=True)
class StoredHost:
    """All that a simulated host has, open to changes. It is good until the host is read or changed again."""

    boots: int
    next_domid: int
    instances: TableDraft[Instance]
    autostart: TableDraft[int]
    files: TableDraft[StoredFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The content of `state.json`. Some have all that was there when their journal began: this was so at first."""

    format: Literal[1] = 1
    boots: int = 1
    next_domid: int = 1
    journal: int = 0
    whole_bytes: int = 0  # of the journal: the lines that make the state as it was when the journal began
    instances: dict[str, Instance] = field(default_factory=dict)
    autostart: dict[str, int] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """One change of a host: the new values by key, with None for a key that is gone."""

    boots: int
    next_domid: int
    instances: dict[str, Instance | None] = field(default_factory=dict)
    autostart: dict[str, int | None] = field(default_factory=dict)
    files: dict[str, StoredFile | None] = field(default_factory=dict)


_Nothing = Annotated[dict[str, None], Field(max_length=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """A `_State` that leaves all that was there to its journal, as we write it."""

    format: Literal[1] = 1
    boots: int = 1
    next_domid: int = 1
    journal: int = 0
    whole_bytes: int = 0
    instances: _Nothing = field(default_factory=dict)
    autostart: _Nothing = field(default_factory=dict)
    files: _Nothing = field(default_factory=dict)


_HEAD = Shape[_Head](_Head)
_CHANGE = Shape[_Change](_Change)
_STATE = Shape[_State](_State)


def _read_state(stored: bytes) -> _State:
    """Read a state. Raises ValidationError."""
    try:
        head = _HEAD.validate_json(stored)
    except ValidationError:
        return _STATE.validate_json(stored)
    return _State(boots=head.boots, next_domid=head.next_domid, journal=head.journal, whole_bytes=head.whole_bytes)


class BrokenStateError(Exception):
    """Reports a stored file that cannot be understood."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(problem)
        self.file = file


class Journal:
    """Remembers one host as far as it was read. `catch_up` reads what any process has written since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state_file = folder / "state.json"
        self._tables = _Tables(_State())
        self._journal_file = self._journal_of(0)
        self._stamp: Stamp | None = None  # of the state file that was read; None: there was none
        self._offset = 0  # how far its journal was read
        self._whole_bytes = 0  # of this, the lines that make the state out of nothing

    def catch_up(self) -> StoredHost:
        """Return the host as it is stored now, to be changed by `write`."""
        while not self._is_up_to_date():
            stamp = self._stamp_now()
            if stamp != self._stamp or stamp is None:
                self._read_state()
            self._read_journal()
            if self._stamp_now() == stamp:  # else a new state has taken the place of both meanwhile
                self._stamp = stamp
                break
            self._stamp = None
        return self._tables.draft()

    @property
    def mark(self) -> Mark:
        """Return what tells the state that was read last from any other one of this host."""
        return self._stamp, self._offset

    def _is_up_to_date(self) -> bool:
        """Return whether nobody has written since the last reading: the state is the same, its journal no longer."""
        with suppress(*NOT_THERE):
            return stamp_of(self._state_file) == self._stamp and self._journal_file.stat().st_size == self._offset
        return False

    def write(self, draft: StoredHost) -> set[str]:
        """Store what the draft changed. Returns the blobs that no file holds any more."""
        change = _Change(
            boots=draft.boots,
            next_domid=draft.next_domid,
            instances=draft.instances.differing(),
            autostart=draft.autostart.differing(),
            files=draft.files.differing(),
        )
        if change == _Change(boots=self._tables.boots, next_domid=self._tables.next_domid):
            return set()
        if self._stamp is None:
            unused = self._tables.put(change)
            self._write_state()
            return unused
        self._append(change)
        return self._tables.put(change)

    def tidy(self) -> None:
        """Begin a new journal where the changes in this one have become more than the whole state."""
        if self._stamp is None or self._offset - self._whole_bytes <= max(
            _WHOLE_AGAIN_BYTES, self._whole_bytes, self._stamp[2]
        ):
            return
        journal = self._journal_file
        self._tables.journal += 1
        self._write_state()
        journal.unlink(missing_ok=True)

    def _journal_of(self, number: int) -> Path:
        return self._folder / f"journal.{number}.jsonl"

    def _stamp_now(self) -> Stamp | None:
        try:
            return stamp_of(self._state_file)
        except NOT_THERE:
            return None

    def _read_state(self) -> None:
        try:
            state = _read_state(self._state_file.read_bytes())
        except NOT_THERE:
            state = _State()
        except ValidationError as error:
            self._stamp = None
            raise BrokenStateError(self._state_file, _first_problem(error)) from None
        self._tables, self._offset, self._whole_bytes = _Tables(state), 0, state.whole_bytes
        self._journal_file = self._journal_of(state.journal)

    def _read_journal(self) -> None:
        try:
            journal = self._journal_file.open("rb")
        except NOT_THERE:
            return
        with journal:
            journal.seek(self._offset)
            for line in journal:
                if not line.endswith(b"\n"):
                    return
                try:
                    self._tables.put(_CHANGE.validate_json(line))
                except ValidationError as error:
                    raise BrokenStateError(self._journal_file, _first_problem(error)) from None
                self._offset += len(line)

    def _append(self, change: _Change) -> None:
        line = _CHANGE.dump_json(change) + b"\n"
        journal = os.open(self._journal_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(journal, self._offset)  # cut off the line that a killed writer left unfinished
            written = 0
            while written < len(line):
                written += os.pwrite(journal, line[written:], self._offset + written)
        finally:
            os.close(journal)
        self._offset += len(line)

    def _write_state(self) -> None:
        whole = b"".join(_CHANGE.dump_json(part) + b"\n" for part in self._tables.parts())
        state = _Head(
            boots=self._tables.boots,
            next_domid=self._tables.next_domid,
            journal=self._tables.journal,
            whole_bytes=len(whole),
        )
        self._journal_file = self._journal_of(self._tables.journal)
        try:
            replace_file(self._journal_file, whole, durable=True)
            replace_file(self._state_file, _HEAD.dump_json(state), durable=True)
        except BaseException:
            self._stamp = None  # what is in memory here is not what is stored, so it is read again
            raise
        self._stamp, self._offset, self._whole_bytes = self._stamp_now(), len(whole), len(whole)


class _Tables:
    """The parts of a stored host as tables, into which changes are put."""

    def __init__(self, state: _State) -> None:
        self.boots, self.next_domid, self.journal = state.boots, state.next_domid, state.journal
        self._instances = Table(state.instances, _about_instance)
        self._autostart = Table(state.autostart, lambda *_: ())
        self._files = Table(state.files, _about_file)

    def parts(self) -> Iterator[_Change]:
        """Yield changes that make this state out of nothing, each of some entries."""
        change = partial(_Change, boots=self.boots, next_domid=self.next_domid)
        for instances in _in_parts(self._instances):
            yield change(instances=instances)
        for autostart in _in_parts(self._autostart):
            yield change(autostart=autostart)
        for files in _in_parts(self._files):
            yield change(files=files)

    def draft(self) -> StoredHost:
        return StoredHost(
            boots=self.boots,
            next_domid=self.next_domid,
            instances=TableDraft(self._instances),
            autostart=TableDraft(self._autostart),
            files=TableDraft(self._files),
        )

    def put(self, change: _Change) -> set[str]:
        """Take over a change. Returns the blobs that no file holds any more."""
        held = [self._files[path].blob for path in change.files if path in self._files]
        self._instances.put(change.instances)
        self._autostart.put(change.autostart)
        self._files.put(change.files)
        self.boots, self.next_domid = change.boots, change.next_domid
        return {blob for blob in held if blob is not None and not self._files.about(holds(blob))}


def _in_parts(table: Table[V]) -> Iterator[dict[str, V | None]]:
    entries = iter(table.items())
    while part := list(islice(entries, _IN_ONE_LINE)):
        yield {**dict(part)}


def _about_instance(name: str, instance: Instance) -> Iterator[tuple[str, int]]:
    kib = settled_kib(instance)
    yield (MOVING, 0) if kib is None else (SETTLED, kib)
    for disk in instance.definition.disks:
        yield has_disk(disk.target), 0
    for vif in instance.definition.vifs:
        yield has_ip(vif.ip or ""), 0


def _about_file(path: str, file: StoredFile) -> Iterator[tuple[str, int]]:
    yield is_in(path.rpartition("/")[0]), file.size_bytes
    if file.blob is not None:
        yield holds(file.blob), 0


def has_disk(target: str) -> str:
    return f"disk {target}"


def has_ip(address: str) -> str:
    return f"ip {address}"


def is_in(folder: str) -> str:
    """Label what is in a folder, and the bytes of it all."""
    return f"in {folder}"


def holds(blob: str) -> str:
    return f"holds {blob}"


def stamp_of(file: Path) -> Stamp:
    """Return the stamp of a file. Raises OSError when there is none."""
    found = file.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
