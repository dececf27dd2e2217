"""What ends with this process, also when signals come at the worst moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

_LEAVING = """
import asyncio, os, signal, sys, time
from pathlib import Path
from reconciler import leaving
from reconciler.dom0.connection import Connection

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: leaving.leave(7))
"""
_ENDING = """
def end():
    os.write(1, b"ending\\n")  # a print may meet the one that it interrupts
    time.sleep(0.5)
    Path(sys.argv[1]).touch()

leaving.must_end(end)
print("ready", flush=True)
time.sleep(60)
"""
_BEGUN = """
create = asyncio.create_subprocess_exec

async def create_and_dawdle(*arguments, **options):
    process = await create(*arguments, **options)
    print(process.pid, flush=True)
    await asyncio.sleep(60)

async def begin():
    async with Connection("alpha").process("sleep 300"):
        pass

asyncio.create_subprocess_exec = create_and_dawdle
asyncio.run(begin())
"""

Leaving = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def leaving(tmp_path: Path) -> Leaving:
    def start(what: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", _LEAVING + what, str(tmp_path / "ended")]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_more_signals_cut_no_ending_short(leaving: Leaving, tmp_path: Path, number: signal.Signals) -> None:
    process = leaving(_ENDING)
    assert _line(process) == "ready"
    process.send_signal(number)
    assert _line(process) == "ending"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 7
    assert (tmp_path / "ended").exists()


def test_what_was_begun_a_moment_before_the_signal_ends_too(leaving: Leaving) -> None:
    process = leaving(_BEGUN)
    begun = int(_line(process))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 7
    assert _is_gone(begun)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _is_gone(pid: int) -> bool:
    """Tell whether a process that was killed has ended; it is given a moment. Its new parent may not have reaped it."""
    deadline = time.monotonic() + 5
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
