"""Ctrl-C while modules are loaded: the exit code, and no word of Python's.

Python itself takes some hundredths of a second to begin, in which nobody can heed a signal for it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .test_stopping import heed_interrupts

# A program that interrupts itself as it loads its n-th module: a moment that no sleep would meet again.
_INTERRUPT_AT = """
import os, signal, sys
import reconciler

begun, left = False, int(sys.argv.pop(1))

def count(event, arguments):
    global begun, left
    if event == "import":
        begun |= arguments[0] == "reconciler.cli.program"  # the first thing that takes time
        left -= begun
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(count)
from reconciler.cli import main
main()
"""


HALF_DONE = "Interrupted. What was begun may be half done: the next run looks, and goes on from there.\n"


def interrupted(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=heed_interrupts,
        check=False,
    )


@pytest.mark.parametrize("module", [1, 2, 5, 25, 100, 150, 200, 250])
def test_while_modules_are_loaded(tree: Path, module: int) -> None:
    ended = interrupted("-c", _INTERRUPT_AT, str(module), "plan")
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr in ("", HALF_DONE)


def test_who_imports_the_command_line_keeps_its_handler() -> None:
    code = "import signal, reconciler.cli; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert interrupted("-c", code).stdout == "True\n"


def test_a_command_that_was_started_to_ignore_it_goes_on(tree: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPT_AT, "50", "plan"], stdout=subprocess.PIPE, text=True, preexec_fn=ignore
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "to create" in out
