"""Stores all that a simulated host has: its whole state now and then, and one line for each change since.

So a step costs what it changes, however large the host is. Used by `store`, which holds the lock while it writes.
`state.json` is the whole state, and names the journal of the changes after it, `journal.N.jsonl`. A line that was cut
short is no change; the next writer cuts it off. Reading needs no lock and writes nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from reconciler.simulated.guest import Instance
from reconciler.state_dir.files import replace_file

_WHOLE_AGAIN_BYTES = 256 * 1024  # a journal of this size, and of the state's, gives way to a new state
NOT_THERE = (FileNotFoundError, NotADirectoryError)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file or volume. With `sha256` None it is full of zeros, as a new disk is."""

    sha256: str | None
    size_bytes: int
    kind: Literal["file", "block"] = "file"


@dataclass(slots=True, kw_only=True)
class StoredHost:
    """All that a simulated host has. It is mutable, so that `Store.change` can hand it out as a draft."""

    format: Literal[1] = 1
    boots: int = 1
    next_domid: int = 1
    journal: int = 0
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


_HOST = TypeAdapter(StoredHost)
_CHANGE = TypeAdapter(_Change)


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
        self._host = StoredHost()
        self._stamp: tuple[int, int, int] | None = None  # of the state file that was read; None: there was none
        self._offset = 0  # how far its journal was read
        self._uses: Counter[str] = Counter()  # sha256 of a blob -> the files that hold it

    def catch_up(self) -> StoredHost:
        """Return a copy of the host as it is stored now."""
        while True:
            stamp = self._stamp_now()
            if stamp != self._stamp or stamp is None:
                self._read_state()
            self._read_journal()
            if self._stamp_now() == stamp:  # else a new state has taken the place of both meanwhile
                self._stamp = stamp
                return _copy(self._host)
            self._stamp = None

    def write(self, draft: StoredHost) -> set[str]:
        """Store what differs from what was last read. Returns the blobs that no file holds any more."""
        change = _change(self._host, draft)
        if change == _Change(boots=self._host.boots, next_domid=self._host.next_domid):
            return set()
        if self._stamp is None:
            self._write_state(draft)
        else:
            self._append(change)
        unused = self._apply(change)
        if self._offset > max(_WHOLE_AGAIN_BYTES, self._stamp[2] if self._stamp is not None else 0):
            journal = self._journal_file()
            self._write_state(replace(self._host, journal=self._host.journal + 1))
            self._host.journal += 1
            journal.unlink(missing_ok=True)
        return unused

    def _journal_file(self) -> Path:
        return self._folder / f"journal.{self._host.journal}.jsonl"

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            found = self._state_file.stat()
        except NOT_THERE:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read_state(self) -> None:
        try:
            self._host = _HOST.validate_json(self._state_file.read_bytes())
        except NOT_THERE:
            self._host = StoredHost()
        except ValidationError as error:
            self._stamp = None
            raise BrokenStateError(self._state_file, _first_problem(error)) from None
        self._offset = 0
        self._uses = Counter(file.sha256 for file in self._host.files.values() if file.sha256 is not None)

    def _read_journal(self) -> None:
        try:
            with self._journal_file().open("rb") as journal:
                journal.seek(self._offset)
                new = journal.read()
        except NOT_THERE:
            return
        for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                self._apply(_CHANGE.validate_json(line))
            except ValidationError as error:
                raise BrokenStateError(self._journal_file(), _first_problem(error)) from None
            self._offset += len(line)

    def _append(self, change: _Change) -> None:
        line = _CHANGE.dump_json(change) + b"\n"
        descriptor = os.open(self._journal_file(), os.O_WRONLY | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "wb") as journal:
            journal.truncate(self._offset)  # cut off the line that a killed writer left unfinished
            journal.seek(self._offset)
            journal.write(line)
        self._offset += len(line)

    def _write_state(self, host: StoredHost) -> None:
        replace_file(self._state_file, _HOST.dump_json(host), durable=True)
        self._stamp, self._offset = self._stamp_now(), 0

    def _apply(self, change: _Change) -> set[str]:
        before = {self._host.files[path].sha256 for path in change.files if path in self._host.files}
        after = [file.sha256 for file in change.files.values() if file is not None]
        gone = [self._host.files[path].sha256 for path in change.files if path in self._host.files]
        self._uses.update(sha256 for sha256 in after if sha256 is not None)
        self._uses.subtract(sha256 for sha256 in gone if sha256 is not None)
        _put(self._host.instances, change.instances)
        _put(self._host.autostart, change.autostart)
        _put(self._host.files, change.files)
        self._host.boots, self._host.next_domid = change.boots, change.next_domid
        return {sha256 for sha256 in before if sha256 is not None and self._uses[sha256] <= 0}


class _Noted(dict[str, V]):
    """A dict that remembers which of its keys were set or deleted."""

    def __init__(self, values: dict[str, V]) -> None:
        super().__init__(values)
        self.touched: set[str] = set()

    def __setitem__(self, key: str, value: V) -> None:
        self.touched.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.touched.add(key)
        super().__delitem__(key)

    def pop(self, key: str, *default: V) -> V:  # type: ignore[override]  # dict has it in three spellings
        self.touched.add(key)
        return super().pop(key, *default)

    def setdefault(self, key: str, default: V) -> V:
        self.touched.add(key)
        return super().setdefault(key, default)


def _copy(host: StoredHost) -> StoredHost:
    """Return a host that can be changed without changing this one. The values in its mappings are frozen."""
    return replace(host, instances=_Noted(host.instances), autostart=_Noted(host.autostart), files=_Noted(host.files))


def _change(before: StoredHost, after: StoredHost) -> _Change:
    return _Change(
        boots=after.boots,
        next_domid=after.next_domid,
        instances=_differing(before.instances, after.instances),
        autostart=_differing(before.autostart, after.autostart),
        files=_differing(before.files, after.files),
    )


def _differing(before: dict[str, V], after: dict[str, V]) -> dict[str, V | None]:
    touched = sorted(after.touched if isinstance(after, _Noted) else before.keys() | after.keys())
    return {key: after.get(key) for key in touched if before.get(key) != after.get(key)}


def _put(values: dict[str, V], changed: dict[str, V | None]) -> None:
    for key, value in changed.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
