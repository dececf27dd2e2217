"""Saved plans: `plan --out FILE` and `apply FILE`. The document of `plan --json` plus all that binds and follows it.

A saved plan is bound to what was observed, to the spec files and the bytes of kernels; it can be used once,
and only as it was written. Apply follows its steps and computes nothing anew.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.model.domain import canonical_json
from reconciler.plan.plan import Plan
from reconciler.plan.stale import moved
from reconciler.records import dataclass
from reconciler.show.documents import FORMAT, as_text, plan_document
from reconciler.specs import TreeReading
from reconciler.state_dir.files import create_file, make_folder, replace_file

if TYPE_CHECKING:
    from pydantic import TypeAdapter

VERSION = 2
_MAX_BYTES = 512 * 1024 * 1024
_LISTED_FILES = 5
_MODE = 0o600  # its steps have whole config files, with the secrets in them
_LEFT_OUT = {"__all__": {"guest", "target"}}  # the steps say all that following them needs
_DECIDED_FROM = {"changes": _LEFT_OUT, "undecided": _LEFT_OUT}
_NEW_PLAN = "make a new one with `reconciler plan --out FILE`"


@cache  # all kinds of steps go into it, which takes long, and most plans are not saved
def _adapter() -> TypeAdapter[Plan]:
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan read back from its file, with what it is bound to besides the hosts."""

    id: str
    plan: Plan
    specs: Path
    files: Mapping[str, str]  # every spec and kernel file of the tree -> sha256


def save(path: Path, plan: Plan, reading: TreeReading, specs: Path) -> None:
    """Write a plan to a file, whole or not at all. Raises ReconcilerError when it cannot be written."""
    if plan.commit is not None and path.resolve().is_relative_to(specs.resolve()):
        raise _unsaved(path, "it lies in the spec tree, which would no longer be what its commit says")
    if path.exists() and not path.is_file():
        raise _unsaved(path, "it is there, and no file that a plan could replace")
    document = plan_document(plan)
    base = {name: dict(facts) for name, facts in plan.base.items()}  # a plan works them out when they are asked for
    document["saved"] = {
        "version": VERSION,
        "id": secrets.token_hex(16),  # two plans that look alike are still two
        "specs": str(specs.resolve()),
        "files": dict(sorted(reading.digests.items())),
        "plan": _adapter().dump_python(replace(plan, base=base), mode="json", exclude=_DECIDED_FROM),
    }
    document["seal"] = _seal(document)
    try:
        replace_file(path, as_text(document).encode(), durable=True, mode=_MODE)
    except OSError as error:
        raise _unsaved(path, error.strerror or str(error)) from error


def load(path: Path) -> SavedPlan:
    """Read a saved plan. Raises ReconcilerError for a file that is not one, is cut short or was edited."""
    document = _read(path)
    saved = document.get("saved")
    if not isinstance(saved, dict) or document.get("format") != FORMAT or saved.get("version") != VERSION:
        raise _unfit(path, f"it is no plan that this version of reconciler saved (format {FORMAT}, version {VERSION})")
    try:
        untouched = document.get("seal") == _seal(document)
        plan = _adapter().validate_python(saved["plan"]) if untouched else None
        if plan is None or plan.digest != document["digest"]:
            raise refused(
                "the plan was changed after it was saved",
                f"{path} is not as `reconciler plan --out` wrote it, so nothing was done.",
                _NEW_PLAN,
            )
        return SavedPlan(id=saved["id"], plan=plan, specs=Path(saved["specs"]), files=saved["files"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # pydantic's errors are ValueErrors
        raise _unfit(path, f"it is not a plan that can be followed ({type(error).__name__})") from error


def check_specs(saved: SavedPlan, reading: TreeReading) -> None:
    """Raise ReconcilerError (refused) naming what changed in the spec tree since the plan was saved."""
    changed = moved(saved.files, reading.digests)
    if changed or saved.plan.tree_digest != reading.desired.tree_digest:
        named = ", ".join(changed[:_LISTED_FILES]) or "what the tree holds"
        more = f" and {len(changed) - _LISTED_FILES} more" if len(changed) > _LISTED_FILES else ""
        raise _stale(f"these files of the specs changed since: {named}{more}")


def check_unused(saved: SavedPlan, state_dir: Path) -> None:
    """Raise ReconcilerError (refused) when the plan was used before; `use_once` has the last word."""
    if (_used(state_dir) / saved.id).exists():
        raise _used_before()


def use_once(saved: SavedPlan, state_dir: Path) -> None:
    """Note that this plan is being used; raises ReconcilerError (refused) when it was used before."""
    folder = _used(state_dir)
    try:
        make_folder(folder)
        create_file(folder / saved.id, f"{saved.plan.digest}\n".encode())
    except FileExistsError as error:
        raise _used_before() from error
    except OSError as error:
        raise world_error(
            "the state directory cannot be written",
            f"{folder}: {error.strerror}. Whether a plan was used before is kept there; nothing was done.",
            "name another with --state-dir",
        ) from error


def _used(state_dir: Path) -> Path:
    return state_dir / "plans-used"


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unfit(path, "it is too large for a plan")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise world_error("the plan cannot be read", f"{path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _unfit(path, "it is not JSON, or was cut short") from error
    if not isinstance(document, dict):
        raise _unfit(path, "it is JSON, but no plan")
    return document


def _seal(document: Mapping[str, Any]) -> str:
    """Return the sha256 of all the rest: a guard against mistakes, not forgers, who could as well run apply."""
    body = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(canonical_json(body).encode(errors="surrogatepass")).hexdigest()


def _used_before() -> ReconcilerError:
    detail = "A saved plan can be applied once, whatever came of it, so nothing was done."
    return refused("the plan was used before", detail, _NEW_PLAN)


def _stale(why: str) -> ReconcilerError:
    return refused("the plan is stale", f"Since it was saved something moved: {why}. Nothing was done.", _NEW_PLAN)


def _unsaved(path: Path, why: str) -> ReconcilerError:
    return world_error("the plan cannot be saved", f"{path}: {why}.", "choose another file for --out")


def _unfit(path: Path, why: str) -> ReconcilerError:
    return refused("not a saved plan", f"{path} cannot be applied: {why}. Nothing was done.", _NEW_PLAN)
