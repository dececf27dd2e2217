"""Reads specs from a branch of a git repository: each pass fetches it, judges its head, and lays the files out.

All is kept under `<state dir>/git/<source>/`: `repository.git` holds the history, `trees/<commit>` the files of the
commit in force, `accepted.json` names that commit and the rules by which the next one is judged, and `left-alone.json`
the domains that it, or a commit before it that still named them, said to leave alone. The rules are the
rules of the last accepted commit, so nobody gets a commit accepted by changing the rules in it. When a commit is
refused or the remote is down, the last good commit stays in force.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError
from reconciler.model.fleet import Origin
from reconciler.records import dataclass
from reconciler.show.escape import plain
from reconciler.specs import TreeCache, read_tree
from reconciler.state_dir import rewound
from reconciler.state_dir.files import make_folder, replace_file
from reconciler.state_dir.rewound import Rewound
from reconciler.watch.git_repository import GitError, Repository, one_spelling, without_password
from reconciler.watch.left_alone import LeftAlone, after, damaged, load, store
from reconciler.watch.source import Specs
from reconciler.watch.trust import Judge, Rules, UnreadableRulesError, rules_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The commit in force. With `rules` None it sets none, so the rules of the command line judge the next one."""

    commit: str
    signer: str | None
    rules: Rules | None


_PATIENCE_SECONDS = 15.0  # of a pass with a remote, while hosts may need a repair
_INTERVAL_SECONDS = 60.0
_SLACK = 1.1  # of an interval: passes at rest begin sooner after one another
_ACCEPTED = TypeAdapter(Accepted)


class GitSource:
    """Follows one branch. `path` is the folder of specs in the repository, `first` the rules of the command line."""

    def __init__(
        self,
        url: str,
        branch: str,
        path: str,
        first: Rules,
        state_dir: Path,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        url, path = one_spelling(url), os.path.normpath(path.strip("/") or ".")
        place = f"{branch}: {path}" if path != "." else branch
        self.name = plain(f"{without_password(url)} ({place})")
        trusted = "\0".join((url, branch, path if path != "." else ""))
        identity = hashlib.sha256(trusted.encode(errors="surrogateescape")).hexdigest()[:12]
        self._state_dir = state_dir
        self._folder = (state_dir / "git" / identity).absolute()  # git runs in another folder
        self._accepted_file = self._folder / "accepted.json"
        self._left_alone_file = self._folder / "left-alone.json"
        self._repository = Repository(self._folder / "repository.git", url, branch)
        self._origin = Origin(repository=str(self._folder / "repository.git"), folder=path)
        self._judge = Judge(self._repository, self._folder)
        self._path = path
        self._first = first
        self._cache = TreeCache()
        self._interval_seconds = interval_seconds
        self._fetching: asyncio.Task[str] | None = None
        self._fetch_began = time.monotonic()
        self._head: str | None = None  # as last fetched
        self._laid_out: str | None = None  # the commit whose files this process has written
        self._in_use: frozenset[str] = frozenset()  # commits before it that hosts still take files from
        self._contents: Mapping[str, str] = {}  # what names the content of each of them

    async def read(self, in_use: Collection[Path] = ()) -> Specs:
        """Return the newest accepted specs. A slow remote is waited for only 15 s if older specs can be had.

        The fetch goes on after that, and what it brings is judged at the next reading.
        """
        problem, self._in_use = None, frozenset(root.name for root in in_use)
        try:
            await self._fetched(_PATIENCE_SECONDS if self._accepted_file.exists() else None)
        except GitError as error:
            problem = error.diagnostic
        except OSError as error:
            problem = _not_stored(self._folder, error)
        return await asyncio.to_thread(self._read, problem)

    async def watch(self, ask: Callable[[], None]) -> None:
        """Fetch now and then during a long pass, and ask for a new pass when a commit would be accepted."""
        asked = None
        while True:
            wait_seconds = self._fetch_began + _SLACK * self._interval_seconds - time.monotonic()
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)
                continue
            try:
                head = await self._fetched(None)
                if head != asked and await asyncio.to_thread(self._is_acceptable, head):
                    asked = head
                    ask()
            except (GitError, OSError):  # the next reading tells
                continue

    def laid_out(self) -> Path | None:
        """Return the folder with the files of the commit in force; None where there is none yet."""
        try:
            accepted = _ACCEPTED.validate_json(self._accepted_file.read_bytes())
        except (OSError, ValidationError):
            return None
        folder = self._folder / "trees" / accepted.commit
        return folder if folder.is_dir() else None

    def follows(self, older: str, newer: str) -> bool:
        """Return whether one commit goes on from another, as far as is known here."""
        return self._repository.is_ancestor(older, newer)

    def stop(self) -> None:
        self._repository.stop()

    async def _fetched(self, seconds: float | None) -> str:
        """Fetch the head of the branch within `seconds`. Callers at the same time share one fetch."""
        if self._fetching is None or self._fetching.done():
            self._fetch_began = time.monotonic()
            self._fetching = asyncio.create_task(asyncio.to_thread(self._repository.fetch))
            self._fetching.add_done_callback(_heed)
        ended, _ = await asyncio.wait({self._fetching}, timeout=seconds)
        if not ended:
            raise GitError(self._repository.problem(f"no answer within {seconds:.0f} s, and it is waited for"))
        self._head = self._fetching.result()
        return self._head

    def _read(self, problem: Diagnostic | None) -> Specs:
        try:
            with self._alone():
                return self._judged(problem)
        except GitError as error:
            raise ReconcilerError(error.diagnostic) from None
        except OSError as error:
            raise ReconcilerError(_not_stored(self._folder, error)) from None

    def _judged(self, problem: Diagnostic | None) -> Specs:
        """Return the specs of the newest accepted commit. `problem` says why fetching failed, if it did."""
        accepted = self._last_accepted()
        problems = [problem] if problem is not None else []
        if self._head is not None:
            try:
                if accepted is not None and self._head != accepted.commit:
                    self._note_left_alone(accepted.commit)  # before another one takes its place
                accepted = self._newer(self._head, accepted)
            except GitError as error:
                problems.append(error.diagnostic)
            except OSError as error:
                problems.append(_not_stored(self._folder, error))
        if accepted is None:
            raise ReconcilerError(*problems)
        root = self._lay_out(accepted.commit)
        reading = read_tree(root, self._cache, self._contents, needs_fleet=True)
        left_alone = self._left_alone_by(accepted.commit, problems)
        reading = replace(
            reading,
            desired=replace(
                reading.desired,
                commit=accepted.commit,
                origin=self._origin,
                left_alone=frozenset(left_alone.addresses if left_alone is not None else ()),
                kept=frozenset(left_alone.kept if left_alone is not None else ()),
                prune=reading.desired.prune and left_alone is not None,
            ),
            diagnostics=tuple(self._in_commit(one, accepted.commit, root) for one in reading.diagnostics),
        )
        self._drop_trees_but(accepted.commit)
        told = tuple(_still_in_force(one, accepted.commit) for one in problems)
        return Specs(reading=reading, root=root, signer=accepted.signer, problems=told)

    def _left_alone_by(self, commit: str, problems: list[Diagnostic]) -> LeftAlone | None:
        """Return what a commit in force and those before it left alone; None, and why, when nobody can tell."""
        try:
            known = self._note_left_alone(commit)
        except OSError as error:
            problems.append(_not_stored(self._folder, error))
            return None
        if known is None:
            problems.append(damaged(self._left_alone_file))
        return known

    def _note_left_alone(self, commit: str) -> LeftAlone | None:
        """Note what a commit in force leaves alone. Returns what is noted by then; None when the list is damaged."""
        known = load(self._left_alone_file)
        if known is not None and known.commit != commit:
            root = self._lay_out(commit)
            known = after(known, commit, root, read_tree(root, self._cache, self._contents, needs_fleet=True))
            store(self._left_alone_file, known)
        return known

    def _in_commit(self, problem: Diagnostic, commit: str, root: Path) -> Diagnostic:
        """Give the place of a problem as COMMIT:PATH, which `git show` understands.

        The path of the laid out file would tell a person nothing.
        """
        if problem.source is None:
            return problem
        path = Path(self._path, os.path.relpath(problem.source.path, root))
        return replace(problem, source=replace(problem.source, path=f"{commit[:12]}:{path}"))

    def _newer(self, head: str, accepted: Accepted | None) -> Accepted:
        """Accept the head of the branch if the rules allow it; raises GitError when they refuse it."""
        if accepted is not None and head == accepted.commit:
            return accepted
        if accepted is None:
            return self._accept(self._first_one(head))
        signer = self._check(head, accepted)
        rules = self._rules_after(self._lay_out(head), accepted.rules)
        return self._accept(Accepted(commit=head, signer=signer, rules=rules))

    def _accept(self, accepted: Accepted) -> Accepted:
        """Record that a commit is in force from now on, so that a power cut does not undo it."""
        self._repository.keep(accepted.commit)
        replace_file(self._accepted_file, _ACCEPTED.dump_json(accepted), durable=True)
        rewound.forget(self._folder)
        self._drop_trees_but(accepted.commit)
        return accepted

    def _first_one(self, head: str) -> Accepted:
        """Judge the first commit of all by the rules of the command line and by its own `[git]` table."""
        signer = self._judge.judge(head, None, self._first)
        root = self._lay_out(head)
        self._drop_trees_but(head)
        try:
            rules = rules_in(root, self._first.signers)
        except UnreadableRulesError as error:
            raise GitError(_unreadable(head, str(error))) from None
        if rules is not None:
            signer = self._judge.judge(head, None, rules) or signer
        return Accepted(commit=head, signer=signer, rules=rules)

    def _is_acceptable(self, head: str) -> bool:
        """Return whether a head is newer than the accepted commit; raises GitError when it is refused."""
        with self._alone():
            accepted = self._last_accepted()
            if accepted is not None and head != accepted.commit:
                self._check(head, accepted)
                return True
        return False

    def _check(self, head: str, accepted: Accepted) -> str | None:
        """Return who signed a head, if signatures are required; raises GitError when it is refused."""
        goes_on = self._repository.is_ancestor(accepted.commit, head)
        if not goes_on and not rewound.is_accepted(self._folder, head):
            rewound.note(self._folder, Rewound(head=head, accepted=accepted.commit, source=self.name))
            raise GitError(_rewound(head, accepted.commit, self._state_dir))
        return self._judge.judge(head, accepted.commit, accepted.rules or self._first)

    def _rules_after(self, root: Path, before: Rules | None) -> Rules | None:
        """Read the rules that an accepted commit sets. A table that cannot be read changes nothing."""
        try:
            return rules_in(root, (before or self._first).signers or self._first.signers)
        except UnreadableRulesError:
            return before

    def _last_accepted(self) -> Accepted | None:
        try:
            return _ACCEPTED.validate_json(self._accepted_file.read_bytes())
        except FileNotFoundError:
            return self._remembered()
        except ValidationError:  # a power cut, with a version that did not sync it; a bad disk
            accepted = self._remembered()
            if accepted is None:
                raise GitError(_forgotten(self._folder)) from None
            return accepted

    def _remembered(self) -> Accepted | None:
        """Restore the last accepted commit and its rules from the repository; None when there is none."""
        commit = self._repository.kept()
        if commit is None:
            return None
        try:
            rules = rules_in(self._lay_out(commit), self._first.signers)
        except UnreadableRulesError:  # those of the commit before it hold, and nobody knows them any more
            raise GitError(_forgotten(self._folder)) from None
        signer = self._judge.signer(commit, rules.signers) if rules is not None and rules.signers else None
        return self._accept(Accepted(commit=commit, signer=signer, rules=rules))

    def _lay_out(self, commit: str) -> Path:
        """Write the files of a commit into a folder that appears whole or not at all, and return that folder.

        A folder that another process left is written again: after a power cut its files may have lost their content.
        """
        folder = self._folder / "trees" / commit
        if self._laid_out == commit and folder.is_dir():
            return folder
        draft = folder.with_name(f"{commit}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if not self._repository.lay_out(commit, self._path, draft):
            shutil.rmtree(draft)
            raise GitError(_no_folder(commit, self._path))
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        self._laid_out, self._contents = commit, self._repository.contents(commit, self._path)
        return folder

    def _drop_trees_but(self, commit: str) -> None:
        for folder in (self._folder / "trees").iterdir():
            if folder.name != commit and folder.name not in self._in_use:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the source's folder, so that two watches with one state directory take turns."""
        make_folder(self._folder)
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _heed(fetching: asyncio.Task[str]) -> None:
    """Take note of how a fetch ended, lest asyncio complain of an error that nobody asked about."""
    if not fetching.cancelled():
        fetching.exception()


def _refused(summary: str, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(kind=Kind.REFUSED, summary=summary, detail=detail, hint=hint)


def _still_in_force(problem: Diagnostic, commit: str) -> Diagnostic:
    return replace(problem, detail=f"{problem.detail} Commit {commit[:12]} stays in force.")


def _rewound(head: str, accepted: str, state_dir: Path) -> Diagnostic:
    return _refused(
        "the history of the branch was rewound",
        f"Its head {head[:12]} does not go on from {accepted[:12]}, the last commit that was accepted.",
        "put the new commits on top of that one; or, if this was meant: "
        f"reconciler --state-dir {shlex.quote(str(state_dir.absolute()))} accept {head[:12]}",
    )


def _no_folder(commit: str, path: str) -> Diagnostic:
    return _refused(
        "the commit has no specs",
        f"In commit {commit[:12]} there is no folder {path}.",
        "name the folder of the specs in the repository with --path",
    )


def _unreadable(commit: str, why: str) -> Diagnostic:
    return _refused(
        "the rules of the first commit cannot be read",
        f"Commit {commit[:12]} would be the first one, and nobody can tell whether it has to be signed: {why}",
        "put a commit on top of it that mends reconciler.toml",
    )


def _forgotten(folder: Path) -> Diagnostic:
    return _refused(
        "the last accepted commit is not known",
        f"{folder / 'accepted.json'} is damaged, so nobody can tell whether the history was rewound.",
        f"look at the branch, then remove {folder} to begin with its head",
    )


def _not_stored(folder: Path, error: OSError) -> Diagnostic:
    return Diagnostic(
        kind=Kind.WORLD,
        summary="the commit cannot be stored",
        detail=f"{folder} cannot be written: {error.strerror or error}.",
        hint="look whether the disk of the state directory is full",
        transient=True,
    )
