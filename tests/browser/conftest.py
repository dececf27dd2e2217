"""A fleet of 1,000 simulated domains, a watch over it in a process of its own, and a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

collect_ignore = [] if find_spec("playwright") else ["test_page.py"]  # `make test-services` installs it

HOSTS, DOMAINS = 10, 100
TOKEN = "token-of-the-browser-tests"
PANICS = '#!simulated-kernel\nboot = "panic"\nconsole = "Kernel panic - not syncing: no root"\n'
_COMMAND = [sys.executable, "-c", "from reconciler.cli import main; main()"]


def address(host: int, number: int) -> str:
    return f"h{host}/d{host}-{number:02}"


@dataclass
class Fleet:
    """The spec tree, and the watch over it."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"
        for host in range(HOSTS):
            self.write(f"h{host}/host.toml", 'toolstack = "simulated"\nmax_unavailable = 10\nparallel = 10\n')
            for number in range(DOMAINS):
                self.write(f"{address(host, number)}.toml", 'kernel = "/boot/linux-6.1"\nmemory = 16\n')
        self.write("reconciler.toml", 'fleet = "pictures"\n')
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "token").chmod(0o600)
        (self.folder / "panics").write_text(PANICS)

    def write(self, name: str, text: str) -> None:
        path = self.folder / "specs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *arguments: str) -> None:
        subprocess.run(
            [*_COMMAND, *arguments],
            check=True,
            cwd=self.folder,
            env=self._environment,
            timeout=300,
            capture_output=True,
        )

    @property
    def _environment(self) -> dict[str, str]:
        named = {"RECONCILER_STATE_DIR": str(self.folder / "state"), "RECONCILER_SPECS": "specs"}
        return {**os.environ, **named, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(self) -> None:
        """Start watch, at the port that it had before."""
        options = ["--listen", str(self.port), "--interval", "5s", "--token-file", "token"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_COMMAND, "watch", "specs", *options], cwd=self.folder, env=self._environment, stderr=log
            )
        until(lambda: re.search(r"127\.0\.0\.1:(\d+)", self.log.read_text()) is not None)
        found = re.search(r"127\.0\.0\.1:(\d+)", self.log.read_text())
        assert found is not None
        self.port = int(found[1])

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.run("apply", "--yes", "--state-dir", str(made.folder / "state"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """It has an event loop of its own for as long as it is open, so it must not be while other tests run theirs."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "these tests need Chromium: apt install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium refuses root with one
        opened = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        yield opened
        opened.close()
