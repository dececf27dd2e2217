"""A branch as the source: a real bare repository, pushed to as people do, with a real ssh key."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from reconciler.core.diagnostics import Kind
from reconciler.history import History
from reconciler.specs import read_tree
from reconciler.watch import git_source as git_source_module
from reconciler.watch.git_source import GitSource, Rules
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Outcome
from tests.transcript import write_files
from tests.watch.conftest import TREE, Begin, World, look, until

IDENTITY = {
    "user.name": "Ada",
    "user.email": "ada@example.org",
    "commit.gpgsign": "false",
    "protocol.file.allow": "always",
}


class Author:
    """Somebody with a clone, and a key."""

    def __init__(self, folder: Path) -> None:
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
        settings = [part for key, value in IDENTITY.items() for part in ("-c", f"{key}={value}")]
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
        write_files(files or {}, self.work)
        self.run("add", "--all")
        key = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.key}")
        self.run(*key, "commit", "--quiet", "--allow-empty", "-m", "work", *(["-S"] if sign else []))
        self.run("push", "--quiet", "--force", "origin", self.branch)
        return self.run("rev-parse", "HEAD")


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Author:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Author(tmp_path)


def follow(world: World, author: Author, *, path: str = "specs", rules: Rules | None = None) -> Watcher:
    return world.watcher(GitSource(str(author.remote), "main", path, rules or Rules(), world.state_dir))


def git_source(world: World, author: Author) -> GitSource:
    return GitSource(str(author.remote), "main", "specs", Rules(), world.state_dir)


def signed_only(author: Author) -> Rules:
    return Rules(require_signed="head", signers=author.signers)


def summaries(world: World) -> list[str]:
    return [problem.summary for problem in world.record().problems]


def test_a_push_is_applied_and_its_commit_recorded(world: World, author: Author) -> None:
    first = author.push(TREE)
    watcher = follow(world, author)
    assert look(watcher).commit == first
    assert world.running().commit == first
    second = author.push({"specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 128\nmaxmem = 256\n'})
    outcome = look(watcher)
    assert outcome.result.done
    assert world.record().commit == second
    web = world.running()
    assert web.commit == second
    assert web.running is not None
    assert web.running.memory_kib == 128 * 1024
    assert [apply.commit for apply in History(world.state_dir).records()] == [second, first]
    assert watcher.metrics().last_commit == second


def test_a_problem_is_told_with_its_place_in_the_repository(world: World, author: Author) -> None:
    commit = author.push(TREE | {"specs/alpha/web.toml": "memory = \n"})
    look(follow(world, author))
    (problem,) = world.record().problems
    assert problem.place == f"{commit[:12]}:specs/alpha/web.toml:1:10"


def test_only_the_commit_in_force_is_kept_on_disk_and_no_work_tree_is_touched(world: World, author: Author) -> None:
    author.push(TREE)
    watcher = follow(world, author)
    look(watcher)
    (author.work / "specs/alpha/web.toml").write_text("half of an edi")
    last = author.run("rev-parse", "HEAD")
    look(watcher)
    (trees,) = world.state_dir.glob("git/*/trees")
    assert [folder.name for folder in trees.iterdir()] == [last]
    author.run("checkout", "--quiet", ".")
    last = author.push({"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    look(watcher)
    assert [folder.name for folder in trees.iterdir()] == [last]


def test_specs_at_the_root_of_the_repository(world: World, author: Author) -> None:
    author.push({name.removeprefix("specs/"): text for name, text in TREE.items()})
    look(follow(world, author, path=""))
    assert world.running().running is not None


def test_a_bad_commit_freezes_its_domain_and_a_good_one_supersedes_it(world: World, author: Author) -> None:
    author.push(TREE)
    watcher = follow(world, author)
    look(watcher)
    author.push(
        {"specs/alpha/web.toml": "memory = \n", "specs/alpha/db.toml": 'kernel = "/boot/other"\nmemory = 512\n'}
    )
    outcome = look(watcher)
    assert {done.step.address for done in outcome.result.done} == {"alpha/db"}
    assert world.condition("alpha/web") == "Stalled"
    assert Kind.SPEC in [problem.kind for problem in outcome.problems]
    author.push({"specs/alpha/web.toml": TREE["specs/alpha/web.toml"]})
    assert not look(watcher).failed
    assert world.condition("alpha/web") == "Ready"


def test_a_commit_that_deletes_everything_destroys_nothing(world: World, author: Author) -> None:
    author.push(TREE)
    watcher = follow(world, author)
    look(watcher)
    shutil.rmtree(author.work / "specs")
    (author.work / "README").write_text("gone")
    author.push()
    look(watcher)
    assert "the commit has no specs" in summaries(world)
    assert world.running().running is not None
    assert world.running("db").running is not None


def test_only_domain_files_deleted_destroys_nothing_either(world: World, author: Author) -> None:
    author.push(TREE)
    watcher = follow(world, author)
    look(watcher)
    for name in ("web", "db"):
        (author.work / f"specs/alpha/{name}.toml").unlink()
    author.push()
    look(watcher)
    assert world.running().running is not None


def test_a_renamed_file_in_a_commit(world: World, author: Author) -> None:
    author.push(TREE)
    watcher = follow(world, author)
    look(watcher)
    (author.work / "specs/alpha/web.toml").rename(author.work / "specs/alpha/www.toml")
    author.push()
    look(watcher)
    assert world.guest("web") is None
    assert world.running("www").running is not None


def test_a_submodule_is_not_followed(world: World, author: Author) -> None:
    inner = Author(_made(world.folder / "inner"))
    inner.push({"host.toml": 'toolstack = "simulated"\n', "spy.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    author.push(TREE)
    author.run("submodule", "--quiet", "add", str(inner.remote), "specs/beta")
    author.push()
    outcome = look(follow(world, author))
    assert outcome.plan is not None
    assert set(outcome.plan.hosts) == {"alpha"}
    assert not (world.state_dir / "hosts/beta").exists()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_link_out_of_the_tree_is_not_followed(world: World, author: Author) -> None:
    (world.folder / "secret.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\n')
    author.push(TREE)
    (author.work / "specs/alpha/spy.toml").symlink_to(world.folder / "secret.toml")
    (author.work / "specs/beta").symlink_to("/etc")
    author.push()
    outcome = look(follow(world, author))
    assert world.guest("spy") is None
    assert "Link out of the tree" in [problem.summary for problem in outcome.problems]
    assert world.condition("alpha/spy") == "Stalled"
    assert world.condition("alpha/web") == "Ready"


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
    first = author.push({**TREE, **signers, "specs/reconciler.toml": strict})
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
    stranger = Author(_made(world.folder / "stranger"))
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
    first = author.push({**TREE, "specs/reconciler.toml": strict}, sign=True)
    watcher = follow(world, author, rules=signed_only(author))
    look(watcher)
    author.push(sign=True)
    assert look(watcher).commit == first
    assert summaries(world) == ["nobody is allowed to sign"]


def test_what_a_power_cut_left_of_a_commit_is_written_again(world: World, author: Author) -> None:
    author.push(TREE)
    look(follow(world, author))
    (file,) = world.state_dir.glob("git/*/trees/*/alpha/web.toml")
    file.write_text("")
    assert not look(follow(world, author)).failed
    assert file.read_text() == TREE["specs/alpha/web.toml"]


def test_of_a_new_commit_only_the_files_that_changed_are_read(world: World, author: Author) -> None:
    """Although all of it is laid out anew."""
    kernel = {"specs/kernels/linux": "bytes", "specs/kernels/other": "bytes"}
    domains = {f"specs/alpha/d{number}.toml": 'kernel = "kernels/linux"\nmemory = 8\n' for number in range(200)}
    author.push({**TREE, **kernel, **domains, "specs/alpha/d0.toml": 'kernel = "kernels/other"\nmemory = 8\n'})
    source = git_source(world, author)
    cache = source._cache
    asyncio.run(source.read())
    assert (cache.specs.reads, cache.images.reads) == (203, 2)
    author.push({"specs/alpha/d7.toml": 'kernel = "kernels/linux"\nmemory = 16\n', "specs/kernels/other": "others"})
    reading = asyncio.run(source.read()).reading
    assert (cache.specs.reads, cache.images.reads) == (204, 3)
    assert reading.desired.hosts["alpha"].domains["d7"].memory_kib == 16 * 1024
    (author.work / "specs/alpha/d8.toml").unlink()
    (author.work / "specs/alpha/d9.toml").rename(author.work / "specs/alpha/d10.toml")
    author.push()
    reading = asyncio.run(source.read()).reading
    assert (cache.specs.reads, cache.images.reads) == (204, 3)
    (root,) = world.state_dir.glob("git/*/trees/*")
    whole = read_tree(root)
    assert reading.desired.hosts == whole.desired.hosts
    assert reading.digests == whole.digests


def test_what_somebody_does_to_the_files_of_a_commit_is_not_taken_for_its_content(world: World, author: Author) -> None:
    author.push(TREE)
    source = git_source(world, author)
    asyncio.run(source.read())
    (file,) = world.state_dir.glob("git/*/trees/*/alpha/web.toml")
    file.write_text('kernel = "/boot/evil"\nmemory = 64\n')
    assert asyncio.run(source.read()).reading.desired.hosts["alpha"].domains["web"].memory_kib == 256 * 1024
    author.push({"specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    assert asyncio.run(source.read()).reading.desired.hosts["alpha"].domains["web"].memory_kib == 256 * 1024
    (file,) = world.state_dir.glob("git/*/trees/*/alpha/web.toml")
    assert file.read_text() == TREE["specs/alpha/web.toml"]


def test_a_link_and_attributes_are_known_by_more_than_their_own_content(world: World, author: Author) -> None:
    """A link stays the same when what it leads to changes; what git writes depends on attributes as well."""
    author.push({**TREE, "specs/kernels/shared.txt": TREE["specs/alpha/web.toml"]})
    (author.work / "specs/alpha/web.toml").unlink()
    (author.work / "specs/alpha/web.toml").symlink_to("../kernels/shared.txt")
    author.push()
    source = git_source(world, author)
    asyncio.run(source.read())
    author.push({"specs/kernels/shared.txt": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    reading = asyncio.run(source.read()).reading
    assert reading.desired.hosts["alpha"].domains["web"].memory_kib == 64 * 1024
    author.push({"specs/.gitattributes": "*.toml text eol=crlf\n"})
    reading = asyncio.run(source.read()).reading
    (root,) = world.state_dir.glob("git/*/trees/*")
    assert b"\r\n" in (root / "alpha/db.toml").read_bytes()
    assert reading.digests == read_tree(root).digests


def test_a_damaged_memory_of_the_last_commit_is_no_reason_to_trust_the_next(world: World, author: Author) -> None:
    author.push(TREE)
    look(follow(world, author))
    (file,) = world.state_dir.glob("git/*/accepted.json")
    file.write_text("{")
    assert look(follow(world, author)).plan is None
    assert summaries(world) == ["the last accepted commit is not known"]


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


def test_settings_of_a_person_change_nothing(
    world: World, author: Author, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[log]\n\tshowSignature = true\n[color]\n\tui = always\n[core]\n\tabbrev = 4\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    commit = author.push(TREE, sign=True)
    outcome = look(follow(world, author, rules=signed_only(author)))
    assert (outcome.commit, outcome.signer) == (commit, "ada@example.org")
