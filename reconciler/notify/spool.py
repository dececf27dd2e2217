"""Keeps what receivers have yet to be told, in one sqlite file in the state directory, so that a restart loses nothing.

What was told and what is to be sent are written in one transaction. A receiver has at most `MOST_WAITING` events here;
beyond that the oldest go, and the next one that is sent says how many went. Called by `notifications` and `delivery`,
from threads.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from reconciler.model.fleet import Receiver
from reconciler.notify.events import Event, Told
from reconciler.records import dataclass

MOST_WAITING: Final = 1_000
_FILE: Final = "notify.sqlite"
_BUSY_SECONDS: Final = 20
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS told (only INTEGER PRIMARY KEY CHECK (only = 1), known TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS receiver (key TEXT PRIMARY KEY, about TEXT NOT NULL, dropped INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, id TEXT NOT NULL, about TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_of ON event (receiver, number);
"""
_TOLD: Final = TypeAdapter(Told)
_EVENT: Final = TypeAdapter(Event)
_RECEIVER: Final = TypeAdapter(Receiver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The next event of a receiver. `dropped` counts those before it that were given up."""

    number: int
    id: str
    event: Event
    dropped: int


class SpoolError(Exception):
    """The reason why the spool cannot be read or written, as a sentence."""


class Spool:
    """The spool of one state directory. Every method raises SpoolError when its file cannot be used."""

    def __init__(self, state_dir: Path, most_waiting: int = MOST_WAITING) -> None:
        self.path = state_dir / _FILE
        self._most_waiting = most_waiting

    def exists(self) -> bool:
        return self.path.exists()

    def told(self) -> Told:
        """Return what was told before; of what cannot be read, nothing."""
        with self._open() as database:
            row = database.execute("SELECT known FROM told").fetchone()
            try:
                return _TOLD.validate_json(row[0]) if row is not None else Told()
            except ValidationError:  # of a version to come
                return Told()

    def receivers(self) -> dict[str, Receiver]:
        with self._open() as database:
            found = {}
            for key, about in database.execute("SELECT key, about FROM receiver ORDER BY rowid"):
                try:
                    found[key] = _RECEIVER.validate_json(about)
                except ValidationError:
                    continue
            return found

    def keep(self, receivers: Mapping[str, Receiver]) -> dict[str, int]:
        """Have these receivers, and no other ones. Returns how many events went with those that are gone, by key."""
        with self._writing() as database:
            counted = database.execute("SELECT receiver, count(*) FROM event GROUP BY receiver").fetchall()
            gone = {key: count for key, count in counted if key not in receivers}
            known = [key for (key,) in database.execute("SELECT key FROM receiver")]
            for key in {*gone, *known} - receivers.keys():
                database.execute("DELETE FROM event WHERE receiver = ?", (key,))
                database.execute("DELETE FROM receiver WHERE key = ?", (key,))
            for key, receiver in receivers.items():
                about = _RECEIVER.dump_json(receiver).decode()
                database.execute(
                    "INSERT INTO receiver (key, about) VALUES (?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET about = excluded.about",
                    (key, about),
                )
        return gone

    def add(self, told: Told, events: Mapping[str, Sequence[Event]]) -> dict[str, int]:
        """Write down what is told by now, and what each receiver is to be sent. Returns how many old ones went."""
        dropped = {}
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO told VALUES (1, ?)", (_TOLD.dump_json(told).decode(),))
            for key, news in events.items():
                kept = [*news][-self._most_waiting :]
                rows = [(key, secrets.token_hex(8), _EVENT.dump_json(event).decode()) for event in kept]
                database.executemany("INSERT INTO event (receiver, id, about) VALUES (?, ?, ?)", rows)
                if count := self._drop(database, key, len(news) - len(kept)):
                    dropped[key] = count
        return dropped

    def _drop(self, database: sqlite3.Connection, key: str, never_kept: int) -> int:
        """Drop the oldest events of a receiver that has too many, and count them."""
        (waiting,) = database.execute("SELECT count(*) FROM event WHERE receiver = ?", (key,)).fetchone()
        surplus = max(0, int(waiting) - self._most_waiting)
        if surplus:
            oldest = "SELECT number FROM event WHERE receiver = ? ORDER BY number LIMIT ?"
            database.execute(f"DELETE FROM event WHERE number IN ({oldest})", (key, surplus))
        surplus += never_kept
        if surplus:
            database.execute("UPDATE receiver SET dropped = dropped + ? WHERE key = ?", (surplus, key))
        return surplus

    def first(self, key: str) -> Queued | None:
        """Return the oldest event that a receiver has yet to be told."""
        with self._open() as database:
            row = database.execute(
                "SELECT number, id, event.about, dropped FROM event JOIN receiver ON key = receiver "
                "WHERE receiver = ? ORDER BY number LIMIT 1",
                (key,),
            ).fetchone()
        if row is None:
            return None
        number, id_, about, dropped = row
        return Queued(number=number, id=id_, event=_EVENT.validate_json(about), dropped=dropped)

    def sent(self, key: str, queued: Queued) -> None:
        """Take a delivered event out, and what it said of dropped ones."""
        with self._writing() as database:
            database.execute("DELETE FROM event WHERE number = ?", (queued.number,))
            if queued.dropped:
                database.execute("UPDATE receiver SET dropped = dropped - ? WHERE key = ?", (queued.dropped, key))

    def waiting(self) -> dict[str, int]:
        """Count the events that each receiver has yet to be told."""
        with self._open() as database:
            return dict(database.execute("SELECT receiver, count(*) FROM event GROUP BY receiver").fetchall())

    def _put_aside(self) -> None:
        """Begin anew, since no later try would go better with a damaged file."""
        with suppress(OSError):
            self.path.replace(self.path.with_name(f"{_FILE}.damaged"))
            for companion in ("-wal", "-shm"):
                self.path.with_name(_FILE + companion).unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():  # it quotes specs and hosts
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
                if database.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    database.execute("PRAGMA journal_mode = WAL")
                    database.executescript(_SCHEMA)
                yield database
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode in _DAMAGED:
                self._put_aside()
            raise SpoolError(f"{self.path} cannot be used: {error}.") from None
        except OSError as error:
            raise SpoolError(f"{self.path} cannot be used: {error.strerror or error}.") from None
        except ValidationError:
            raise SpoolError(f"{self.path} holds an event that cannot be read.") from None
