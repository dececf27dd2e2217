"""Keys that expired, came or went, OpenPGP keys, tags: with `require_signed = "all"`, by the last accepted commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.watch.loop import Watcher
from tests.watch.authors import Author, follow, summaries
from tests.watch.conftest import TREE, World, look
from tests.watch.test_git_trust import accept

DB = {"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'}
ALL = '[git]\nrequire_signed = "all"\nallowed_signers = "signers"\n'
UNSIGNED = "the commit is not signed by an allowed signer"
GAP = "a commit is not signed by an allowed signer"


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    """The key of a second signer."""
    return key_in(tmp_path / "bob")


def key_in(file: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


def line(name: str, key: Path, options: str = "") -> str:
    return f"{name}@example.org {options} {key.with_suffix('.pub').read_text()}"


def begun(world: World, author: Author, signers: str) -> Watcher:
    """A watch that accepted a commit of Ada, by which these signers are allowed."""
    first = author.push({**TREE, "specs/reconciler.toml": ALL, "specs/signers": signers}, sign=True)
    watcher = follow(world, author)
    assert look(watcher).commit == first
    return watcher


def signs_with(author: Author, key: Path) -> None:
    author.key = key


def test_who_is_removed_in_a_push_may_sign_in_it_and_not_after_it(world: World, author: Author, bob: Path) -> None:
    ada = author.key
    watcher = begun(world, author, author.signers + line("bob", bob))
    author.commit({"specs/signers": author.signers}, sign=True)
    signs_with(author, bob)
    head = author.push(DB, sign=True)
    outcome = look(watcher)
    assert (outcome.commit, outcome.signer) == (head, "bob@example.org"), "the rules of the last accepted one count"
    author.push({"specs/signers": author.signers + line("bob", bob)}, sign=True)
    assert look(watcher).commit == head
    assert summaries(world) == [UNSIGNED]
    signs_with(author, ada)
    author.push(sign=True)
    assert look(watcher).commit == head, "nor below a commit of somebody who may"
    assert summaries(world) == [GAP]


def test_who_is_added_in_a_push_may_not_sign_in_it(world: World, author: Author, bob: Path) -> None:
    watcher = begun(world, author, author.signers)
    first = author.run("rev-parse", "HEAD")
    adding = author.commit({"specs/signers": author.signers + line("bob", bob)}, sign=True)
    signs_with(author, bob)
    author.push(DB, sign=True)
    assert look(watcher).commit == first
    author.run("reset", "--quiet", "--hard", adding)
    author.publish()
    assert look(watcher).commit == adding
    head = author.push(DB, sign=True)
    assert look(watcher).commit == head


def test_an_expired_key_lets_nothing_in_whatever_time_its_commit_names(
    world: World, author: Author, bob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = author.key
    watcher = begun(world, author, author.signers + line("bob", bob, 'valid-before="20210101"'))
    first = author.run("rev-parse", "HEAD")
    signs_with(author, bob)
    author.push(DB, sign=True)
    assert look(watcher).commit == first
    assert summaries(world) == [UNSIGNED]
    author.run("reset", "--quiet", "--hard", first)
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2020-06-01T12:00:00Z")
    monkeypatch.setattr(author, "run", with_dates(author))
    old = author.push(DB, sign=True)
    assert look(watcher).commit == first
    assert summaries(world) == ["the commit is signed with a key that is not valid now"]
    monkeypatch.undo()
    monkeypatch.chdir(world.folder)
    signs_with(author, ada)
    head = author.push(sign=True)
    assert author.run("rev-parse", "HEAD^") == old
    assert look(watcher).commit == head, "who has a key now vouches for what was signed while the other was valid"


def with_dates(author: Author) -> object:
    def run(*arguments: str, cwd: Path | None = None) -> str:
        settings = ("gpg.format=ssh", f"user.signingkey={author.key}", "user.name=Bob", "user.email=bob@example.org")
        options = [part for one in settings for part in ("-c", one)]
        command = ["git", *options, *arguments]
        done = subprocess.run(command, cwd=cwd or author.work, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return run


def test_a_key_for_other_uses_signs_no_commit(world: World, author: Author, bob: Path) -> None:
    watcher = begun(world, author, author.signers + line("bob", bob, 'namespaces="file"'))
    first = author.run("rev-parse", "HEAD")
    signs_with(author, bob)
    author.push(DB, sign=True)
    assert look(watcher).commit == first


def test_history_that_was_rewritten_is_refused_and_if_meant_judged_from_where_it_parts(
    world: World, author: Author, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = begun(world, author, author.signers)
    first = author.run("rev-parse", "HEAD")
    second = author.push(DB, sign=True)
    assert look(watcher).commit == second
    for sign, told in ((True, None), (False, GAP)):
        author.run("reset", "--quiet", "--hard", first)
        author.commit({"specs/alpha/db.toml": f'kernel = "/boot/vmlinuz"\nmemory = {80 + sign}\n'}, sign=sign)
        head = author.push(sign=True)
        before = look(watcher).commit
        assert before != head, "its keys are good, and it does not go on from what was accepted"
        assert summaries(world) == ["the history of the branch was rewound"]
        assert accept(world.state_dir, head, capsys)[0] == 0
        assert look(watcher).commit == (before if told else head)
        assert summaries(world) == ([told] if told else [])


def test_a_signed_tag_stands_for_no_commit(world: World, author: Author) -> None:
    watcher = begun(world, author, author.signers)
    first = author.run("rev-parse", "HEAD")
    author.commit(DB)
    author.run("tag", "-s", "-m", "all of it", "v1")
    author.run("push", "--quiet", "origin", "v1")
    tag = author.run("rev-parse", "v1")
    (author.remote / "refs" / "heads" / "main").write_text(f"{tag}\n")  # git refuses that, a hostile server does not
    assert look(watcher).commit == first
    assert summaries(world) == [UNSIGNED]


def test_the_signature_of_a_merged_tag_is_none_of_the_merge_nor_of_what_it_brings(world: World, author: Author) -> None:
    watcher = begun(world, author, author.signers)
    first = author.run("rev-parse", "HEAD")
    author.run("checkout", "--quiet", "-b", "side")
    author.commit(DB)
    author.run("tag", "-s", "-m", "good", "v1")
    author.run("checkout", "--quiet", "main")
    author.run("merge", "--quiet", "--no-ff", "-m", "merge", "v1")
    assert "mergetag object" in author.run("cat-file", "commit", "HEAD")
    author.publish()
    assert look(watcher).commit == first
    author.run("commit", "--quiet", "--amend", "--no-edit", "-S")
    author.publish()
    assert look(watcher).commit == first
    assert summaries(world) == [GAP]


def test_merged_history_without_a_common_root_has_to_be_signed_to_its_root(world: World, author: Author) -> None:
    watcher = begun(world, author, author.signers)
    first = author.run("rev-parse", "HEAD")
    author.run("checkout", "--quiet", "--orphan", "other")
    author.run("rm", "--quiet", "-rf", ".")
    root = author.commit({"specs/alpha/evil.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    author.commit(sign=True)
    author.run("checkout", "--quiet", "main")
    author.run("merge", "--quiet", "--no-ff", "--allow-unrelated-histories", "-m", "merge", "-S", "other")
    author.publish()
    assert look(watcher).commit == first
    assert root[:12] in world.record().problems[0].detail


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The fingerprint of an OpenPGP key that this person's own gpg trusts without limit."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    folder = tempfile.mkdtemp(prefix="gpg")  # its sockets need a short path
    monkeypatch.setenv("GNUPGHOME", folder)
    user = "Ada <ada@example.org>"
    make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", user, "ed25519", "sign", "never"]
    subprocess.run(make, check=True, capture_output=True)
    listed = subprocess.run(["gpg", "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
    yield next(row.split(":")[9] for row in listed.splitlines() if row.startswith("fpr"))
    subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("level", ["head", "all"])
def test_an_openpgp_signature_counts_for_nothing_though_gpg_would_trust_it(
    world: World, author: Author, keyring: str, level: str
) -> None:
    table = ALL.replace('"all"', f'"{level}"')
    first = author.push({**TREE, "specs/reconciler.toml": table, "specs/signers": author.signers}, sign=True)
    watcher = follow(world, author)
    assert look(watcher).commit == first
    openpgp = ("-c", "gpg.format=openpgp", "-c", f"user.signingkey={keyring}", "-c", "gpg.program=gpg")
    author.run(*openpgp, "commit", "--quiet", "--allow-empty", "-S", "-m", "signed with gpg")
    author.run(*openpgp, "verify-commit", "HEAD")  # which holds
    author.publish()
    assert look(watcher).commit == first
    assert summaries(world) == [UNSIGNED]
    head = author.push(sign=True)
    assert look(watcher).commit == (head if level == "head" else first)


def test_the_settings_of_gpg_that_a_person_has_do_not_let_it_in(
    world: World, author: Author, keyring: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[gpg]\n\tprogram = gpg\n\tminTrustLevel = undefined\n\tformat = openpgp\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    watcher = begun(world, author, author.signers)
    first = author.run("rev-parse", "HEAD")
    openpgp = ("-c", "gpg.format=openpgp", "-c", f"user.signingkey={keyring}")
    author.run(*openpgp, "commit", "--quiet", "--allow-empty", "-S", "-m", "signed with gpg")
    author.publish()
    assert look(watcher).commit == first
    assert os.environ["GIT_CONFIG_GLOBAL"] == str(settings)
