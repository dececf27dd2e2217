"""Remembers which domains accepted commits left alone or kept, for when their files go before a host could note it.

`reconcile = false` and `prevent_destroy` outlive their spec file in the mark on the host. One that was silent then, or
whose config file was edited, has no such note. Then what the last accepted commit said counts, and the domain is not
destroyed when its file goes. Called by `git_source`, which keeps this list beside the accepted commit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import Domain, address_of
from reconciler.records import dataclass
from reconciler.specs import TreeReading
from reconciler.specs.files import Content, TreeRoot
from reconciler.specs.toml import TomlError, parse_toml
from reconciler.specs.tree import TREE_FILE
from reconciler.state_dir.files import replace_file


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """The addresses that `commit`, or an earlier one that still named them, left alone.

    `kept` are those that it said not to destroy.
    """

    commit: str | None = None
    addresses: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


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
    declared = set(reading.files)
    return LeftAlone(
        commit=commit,
        addresses=tuple(sorted((set(known.addresses) - declared) | _said_by(root, reading, _LEAVE))),
        kept=tuple(sorted((set(known.kept) - declared) | _said_by(root, reading, _KEEP))),
    )


def damaged(file: Path) -> Diagnostic:
    return Diagnostic(
        kind=Kind.WORLD,
        summary="what earlier commits left alone is not known",
        detail=f"{file} is damaged, so nobody can tell whether a domain whose file is gone was to be left alone. "
        "Nothing is destroyed.",
        hint=f"see that no domain without a spec file is to be kept, then remove {file}",
    )


@dataclass(frozen=True, slots=True)
class _Word:
    """A key that outlives its file when it does not say `usual`, and what a whole spec says of it."""

    key: str
    usual: bool
    of: Callable[[Domain], bool]


_LEAVE = _Word("reconcile", True, lambda domain: domain.policy.reconcile)
_KEEP = _Word("prevent_destroy", False, lambda domain: domain.prevent_destroy)


def _said_by(root: Path, reading: TreeReading, word: _Word) -> set[str]:
    """Return the domains of which a commit does not say as usual, or nobody can tell what it says."""
    resolved = {
        address_of(host, name): domain
        for host, part in reading.desired.hosts.items()
        for name, domain in part.domains.items()
    }
    tree, found = TreeRoot(str(root)), set[str]()
    inherited: bool | None = None
    for address, path in reading.files.items():
        domain = resolved.get(address)
        is_usual = word.of(domain) is word.usual if domain is not None else _is_usual_in(tree, path, word)
        if is_usual is None:  # of a file with errors that says nothing itself
            inherited = _may_be_inherited(tree, root, word) if inherited is None else inherited
            is_usual = not inherited
        if is_usual is not True:
            found.add(address)
    return found


def _is_usual_in(tree: TreeRoot, path: str, word: _Word, *below: str) -> bool | None:
    """Return whether a file with errors says as usual: None when it says nothing, False when nobody can tell."""
    table: Any = _table(tree, path)
    for name in below:
        table = table.get(name, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        return False
    return None if word.key not in table else table[word.key] is word.usual


def _may_be_inherited(tree: TreeRoot, root: Path, word: _Word) -> bool:
    """Return whether any profile, or the defaults, may say otherwise than usual."""
    profiles = sorted(f"profiles/{file.name}" for file in root.glob("profiles/*.toml"))
    settings = [_is_usual_in(tree, TREE_FILE, word, "defaults")] if (root / TREE_FILE).exists() else []
    return any(one is False for one in (*settings, *(_is_usual_in(tree, path, word) for path in profiles)))


def _table(tree: TreeRoot, path: str) -> dict[str, Any] | None:
    """Read a file of the tree; None when nobody can read it, or it is empty and may have been cut short."""
    content = tree.read_spec(path, is_link=True)
    if not isinstance(content, Content) or not content.text.strip():
        return None
    try:
        return parse_toml(content.text)
    except TomlError:
        return None
