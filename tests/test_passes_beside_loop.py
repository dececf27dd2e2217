"""A pass of watch over a large fleet leaves the loop its turns, from reading the specs to what is told of it.

Under `make scale` with 10,000 domains (RECONCILER_SCALE_DOMAINS).
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bench.fleet import write_fleet
from bench.watch import CountingClock, bring_about
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier
from reconciler.watch.source import LocalSource
from tests.loop_turns import assert_the_loop_turns

DOMAINS = int(os.environ.get("RECONCILER_SCALE_DOMAINS", "500"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host on which all runs as its specs say."""
    folder = tmp_path_factory.mktemp("fleet")
    write_fleet(folder / "specs", DOMAINS, per_host=DOMAINS)
    asyncio.run(bring_about(folder / "specs", folder / "state"))
    return folder


def passes(folder: Path, *, detect_only: bool) -> Callable[[], Callable[[], Awaitable[object]]]:
    def make() -> Callable[[], Awaitable[object]]:
        clock = CountingClock()
        source = LocalSource(folder / "specs", clock, lambda text: None)
        state_dir, backoff = folder / "state", Backoff(lambda: 0.5)
        making = Passes(source, state_dir, detect_only=detect_only, now=clock.now, backoff=backoff)
        log, notifier = Log(io.StringIO(), as_json=False, now=clock.now), Notifier({})
        watcher = Watcher(source, making, state_dir, interval_seconds=60, clock=clock, log=log, notifier=notifier)
        return lambda: watcher.make_pass(frozenset({"interval"}))

    return make


def test_where_nothing_is_to_be_done(fleet: Path) -> None:
    assert_the_loop_turns(passes(fleet, detect_only=False))


def test_where_every_domain_differs_and_is_told_of(fleet: Path) -> None:
    kernel = fleet / "specs" / "kernels" / "linux"
    before = kernel.read_text()
    kernel.write_text(before + 'console = "new"\n')
    assert_the_loop_turns(passes(fleet, detect_only=True))
    kernel.write_text(before)
