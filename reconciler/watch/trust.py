"""Decides which commits of a branch are trusted: reads the rules and judges by them. Called by `git_source`.

A commit is judged by the rules of the last accepted one, so nobody gets a commit accepted by changing the rules in it.
These rules are that commit's `[git]` table, or the command line where it has none. The first commit of all has to pass
by the command line *and* by its own table.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.records import dataclass
from reconciler.specs.files import Content, TreeRoot
from reconciler.specs.schema import GitSpec
from reconciler.specs.schema_errors import validate
from reconciler.specs.toml import TomlError, parse_toml
from reconciler.specs.tree import TREE_FILE
from reconciler.state_dir.files import replace_file
from reconciler.watch.git_repository import GitError, Repository

Signed = Literal["none", "head", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules by which the next commit is judged. `signers` is the text of an allowed signers file (ssh-keygen(1)).

    With "head" the head of the branch has to be signed, and vouches for the commits below it. With "all" every commit
    since the last accepted one has to be signed, those of merged branches included. A signature counts where its key
    was allowed at the time that the commit names; that of the head, where it also is allowed now, since who has an old
    key would name an old time.
    """

    require_signed: Signed = "none"
    signers: str | None = None


class UnreadableRulesError(Exception):
    """The reason why nobody can tell which rules a commit sets."""


def rules_in(root: Path, known_signers: str | None) -> Rules | None:
    """Read the rules that a commit sets for the next one from the tree at `root`; None when it has no `[git]` table.

    A table that requires signatures but names no signers keeps `known_signers`. Raises UnreadableRulesError for a wrong
    table, which must not count as a laxer one.
    """
    if not os.path.lexists(root / TREE_FILE):
        return None
    tree = TreeRoot(str(root))
    content = tree.read_spec(TREE_FILE, is_link=True)
    if not isinstance(content, Content):
        raise UnreadableRulesError(content.detail)
    try:
        table = parse_toml(content.text).get("git")
    except TomlError as error:
        raise UnreadableRulesError(f"{TREE_FILE}:{error.line}:{error.column}: {error}") from None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise UnreadableRulesError(f"{TREE_FILE}: git must be a table.")
    settings, complaints = validate(GitSpec, table)
    if settings is None or complaints:
        raise UnreadableRulesError(f"{TREE_FILE}: [git]: {complaints[0].detail}")
    named = settings.allowed_signers
    signers = _signers_of(tree, named) if named is not None else known_signers
    return Rules(require_signed=settings.require_signed, signers=signers)


def _signers_of(tree: TreeRoot, named: str) -> str | None:
    """Read the file of signers that a `[git]` table names; None when it cannot be read.

    An absolute path is a file of this machine, any other one a file of the tree.
    """
    if not named.startswith("/"):
        content = tree.read_spec(named, is_link=True)
        return content.text if isinstance(content, Content) else None
    try:
        return read_signers(Path(named))
    except (OSError, UnicodeDecodeError):
        return None


def read_signers(path: Path) -> str:
    """Read an allowed signers file. Raises OSError or UnicodeDecodeError."""
    return path.read_text(encoding="utf-8")


class Judge:
    """Judges commits of one repository. It writes the signers into `folder`, for git to read."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self._repository = repository
        self._folder = folder
        self._signers: str | None = None
        self._signed_by: dict[str, str] = {}  # commits that one of `_signers` signed, so that none is asked for twice

    def judge(self, head: str, since: str | None, rules: Rules) -> str | None:
        """Return who signed a head, if a signature is required; raises GitError when the rules refuse it.

        `since` is the last accepted commit. It is None for the first commit of all: trust begins there, so the commits
        below it are not checked.
        """
        if rules.require_signed == "none":
            return None
        if rules.signers is None:
            raise GitError(_no_signers(head, since, self._folder))
        for commit in self._repository.commits(since, head) if rules.require_signed == "all" and since else [head]:
            if self.signer(commit, rules.signers) is None:
                raise GitError(_unsigned(head) if commit == head or since is None else _gap(commit, head, since))
        if not self._repository.is_signing_key_valid_now(head, self._written(rules.signers)):
            raise GitError(_out_of_date(head))
        return self.signer(head, rules.signers)

    def signer(self, commit: str, signers: str) -> str | None:
        """Return which of the allowed signers signed a commit; None when nobody did."""
        if signers != self._signers:
            self._signers, self._signed_by = signers, {}
        if commit not in self._signed_by:
            signer = self._repository.signer(commit, self._written(signers))
            if signer is None:
                return None
            self._signed_by[commit] = signer
        return self._signed_by[commit]

    def _written(self, signers: str) -> Path:
        """Write the signers for git to read. Another watch of this folder may have written others since."""
        file = self._folder / "allowed-signers"
        replace_file(file, signers.encode(), durable=False)
        return file


def _refused(summary: str, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(kind=Kind.REFUSED, summary=summary, detail=detail, hint=hint)


def _unsigned(commit: str) -> Diagnostic:
    return _refused(
        "the commit is not signed by an allowed signer",
        f"Commit {commit[:12]} has to be signed with the ssh key of an allowed signer.",
        "sign a commit on top of it: git commit -S --allow-empty (with gpg.format = ssh)",
    )


def _out_of_date(commit: str) -> Diagnostic:
    return _refused(
        "the commit is signed with a key that is not valid now",
        f"Commit {commit[:12]} names a time at which its key was valid, and anybody can name any time.",
        "sign a commit on top of it with a key that is valid now: git commit -S --allow-empty (with gpg.format = ssh)",
    )


def _gap(commit: str, head: str, since: str) -> Diagnostic:
    sign = "git commit --amend --no-edit --allow-empty -S"
    return _refused(
        "a commit is not signed by an allowed signer",
        f"Every commit from {since[:12]} to {head[:12]} has to be signed with the ssh key of an allowed signer, and "
        f"{commit[:12]} is not.",
        f"sign them anew, and push that: git rebase --rebase-merges --exec '{sign}' {since[:12]}",
    )


def _no_signers(commit: str, since: str | None, folder: Path) -> Diagnostic:
    mend = "name a file that can be read as allowed_signers, in a signed commit on top of it"
    return _refused(
        "nobody is allowed to sign",
        f"Commit {commit[:12]} has to be signed, and no file of allowed signers is named, or it cannot be read.",
        mend if since is None else f"{mend}; then stop watch, and remove {folder} to begin with that commit",
    )
