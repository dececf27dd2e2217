"""Whose a domain is: real hosts need a fleet with a name, and two trees of one name leave each other alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def real(tree: Path) -> Path:
    (tree / "specs/alpha/host.toml").write_text('toolstack = "xl"\nconnect = "ssh://nobody.invalid"\n')
    return tree


@pytest.mark.parametrize("command", [("validate",), ("plan",), ("apply", "--yes")], ids=" ".join)
def test_real_hosts_need_a_fleet_with_a_name(run: Run, real: Path, command: tuple[str, ...]) -> None:
    ran = run(*command)
    said = ran.out + ran.err
    assert ran.code == 4
    assert "does not say which fleet this is, and alpha is a real host" in said
    assert 'fleet = "fleet-' in said
    assert 'fleet = "default"' in said
    assert "specs/reconciler.toml:1:1" in said
    assert "could not be observed" not in said  # nothing is asked before it is decided


def test_watch_leaves_all_alone_meanwhile(run: Run, real: Path) -> None:
    said = run("watch", "--once").err
    assert "The fleet has no name" in said


def test_other_commands_work_without(run: Run, real: Path) -> None:
    assert "fleet" not in run("render", "alpha/web").err
    assert "The fleet has no name" not in run("status").err


@pytest.mark.parametrize("text", ['fleet = "mine"\n', 'fleet = "default"\n'])
def test_either_line_is_enough(run: Run, real: Path, text: str) -> None:
    (real / "specs/reconciler.toml").write_text(text)
    assert run("validate").code == 0


def test_simulated_hosts_need_none(run: Run, tree: Path) -> None:
    assert run("validate").code == 0


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "specs")


def change(run: Run, tree: str, *options: str) -> dict[str, object]:
    changes = json.loads(run("plan", tree, *options, "--json").out)["changes"]
    return next(one for one in changes if one["address"] == "alpha/web")


def test_two_trees_of_one_name_destroy_nothing_of_each_other_until_one_adopts_the_host(run: Run, tree: Path) -> None:
    shutil.copytree(tree / "specs", tree / "other")
    (tree / "other/alpha/web.toml").unlink()
    commit(tree / "specs")
    commit(tree / "other")
    assert run("apply", "specs", "--yes").code == 0
    held = change(run, "other")
    assert (held["action"], held["would"]) == ("no-op", "destroy")
    assert str(held["waits_for"]).startswith("['commit: ")
    assert run("apply", "other", "--yes").code == 0
    assert change(run, "specs")["action"] == "no-op"
    assert run("apply", "other", "--yes", "--adopt", "alpha").code == 0
    assert "alpha/web" not in run("plan", "specs").out  # still there, as specified
    assert change(run, "other")["action"] == "destroy"


def test_adopt_takes_a_host_or_an_address_and_nothing_else(run: Run, tree: Path) -> None:
    assert run("apply", "--yes", "--adopt", "alhpa").code == 1
    assert run("apply", "--yes", "--adopt", "alpha/wbe").code == 1
    run("sim", "alpha", "create", "web")
    assert run("apply", "--yes", "--target", "alpha/db").code == 0
    assert run("apply", "--yes").code == 3
    ran = run("apply", "--yes", "--adopt", "alpha")
    assert "uuid = " in ran.out + ran.err  # what runs by hand has another uuid: a line to paste, and no restart
