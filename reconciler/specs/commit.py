"""Finds the commit that a folder of specs was checked out from, when it is part of a git work tree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_TIMEOUT_SECONDS = 20


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


def commit_for(file: Path) -> str | None:
    """Return the last commit of a file as "<hash> <date> <author>: <subject>"; None where git does not know."""
    commit = _git(file.parent, "log", "-1", "--format=%h %as %an: %s", "--", file.name)
    if not commit:
        return None
    since = _git(file.parent, "status", "--porcelain", "--", file.name)
    return f"{commit} (and changed since)" if since else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, stripped, or None when it fails or is not there. It only reads: no lock is taken."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode(errors="replace").strip() if result.returncode == 0 else None
