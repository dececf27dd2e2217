"""The documentation is true: every session in it prints what it shows. Each page goes on from where `make run` ends.

After a wanted change of output, run with RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from reconciler import cli
from tests.transcript import UPDATE, isolate, replay

ROOT = Path(__file__).parents[2]
COMMAND_PAGES = sorted((ROOT / "docs/commands").glob("*.md"))
FROM_NOTHING = [ROOT / "docs/existing-host.md", ROOT / "docs/netbsd.md"]  # these begin without a tree
PAGES = [ROOT / "README.md", *FROM_NOTHING, *COMMAND_PAGES]
_SESSION = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
_SCRIPT = re.compile(r"(?<=^```sh\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"`((?:reconciler|tests)/[\w./]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_sessions(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text()
    isolate(tmp_path, monkeypatch)
    if page not in FROM_NOTHING:
        shutil.copytree(ROOT / "specs", tmp_path / "specs")
        assert cli.run(["apply", "--yes"]) == 0
    replayed = _SESSION.sub(lambda match: replay(match[0], monkeypatch), text)
    if UPDATE:
        page.write_text(replayed)
    assert replayed == text


def test_every_command_has_a_page() -> None:
    assert {page.stem for page in COMMAND_PAGES} == set(cli.COMMANDS)


def test_the_glossary_has_each_word_once_in_order() -> None:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)[1:]
    words = [word for row in rows for word in row.split(", ")]
    assert len(set(words)) == len(words) > 40
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs/decisions").glob("*.md"),
        *(ROOT / "docs/reference").glob("*.md"),
    ],
)
def test_links_and_file_names_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    broken = [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    broken += [name for name in _MODULE.findall(text) if not (ROOT / name).exists()]
    assert broken == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_every_command_to_copy_has_the_options_that_it_is_given(page: Path) -> None:
    for script in _SCRIPT.findall(page.read_text()):
        for line in script.splitlines():
            words = shlex.split(line.replace(";", " ;").partition("|")[0], comments=True)
            if words[:1] == ["reconciler"]:
                name = next(word for word in words if word in cli.COMMANDS)
                command = cli.cli.get_command(click.Context(cli.cli), name)
                assert command is not None
                options = {option for one in (cli.cli, command) for param in one.params for option in param.opts}
                assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, line
