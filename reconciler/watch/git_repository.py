"""Runs the `git` commands of a source: fetch one branch, judge a commit, lay out its files. Called by `git_source`.

Git is told to trust nothing that the repository says about itself: it runs no hooks, follows no submodules, asks no
questions at a terminal, and accepts only ssh signatures by the keys that it is given.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from reconciler.expressions import expression
from reconciler.leaving import kill_group, must_end
from reconciler.model.diagnostics import Diagnostic, Kind

_FETCH_SECONDS = 300
_LOCAL_SECONDS = 120
_FETCHED, _IN_FORCE = "refs/reconciler/fetched", "refs/reconciler/in-force"
_CAUTIOUS = {
    "core.hooksPath": os.devnull,
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "core.autocrlf": "false",  # kernels are bytes
    "gc.autoDetach": "false",  # nothing goes on in here once git has returned
    "core.fsync": "loose-object,pack,pack-metadata,reference",  # what is in force has to outlive a power cut
    "fetch.unpackLimit": "1",  # one file to sync, not one for each object
    "gpg.program": "false",  # an OpenPGP signature is judged by a keyring that nobody named
    "gpg.x509.program": "false",
    "log.showSignature": "false",  # what we ask for is all that we read
    "color.ui": "false",
}
_USER = expression(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/\s]*)@")
_ENDED = "it was ended, since watch was asked to stop"
_KEPT_SETTINGS = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_", "GIT_CONFIG_", "GIT_PROXY_")


class GitError(Exception):
    """The reason why there is no newer commit: git failed, or the commit is refused."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.detail)
        self.diagnostic = diagnostic


class Repository:
    """A bare copy of the history of one branch."""

    def __init__(self, folder: Path, url: str, branch: str) -> None:
        self._folder = folder
        self._url = url
        self._branch = branch
        self._fetches: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def fetch(self) -> str:
        """Fetch the branch with its history, and return the commit at its head."""
        with self._perhaps_alone():
            return self._fetch()

    def _fetch(self) -> str:
        refs = f"+refs/heads/{self._branch}:{_FETCHED}"
        options = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        if not self._stopped:
            self._run("fetch", *options, "--", self._url, refs, timeout=_FETCH_SECONDS)
        if self._stopped:
            raise GitError(self.problem(_ENDED))
        return self._run("rev-parse", "--verify", f"{_FETCHED}^{{commit}}")

    @contextmanager
    def _perhaps_alone(self) -> Iterator[None]:
        """Make sure that there is a repository to fetch into, and clear it of old locks if no other process fetches.

        When no other process fetches, any lock of git was left by a git that was killed, and git would wait for it for
        ever. When another process does fetch, git's own locks keep the two apart.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._folder.with_name("fetch.lock").open("a") as lock:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._clear_remains()
            if not self._is_whole():
                self._run("init", "--quiet", "--bare", "--template=", ".")
            yield

    def _clear_remains(self) -> None:
        """Remove the locks and the half-made repository that a killed git or a power cut left."""
        if not self._is_whole():
            shutil.rmtree(self._folder)
            self._folder.mkdir()
        for pattern in ("*.lock", "refs/**/*.lock", "objects/*.lock", "objects/info/**/*.lock"):
            for lock in self._folder.glob(pattern):
                if lock != self._lock_of(_IN_FORCE):
                    lock.unlink(missing_ok=True)

    def _is_whole(self) -> bool:
        return all(_has_content(self._folder / name) for name in ("HEAD", "config"))

    def _lock_of(self, ref: str) -> Path:
        return self._folder / f"{ref}.lock"

    def keep(self, commit: str) -> None:
        """Keep git from ever dropping this commit, also when the branch moves away from it.

        Callers must not run this twice at the same time.
        """
        self._lock_of(_IN_FORCE).unlink(missing_ok=True)
        self._run("update-ref", _IN_FORCE, commit)

    def kept(self) -> str | None:
        """Return the commit that was last kept; None when there is none, or the record is no commit."""
        found = self._try("rev-parse", "--verify", "--quiet", f"{_IN_FORCE}^{{commit}}")
        return found.stdout.decode(errors="replace").strip() or None if found.returncode == 0 else None

    def commits(self, since: str, head: str) -> list[str]:
        """List the commits that `head` has and `since` lacks, oldest first, those of merged branches included."""
        return self._run("rev-list", "--reverse", "--topo-order", head, f"^{since}").split()

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether the history of `newer` contains `older`."""
        result = self._try("merge-base", "--is-ancestor", older, newer)
        return result.returncode == 0

    def signer(self, commit: str, signers: Path) -> str | None:
        """Return who signed a commit with a key of the allowed signers file; None when nobody did."""
        allowed = ("-c", f"gpg.ssh.allowedSignersFile={signers}")
        if self._try(*allowed, "verify-commit", commit).returncode != 0:
            return None
        return self._run(*allowed, "log", "-1", "--format=%GS", commit) or None

    def is_signing_key_valid_now(self, commit: str, signers: Path) -> bool:
        """Return whether the key that signed a commit is allowed at this moment, by `valid-before` and the like.

        Git asks that of the moment that the commit names as its own, which whoever makes it is free to choose.
        """
        signature = _signature(self._output("cat-file", "commit", commit))
        if signature is None:
            return False
        with tempfile.NamedTemporaryFile(prefix="reconciler-signature-") as file:
            file.write(signature)
            file.flush()
            command = ["ssh-keygen", "-Y", "find-principals", "-s", file.name, "-f", str(signers)]
            try:
                asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOCAL_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise GitError(self.problem(f"ssh-keygen: {error}")) from None
        return asked.returncode == 0

    def lay_out(self, commit: str, path: str, folder: Path) -> bool:
        """Write the files below `path` in a commit into an empty folder; False when the commit has no such folder.

        A submodule becomes an empty folder; a symlink is laid out as one, and whoever reads decides where it may lead.
        """
        tree = f"{commit}:" if path == "." else f"{commit}:{path}"
        if self._try("cat-file", "-t", tree).stdout.strip() != b"tree":
            return False
        index = {"GIT_INDEX_FILE": str(folder.with_name(f"{folder.name}.index"))}
        Path(f"{index['GIT_INDEX_FILE']}.lock").unlink(missing_ok=True)  # of a git that was killed
        try:
            self._run("read-tree", tree, environment=index)
            self._run(f"--work-tree={folder}", "checkout-index", "--all", environment=index)
        finally:
            Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)
        return True

    def contents(self, commit: str, path: str) -> dict[str, str]:
        """Return for each file that `lay_out` writes a name of its content: where names are equal, so are the bytes.

        Symlinks are left out, since git only knows where they lead. Attributes can have git write other bytes than it
        holds, so the entries of all .gitattributes files are part of each name.
        """
        listed = self._run("ls-tree", "-r", "-z", "--full-tree", commit if path == "." else f"{commit}:{path}")
        entries = [line.partition("\t") for line in listed.split("\0") if line]
        attributes = [facts for facts, _, name in entries if name.rpartition("/")[2] == ".gitattributes"]
        kept = [(name, facts) for facts, _, name in entries if facts.startswith("100")]
        return {name: " ".join((facts, *attributes)) for name, facts in kept}

    def _run(
        self, *arguments: str, timeout: float = _LOCAL_SECONDS, environment: Mapping[str, str] | None = None
    ) -> str:
        output = self._output(*arguments, timeout=timeout, environment=environment)
        return output.decode(errors="replace").strip()

    def _output(
        self, *arguments: str, timeout: float = _LOCAL_SECONDS, environment: Mapping[str, str] | None = None
    ) -> bytes:
        result = self._try(*arguments, timeout=timeout, environment=environment)
        if result.returncode != 0:
            raise GitError(self.problem(result.stderr.decode(errors="replace")))
        return result.stdout

    def _try(
        self, *arguments: str, timeout: float = _LOCAL_SECONDS, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        settings = [part for key, value in _CAUTIOUS.items() for part in ("-c", f"{key}={value}")]
        running = self._fetches if arguments[0] == "fetch" else set()  # all else is done in no time
        try:
            with subprocess.Popen(
                ["git", "-C", str(self._folder), *settings, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**_environment(), **(environment or {})},
                start_new_session=True,  # so that Ctrl-C reaches us alone, and all that git begins can be ended
            ) as process:
                running.add(process)
                forget = must_end(partial(_kill, process))
                try:
                    out, err = process.communicate(timeout=timeout)
                except subprocess.TimeoutExpired:
                    _kill(process)
                    raise GitError(self.problem(f"no answer within {timeout:.0f} s")) from None
                finally:
                    forget()
                    running.discard(process)
        except OSError as error:
            raise GitError(self.problem(str(error))) from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def stop(self) -> None:
        """End a fetch that is under way in any thread, and begin no other one."""
        self._stopped = True
        for process in list(self._fetches):
            _kill(process)

    def problem(self, said: str) -> Diagnostic:
        """Make the diagnostic of a git command that failed, with the first error that git printed."""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        why = next(
            (line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else "it failed"
        )
        return Diagnostic(
            kind=Kind.WORLD,
            summary="the git repository cannot be read",
            detail=without_password(f"{self._url}, branch {self._branch}: git says: {why}.".replace("..", ".")),
            hint=without_password(f"try the same by hand: git ls-remote {self._url} {self._branch}"),
            transient=True,
        )


def _signature(commit: bytes) -> bytes | None:
    r"""Return the signature in a commit as git stores it; None where there is none.

    >>> _signature(b"tree 1\ngpgsig -----BEGIN\n abc\n -----END\ncommitter x\n\ngpgsig not this one\n")
    b'-----BEGIN\nabc\n-----END\n'
    """
    head, _, _ = commit.partition(b"\n\n")
    found = re.search(rb"^gpgsig (.*(?:\n .*)*)", head, re.MULTILINE)
    return found[1].replace(b"\n ", b"\n") + b"\n" if found else None


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a git with all processes that it began, such as ssh or the helper for https."""
    kill_group(process.pid)


def one_spelling(url: str) -> str:
    """Spell a URL or a local path in one way, so that it is the same source from whatever folder we run."""
    is_path = ":" not in url.partition("/")[0]  # neither a URL nor host:path
    return os.path.normpath(Path(url).absolute()) if is_path else url.rstrip("/")


def without_password(text: str) -> str:
    """Blank out passwords in URLs, and user names too, since a token may stand there."""
    return _USER.sub(lambda found: found[0] if _is_ssh_user(found) else f"{found['scheme']}***@", text)


def _is_ssh_user(found: re.Match[str]) -> bool:
    return found["scheme"] in ("ssh://", "git+ssh://") and ":" not in found["user"]


def is_branch_name(name: str) -> bool:
    """Return whether git allows a branch of this name."""
    try:
        return subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False).returncode == 0
    except (OSError, ValueError) as error:  # no git, which is told when it is needed; a NUL
        return isinstance(error, OSError)


def _environment() -> dict[str, str]:
    """Return our environment without the variables that would lead git to another repository."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key.startswith(_KEPT_SETTINGS)
    }
    return kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
