"""Which commits of a branch are accepted, with a real ssh key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.apply.history import History
from reconciler.cli.program import run
from reconciler.watch.git_source import GitSource
from reconciler.watch.trust import Rules
from tests.watch.authors import Author, follow, signed_only, summaries
from tests.watch.conftest import TREE, World, look


def test_rewound_history_is_refused_and_going_on_from_the_old_one_is_not(world: World, author: Author) -> None:
    first = author.push(TREE)
    second = author.push({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 128\nmaxmem = 256\n'})
    watcher = follow(world, author)
    look(watcher)
    author.run("reset", "--quiet", "--hard", first)
    author.push({"specs/alpha/web.toml": 'kernel = "/boot/evil"\nmemory = 64\n'})
    for again in (watcher, follow(world, author)):
        outcome = look(again)
        assert outcome.commit == second
        assert summaries(world) == ["the history of the branch was rewound"]
        assert second[:12] in world.record().problems[0].detail
    author.run("reset", "--quiet", "--hard", second)
    third = author.push({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 192\nmaxmem = 256\n'})
    assert look(watcher).commit == third
    assert summaries(world) == []


def test_a_person_accepts_a_rewound_branch(world: World, author: Author, capsys: pytest.CaptureFixture[str]) -> None:
    first = author.push(TREE)
    author.push({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 128\nmaxmem = 256\n'})
    watcher = follow(world, author)
    look(watcher)
    author.run("reset", "--quiet", "--hard", first)
    meant = author.push({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\nmaxmem = 256\n'})
    look(watcher)
    (hint,) = [problem.hint for problem in world.record().problems]
    command = f"reconciler --state-dir {world.state_dir} accept {meant[:12]}"
    assert hint is not None
    assert hint.endswith(command)
    assert accept(world.state_dir, meant[:6], capsys)[0] == 3
    code, told = accept(world.state_dir, "0123456789ab", capsys)
    assert code == 3
    assert f"It refused: {meant[:12]}." in told
    assert accept(world.state_dir, meant[:12], capsys)[0] == 0
    assert look(watcher).commit == meant
    assert summaries(world) == []
    assert "It refused: none." in accept(world.state_dir, meant[:12], capsys)[1]
    author.run("reset", "--quiet", "--hard", first)
    again = author.push({"specs/alpha/web.toml": 'kernel = "/boot/evil"\nmemory = 64\n'})
    assert look(watcher).commit == meant
    assert again not in (meant, first)


def test_what_a_person_accepts_is_still_judged_by_its_signature(
    world: World, author: Author, capsys: pytest.CaptureFixture[str]
) -> None:
    first = author.push(TREE, sign=True)
    author.push({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 128\nmaxmem = 256\n'}, sign=True)
    watcher = follow(world, author, rules=signed_only(author))
    look(watcher)
    author.run("reset", "--quiet", "--hard", first)
    forged = author.push({"specs/alpha/web.toml": 'kernel = "/boot/evil"\nmemory = 64\n'})
    look(watcher)
    assert accept(world.state_dir, forged, capsys)[0] == 0
    assert look(watcher).commit != forged
    assert summaries(world) == ["the commit is not signed by an allowed signer"]


def accept(state_dir: Path, commit: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(["--state-dir", str(state_dir), "accept", commit])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_an_unsigned_commit_is_refused_and_a_signed_one_is_not(world: World, author: Author) -> None:
    author.push(TREE)
    watcher = follow(world, author, rules=signed_only(author))
    assert look(watcher).plan is None
    assert summaries(world) == ["the commit is not signed by an allowed signer"]
    signed = author.push(sign=True)
    assert look(watcher).commit == signed
    assert world.record().signer == "ada@example.org"
    assert History(world.state_dir).records()[0].signer == "ada@example.org"
    author.push({"specs/alpha/web.toml": 'kernel = "/boot/evil"\nmemory = 64\n'})
    outcome = look(watcher)
    assert outcome.commit == signed
    assert not outcome.result.done
    assert "stays in force" in world.record().problems[0].detail


def test_a_commit_is_judged_by_the_rules_of_the_one_before(world: World, author: Author) -> None:
    signers = {"specs/signers": author.signers}
    strict = '[git]\nrequire_signed = "head"\nallowed_signers = "signers"\n'
    first = author.push({**TREE, **signers, "specs/reconciler.toml": strict}, sign=True)
    watcher = follow(world, author)  # the command line asks for nothing
    assert look(watcher).commit == first
    lax = {"specs/reconciler.toml": '[git]\nrequire_signed = "none"\n'}
    author.push(lax)
    assert look(watcher).commit == first
    third = author.push(sign=True)  # ratifies what it stands on
    assert look(watcher).commit == third
    fourth = author.push({"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    assert look(watcher).commit == fourth


def test_a_foreign_key_and_foreign_rules_count_for_nothing(world: World, author: Author) -> None:
    stranger = Author(world.folder / "stranger")
    strict = '[git]\nrequire_signed = "head"\nallowed_signers = "signers"\n'
    first = author.push({**TREE, "specs/reconciler.toml": strict, "specs/signers": author.signers}, sign=True)
    watcher = follow(world, author, rules=signed_only(author))
    look(watcher)
    author.key = stranger.key
    author.push({"specs/signers": stranger.signers}, sign=True)
    assert look(watcher).commit == first
    assert summaries(world) == ["the commit is not signed by an allowed signer"]


def test_signers_that_cannot_be_read_let_nobody_in(world: World, author: Author) -> None:
    strict = '[git]\nrequire_signed = "head"\nallowed_signers = "../../../../signers"\n'
    first = author.push(TREE, sign=True)
    watcher = follow(world, author, rules=signed_only(author))
    look(watcher)
    closed = author.push({"specs/reconciler.toml": strict}, sign=True)
    assert look(watcher).commit == closed
    author.push(sign=True)
    assert look(watcher).commit == closed != first
    assert summaries(world) == ["nobody is allowed to sign"]


def test_signers_of_the_first_commit_that_cannot_be_read_let_nobody_in_either(world: World, author: Author) -> None:
    strict = '[git]\nrequire_signed = "head"\nallowed_signers = "nowhere"\n'
    author.push({**TREE, "specs/reconciler.toml": strict}, sign=True)
    watcher = follow(world, author, rules=signed_only(author))
    assert look(watcher).plan is None
    assert summaries(world) == ["nobody is allowed to sign"]
    mended = author.push({"specs/nowhere": author.signers}, sign=True)
    assert look(watcher).commit == mended


def test_the_rules_are_kept_with_the_commit(world: World, author: Author) -> None:
    table = '[git]\nrequire_signed = "none"\n'
    commit = author.push(TREE | {"specs/reconciler.toml": table})
    look(follow(world, author, rules=Rules(signers="x")))
    (file,) = world.state_dir.glob("git/*/accepted.json")
    assert json.loads(file.read_text()) == {
        "commit": commit,
        "signer": None,
        "rules": {"require_signed": "none", "signers": "x"},
    }


def test_the_command_line_of_now_judges_after_a_commit_without_a_table(world: World, author: Author) -> None:
    author.push(TREE)
    look(follow(world, author))
    author.push()
    watcher = follow(world, author, rules=signed_only(author))
    assert look(watcher).problems
    assert summaries(world) == ["the commit is not signed by an allowed signer"]
    signed = author.push(sign=True)
    assert look(watcher).commit == signed


def test_a_record_of_an_earlier_version_is_taken(world: World, author: Author) -> None:
    commit = author.push(TREE)
    look(follow(world, author))
    (file,) = world.state_dir.glob("git/*/accepted.json")
    rules = {"require_signed": "head", "signers": author.signers}
    file.write_text(json.dumps({"commit": commit, "signer": None, "rules": rules}))
    author.push()
    assert look(follow(world, author)).commit == commit


@pytest.mark.parametrize("path", ["specs", "specs/", "./specs", "/specs", "x/../specs"])
@pytest.mark.parametrize("url", ["remote.git", "./remote.git/", "{here}/remote.git", "{here}//x/../remote.git"])
def test_what_is_trusted_does_not_depend_on_spelling(world: World, author: Author, url: str, path: str) -> None:
    author.push(TREE)
    watcher = world.watcher(GitSource(url.format(here=world.folder), "main", path, Rules(), world.state_dir))
    assert not look(watcher).problems
    plain = GitSource(str(author.remote), "main", "specs", Rules(), world.state_dir)
    assert watcher.status_document()["watch"]["source"] == plain.name
    look(world.watcher(plain))
    assert len(list((world.state_dir / "git").iterdir())) == 1


def test_settings_of_a_person_change_nothing(
    world: World, author: Author, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[log]\n\tshowSignature = true\n[color]\n\tui = always\n[core]\n\tabbrev = 4\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    commit = author.push(TREE, sign=True)
    outcome = look(follow(world, author, rules=signed_only(author)))
    assert (outcome.commit, outcome.signer) == (commit, "ada@example.org")
