"""A file that goes before its `reconcile = false` could be noted on the host: the last accepted commit counts."""

from __future__ import annotations

import pytest

from tests.watch.authors import Author, follow, summaries
from tests.watch.conftest import TREE, World, look

WEB = "specs/alpha/web.toml"
ALONE = f"{TREE[WEB]}reconcile = false\n"
CALM = "[defaults]\nvcpus = 1\n"


def without_web(author: Author) -> None:
    (author.work / WEB).unlink()
    author.push()


def unseen(world: World, author: Author, files: dict[str, str]) -> None:
    """Push a commit that is accepted while the host is silent, so that nothing of it can be noted there."""
    author.push(files)
    world.hand.fault("unreachable", times=100)
    look(follow(world, author))
    world.hand.fault("unreachable", times=0)


@pytest.fixture
def author(author: Author, world: World) -> Author:
    """Both domains run as the first commit says."""
    author.push(TREE)
    look(follow(world, author))
    assert world.guest() is not None
    return author


def test_what_the_last_accepted_commit_left_alone_is_not_destroyed_and_that_is_noted_then(
    world: World, author: Author
) -> None:
    unseen(world, author, {WEB: ALONE})
    without_web(author)
    look(follow(world, author))
    there = world.running()
    assert there.config is not None
    assert not there.config.policy.reconcile, "from now on the host itself knows"
    assert world.condition("alpha/web") == "Held"
    look(follow(world, author))
    assert world.running().domid == there.domid


@pytest.mark.parametrize(
    ("files", "is_left"),
    [
        ({WEB: f"{ALONE}memroy = 5\n"}, True),
        ({WEB: f"{TREE[WEB]}reconcile = flase\n"}, True),
        ({WEB: ""}, True),
        ({WEB: f"{TREE[WEB]}reconcile = 0\n"}, True),
        ({WEB: f'{TREE[WEB]}profile = "calm"\n', "specs/profiles/calm.toml": "reconcile = false\n"}, True),
        ({WEB: f'{TREE[WEB]}profile = "calm"\n', "specs/profiles/calm.toml": "reconcile = false\nmemroy = 5\n"}, True),
        ({WEB: f'{TREE[WEB]}profile = "calm"\n', "specs/profiles/calm.toml": "memroy = 5\n"}, False),
        ({"specs/reconciler.toml": "[defaults]\nreconcile = false\nmemroy = 5\n"}, True),
        ({"specs/reconciler.toml": "[defaults\n"}, True),
        ({WEB: f"{TREE[WEB]}memroy = 5\n", "specs/reconciler.toml": CALM}, False),
        ({WEB: f"{TREE[WEB]}reconcile = true\nmemroy = 5\n"}, False),
        ({WEB: f"{TREE[WEB]}kernel_sha256 = 5\n", "specs/alpha/host.toml": "toolstick = 5\n"}, False),
    ],
)
def test_of_a_file_with_errors_counts_what_it_says_or_nobody_can_tell(
    world: World, author: Author, files: dict[str, str], is_left: bool
) -> None:
    """All of it is seen by the host here, and frozen, so nothing is noted there."""
    author.push(files)
    look(follow(world, author))
    for path in files:
        (author.work / path).write_text(TREE[path]) if path in TREE else (author.work / path).unlink()
    without_web(author)
    look(follow(world, author))
    assert (world.guest() is not None) == is_left


def test_an_earlier_version_that_kept_no_list_has_accepted_it(world: World, author: Author) -> None:
    unseen(world, author, {WEB: ALONE})
    (file,) = world.state_dir.glob("git/*/left-alone.json")
    file.unlink()
    without_web(author)
    look(follow(world, author))
    assert world.guest() is not None


def test_commits_after_the_one_that_removed_it_change_nothing(world: World, author: Author) -> None:
    unseen(world, author, {WEB: ALONE})
    (author.work / WEB).unlink()
    unseen(world, author, {})
    unseen(world, author, {"README": "more"})
    look(follow(world, author))
    assert world.guest() is not None


def test_one_that_was_taken_back_is_destroyed_when_its_file_goes(world: World, author: Author) -> None:
    unseen(world, author, {WEB: ALONE})
    unseen(world, author, {WEB: TREE[WEB]})
    without_web(author)
    look(follow(world, author))
    assert world.guest() is None


def test_with_a_damaged_list_nothing_is_destroyed(world: World, author: Author) -> None:
    (file,) = world.state_dir.glob("git/*/left-alone.json")
    file.write_text("{")
    without_web(author)
    look(follow(world, author))
    assert world.guest() is not None
    assert "what earlier commits left alone is not known" in summaries(world)
    file.unlink()
    look(follow(world, author))
    assert world.guest() is None


KEPT = f"{TREE[WEB]}prevent_destroy = true\n"


def test_what_the_last_accepted_commit_kept_from_being_destroyed_is_kept(world: World, author: Author) -> None:
    unseen(world, author, {WEB: KEPT})
    without_web(author)
    there = world.running()
    assert look(follow(world, author)).plan is not None
    assert world.running().domid == there.domid
    assert world.condition("alpha/web") == "Stalled"
    assert "prevent_destroy was said by the last commit that named it" in world.record().domains["alpha/web"].reason
    author.push({WEB: TREE[WEB]})
    look(follow(world, author))
    without_web(author)
    look(follow(world, author))
    assert world.guest() is None, "a commit said false before the file went"


def test_what_a_file_with_errors_says_of_being_kept_counts_too(world: World, author: Author) -> None:
    author.push({WEB: f"{KEPT}memroy = 5\n"})
    look(follow(world, author))
    without_web(author)
    look(follow(world, author))
    assert world.guest() is not None
