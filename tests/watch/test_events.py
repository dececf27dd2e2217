"""What a Xen host tells by itself: a process of watch, over a dom0 that is this machine with fake tools."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from reconciler.dom0.connection import Connection
from reconciler.watch.triggers import ASKED, EVENT, INTERVAL, Triggers
from reconciler.xl import events
from tests.fake_dom0 import tools_on_path, write_tool, write_xl
from tests.transcript import write_files
from tests.watch.conftest import SOON_SECONDS, Begin, FakeClock, World, until

DONE = 0
FAST_SECONDS = 15.0
SOON_CALM = "from reconciler.watch import triggers; triggers._CALM_SECONDS = 0.3"
DOMAIN = 'kernel = "/boot/vmlinuz"\nmemory = 64\n'


class Xenstore:
    """A fake `xenstore-watch`; what is appended to a file is an event."""

    def __init__(self, xen: Path, tools: Path) -> None:
        self._events, self._watchers, self._calls = xen / "events", xen / "watchers", xen / "calls"
        self._events.write_text("@releaseDomain\n")
        write_tool(
            tools,
            "xenstore-watch",
            f'[ "$*" = @releaseDomain ] || exit 2\necho $$ >>{self._watchers}\nexec tail -n +1 -f {self._events}',
        )

    def happens(self, times: int = 1) -> None:
        with self._events.open("a") as events:
            events.write("@releaseDomain\n" * times)

    @property
    def watchers(self) -> list[int]:
        """The processes that listened so far."""
        return [int(line) for line in self._watchers.read_text().split()] if self._watchers.exists() else []

    def looks(self) -> int:
        """How often the host was observed."""
        return self._calls.read_text().splitlines().count("info")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tools_on_path(tmp_path, monkeypatch)


@pytest.fixture
def xen(tmp_path: Path, tools: Path) -> Path:
    return write_xl(tmp_path, tools)


@pytest.fixture
def xenstore(xen: Path, tools: Path) -> Xenstore:
    return Xenstore(xen, tools)


@pytest.fixture
def world(world: World) -> World:
    """The same tree on a Xen host, with nothing to be done there."""
    host = f'toolstack = "xl"\nconfig_dir = "{world.folder}/etc"\nkernel_dir = "{world.folder}/kernels"\n'
    files = {"specs/alpha/host.toml": host, "specs/reconciler.toml": 'fleet = "default"\n'}
    write_files({**files, "etc/README": "", "kernels/README": ""}, world.folder)
    for name in ("web", "db"):
        (world.specs / f"alpha/{name}.toml").unlink()
    return world


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_event_leads_to_a_pass_that_is_told_of_only_when_it_finds_something(
    world: World, xenstore: Xenstore, begin: Begin
) -> None:
    watch = begin("specs", "--interval", "1h", "--detect-only", first=SOON_CALM)
    until(lambda: watch.said("pass ended") and xenstore.watchers)
    looks, began = xenstore.looks(), time.monotonic()
    xenstore.happens()
    until(lambda: xenstore.looks() > looks)
    assert time.monotonic() - began < FAST_SECONDS
    assert watch.log.read_text().count("pass ended") == 1
    write_files({"specs/alpha/web.toml": DOMAIN}, world.folder)
    watch.wait_for('host=alpha because="specs changed"')
    write_files({"etc/web.cfg": 'name = "web"\nkernel = "/boot/vmlinuz"\n'}, world.folder)  # somebody else's web
    xenstore.happens()
    watch.wait_for('because="hypervisor event"')
    assert watch.end() == DONE
    until(lambda: not any(lives(process) for process in xenstore.watchers))


def test_nobody_listens_after_a_kill(world: World, xenstore: Xenstore, begin: Begin) -> None:
    watch = begin("specs", "--interval", "1h")
    until(lambda: xenstore.watchers and lives(xenstore.watchers[0]))
    watch.end(signal.SIGKILL)
    until(lambda: not lives(xenstore.watchers[0]))


def test_a_host_that_changes_or_leaves_is_not_listened_to_as_before(
    world: World, xenstore: Xenstore, begin: Begin
) -> None:
    watch = begin("specs", "--interval", "1h")
    until(lambda: xenstore.watchers)
    settings = world.specs / "alpha/host.toml"
    settings.write_text(settings.read_text() + "parallel = 2\n")
    until(lambda: len(xenstore.watchers) == 2)
    first, second = xenstore.watchers
    until(lambda: not lives(first))
    assert lives(second)
    shutil.rmtree(world.specs / "alpha")
    until(lambda: not lives(second))
    assert watch.end() == DONE


@pytest.mark.skipif(shutil.which("xenstore-watch") is not None, reason="this machine has xenstore-watch")
def test_a_host_without_the_tool_is_told_of_once(world: World, xen: Path, begin: Begin) -> None:
    watch = begin("specs", "--interval", "1s")
    watch.wait_for("there is no xenstore-watch on alpha")
    calls = xen / "calls"
    until(lambda: calls.exists() and calls.read_text().count("info") > 2)
    (line,) = [line for line in watch.log.read_text().splitlines() if "xenstore-watch" in line]
    assert "pass=" not in line, "it was found beside the passes"
    assert watch.end() == DONE


def test_one_pass_does_not_listen(world: World, xenstore: Xenstore, begin: Begin) -> None:
    begin("specs", "--once").process.wait(SOON_SECONDS)
    assert xenstore.watchers == []


@pytest.fixture
def without_waits() -> Iterator[None]:
    """What is tried again is tried at once."""
    with stamina.set_testing(True, attempts=1000):
        yield


@pytest.mark.usefixtures("without_waits")
def test_what_happened_while_nobody_heard_is_looked_for(xenstore: Xenstore) -> None:
    nudges: list[float] = []

    async def listen() -> None:
        listener = asyncio.create_task(
            events.listen(Connection("alpha"), lambda: nudges.append(time.monotonic()), pytest.fail)
        )
        await asyncio.to_thread(until, lambda: xenstore.watchers)
        await asyncio.sleep(0.3)
        assert nudges == []  # the first line only says that the watch is set
        os.kill(xenstore.watchers[0], signal.SIGTERM)
        await asyncio.to_thread(until, lambda: nudges)
        assert len(xenstore.watchers) == 2
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)

    asyncio.run(listen())
    until(lambda: not any(lives(process) for process in xenstore.watchers))


def test_a_burst_of_events_is_one_reason_after_a_moment_and_holds_up_nothing_else() -> None:
    clock = FakeClock()
    triggers = Triggers(clock)
    for _ in range(100):
        triggers.ask(EVENT)
    assert asyncio.run(triggers.wait(60)) == {EVENT}
    assert clock.waits == [3]
    assert asyncio.run(triggers.wait(60)) == {INTERVAL}
    triggers.ask(EVENT)
    triggers.ask(ASKED)
    assert asyncio.run(triggers.wait(60)) == {EVENT, ASKED}
    assert clock.waits == [3, 60]
