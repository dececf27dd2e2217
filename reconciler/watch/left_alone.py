"""Remembers which domains accepted commits left alone, for when their files go before a host could note it.

`reconcile = false` outlives its spec file in the mark on the host. One that was silent then, or whose config file was
edited, has no such note. Then what the last accepted commit said counts, and the domain is not destroyed when its file
goes. Called by `git_source`, which keeps this list beside the accepted commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import address_of
from reconciler.specs import TreeReading
from reconciler.specs.files import Content, TreeRoot
from reconciler.specs.toml import TomlError, parse_toml
from reconciler.specs.tree import TREE_FILE
from reconciler.state_dir.files import replace_file


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """The addresses that `commit`, or an earlier one that still named them, left alone."""

    commit: str | None = None
    addresses: tuple[str, ...] = ()


_LIST = TypeAdapter(LeftAlone)


def load(file: Path) -> LeftAlone | None:
    """Read the list; an empty one when none was written yet, None when it is damaged. Raises OSError."""
    try:
        return _LIST.validate_json(file.read_bytes())
    except FileNotFoundError:
        return LeftAlone()
    except ValidationError:
        return None


def store(file: Path, known: LeftAlone) -> None:
    """Write the list, so that a power cut does not undo it. Raises OSError."""
    replace_file(file, _LIST.dump_json(known), durable=True)


def after(known: LeftAlone, commit: str, root: Path, reading: TreeReading) -> LeftAlone:
    """Return the list after a commit, whose files lie at `root`. What it declares, it decides about."""
    undeclared = set(known.addresses) - set(reading.files)
    return LeftAlone(commit=commit, addresses=tuple(sorted(undeclared | _left_alone_in(root, reading))))


def damaged(file: Path) -> Diagnostic:
    return Diagnostic(
        kind=Kind.WORLD,
        summary="what earlier commits left alone is not known",
        detail=f"{file} is damaged, so nobody can tell whether a domain whose file is gone was to be left alone. "
        "Nothing is destroyed.",
        hint=f"see that no domain without a spec file is to be kept, then remove {file}",
    )


def _left_alone_in(root: Path, reading: TreeReading) -> set[str]:
    resolved = {
        address_of(host, name): domain
        for host, part in reading.desired.hosts.items()
        for name, domain in part.domains.items()
    }
    tree, found = TreeRoot(str(root)), set[str]()
    inherited: bool | None = None
    for address, path in reading.files.items():
        domain = resolved.get(address)
        said = domain.policy.reconcile if domain is not None else _said_in(tree, path)
        if said is None:  # of a file with errors that says nothing itself
            inherited = _may_be_inherited(tree, root) if inherited is None else inherited
            said = not inherited
        if said is not True:
            found.add(address)
    return found


def _said_in(tree: TreeRoot, path: str, *below: str) -> bool | None:
    """Return what a file with errors says of `reconcile`: None when nothing, False when nobody can tell."""
    table: Any = _table(tree, path)
    for name in below:
        table = table.get(name, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        return False
    return None if "reconcile" not in table else table["reconcile"] is True


def _may_be_inherited(tree: TreeRoot, root: Path) -> bool:
    """Return whether any profile, or the defaults, may say reconcile = false."""
    profiles = sorted(f"profiles/{file.name}" for file in root.glob("profiles/*.toml"))
    settings = [_said_in(tree, TREE_FILE, "defaults")] if (root / TREE_FILE).exists() else []
    return any(said is False for said in (*settings, *(_said_in(tree, path) for path in profiles)))


def _table(tree: TreeRoot, path: str) -> dict[str, Any] | None:
    """Read a file of the tree; None when nobody can read it, or it is empty and may have been cut short."""
    content = tree.read_spec(path, is_link=True)
    if not isinstance(content, Content) or not content.text.strip():
        return None
    try:
        return parse_toml(content.text)
    except TomlError:
        return None
