"""Asks git about a folder of specs: which commit it was checked out from, and what its past tells of a domain."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from reconciler.expressions import expression
from reconciler.model.fleet import Desired
from reconciler.records import dataclass

_TIMEOUT_SECONDS = 20
_COMMIT = expression("[0-9a-f]{40}|[0-9a-f]{64}")


def commit_of(tree: Path) -> str | None:
    """Return the commit whose content this spec tree has; None outside git, or with uncommitted changes."""
    head = _git(tree, "rev-parse", "--verify", "HEAD")
    if head is None:
        return None
    changes = _git(tree, "status", "--porcelain", "--untracked-files=all", "--", ".")
    return head if changes == "" else None


def signer_of(tree: Path, commit: str | None) -> str | None:
    """Return who signed a commit, if git accepts the signature by its own settings; else None."""
    if commit is None:
        return None
    verdict = _git(tree, "log", "-1", "--format=%G? %GS", commit)
    return verdict[2:] or None if verdict is not None and verdict.startswith("G ") else None


def subject_of(folder: Path, commit: str) -> str | None:
    """Return "<author>: <subject>" of a commit; None where git does not know it in this folder. Raises TimeoutError."""
    known = _COMMIT.fullmatch(commit) and _git_in_time(folder, "log", "-1", "--format=%an: %s", commit)
    return known or None


def commit_for(file: Path) -> str | None:
    """Return the last commit of a file as "<hash> <date> <author>: <subject>"; None where git does not know."""
    commit = _git(file.parent, "log", "-1", "--format=%h %as %an: %s", "--", file.name)
    if not commit:
        return None
    since = _git(file.parent, "status", "--porcelain", "--", file.name)
    return f"{commit} (and changed since)" if since else commit


@dataclass(frozen=True, slots=True)
class Past:
    """What git knows of the tree's past: in its own work tree, or in the repository that it was laid out from."""

    folder: Path  # to run git in
    tree: str  # the tree's folder, from there
    head: str
    shallow: bool

    def has(self, commit: str) -> bool:
        """Return whether the repository holds this commit."""
        return bool(_COMMIT.fullmatch(commit)) and _git(self.folder, "cat-file", "-e", f"{commit}^{{commit}}") == ""

    def named(self, file: str) -> bool:
        """Return whether any commit that the one in force builds on had this file of the tree."""
        path = f":(literal){file if self.tree == '.' else f'{self.tree}/{file}'}"
        return bool(_git(self.folder, "log", "-1", "--format=%H", self.head, "--", path))


def past_of(tree: Path, desired: Desired) -> Past | None:
    """Return what git knows of a tree's past; None where the tree is in no repository, or git cannot tell."""
    if desired.origin is None:
        folder, within, head = tree, ".", _git(tree, "rev-parse", "--verify", "HEAD")
    else:
        folder, within, head = Path(desired.origin.repository), desired.origin.folder, desired.commit
    if head is None:
        return None
    shallow = _git(folder, "rev-parse", "--is-shallow-repository") != "false"
    return Past(folder, within, head, shallow)


def is_in_git(tree: Path) -> bool:
    """Return whether a folder lies in a work tree of git, whether git can be asked or not."""
    resolved = tree.resolve()
    return any((folder / ".git").exists() for folder in (resolved, *resolved.parents))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, stripped, or None when it fails, takes too long or is not there."""
    try:
        return _git_in_time(folder, *arguments)
    except TimeoutError:
        return None


def _git_in_time(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, stripped, or None when it fails or is not there. It only reads: no lock is taken."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"},
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from None
    except OSError:
        return None
    return result.stdout.decode(errors="replace").strip() if result.returncode == 0 else None
