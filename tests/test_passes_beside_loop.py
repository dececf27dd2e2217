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
from starlette.types import ASGIApp, Message

from bench.fleet import write_fleet
from bench.settled import settle
from bench.watch import CountingClock
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier
from reconciler.watch.source import LocalSource
from reconciler.web.access import Access
from reconciler.web.app import build_app
from tests.loop_turns import assert_the_loop_turns

DOMAINS = int(os.environ.get("RECONCILER_SCALE_DOMAINS", "500"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host on which all runs as its specs say."""
    folder = tmp_path_factory.mktemp("fleet")
    write_fleet(folder / "specs", DOMAINS, per_host=DOMAINS)
    asyncio.run(settle(folder / "specs", folder / "state"))
    return folder


def a_watcher(folder: Path, *, detect_only: bool) -> Watcher:
    clock = CountingClock()
    source = LocalSource(folder / "specs", clock, lambda text: None)
    state_dir, backoff = folder / "state", Backoff(lambda: 0.5)
    making = Passes(source, state_dir, detect_only=detect_only, now=clock.now, backoff=backoff)
    log, notifier = Log(io.StringIO(), as_json=False, now=clock.now), Notifier({})
    return Watcher(source, making, state_dir, interval_seconds=60, clock=clock, log=log, notifier=notifier)


def passes(folder: Path, *, detect_only: bool) -> Callable[[], Callable[[], Awaitable[object]]]:
    def make() -> Callable[[], Awaitable[object]]:
        watcher = a_watcher(folder, detect_only=detect_only)
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


def test_in_the_loop_of_a_host(fleet: Path) -> None:
    def make() -> Callable[[], Awaitable[object]]:
        watcher = a_watcher(fleet, detect_only=False)

        async def work() -> None:
            running = asyncio.create_task(watcher.run())
            while watcher.metrics().passes_total < 3:
                await asyncio.sleep(0.01)
            watcher.stop()
            await running

        return work

    assert_the_loop_turns(make)


def test_while_all_that_there_is_to_see_is_asked_for(fleet: Path) -> None:
    def make() -> Callable[[], Awaitable[object]]:
        watcher = a_watcher(fleet, detect_only=False)
        app, _ = build_app(watcher, Access(token=None, anybody_reads=True), loopback_names_only=False)

        async def work() -> None:
            await watcher.make_pass(frozenset({"interval"}))
            asked = (answer_of(app, path) for path in ("/", "/api/plan", "/api/status", "/api/observed", "/metrics"))
            await asyncio.gather(watcher.make_pass(frozenset({"interval"})), *asked)

        return work

    assert_the_loop_turns(make)


async def answer_of(app: ASGIApp, path: str) -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"127.0.0.1")]}
    await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send)
