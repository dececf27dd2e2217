"""Runs processes beside a test: each in a folder, ended with its block."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

SOON_SECONDS = 40.0
WATCH: Final = [sys.executable, "-c", "from reconciler.cli import main; main()", "--state-dir", ".state"]


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: apt install prometheus prometheus-alertmanager"
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        with suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


class running:
    """A process in a folder, whose output is a file there; ended with the block."""

    def __init__(self, command: list[str], folder: Path, log: str) -> None:
        self._log = folder / log
        with self._log.open("w") as output:
            self._process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self) -> Path:
        return self._log

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        said: bytes = answer.read()
        return said


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
