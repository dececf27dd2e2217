"""The man pages say what --help says, can be read by man, and are in the wheel. `make man` writes them anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from reconciler import cli
from reconciler.cli.manual import pages
from tests.transcript import UPDATE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/man"


def test_the_pages_are_those_of_the_commands_of_today() -> None:
    made = pages()
    if UPDATE:
        for name, text in made.items():
            (FOLDER / name).write_text(text)
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made, "write them anew: make man"
    assert set(made) == {"reconciler.1", *(f"reconciler-{name}.1" for name in cli.COMMANDS)}


def test_the_pages_are_the_same_whoever_asked_a_command_for_its_help_before() -> None:
    sim = cli.program.cli.get_command(click.Context(cli.program.cli), "sim")
    assert sim is not None
    sim.get_help_option(click.Context(sim, help_option_names=["--other"]))
    assert "--other" not in pages()["reconciler-sim.1"]


@pytest.mark.parametrize("page", ["reconciler.1", "reconciler-plan.1", "reconciler-sim.1"])
def test_man_renders_a_page_without_a_warning(page: str) -> None:
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("man is not installed")
    environment = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    command = ["man", "--warnings", "-l", str(FOLDER / page)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert "SYNOPSIS\n       reconciler" in ran.stdout
    assert "--state-dir DIR" in ran.stdout or "reconciler(1)" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80


def test_a_command_says_in_its_page_what_its_help_says() -> None:
    text = pages()["reconciler-plan.1"].replace("\\-", "-")
    assert ".B --target ADDRESS\nOnly this domain (host/domain, or its name alone); repeatable.\n" in text
    assert ".B -h, --help\n" in text


def test_the_wheel_holds_the_pages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    held = {name.rpartition("/")[2] for name in names if "data/share/man/man1/" in name}
    assert held == {path.name for path in FOLDER.iterdir()}
