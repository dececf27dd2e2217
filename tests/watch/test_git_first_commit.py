"""The first commit that is ever accepted: by the command line and by its own `[git]` table."""

from __future__ import annotations

import pytest

from reconciler.watch.trust import Rules
from tests.watch.authors import Author, follow, signed_only, summaries
from tests.watch.conftest import TREE, World, look

STRICT = '[git]\nrequire_signed = "head"\nallowed_signers = "signers"\n'
UNREADABLE = {
    "a wrong value": '[git]\nrequire_signed = "haed"\n',
    "a wrong key": '[git]\nrequire_sign = "head"\n',
    "no table": "git = 3\n",
    "no TOML": "[git\n",
    "a wrong type": "[git]\nallowed_signers = 3\n",
}


@pytest.mark.parametrize("level", ["head", "all"])
def test_its_own_table_counts_though_the_command_line_asks_for_nothing(
    world: World, author: Author, level: str
) -> None:
    strict = STRICT.replace("head", level)
    author.push({**TREE, "specs/reconciler.toml": strict, "specs/signers": author.signers})
    watcher = follow(world, author)
    assert look(watcher).plan is None
    assert summaries(world) == ["the commit is not signed by an allowed signer"]
    signed = author.push(sign=True)
    assert look(watcher).commit == signed
    assert world.record().signer == "ada@example.org"


def test_the_command_line_counts_though_its_own_table_asks_for_nothing(world: World, author: Author) -> None:
    author.push({**TREE, "specs/reconciler.toml": '[git]\nrequire_signed = "none"\n'})
    watcher = follow(world, author, rules=signed_only(author))
    assert look(watcher).plan is None
    signed = author.push(sign=True)
    assert look(watcher).commit == signed
    unsigned = author.push()
    assert look(watcher).commit == unsigned, "from then on its table decides"


def test_who_is_allowed_by_one_of_the_two_only_is_not(world: World, author: Author) -> None:
    stranger = Author(world.folder / "stranger")
    author.push({**TREE, "specs/reconciler.toml": STRICT, "specs/signers": stranger.signers}, sign=True)
    watcher = follow(world, author, rules=signed_only(author))
    assert look(watcher).plan is None
    author.key = stranger.key
    author.push(sign=True)
    assert look(watcher).plan is None
    assert summaries(world) == ["the commit is not signed by an allowed signer"]


@pytest.mark.parametrize("table", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_table_that_cannot_be_read_lets_no_first_commit_in(world: World, author: Author, table: str) -> None:
    author.push({**TREE, "specs/reconciler.toml": table})
    watcher = follow(world, author)
    assert look(watcher).plan is None
    assert summaries(world) == ["the rules of the first commit cannot be read"]
    assert "reconciler.toml" in world.record().problems[0].detail
    mended = author.push({"specs/reconciler.toml": ""})
    assert look(watcher).commit == mended


@pytest.mark.parametrize("table", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_table_that_cannot_be_read_makes_no_rule_laxer(world: World, author: Author, table: str) -> None:
    author.push({**TREE, "specs/reconciler.toml": STRICT, "specs/signers": author.signers}, sign=True)
    watcher = follow(world, author)
    look(watcher)
    broken = author.push({"specs/reconciler.toml": table}, sign=True)
    assert look(watcher).commit == broken
    author.push({"specs/reconciler.toml": ""})
    assert look(watcher).commit == broken
    mended = author.push(sign=True)
    assert look(watcher).commit == mended


def test_what_is_wrong_elsewhere_in_the_file_takes_nothing_from_its_rules(world: World, author: Author) -> None:
    broken = STRICT + '[brake]\nmax_destroy = "half"\n'
    first = author.push({**TREE, "specs/reconciler.toml": broken, "specs/signers": author.signers}, sign=True)
    watcher = follow(world, author, rules=Rules())
    assert look(watcher).commit == first
    author.push({"specs/reconciler.toml": ""})
    assert look(watcher).commit == first
