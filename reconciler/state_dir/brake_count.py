"""Remembers what the brake counted for the specs in force, so that a watch that begins again does not count anew.

Only the next specs (an accepted commit, or another digest of the tree) begin anew. A file that cannot be read counts as
if nothing more were allowed. Called by `watch`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from pydantic import BaseModel, ConfigDict, ValidationError

from reconciler.decide.changes import Action, Change
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.plan.refusals import Used
from reconciler.state_dir.files import make_folder, replace_file

_FILE = "brake.json"


class _Counted(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    specs: str = ""
    destroyed: frozenset[str] = frozenset()
    restarted: frozenset[str] = frozenset()


class BrakeCount:
    """The count for one spec tree after another, which are told apart by commit or digest."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / _FILE
        self._counted: _Counted | None = None  # None: what an earlier process counted was not read yet
        self._lock = Lock()  # passes over several hosts count at the same time

    def used(self, specs: str) -> Used:
        """Return what was counted for these specs."""
        with self._lock:
            return self._used(specs)

    def begins(self, specs: str, changes: Iterable[Change]) -> Diagnostic | None:
        """Count changes that are about to begin. Returns why the next process would not know, if it would not."""
        with self._lock:
            before = self._used(specs)
            return self._keep(specs, before, before.and_of(changes))

    def gives_back(self, specs: str, changes: Iterable[Change]) -> Diagnostic | None:
        """Count changes no more that did not begin. Returns why the next process would not know, if it would not."""
        with self._lock:
            before = self._used(specs)
            return self._keep(specs, before, before.without(changes))

    def _used(self, specs: str) -> Used:
        if self._counted is None:
            try:
                self._counted = _Counted.model_validate_json(self._file.read_bytes())
            except FileNotFoundError:
                self._counted = _Counted()
            except (OSError, ValidationError):
                return Used(unknown=_unknown(self._file))
        if self._counted.specs != specs:
            return Used()
        return Used(addresses={Action.DESTROY: self._counted.destroyed, Action.RESTART: self._counted.restarted})

    def _keep(self, specs: str, before: Used, used: Used) -> Diagnostic | None:
        destroyed, restarted = used.of(Action.DESTROY), used.of(Action.RESTART)
        same = (before.of(Action.DESTROY), before.of(Action.RESTART)) == (destroyed, restarted)
        if used.unknown is not None or same:
            return None
        self._counted = _Counted(specs=specs, destroyed=destroyed, restarted=restarted)
        try:
            make_folder(self._file.parent)
            replace_file(self._file, self._counted.model_dump_json().encode(errors="replace"), durable=True)
        except OSError as error:
            return _not_kept(self._file, error)
        return None


def _unknown(file: Path) -> Diagnostic:
    return Diagnostic(
        kind=Kind.REFUSED,
        summary="the brake holds: what it has counted is not known",
        detail=f"{file} cannot be read, so nobody can tell how much these specs destroyed and restarted already.",
        hint=f"see with `reconciler history` what was done for them, then remove {file}",
    )


def _not_kept(file: Path, error: OSError) -> Diagnostic:
    return Diagnostic(
        kind=Kind.NOTE,
        summary="what the brake counted is not kept",
        detail=f"{file} cannot be written: {error.strerror or error}. A watch that begins again would count anew.",
        hint="look whether the disk of the state directory is full",
    )
