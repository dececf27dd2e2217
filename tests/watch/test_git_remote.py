"""A remote that is slow, gone or has something new; and what is told of its URL."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from reconciler.watch import git_source as git_source_module
from reconciler.watch.git_source import GitSource
from reconciler.watch.news import Outcome
from reconciler.watch.trust import Rules
from tests.watch.authors import Author, follow, signed_only, summaries
from tests.watch.conftest import TREE, Begin, World, look, until


def test_a_repository_that_vanishes_leaves_the_last_commit_in_force(world: World, author: Author) -> None:
    commit = author.push(TREE)
    watcher = follow(world, author)
    look(watcher)
    author.remote.rename(world.folder / "away.git")
    world.hand.destroy("web")
    for again in (watcher, follow(world, author)):
        outcome = look(again)
        assert outcome.commit == commit
        assert summaries(world) == ["the git repository cannot be read"]
    assert world.running().running is not None
    (world.folder / "away.git").rename(author.remote)
    assert not look(watcher).problems


@pytest.mark.parametrize("url", ["/nowhere/at/all.git", "--upload-pack=touch pwned", "ext::sh -c touch% pwned"])
def test_a_repository_that_never_was(world: World, url: str) -> None:
    outcome = look(world.watcher(GitSource(url, "main", "", Rules(), world.state_dir)))
    assert outcome.plan is None
    assert [problem.summary for problem in outcome.problems] == ["the git repository cannot be read"]
    assert not list(world.folder.rglob("pwned"))


@pytest.fixture
def slow_remote(author: Author, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the remote by way of an ssh that hangs as soon as there is a file `hang`; see also `hanging`."""
    ssh = author.folder / "ssh"
    ssh.write_text(
        f"#!/bin/sh\nif [ -e {author.folder}/hang ]; then echo $$ >{author.folder}/hanging; exec sleep 300; fi\n"
        'for last in "$@"; do :; done\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o700)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    monkeypatch.setenv("GIT_SSH_VARIANT", "ssh")
    return f"ssh://git@localhost{author.remote}"


def lives(author: Author) -> bool:
    """Whether the ssh that hangs is still there, or a zombie that nobody has asked for yet."""
    stat = Path(f"/proc/{(author.folder / 'hanging').read_text().strip()}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_remote_that_hangs_keeps_no_repair_waiting(
    world: World, author: Author, slow_remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_source_module, "_PATIENCE_SECONDS", 0.5)
    commit = author.push(TREE)
    watcher = world.watcher(GitSource(slow_remote, "main", "specs", Rules(), world.state_dir))

    async def passes() -> tuple[Outcome, Outcome]:
        await watcher.make_pass(frozenset())
        (author.folder / "hang").touch()
        world.hand.destroy("web")
        hung = await watcher.make_pass(frozenset())
        (author.folder / "hang").unlink()
        again = await watcher.make_pass(frozenset())
        watcher.stop()
        return hung, again

    began = time.monotonic()
    for outcome in asyncio.run(passes()):
        assert outcome.commit == commit
        assert ["no answer within" in problem.detail for problem in outcome.problems] == [True]
    assert time.monotonic() - began < 20
    assert world.running().running is not None
    assert not lives(author)


def test_a_signal_does_not_wait_for_a_remote_that_hangs(
    world: World, author: Author, slow_remote: str, begin: Begin
) -> None:
    (author.folder / "hang").touch()
    watch = begin("--git", slow_remote)
    until((author.folder / "hanging").exists)
    began = time.monotonic()
    assert watch.end() == 0
    assert time.monotonic() - began < 10
    until(lambda: not lives(author))


def newer_commits_heard(world: World, author: Author, *, sign: bool) -> int:
    """How often the source asks for a pass after a push, while none reads."""
    asked: list[str] = []
    author.push(TREE, sign=True)

    async def listen() -> None:
        source = GitSource(str(author.remote), "main", "specs", signed_only(author), world.state_dir, 0.2)
        await source.read()
        task = asyncio.create_task(source.watch(lambda: asked.append("now")))
        await asyncio.to_thread(author.push, sign=sign)
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(listen())
    return len(asked)


def test_a_newer_commit_asks_for_a_pass_once(world: World, author: Author) -> None:
    assert newer_commits_heard(world, author, sign=True) == 1


def test_a_commit_that_is_refused_asks_for_none(world: World, author: Author) -> None:
    assert newer_commits_heard(world, author, sign=False) == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:s3cret@127.0.0.1:1/x.git", "https://***@127.0.0.1:1/x.git"),
        ("https://s3cret@127.0.0.1:1/x.git", "https://***@127.0.0.1:1/x.git"),
        ("ssh://git:s3cret@127.0.0.1:1/x.git", "ssh://***@127.0.0.1:1/x.git"),
        ("ssh://git@127.0.0.1:1/x.git", "ssh://git@127.0.0.1:1/x.git"),
    ],
)
def test_a_password_in_the_url_is_told_nowhere(world: World, url: str, shown: str) -> None:
    watcher = world.watcher(GitSource(url, "main", "", Rules(), world.state_dir))
    (problem,) = look(watcher).problems
    told = (world.state_dir / "watch.json").read_text() + world.log.getvalue() + str(problem)
    assert shown in told
    assert "s3cret" not in told
