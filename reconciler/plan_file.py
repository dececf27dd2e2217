"""Saved plans: `plan --out FILE` and `apply FILE`. The document of `plan --json` plus all that binds and follows it.

A saved plan is bound to what was observed, to the spec files, the commit and the bytes of kernels; it can be used once,
and only as it was written. Apply follows its steps and computes nothing anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reconciler.core.changes import Action, Change
from reconciler.core.diagnostics import Diagnostic, Kind, ReconcilerError, refused
from reconciler.core.plan import HostSummary, Plan, moved
from reconciler.core.state import canonical_json
from reconciler.core.steps import PlannedStep
from reconciler.render.documents import as_text, plan_document
from reconciler.specs import TreeReading

VERSION = 1
_MAX_BYTES = 512 * 1024 * 1024
_STEPS = TypeAdapter(tuple[PlannedStep, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan read back from its file, with what it is bound to besides the hosts."""

    id: str
    plan: Plan
    specs: Path
    files: Mapping[str, str]  # every spec and kernel file of the tree -> sha256


def save(path: Path, plan: Plan, reading: TreeReading, specs: Path) -> None:
    """Write a plan to a file, whole or not at all. Raises ReconcilerError when it cannot be written."""
    document = plan_document(plan)
    document["saved"] = {
        "version": VERSION,
        "id": secrets.token_hex(16),  # two plans that look alike are still two
        "specs": str(specs.resolve()),
        "files": dict(sorted(reading.digests.items())),
        "tree_digest": plan.tree_digest,
        "base": {host: dict(base) for host, base in plan.base.items()},
        "steps": _STEPS.dump_python(plan.steps, mode="json"),
    }
    document["seal"] = _seal(document)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(as_text(document) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ReconcilerError(
            Diagnostic(
                kind=Kind.WORLD,
                summary="the plan cannot be saved",
                detail=f"{path}: {error.strerror}.",
                hint="choose another file for --out",
            )
        ) from error


def load(path: Path) -> SavedPlan:
    """Read a saved plan. Raises ReconcilerError for a file that is not one, is cut short or was edited."""
    document = _read(path)
    saved = document.get("saved")
    if not isinstance(saved, dict) or document.get("format") != 1 or saved.get("version") != VERSION:
        raise _unfit(path, f"it is not a plan of this version of reconciler (format 1, version {VERSION})")
    if document.get("seal") != _seal(document):
        raise refused(
            "the plan was changed after it was saved",
            f"{path} is not as `reconciler plan --out` wrote it, so nothing was done.",
            "make a new one with `reconciler plan --out FILE`",
        )
    try:
        return SavedPlan(id=saved["id"], plan=_plan(document, saved), specs=Path(saved["specs"]), files=saved["files"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise _unfit(path, f"it is not a plan that can be followed ({type(error).__name__})") from error


def check_specs(saved: SavedPlan, reading: TreeReading) -> None:
    """Raises ReconcilerError (refused) naming what changed in the spec tree since the plan was saved."""
    if saved.plan.commit != reading.desired.commit:
        raise _stale(f"it was made for commit {saved.plan.commit}, and the specs are at {reading.desired.commit}")
    changed = moved(saved.files, reading.digests)
    if changed or saved.plan.tree_digest != reading.desired.tree_digest:
        raise _stale(f"these files changed since: {', '.join(changed[:5]) or 'the tree itself'}")


def use_once(saved: SavedPlan, state_dir: Path) -> None:
    """Note that this plan is being used; raises ReconcilerError (refused) when it was used before."""
    folder = state_dir / "plans-used"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / saved.id).open("x", encoding="utf-8") as note:
            note.write(saved.plan.digest + "\n")
    except FileExistsError as error:
        raise refused(
            "the plan was used before",
            "A saved plan can be applied once, whatever came of it, so nothing was done.",
            "make a new one with `reconciler plan --out FILE`",
        ) from error
    except OSError as error:
        raise ReconcilerError(
            Diagnostic(
                kind=Kind.WORLD,
                summary="the state directory cannot be written",
                detail=f"{folder}: {error.strerror}. Whether a plan was used before is kept there; nothing was done.",
                hint="name another with --state-dir",
            )
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unfit(path, "it is too large for a plan")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReconcilerError(
            Diagnostic(kind=Kind.WORLD, summary="the plan cannot be read", detail=f"{path}: {error.strerror}.")
        ) from error
    except (ValueError, RecursionError) as error:
        raise _unfit(path, "it is not JSON, or was cut short") from error
    if not isinstance(document, dict):
        raise _unfit(path, "it is JSON, but no plan")
    return document


def _plan(document: dict[str, Any], saved: dict[str, Any]) -> Plan:
    return Plan(
        commit=document["commit"],
        hosts={name: HostSummary(**summary) for name, summary in document["hosts"].items()},
        changes=tuple(_change(entry) for entry in document["changes"]),
        steps=_STEPS.validate_python(saved["steps"]),
        ledger=(),
        unmanaged=tuple(document["unmanaged"]),
        diagnostics=(),
        base=saved["base"],
        tree_digest=saved["tree_digest"],
    )


def _change(entry: dict[str, Any]) -> Change:
    host, domain = entry["address"].split("/", 1)
    return Change(
        host=host, domain=domain, action=Action(entry["action"]), reason=entry["reason"], blocked=entry["blocked"]
    )


def _seal(document: Mapping[str, Any]) -> str:
    body = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def _stale(why: str) -> ReconcilerError:
    return refused(
        "the plan is stale",
        f"The plan is stale: {why}. Nothing was done.",
        "make a new one with `reconciler plan --out FILE`",
    )


def _unfit(path: Path, why: str) -> ReconcilerError:
    return ReconcilerError(
        Diagnostic(
            kind=Kind.SPEC,
            summary="not a saved plan",
            detail=f"{path} cannot be applied: {why}. Nothing was done.",
            hint="make one with `reconciler plan --out FILE`",
        )
    )
