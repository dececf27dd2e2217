"""What was done, when, for which commit: one sqlite file in the state directory.

Losing it loses history and nothing else: what is ours is known from the hosts. Times are UTC; seconds by the host's
clock. Written by apply, read by `reconciler history` and for the down time that a plan expects.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from reconciler.apply import ApplyResult, StepResult
from reconciler.core.diagnostics import Diagnostic, Kind, ReconcilerError
from reconciler.core.plan import Plan

_FILE = "history.sqlite"
_VERSION = 1
_DOWN_KINDS = ("shutdown", "grow_disk", "write_config", "start", "await_ready")
_RECENT_RESTARTS = 5
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
CREATE INDEX IF NOT EXISTS step_of_apply ON step (apply_id);
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRecord:
    """A past apply. `ended` None: it was cut short, or still runs."""

    id: int
    began: str
    ended: str | None
    commit: str | None
    signer: str | None
    digest: str
    planned: int
    steps: tuple[StepRecord, ...]


class History:
    """The history of one state directory. Raises ReconcilerError when the file cannot be opened or read."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _FILE

    @contextmanager
    def recording(self, plan: Plan, signer: str | None) -> Iterator[Recording]:
        """Note an apply from before its first step: what was done is known even if the rest never returns."""
        with self._open() as database:
            cursor = database.execute(
                "INSERT INTO apply (began, commit_hash, signer, digest, planned) VALUES (?, ?, ?, ?, ?)",
                (_now(), plan.commit, signer, plan.digest, len(plan.steps)),
            )
            assert cursor.lastrowid is not None
            yield Recording(database, cursor.lastrowid, plan)

    def records(self, limit: int = 50) -> tuple[ApplyRecord, ...]:
        """The last applies, newest first; () when there is no history yet."""
        if not self._path.exists():
            return ()
        with self._open() as database:
            rows = database.execute(
                "SELECT id, began, ended, commit_hash, signer, digest, planned FROM apply ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
            return tuple(_record(row, _steps(database, row[0])) for row in rows)

    def expected_downtime(self) -> dict[str, float]:
        """Address -> seconds it was down for a restart: the median of its last ones."""
        if not self._path.exists():
            return {}
        with self._open() as database:
            rows = database.execute("SELECT address, seconds FROM downtime ORDER BY rowid DESC").fetchall()
        recent: dict[str, list[float]] = {}
        for address, seconds in rows:
            recent.setdefault(address, []).append(seconds)
        return {address: round(median(times[:_RECENT_RESTARTS]), 1) for address, times in recent.items()}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=20, isolation_level=None)  # each statement is durable
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                self._prepare(database)
                yield database
            finally:
                database.close()
        except (sqlite3.Error, OSError) as error:
            raise ReconcilerError(
                Diagnostic(
                    kind=Kind.WORLD,
                    summary="the history cannot be used",
                    detail=f"{self._path}: {error}.",
                    hint="name another folder with --state-dir, or move that file away: only history is lost",
                )
            ) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"it has format {version}, and this version of reconciler knows {_VERSION}")


class Recording:
    """One apply on its way into the history."""

    def __init__(self, database: sqlite3.Connection, apply_id: int, plan: Plan) -> None:
        self._database = database
        self._apply_id = apply_id
        self._plan = plan
        self._position = 0

    def note(self, result: StepResult) -> None:
        """Note how one step ended."""
        outcome = "failed" if result.problem else "skipped" if result.reason else "done"
        problem = (result.problem.detail or result.problem.summary) if result.problem else result.reason
        step = result.step
        self._position += 1
        self._database.execute(
            "INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._apply_id, self._position, step.id, step.address, step.step.kind, outcome, result.seconds, problem),
        )

    def end(self, result: ApplyResult) -> None:
        """Note that the apply came to its end, and how long each restarted domain was down."""
        self._database.execute("UPDATE apply SET ended = ? WHERE id = ?", (_now(), self._apply_id))
        self._database.executemany(
            "INSERT INTO downtime VALUES (?, ?, ?)",
            [(self._apply_id, address, seconds) for address, seconds in measured_downtime(self._plan, result).items()],
        )


def measured_downtime(plan: Plan, result: ApplyResult) -> dict[str, float]:
    """Address -> seconds from the begin of its shutdown until it was ready, of the restarts that were done whole."""
    restarting = {change.address for change in plan.changes if change.restarts}
    seconds: dict[str, float] = {}
    ready: set[str] = set()
    for done in result.done:
        address = done.step.address
        if address in restarting and done.step.step.kind in _DOWN_KINDS:
            seconds[address] = seconds.get(address, 0) + done.seconds
            if done.step.step.kind == "await_ready":
                ready.add(address)
    return {address: round(total, 1) for address, total in seconds.items() if address in ready}


def _steps(database: sqlite3.Connection, apply_id: int) -> tuple[StepRecord, ...]:
    rows = database.execute(
        "SELECT step, address, kind, outcome, seconds, problem FROM step WHERE apply_id = ? ORDER BY position",
        (apply_id,),
    )
    return tuple(
        StepRecord(step=step, address=address, kind=kind, outcome=outcome, seconds=seconds, problem=problem)
        for step, address, kind, outcome, seconds, problem in rows
    )


def _record(
    row: tuple[int, str, str | None, str | None, str | None, str, int], steps: tuple[StepRecord, ...]
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
        steps=steps,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
