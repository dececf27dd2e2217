"""`--help` and `--version` answer at once, since nothing is loaded that they do not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reconciler import cli

WEB = ("jinja2", "prometheus_client", "starlette", "uvicorn", "reconciler.web")
OF_WATCH = ("structlog", *WEB)
HEAVY = (
    *("asyncio", "deepdiff", "pydantic_core", "rich", "sqlite3", "toml_rs", "tree_sitter", "reconciler.reconcile"),
    "stamina",
    *OF_WATCH,
)
_PROBE = """
import sys
from reconciler import cli
cli.run(sys.argv[1:])
print("loaded:", *(name for name in sys.modules))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []], ids=["help", "version", "nothing"])
def test_nothing_heavy_is_loaded(arguments: list[str]) -> None:
    loaded = _loaded_by(*arguments)
    assert not loaded & set(HEAVY)
    packages = {name.partition(".")[0] for name in loaded - _loaded_anyway()}
    assert packages - sys.stdlib_module_names == {"click", "reconciler"}


@pytest.mark.parametrize("command", ["plan", "validate", "status", "why alpha/web"])
def test_what_only_looks_loads_no_logs_no_retries_and_no_web_server(tree: Path, command: str) -> None:
    loaded = _loaded_by(*command.split())
    assert "reconciler.specs" in loaded
    assert not loaded & {"stamina", *OF_WATCH}
    assert not loaded & {"pydantic", "importlib.metadata"}  # pydantic's core does all that these need


def test_validate_loads_nothing_of_plans_and_hosts(tree: Path) -> None:
    loaded = _loaded_by("validate")
    ours = {".".join(name.split(".")[1:2]) for name in loaded if name.startswith("reconciler.")}
    assert ours == {"cli", "expressions", "leaving", "model", "records", "shapes", "show", "specs", "state_dir"}
    assert not loaded & {"asyncio", "sqlite3"}


def test_watch_loads_a_web_server_only_when_it_serves(tree: Path) -> None:
    loaded = _loaded_by("watch", "--once")
    assert "structlog" in loaded
    assert not loaded & {"stamina", *WEB}


def _loaded_by(*arguments: str) -> set[str]:
    process = subprocess.run([sys.executable, "-c", _PROBE, *arguments], capture_output=True, text=True, check=True)
    return set(process.stdout.rpartition("loaded:")[2].split())


def _loaded_anyway() -> set[str]:
    """What the interpreter loads by itself, the hooks of its environment among them."""
    listed = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


def test_the_list_of_commands_repeats_what_each_says_of_itself() -> None:
    group = cli.cli
    context = click.Context(group)
    for name, (_, _, text) in cli.COMMANDS.items():
        command = group.get_command(context, name)
        assert command is not None
        assert command.short_help == text


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "x", "--help"] if name == "sim" else [name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: reconciler {name}")


MODULES_AT_MOST = {
    "--help": 100,
    "--version": 160,
    "completion --help": 200,
    "history": 270,
    "validate": 200,
    "plan": 380,
    "status": 380,
    "why alpha/web": 380,
    "render alpha/web": 440,
    "observe": 440,
    "kernels": 370,
    "doctor": 370,
    "leftovers": 370,
    "explain memory": 340,
    "schema domain": 340,
    "apply --yes": 390,
    "watch --once": 570,  # 562 where its pass has something to do
    "rollback --help": 360,
    "hold --help": 280,
    "unhold --help": 280,
    "accept --help": 340,
    "forget --help": 270,
    "unlock --help": 270,
    "cluster --help": 250,
    "init --help": 260,
    "import --help": 270,
    "console --help": 280,
    "sim alpha --help": 290,
}
"""How many modules a command may have loaded by its end, in tens, by how it is called: so what creeps in is told."""

_COUNTS = """
import sys
before = set(sys.modules)
import contextlib, io, json, os
from reconciler import cli
counts = {}
for line in sys.argv[1:]:
    if line == "history":
        import reconciler.specs  # which all of the others need
    reads, writes = os.pipe()
    if not (child := os.fork()):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cli.run(line.split())
        os.write(writes, str(len(set(sys.modules) - before)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    counts[line] = int(os.read(reads, 20))
print(json.dumps(counts))
"""


def test_no_command_loads_more_than_it_did(tree: Path) -> None:
    command = [sys.executable, "-c", _COUNTS, *MODULES_AT_MOST]
    counts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    too_many = {line: count for line, count in counts.items() if count > MODULES_AT_MOST[line]}
    assert not too_many, "raise a bound only where users get something for it"
    assert {line.split()[0] for line in MODULES_AT_MOST} >= {*cli.COMMANDS}
