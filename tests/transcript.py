"""Run a terminal session written down as text: `$ command` lines, each followed by what it prints.

Used by the cases and by the test that keeps the documentation true. Commands run in this process, in the current
folder; `RECONCILER_UPDATE_CASES=1` has both tests rewrite what they expect.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pytest

from reconciler import cli

UPDATE = bool(os.environ.get("RECONCILER_UPDATE_CASES"))
PROMPT = "$ "
_QUIET = " 2>/dev/null"
# What changes with the inside of the program: the mark of a config file, and digests over whole plans.
_VOLATILE = re.compile(r'(# reconciler-mark: (?=.)|"digest": ")(?:\{.*\}|[0-9a-f]{64})')


def replay(session: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The session again, with what its commands print now. Comments (`# …`) after a prompt are kept."""
    commands = [line for line in session.splitlines() if line.startswith(PROMPT)]
    return "".join(f"{line}\n{_run(line.removeprefix(PROMPT), monkeypatch)}" for line in commands)


def _run(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    output = StringIO()
    quiet = line.endswith(_QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", StringIO())
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", StringIO() if quiet else output)
        for command in _spelled_out(line.removesuffix(_QUIET)):
            code = _dispatch(shlex.split(command, comments=True))
    text = _VOLATILE.sub(lambda match: match[1] + "…", output.getvalue())
    if text and not text.endswith("\n"):
        text += "\n"
    return text + (f"[exit code {code}]\n" if code else "")


_LOOP = re.compile(r"for (\w+) in ([^;]+); do (.+); done")


def _spelled_out(line: str) -> list[str]:
    """The commands of a line, of which a loop has many."""
    loop = _LOOP.fullmatch(line)
    return [loop[3].replace(f"${loop[1]}", word) for word in loop[2].split()] if loop else [line]


def _dispatch(words: list[str]) -> int:
    """The command, and the few others that a session needs."""
    match words:
        case ["reconciler", *arguments]:
            return cli.run(arguments)
        case ["git" | "find", *_]:
            subprocess.run(words, check=True, capture_output=True)
        case ["cd", folder]:
            os.chdir(folder)
        case ["sed", "-i", expression, file]:
            _, before, after, _ = expression.split("/")
            text, count = re.subn(before, after, Path(file).read_text(), flags=re.MULTILINE)
            assert count, f"{before!r} is not in {file}"
            Path(file).write_text(text)
        case ["echo", line, ">>", file]:
            with Path(file).open("a") as stream:
                stream.write(line + "\n")
        case ["rm", file]:
            Path(file).unlink()
        case ["rm", "-r", folder]:
            shutil.rmtree(folder)
        case ["mv", source, destination]:
            Path(source).rename(destination)
        case _:
            raise AssertionError(f"a session cannot run: {shlex.join(words)}")
    return 0


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Lay out the files of a case."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session sees no setting of the person who runs the tests."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RECONCILER_STATE_DIR", str(folder / ".state"))
    monkeypatch.delenv("RECONCILER_SPECS", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "desk")
