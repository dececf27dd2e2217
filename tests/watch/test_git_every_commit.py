"""`require_signed = "all"`: every commit since the last accepted one has to be signed, however it came in."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from reconciler.watch.loop import Watcher
from reconciler.watch.trust import Rules
from tests.watch.authors import IDENTITY, Author, follow, summaries
from tests.watch.conftest import TREE, World, look

DB = {"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'}


@pytest.fixture
def watcher(world: World, author: Author) -> Watcher:
    """It has accepted a first commit, signed, on top of one that is not."""
    author.push(TREE)
    first = author.push(sign=True)
    watcher = follow(world, author, rules=Rules(require_signed="all", signers=author.signers))
    assert look(watcher).commit == first
    return watcher


def test_a_signed_head_does_not_vouch_for_what_it_stands_on(world: World, author: Author, watcher: Watcher) -> None:
    first = author.run("rev-parse", "HEAD")
    unsigned = author.commit(DB)
    author.push(sign=True)
    assert look(watcher).commit == first
    assert summaries(world) == ["a commit is not signed by an allowed signer"]
    (problem,) = world.record().problems
    assert unsigned[:12] in problem.detail
    assert first[:12] in (problem.hint or "")


def test_many_signed_commits_at_once_are_accepted(author: Author, watcher: Watcher) -> None:
    for memory in (64, 80, 96):
        author.commit({"specs/alpha/db.toml": f'kernel = "/boot/vmlinuz"\nmemory = {memory}\n'}, sign=True)
    head = author.publish()
    outcome = look(watcher)
    assert (outcome.commit, outcome.signer) == (head, "ada@example.org")


@pytest.mark.parametrize(("sign_side", "sign"), [(True, True), (False, True), (True, False)])
def test_a_merge_and_all_that_it_brings_in_have_to_be_signed(
    author: Author, watcher: Watcher, sign_side: bool, sign: bool
) -> None:
    first = author.run("rev-parse", "HEAD")
    merge = author.merge_of(DB, sign_side=sign_side, sign=sign)
    author.publish()
    assert look(watcher).commit == (merge if sign_side and sign else first)


def test_a_foreign_key_in_between_is_not_enough(world: World, author: Author, watcher: Watcher) -> None:
    first = author.run("rev-parse", "HEAD")
    own, author.key = author.key, Author(world.folder / "stranger").key
    author.commit(DB, sign=True)
    author.key = own
    author.push(sign=True)
    assert look(watcher).commit == first


def test_rules_that_become_strict_say_nothing_of_the_past(world: World, author: Author, watcher: Watcher) -> None:
    table = '[git]\nrequire_signed = "{}"\nallowed_signers = "signers"\n'
    author.push({"specs/reconciler.toml": table.format("head"), "specs/signers": author.signers}, sign=True)
    look(watcher)
    author.commit(DB)
    strict = author.push({"specs/reconciler.toml": table.format("all")}, sign=True)
    assert look(watcher).commit == strict
    author.commit({"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 96\n'})
    author.push(sign=True)
    assert look(watcher).commit == strict
    assert summaries(world) == ["a commit is not signed by an allowed signer"]


def test_who_follows_the_hint_is_let_in(world: World, author: Author, watcher: Watcher) -> None:
    author.merge_of(DB, sign_side=False, sign=False)
    author.publish()
    look(watcher)
    (problem,) = world.record().problems
    command = (problem.hint or "").partition(": ")[2]
    settings = {**IDENTITY, "gpg.format": "ssh", "user.signingkey": str(author.key)}
    for key, value in settings.items():
        author.run("config", key, value)
    subprocess.run(shlex.split(command), cwd=author.work, check=True, capture_output=True)
    head = author.publish()
    assert look(watcher).commit == head
    assert world.running("db").running is not None
