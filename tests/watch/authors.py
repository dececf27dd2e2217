"""Somebody who pushes to a real bare repository, and a watch that follows it. For the tests of git as the source."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.watch.git_source import GitSource
from reconciler.watch.loop import Watcher
from reconciler.watch.trust import Rules
from tests.transcript import write_files

if TYPE_CHECKING:
    from tests.watch.conftest import World

IDENTITY = {
    "user.name": "Ada",
    "user.email": "ada@example.org",
    "commit.gpgsign": "false",
    "protocol.file.allow": "always",
}


class Author:
    """Somebody with a clone, and a key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.remote = folder / "remote.git"
        self.work = folder / "work"
        self.key = folder / "key"
        self.branch = "main"
        self.run("init", "--quiet", "--bare", "--initial-branch=main", str(self.remote), cwd=folder)
        self.run("clone", "--quiet", str(self.remote), str(self.work), cwd=folder)
        self.run("checkout", "--quiet", "-b", "main")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        public = self.key.with_suffix(".pub").read_text()
        self.signers = f"ada@example.org {public}"

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        own = {"gpg.format": "ssh", "user.signingkey": str(self.key)}
        settings = [part for key, value in {**IDENTITY, **own}.items() for part in ("-c", f"{key}={value}")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=cwd or self.work,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def push(self, files: dict[str, str] | None = None, *, sign: bool = False) -> str:
        """Commit all there is, with these files written first; the new commit."""
        self.commit(files, sign=sign)
        return self.publish()

    def commit(self, files: dict[str, str] | None = None, *, sign: bool = False) -> str:
        write_files(files or {}, self.work)
        self.run("add", "--all")
        self.run("commit", "--quiet", "--allow-empty", "-m", "work", *(["-S"] if sign else []))
        return self.run("rev-parse", "HEAD")

    def merge_of(self, files: dict[str, str], *, sign_side: bool, sign: bool) -> str:
        """Commit on a side branch, and merge that; the merge."""
        self.run("checkout", "--quiet", "-b", "side")
        self.commit(files, sign=sign_side)
        self.run("checkout", "--quiet", self.branch)
        self.commit(sign=True)
        self.run("merge", "--quiet", "--no-ff", "-m", "merge", *(["-S"] if sign else []), "side")
        self.run("branch", "--quiet", "-D", "side")
        return self.run("rev-parse", "HEAD")

    def publish(self) -> str:
        self.run("push", "--quiet", "--force", "origin", self.branch)
        return self.run("rev-parse", "HEAD")


def follow(world: World, author: Author, *, path: str = "specs", rules: Rules | None = None) -> Watcher:
    return world.watcher(GitSource(str(author.remote), "main", path, rules or Rules(), world.state_dir))


def git_source(world: World, author: Author) -> GitSource:
    return GitSource(str(author.remote), "main", "specs", Rules(), world.state_dir)


def signed_only(author: Author) -> Rules:
    return Rules(require_signed="head", signers=author.signers)


def summaries(world: World) -> list[str]:
    return [problem.summary for problem in world.record().problems]
