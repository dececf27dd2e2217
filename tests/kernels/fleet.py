"""One simulated host with a domain to update and a neighbour, driven through the command line and looked at."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pytest

from reconciler import cli
from reconciler.apply.result import StepResult
from reconciler.cli.act import apply as apply_command
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Host
from reconciler.plan.steps import PlannedStep
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedObserver
from reconciler.toolstack import Question
from tests.cli.conftest import Ran
from tests.transcript import write_files

PANICKED = "it is gone after a panic: Kernel panic - not syncing: simulated panic."
GOOD, BETTER = 'console = "good"', 'console = "better"'
WEB = 'kernel = "kernels/web"\nmemory = 256\ndisk = [{ vdev = "xvda", path = "/srv/web", size = "1GiB" }]\n'
DB = 'kernel = "kernels/db"\nmemory = 256\n'
SETTINGS = HostSettings(name="alpha", toolstack="simulated", disk_roots=("/srv",))


@dataclass(frozen=True)
class Fleet:
    """The tree under `folder/specs`, and the host that it describes."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    _behaviours: dict[str, str] = field(default_factory=dict)  # by the sha256 of a kernel

    def run(self, *arguments: str) -> Ran:
        """A command in this process."""
        code = cli.run(arguments)
        captured = self.capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def apply(self, *options: str) -> Ran:
        return self.run("apply", "--yes", *options)

    def write(self, path: str, text: str) -> None:
        """A file of the spec tree."""
        write_files({f"specs/{path}": text}, self.folder)

    def kernel(self, name: str, behaviour: str) -> None:
        """Make kernels/NAME one whose guest behaves like this (TOML)."""
        text = f"#!simulated-kernel\n{behaviour}\n"
        self._behaviours[hashlib.sha256(text.encode()).hexdigest()] = behaviour
        self.write(f"kernels/{name}", text)

    def host(self) -> Host:
        question = Question(files=("/srv/web",))
        return asyncio.run(SimulatedObserver(SETTINGS, "default", self.folder / ".state").observe(question))

    def guest(self, name: str = "web") -> Guest:
        return self.host().guests[name]

    def boot(self, name: str = "web") -> str | None:
        """Tells one boot of a domain from the next; None: it does not run."""
        hand = Hand(settings=SETTINGS, fleet="default", state_dir=self.folder / ".state")
        return {domain["name"]: str(domain["boot"]) for domain in hand.look()["domains"]}.get(name)

    def runs(self, name: str = "web") -> str | None:
        """How the kernel behaves that a domain runs; None: it does not run."""
        running = self.guest(name).running if name in self.host().guests else None
        return self._behaviours[running.kernel.sha256] if running is not None and running.kernel is not None else None


class Watcher:
    """Progress that does something of a test's when a step begins or has ended."""

    def started(self, step: PlannedStep) -> None:
        """Before the step is carried out."""

    def noted(self, step: PlannedStep, text: str) -> None:
        """Nothing of interest here."""

    def finished(self, result: StepResult) -> None:
        """After it was."""


@contextmanager
def watched_by(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every apply in the block tells this watcher of its steps."""

    @contextmanager
    def show(stream: TextIO, total: int) -> Iterator[Watcher]:
        yield watcher

    with monkeypatch.context() as patch:
        patch.setattr(apply_command, "show_progress", show)
        yield
