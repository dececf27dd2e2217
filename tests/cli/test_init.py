"""`init`: what it writes runs at once, and it overwrites nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler import cli
from reconciler.specs import read_tree
from reconciler.specs.schema import schema
from tests.transcript import isolate


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)


def test_what_it_writes_runs_on_a_simulated_host_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init"]) == 0
    commands = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [command[1] for command in commands] == ["validate", "plan", "apply"]
    assert [cli.run([*command[1:], *(["--yes"] if command[1] == "apply" else [])]) for command in commands] == [0, 0, 0]
    assert cli.run(["plan", "--detailed-exitcode"]) == 0


def test_the_first_line_of_each_file_names_its_schema(tmp_path: Path) -> None:
    assert cli.run(["init"]) == 0
    assert cli.run(["sim", "alpha", "create", "legacy"]) == 0
    assert cli.run(["import", "alpha"]) == 0
    files = {"reconciler": "tree", "alpha/host": "host", "alpha/example": "domain", "alpha/legacy": "domain"}
    for file, kind in files.items():
        path = tmp_path / f"specs/{file}.toml"
        first = path.read_text().splitlines()[0]
        assert first.startswith("#:schema ")
        named = path.parent / first.removeprefix("#:schema ")
        assert json.loads(named.read_text()) == schema(kind)  # type: ignore[arg-type]  # one of the three


def test_a_schema_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "specs/.schema").mkdir(parents=True)
    (tmp_path / "specs/.schema/domain.json").write_text("{}")
    assert cli.run(["init"]) == 0
    assert (tmp_path / "specs/.schema/domain.json").read_text() == "{}"
    assert (tmp_path / "specs/.schema/host.json").exists()


def test_each_tree_has_a_fleet_of_its_own() -> None:
    assert [cli.run(["init", name]) for name in ("one", "two")] == [0, 0]
    one, two = (read_tree(name).desired.fleet for name in ("one", "two"))
    assert one != two


def test_a_real_host_by_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", "tree", "--host", "dom0", "--connect", "ssh://root@dom0.example"]) == 0
    assert "reconciler doctor dom0 --specs tree\n" in capsys.readouterr().out
    reading = read_tree("tree")
    assert reading.diagnostics == ()
    settings = reading.desired.hosts["dom0"].settings
    assert (settings.toolstack, settings.connect) == ("xl", "ssh://root@dom0.example")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    file = tmp_path / "specs/reconciler.toml"
    file.write_text("# mine\n")
    assert cli.run(["init"]) == 3
    assert [path.name for path in file.parent.iterdir()] == ["reconciler.toml"]
    assert file.read_text() == "# mine\n"


@pytest.mark.parametrize("options", [["--host", "a b"], ["--host", "kernels"], ["--connect", "http://x"]], ids=" ".join)
def test_names_and_addresses_that_cannot_be(tmp_path: Path, options: list[str]) -> None:
    assert cli.run(["init", *options]) == 1
    assert not (tmp_path / "specs").exists()
