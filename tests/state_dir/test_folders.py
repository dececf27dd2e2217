"""Each fleet has a folder of its own in the user's state directory; what earlier versions left there is taken over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.state_dir.folders import folder_of
from tests.transcript import write_files

SIMULATED = 'toolstack = "simulated"\n'


def tree_of(folder: Path, fleet: str | None, *hosts: str) -> Path:
    named = {} if fleet is None else {"reconciler.toml": f'fleet = "{fleet}"\n'}
    write_files({**named, **{f"{host}/host.toml": SIMULATED for host in hosts}}, folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_a_fleet_has_a_folder_of_its_name_wherever_its_tree_lies(tmp_path: Path, root: Path) -> None:
    here, there = tree_of(tmp_path / "a", "mine", "alpha"), tree_of(tmp_path / "b", "mine", "alpha")
    other = tree_of(tmp_path / "c", "theirs", "alpha")
    assert folder_of(root, here) == folder_of(root, there) == root / "mine"
    assert folder_of(root, other) == root / "theirs"
    assert not root.exists(), "that somebody asks for it makes nothing"


def test_a_tree_without_a_name_has_one_of_its_path_or_url(tmp_path: Path, root: Path) -> None:
    one, two = tree_of(tmp_path / "a", None, "alpha"), tree_of(tmp_path / "b", None, "alpha")
    folders = {folder_of(root, one), folder_of(root, two), folder_of(root, one, "https://forge/specs.git")}
    assert len(folders) == 3
    assert all(folder.parent == root and folder.name.startswith("~") for folder in folders)


def test_a_file_with_an_error_moves_nothing_elsewhere(tmp_path: Path, root: Path) -> None:
    tree = tree_of(tmp_path / "a", "mine", "alpha")
    (tree / "reconciler.toml").write_text('fleet = "mine"\n[brake\n')
    assert folder_of(root, tree) == root / "mine"


@pytest.mark.parametrize("name", ["git", "hosts", "history.sqlite"])
def test_a_name_that_means_something_else_there_is_kept_apart(tmp_path: Path, root: Path, name: str) -> None:
    assert folder_of(root, tree_of(tmp_path / "a", name, "alpha")) == root / f"{name}~"


def test_a_tree_that_gets_a_name_takes_its_folder_along(tmp_path: Path, root: Path) -> None:
    tree = tree_of(tmp_path / "a", None, "alpha")
    write_files({"watch.json": "{}"}, folder_of(root, tree))
    tree_of(tree, "mine")
    assert (folder_of(root, tree) / "watch.json").read_text() == "{}"
    assert [folder.name for folder in root.iterdir()] == ["mine"]


def test_what_all_trees_shared_goes_to_those_whose_it_is(tmp_path: Path, root: Path) -> None:
    left = {f"hosts/{host}/clock": host for host in ("alpha", "beta", "gamma")}
    seen = json.dumps({"alpha": ["web"], "beta": ["mail"], "gamma": []})
    write_files({**left, "history.sqlite": "past", "git/1234/accepted.json": "{}", "sightings.json": seen}, root)
    one, two = tree_of(tmp_path / "a", "one", "alpha"), tree_of(tmp_path / "b", "two", "beta", "delta")
    for _ in range(2):
        first, second = folder_of(root, one), folder_of(root, two)
        assert (first / "hosts/alpha/clock").read_text() == "alpha"
        assert (second / "hosts/beta/clock").read_text() == "beta"
        assert (first / "history.sqlite").read_text() == "past"
        assert not (second / "history.sqlite").exists()
        assert json.loads((first / "sightings.json").read_text()) == {"alpha": ["web"]}
        assert json.loads((second / "sightings.json").read_text()) == {"beta": ["mail"]}
        assert json.loads((root / "sightings.json").read_text()) == {"gamma": []}
    assert (root / "hosts/gamma/clock").read_text() == "gamma", "its tree may still come"
    assert (root / "git/1234/accepted.json").exists()
