"""`init`: what it writes runs at once, and it overwrites nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import cli
from reconciler.specs import read_tree
from reconciler.specs.schema import schema
from tests.cli.conftest import Ran, Run
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


@pytest.fixture
def in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """How `init` ends that reads this from a terminal."""
    ours, its = pty.openpty()

    def init(typed: str) -> Ran:
        os.write(ours, typed.encode())
        code = cli.run(["init"])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    with os.fdopen(its) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield init
    os.close(ours)


def test_in_a_terminal_it_asks_for_the_host(in_a_terminal: Run) -> None:
    ran = in_a_terminal("dom0\nssh://root@dom0.example\n")
    assert ran.code == 0
    questions = "Name of the host [alpha]: Reached by (simulated, local, ssh://root@NAME) [simulated]: "
    assert ran.err.startswith(questions)
    assert "reconciler doctor dom0\n" in ran.out
    settings = read_tree("specs").desired.hosts["dom0"].settings
    assert (settings.toolstack, settings.connect) == ("xl", "ssh://root@dom0.example")


def test_in_a_terminal_an_answer_that_cannot_be_is_asked_for_again(in_a_terminal: Run) -> None:
    ran = in_a_terminal("a b\n\nroot@dom0\nlocal\n")
    assert ran.code == 0
    assert '"a b" cannot be the name of a host or fleet.' in ran.err
    assert '"root@dom0" is no way to reach a host.' in ran.err
    assert read_tree("specs").desired.hosts["alpha"].settings.connect == "local"


def test_in_a_terminal_the_end_of_input_leaves_nothing(in_a_terminal: Run) -> None:
    ran = in_a_terminal("dom0\n\x04")
    assert (ran.code, ran.out) == (130, "")
    assert not Path("specs").exists()


def killed_at(write: int) -> bool:
    """Run `init` in a process that is killed as its nth file goes to the disk. Returns whether it was."""
    child = os.fork()
    if child == 0:
        synced = 0

        def fsync(fd: object) -> None:
            nonlocal synced
            synced += 1
            if synced == write:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = fsync
        os._exit(cli.run(["init"]))
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("there", [(), ("kernels",)], ids=["new", "in a folder that is there"])
def test_killed_at_any_instant_it_leaves_nothing_partial(tmp_path: Path, there: tuple[str, ...]) -> None:
    specs, write = tmp_path / "specs", 0
    for name in there:
        (specs / name).mkdir(parents=True)
    while killed_at(write := write + 1):
        files = [path for path in specs.rglob("*.toml") if not path.name.startswith(".")]
        assert not (specs / "reconciler.toml").exists() or len(files) == 3
        assert there or not files or len(files) == 3
    assert write > 3
    assert read_tree(specs).diagnostics == ()  # the last one went through, whatever the others left


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
