"""Reads from a reconciler.toml with errors what it takes to start what is down, from its proven config file.

All else that the tree asks for is frozen then. Where these few things are not known, so are the starts: whose the
domains are, whether they are to run, whether a window says when they may start. Called by `tree`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reconciler.expressions import expression
from reconciler.specs.resolve.inputs import SpecFile
from reconciler.specs.schema import TreeSpec
from reconciler.specs.schema_errors import validate

_FLEET = expression(r"""^[ \t]*fleet[ \t]*=[ \t]*["']([^"'\\]*)["'][ \t]*(?:#.*)?$""", re.MULTILINE)
_OF_STARTS = expression(r"\b(?:state|reconcile|start|profile)\b")
_TABLE = expression(r"^[ \t]*\[", re.MULTILINE)


def told(settings: SpecFile) -> TreeSpec:
    """Return whose domains these are, and of all else the default."""
    found, complaints = validate(TreeSpec, _fleet_in(settings))
    return found if found is not None and not complaints else TreeSpec()


def may_start(settings: SpecFile) -> bool:
    """Return whether it is known whose the domains are, and that no window says when they may start."""
    if validate(TreeSpec, _fleet_in(settings))[1]:
        return False
    if settings.data is None:
        found = _fleet_in(settings)
        return (
            bool(settings.text) and not _OF_STARTS.search(settings.text) and bool(found or "fleet" not in settings.text)
        )
    windows = settings.data.get("window", [])
    tables = [one for one in windows if isinstance(one, Mapping)] if isinstance(windows, list) else [None]
    return all(one is not None and "start" not in str(one.get("actions", "")) for one in tables)


def says_to_run(merged: Mapping[str, object]) -> bool:
    """Return whether layers that nobody has checked say that a domain is to run and to be reconciled."""
    return merged.get("state", "running") == "running" and merged.get("reconcile", True) is True


def _fleet_in(settings: SpecFile) -> dict[str, object]:
    if settings.data is not None:
        return {key: value for key, value in settings.data.items() if key == "fleet"}
    table = _TABLE.search(settings.text)
    names = _FLEET.findall(settings.text[: table.start() if table else None])
    return {"fleet": names[0]} if len(names) == 1 else {}
