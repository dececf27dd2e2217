"""What a power cut or a killed git leaves of a followed branch: watch goes on by itself, and is not fooled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.state_dir.disk import Disk
from tests.watch.authors import Author, follow, signed_only, summaries
from tests.watch.conftest import TREE, World, look

STRICT = '[git]\nrequire_signed = "head"\nallowed_signers = "signers"\n'
OTHER = {"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'}


def the_folder(world: World) -> Path:
    (folder,) = (world.state_dir / "git").iterdir()
    return folder


def test_the_accepted_commit_is_on_the_disk(world: World, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.push(TREE)
    disk = Disk(monkeypatch)
    look(follow(world, author))
    assert disk.kept(the_folder(world) / "accepted.json")


@pytest.mark.parametrize("torn", ["", "{", "\0\0\0", '{"commit": 5}', None])
def test_what_was_accepted_is_known_though_its_file_is_torn(world: World, author: Author, torn: str | None) -> None:
    author.push({**TREE, "specs/reconciler.toml": STRICT, "specs/signers": author.signers}, sign=True)
    first = author.push(sign=True)
    look(follow(world, author))
    file = the_folder(world) / "accepted.json"
    whole = file.read_bytes()
    file.unlink() if torn is None else file.write_text(torn)
    author.push(OTHER)
    outcome = look(follow(world, author))
    assert outcome.commit == first, "the rules still hold"
    assert summaries(world) == ["the commit is not signed by an allowed signer"]
    assert file.read_bytes() == whole
    file.write_text(torn or "")
    author.run("reset", "--quiet", "--hard", f"{first}~")
    author.push(OTHER, sign=True)
    assert look(follow(world, author)).commit == first
    assert summaries(world) == ["the history of the branch was rewound"]


def test_without_a_table_the_command_line_of_now_judges(world: World, author: Author) -> None:
    first = author.push(TREE)
    look(follow(world, author))
    (the_folder(world) / "accepted.json").write_text("")
    author.push(OTHER)
    outcome = look(follow(world, author, rules=signed_only(author)))
    assert outcome.commit == first
    assert summaries(world) == ["the commit is not signed by an allowed signer"]


def test_rules_that_nobody_knows_any_more_are_no_reason_to_trust_the_next(world: World, author: Author) -> None:
    author.push({**TREE, "specs/reconciler.toml": STRICT, "specs/signers": author.signers}, sign=True)
    watcher = follow(world, author)
    look(watcher)
    author.push({"specs/reconciler.toml": "[git\n"}, sign=True)
    look(watcher)
    (the_folder(world) / "accepted.json").write_text("")
    author.push({"specs/reconciler.toml": ""})
    assert look(follow(world, author)).plan is None
    assert summaries(world) == ["the last accepted commit is not known"]


def test_a_damaged_memory_of_the_last_commit_is_no_reason_to_trust_the_next(world: World, author: Author) -> None:
    author.push(TREE)
    look(follow(world, author))
    (the_folder(world) / "accepted.json").write_text("{")
    (the_folder(world) / "repository.git/refs/reconciler/in-force").write_text("")
    assert look(follow(world, author)).plan is None
    assert summaries(world) == ["the last accepted commit is not known"]


@pytest.mark.parametrize(
    "lock",
    [
        *("refs/reconciler/fetched", "refs/reconciler/in-force", "packed-refs", "config", "HEAD", "shallow"),
        *("gc.pid", "objects/maintenance", "objects/info/commit-graphs/commit-graph-chain"),
    ],
)
def test_a_lock_of_a_git_that_was_killed_keeps_no_commit_out(world: World, author: Author, lock: str) -> None:
    author.push(TREE)
    look(follow(world, author))
    file = the_folder(world) / f"repository.git/{lock}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    head = author.push(OTHER)
    outcome = look(follow(world, author))
    assert (outcome.commit, outcome.problems) == (head, ())
    assert not file.exists()


def test_a_lock_on_the_files_of_a_commit_keeps_it_out_neither(world: World, author: Author) -> None:
    author.push(TREE)
    look(follow(world, author))
    head = author.push(OTHER)
    (the_folder(world) / f"trees/{head}.draft.index.lock").touch()
    outcome = look(follow(world, author))
    assert (outcome.commit, outcome.problems) == (head, ())


@pytest.mark.parametrize("name", ["HEAD", "config"])
def test_a_repository_that_was_being_made_is_made_anew(world: World, author: Author, name: str) -> None:
    author.push(TREE)
    look(follow(world, author))
    (the_folder(world) / "repository.git" / name).write_text("")
    head = author.push(OTHER)
    outcome = look(follow(world, author))
    assert (outcome.commit, outcome.problems) == (head, ())
    assert outcome.result.done
