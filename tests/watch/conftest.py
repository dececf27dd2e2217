"""A small spec tree on a simulated host; a watch over it whose clock moves only when it waits, and one in a process."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.model.host import Guest
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedObserver
from reconciler.specs import read_tree
from reconciler.toolstack import Question
from reconciler.watch.backoff import Backoff
from reconciler.watch.conditions import WatchRecord, load
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.news import Outcome
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier
from reconciler.watch.source import LocalSource, Source
from tests.transcript import write_files
from tests.watch.authors import Author

HOST = 'toolstack = "simulated"\n'
TREE = {
    "specs/alpha/host.toml": HOST,
    "specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 256\n',
    "specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 512\n',
}
START = 1_700_000_000.0
SOON_SECONDS = 30.0


class FakeClock:
    """Waiting takes no time and advances it; `waits` are the seconds that were asked for."""

    def __init__(self) -> None:
        self.seconds = START
        self.waits: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        if not event.is_set():
            self.waits.append(seconds)
            self.seconds += seconds


@dataclass
class World:
    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def specs(self) -> Path:
        return self.folder / "specs"

    @property
    def state_dir(self) -> Path:
        return self.folder / ".state"

    @property
    def hand(self) -> Hand:
        """A person's reach into the host alpha."""
        return self.hand_of("alpha")

    def hand_of(self, host: str) -> Hand:
        reading = read_tree(self.specs)
        part = reading.desired.hosts[host]
        return Hand(settings=part.settings, fleet=reading.desired.fleet, state_dir=self.state_dir)

    def local(self) -> LocalSource:
        return LocalSource(self.specs, self.clock, lambda text: None)

    def watcher(self, source: Source | None = None, *, detect_only: bool = False, interval: float = 60) -> Watcher:
        source = source or self.local()
        backoff = Backoff(lambda: 0.5)
        passes = Passes(source, self.state_dir, detect_only=detect_only, now=self.clock.now, backoff=backoff)
        log = Log(self.log, as_json=False, now=self.clock.now)
        notifier = Notifier({})
        return Watcher(
            source, passes, self.state_dir, interval_seconds=interval, clock=self.clock, log=log, notifier=notifier
        )

    def guest(self, name: str = "web", host: str = "alpha") -> Guest | None:
        part = read_tree(self.specs).desired.hosts[host]
        observer = SimulatedObserver(part.settings, "default", self.state_dir)
        return asyncio.run(observer.observe(Question())).guests.get(name)

    def running(self, name: str = "web") -> Guest:
        guest = self.guest(name)
        assert guest is not None
        assert guest.running is not None
        return guest

    def write(self, **domains: str) -> None:
        """Specs of alpha, by the name of the domain."""
        write_files({f"specs/alpha/{name}.toml": text for name, text in domains.items()}, self.folder)

    def record(self) -> WatchRecord:
        record = load(self.state_dir)
        assert record is not None
        return record

    def condition(self, address: str) -> str:
        return self.record().domains[address].condition.value

    def events(self) -> list[str]:
        return self.log.getvalue().splitlines()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    write_files(TREE, tmp_path)
    monkeypatch.chdir(tmp_path)
    return World(tmp_path)


def look(watcher: Watcher, *reasons: str) -> Outcome:
    """One pass."""
    return asyncio.run(watcher.make_pass(frozenset(reasons or {"interval"})))


class Watch:
    """A running `reconciler watch`, and all that it says. `first` is Python that it runs before."""

    def __init__(self, world: World, *arguments: str, first: str = "", **environment: str) -> None:
        self.log = world.folder / f"log.{time.monotonic_ns()}"
        command = [
            sys.executable,
            "-c",
            f"{first}\nfrom reconciler.cli import main; main()",
            "--state-dir",
            str(world.state_dir),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "watch", *arguments], cwd=world.folder, stderr=log, env={**os.environ, **environment}
            )

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def wait_for(self, text: str) -> None:
        until(lambda: self.said(text) or self.process.poll() is not None)
        assert self.said(text), self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SOON_SECONDS)


Begin = Callable[..., Watch]


@pytest.fixture
def begin(world: World) -> Iterator[Begin]:
    """`begin("specs", "--interval", "1s")`; ended with the test, whatever becomes of it."""
    watches: list[Watch] = []

    def begin_one(*arguments: str, **environment: str) -> Watch:
        watches.append(Watch(world, *arguments, **environment))
        return watches[-1]

    yield begin_one
    for one in watches:
        one.process.kill()
        one.process.wait()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Author:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Author(tmp_path)
