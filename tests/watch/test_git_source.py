"""A branch as the source: a real bare repository, pushed to as people do."""

from __future__ import annotations

import asyncio
import shutil

from reconciler.apply.history import History
from reconciler.model.diagnostics import Kind
from reconciler.specs import read_tree
from reconciler.watch.git_source import GitSource
from tests.watch.authors import Author, follow, git_source, signed_only, summaries
from tests.watch.conftest import TREE, World, look


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
    inner = Author(world.folder / "inner")
    inner.push({"host.toml": 'toolstack = "simulated"\n', "spy.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n'})
    author.push(TREE)
    author.run("submodule", "--quiet", "add", str(inner.remote), "specs/beta")
    author.push()
    outcome = look(follow(world, author))
    assert outcome.plan is not None
    assert set(outcome.plan.hosts) == {"alpha"}
    assert not (world.state_dir / "hosts/beta").exists()


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


def test_a_state_directory_may_be_named_from_here(world: World, author: Author) -> None:
    """git runs elsewhere, and would take its name from there; the signers' file too."""
    head = author.push(TREE, sign=True)
    state_dir = world.state_dir.relative_to(world.folder)
    source = GitSource(str(author.remote), "main", "specs", signed_only(author), state_dir)
    outcome = look(world.watcher(source))
    assert (outcome.commit, outcome.signer) == (head, "ada@example.org")
    assert outcome.result.done
