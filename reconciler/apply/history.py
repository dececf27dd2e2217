"""Records what was done, when and for which commit, in one sqlite file in the state directory.

When the file is lost, only history is lost: which domains are ours is known from the hosts. Times are UTC, durations
are seconds on the host's clock. Written by apply, read by `reconciler history` and for the down time of a plan.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from reconciler.apply.outages import Outcome, outages_of
from reconciler.apply.result import ApplyResult, Progress, StepResult
from reconciler.model.diagnostics import Diagnostic, Kind, world_error
from reconciler.person import person
from reconciler.plan.plan import Plan
from reconciler.plan.steps import PlannedStep, is_of_way_back
from reconciler.records import dataclass

_FILE = "history.sqlite"
_VERSION = 1
_BUSY_SECONDS = 20
_APPLY = "id, began, ended, commit_hash, signer, digest, planned"
_RECENT_RESTARTS = 5
# `origin` and `pause` came after 0.1, whose files lack them, and which does not mind them
_SCHEMA = """
CREATE TABLE IF NOT EXISTS apply (
    id INTEGER PRIMARY KEY, began TEXT NOT NULL, ended TEXT, commit_hash TEXT, signer TEXT, digest TEXT NOT NULL,
    planned INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS step (
    apply_id INTEGER NOT NULL REFERENCES apply(id), position INTEGER NOT NULL, step TEXT NOT NULL,
    address TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL, seconds REAL NOT NULL, problem TEXT
);
CREATE TABLE IF NOT EXISTS downtime (apply_id INTEGER NOT NULL, address TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS pause (apply_id INTEGER NOT NULL, step TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS origin (apply_id INTEGER PRIMARY KEY, tree TEXT NOT NULL, person TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS step_of_apply ON step (apply_id);
CREATE INDEX IF NOT EXISTS step_of_address ON step (address);
CREATE INDEX IF NOT EXISTS pause_of ON pause (apply_id);
CREATE INDEX IF NOT EXISTS downtime_of ON downtime (address);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a past apply. `outcome` is done, failed or skipped."""

    step: str
    address: str
    kind: str
    outcome: str
    seconds: float
    problem: str | None
    paused_seconds: float = 0  # for how long its domain was paused for the snapshots of rehearsals


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRecord:
    """A past apply. With `ended` None it was cut short, or still runs."""

    id: int
    began: str
    ended: str | None
    commit: str | None
    signer: str | None
    digest: str
    planned: int
    steps: tuple[StepRecord, ...]
    by: str | None = None  # user@machine; None: before that was noted

    @property
    def way_back_problem(self) -> str | None:
        """Say in one line why a way back failed; None when none did."""
        failed = (step for step in self.steps if step.outcome == "failed" and is_of_way_back(step.step))
        return next((step.problem.splitlines()[0] for step in failed if step.problem), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of the history: of these hosts or addresses (none: of all), since a moment, the newest few."""

    hosts: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    began_after: datetime | None = None
    limit: int | None = None

    @property
    def since(self) -> tuple[str, ...]:
        return () if self.began_after is None else (_text_of(self.began_after),)

    def about(self) -> tuple[str, tuple[str, ...]]:
        """Return the condition for a step, and its values. An address of a host begins with its name and a slash."""
        parts = ["address = ?"] * len(self.targets) + ["address >= ? AND address < ?"] * len(self.hosts)
        values = [*sorted(self.targets), *(edge for host in sorted(self.hosts) for edge in (f"{host}/", f"{host}0"))]
        return f"({' OR '.join(parts) or 'TRUE'})", tuple(values)

    def which(self, about: str) -> str:
        """Return the condition for an apply; `about` is that for its steps."""
        parts = ["began >= ?"] if self.began_after is not None else []
        parts += [f"id IN (SELECT apply_id FROM step WHERE {about})"] if self.hosts or self.targets else []
        return f"WHERE {' AND '.join(parts)}" if parts else ""


ALL = Asked()


class History:
    """The history of one state directory. Raises ReconcilerError when the file cannot be opened, read or written."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _FILE

    def check_writable(self) -> None:
        """Raise if nothing can be recorded, so that apply can say so before it does anything."""
        self._open_to_write().close()

    @contextmanager
    def recording(self, plan: Plan, signer: str | None, tree: str = "") -> Iterator[Recording]:
        """Record an apply from before its first step, so that what was done is known even after a kill.

        `tree` is what the specs are known by.
        """
        with closing(self._open_to_write()) as database:
            with self._explained():
                cursor = database.execute(
                    "INSERT INTO apply (began, commit_hash, signer, digest, planned) VALUES (?, ?, ?, ?, ?)",
                    (_now(), plan.commit, signer, plan.digest, len(plan.steps)),
                )
                database.execute("INSERT INTO origin VALUES (?, ?, ?)", (cursor.lastrowid, _storable(tree), person()))
            assert cursor.lastrowid is not None
            with ThreadPoolExecutor(1, thread_name_prefix="history") as writer:
                yield Recording(database, writer, cursor.lastrowid, plan)

    def records(self, asked: Asked = ALL) -> tuple[ApplyRecord, ...]:
        """Return the applies that were asked for, newest first, with the steps that were; () when there are none."""
        with self._reading() as database:
            if database is None:
                return ()
            about, values = asked.about()
            which = f"SELECT id FROM apply {asked.which(about)} ORDER BY id DESC LIMIT ?"
            of_applies = (*asked.since, *values, -1 if asked.limit is None else asked.limit)
            steps: dict[int, list[StepRecord]] = {}
            where = f"WHERE apply_id IN ({which}) AND {about} ORDER BY apply_id, position"
            for apply_id, step in _steps(database, where, (*of_applies, *values)):
                steps.setdefault(apply_id, []).append(step)
            rows = database.execute(f"SELECT {_APPLY} FROM apply WHERE id IN ({which}) ORDER BY id DESC", of_applies)
            by = _persons(database)
            found = (_record(row, steps.get(row[0], ()), by.get(row[0])) for row in rows)
            return tuple(found if not values else (replace(one, planned=len(one.steps)) for one in found))

    def last_of(self, address: str) -> ApplyRecord | None:
        """Return the last apply that had steps for an address, with these steps only."""
        with self._reading() as database:
            found = database and database.execute("SELECT MAX(apply_id) FROM step WHERE address = ?", (address,))
            (apply_id,) = found.fetchone() if found else (None,)
            if database is None or apply_id is None:
                return None
            where = "WHERE apply_id = ? AND address = ? ORDER BY position"
            steps = [step for _, step in _steps(database, where, (apply_id, address))]
            row = database.execute(f"SELECT {_APPLY} FROM apply WHERE id = ?", (apply_id,)).fetchone()
            return _record(row, steps, _persons(database).get(apply_id))

    def made_for(self, tree: str) -> frozenset[str]:
        """Return the addresses whose config files were written for this tree, or for one that nobody noted."""
        written = "SELECT DISTINCT address FROM step WHERE kind IN ('write_config', 'rename') AND outcome = 'done'"
        other = "apply_id NOT IN (SELECT apply_id FROM origin WHERE tree NOT IN (?, ''))"
        with self._reading() as database:
            if database is None:
                return frozenset()
            found = (
                database.execute(f"{written} AND {other}", (_storable(tree),))
                if _knows(database, "origin")
                else database.execute(written)
            )
            return frozenset(address for (address,) in found)

    def expected_downtime(self) -> dict[str, float]:
        """Map each address to the median of the seconds that its last five restarts kept it down."""
        recent: dict[str, list[float]] = {}
        with self._reading() as database:
            rows = database.execute("SELECT address, seconds FROM downtime ORDER BY rowid DESC") if database else ()
            for address, seconds in rows:
                recent.setdefault(address, []).append(seconds)
        return {address: round(median(times[:_RECENT_RESTARTS]), 1) for address, times in recent.items()}

    def usual_seconds(self, steps: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Map each address and kind of a step to the median of what the last five took; those that never were not."""
        usual = {}
        with self._reading() as database:
            if database is None:
                return {}
            for address, kind in set(steps):
                found = database.execute(
                    "SELECT seconds FROM step WHERE address = ? AND kind = ? AND outcome = 'done' "
                    "ORDER BY rowid DESC LIMIT ?",
                    (address, kind, _RECENT_RESTARTS),
                )
                if times := [seconds for (seconds,) in found]:
                    usual[address, kind] = median(times)
        return usual

    def _open_to_write(self) -> sqlite3.Connection:
        with self._explained():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # each statement is a transaction of its own
            database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last steps, of history only
                if _version(database) == 0 or not (_knows(database, "origin") and _knows(database, "pause")):
                    _create(database)
                database.executescript("BEGIN IMMEDIATE; ROLLBACK")  # whether it may be written at all
            except sqlite3.Error:
                database.close()
                raise
            return database

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Open the file to read, without making one; None when nothing was recorded yet."""
        with self._explained():
            if not self._path.exists():
                yield None
                return
            # Where nobody could create the files that sqlite shares between processes, nobody writes either.
            shared = self._path.with_name(f"{_FILE}-shm").exists() or os.access(self._path.parent, os.W_OK)
            uri = f"{self._path.absolute().as_uri()}?{'mode=ro' if shared else 'immutable=1'}"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as database:
                yield database if _version(database) else None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise world_error(
                "the history cannot be used",
                f"{self._path}: {error}.",
                "name another folder with --state-dir, or move that file away: only history is lost",
            ) from error


def _version(database: sqlite3.Connection) -> int:
    """Return the format of the file; 0 for an empty one."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"it has format {version}, and this version of reconciler knows {_VERSION}")
    return int(version)


def _knows(database: sqlite3.Connection, table: str) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def _create(database: sqlite3.Connection) -> None:
    """Create the tables, all at once. Another process may do so at the same time."""
    database.execute("PRAGMA journal_mode = WAL")  # kept in the file: readers and a writer do not wait for each other
    database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")


class Recording:
    """Records one running apply. An error in writing never stops the apply.

    The thread `writer` writes all in the order in which it was noted, so that a slow disk does not hold up the steps.
    """

    def __init__(self, database: sqlite3.Connection, writer: Executor, apply_id: int, plan: Plan) -> None:
        self._database = database
        self._writer = writer
        self._apply_id = apply_id
        self._plan = plan
        self._position = 0
        self._unwritten: deque[tuple[str, tuple[object, ...]]] = deque()
        self._is_asked_to_write = False
        self.problem: str | None = None  # why something is missing in the history

    def note(self, result: StepResult) -> None:
        """Note how one step ended."""
        outcome = "failed" if result.problem else "skipped" if result.reason else "done"
        why = (result.problem.detail or result.problem.summary) if result.problem else result.reason or result.note
        step = result.step
        self._position += 1
        row = (step.id, step.address, step.step.kind, outcome, round(result.seconds, 3), why and _storable(why))
        self._write("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (self._apply_id, self._position, *row))
        if result.paused_seconds:
            paused = (self._apply_id, step.id, round(result.paused_seconds, 1))
            self._write("INSERT INTO pause VALUES (?, ?, ?)", paused)

    def end(self, result: ApplyResult) -> None:
        """Note that the apply came to its end, and how long each restarted domain was down; waits for all notes."""
        for outage in outages_of(self._plan, result):
            # a way back that was taken is no measure; one that was down twice is two
            for seconds in outage.times_seconds if outage.outcome is Outcome.RESTARTED else ():
                row = (self._apply_id, outage.address, round(seconds, 1))
                self._write("INSERT INTO downtime VALUES (?, ?, ?)", row)
        self._write("UPDATE apply SET ended = ? WHERE id = ?", (_now(), self._apply_id))
        self._writer.submit(self._write_rest).result()

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        """Have it written soon, together with what is noted until then: one by one costs each step a transaction."""
        self._unwritten.append((statement, values))
        if not self._is_asked_to_write:
            self._is_asked_to_write = True
            self._writer.submit(self._write_rest)

    def _write_rest(self) -> None:
        self._is_asked_to_write = False  # before it looks, so that nothing is left for long
        while self._unwritten:
            rows = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
            try:
                with self._database:  # commits, or rolls back
                    self._database.execute("BEGIN")
                    for row in rows:
                        self._execute(*row)
            except sqlite3.Error:
                self._write_each(rows)

    def _write_each(self, rows: Iterable[tuple[str, tuple[object, ...]]]) -> None:
        """Write what could not be written together, each by itself, so that only what cannot be written is missing."""
        for row in rows:
            try:
                self._execute(*row)
            except sqlite3.Error as error:
                self.problem = str(error)
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    return  # it has waited long for another process, twice, and would for each of the rest

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        self._database.execute(statement, values)


def _storable(text: str) -> str:
    """Replace the bytes that are no UTF-8, as a host may print them, since sqlite takes none."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _steps(
    database: sqlite3.Connection, which: str, values: tuple[object, ...] = ()
) -> Iterator[tuple[int, StepRecord]]:
    paused = "SELECT TOTAL(seconds) FROM pause WHERE pause.apply_id = step.apply_id AND pause.step = step.step"
    paused = f"({paused})" if _knows(database, "pause") else "0"
    rows = database.execute(
        f"SELECT apply_id, step, address, kind, outcome, seconds, problem, {paused} FROM step {which}", values
    )
    for apply_id, step, address, kind, outcome, seconds, problem, paused_seconds in rows:
        record = StepRecord(
            step=step,
            address=address,
            kind=kind,
            outcome=outcome,
            seconds=seconds,
            problem=problem,
            paused_seconds=paused_seconds,
        )
        yield apply_id, record


def _persons(database: sqlite3.Connection) -> dict[int, str]:
    return dict(database.execute("SELECT apply_id, person FROM origin")) if _knows(database, "origin") else {}


def _record(
    row: tuple[int, str, str | None, str | None, str | None, str, int], steps: Sequence[StepRecord], by: str | None
) -> ApplyRecord:
    apply_id, began, ended, commit, signer, digest, planned = row
    return ApplyRecord(
        id=apply_id,
        began=began,
        ended=ended,
        commit=commit,
        signer=signer,
        digest=digest,
        planned=planned,
        steps=tuple(steps),
        by=by,
    )


def _now() -> str:
    return _text_of(datetime.now(UTC))


def _text_of(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unrecorded_note(problem: str) -> Diagnostic:
    """Make the note about what could not be recorded."""
    return Diagnostic(
        kind=Kind.NOTE,
        summary="the history is not whole",
        detail=f"Some of what was done could not be noted in the history: {problem}.",
        hint="look whether the disk of the state directory is full",
    )


class Recorded:
    """Passes progress on to the user and into the history."""

    def __init__(self, progress: Progress, recording: Recording) -> None:
        self._progress = progress
        self._recording = recording

    def started(self, step: PlannedStep) -> None:
        self._progress.started(step)

    def noted(self, step: PlannedStep, text: str) -> None:
        self._progress.noted(step, text)

    def finished(self, result: StepResult) -> None:
        self._recording.note(result)
        self._progress.finished(result)
