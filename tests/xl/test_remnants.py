"""Domains that are paused, left half made, or ended with nobody to clear them away: what is done, and what is not."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from reconciler.model.diagnostics import ReconcilerError
from reconciler.plan.steps import Shutdown, Unpause
from reconciler.xl import processes
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import UUID, process_of_xl, table_row, write_tool
from tests.xl.fake_guests import Guests, ignore, shown

pytestmark = pytest.mark.anyio

UNPAUSE = Unpause(domain="web", uuid=UUID)
CLEAR = Shutdown(domain="web", uuid=UUID, timeout_seconds=2, on_timeout="fail", remnant=True)
HALF_MADE = table_row("web", 5, "--p---", seconds=0)


async def test_a_paused_domain_goes_on(executor: XlExecutor, guests: Guests) -> None:
    guests.show(table_row("web", 5, "--p---"))
    guests.on("unpause", guests.later("goes-on", table_row("web", 5)))
    await executor.execute(UNPAUSE, ignore)
    await executor.execute(UNPAUSE, ignore)
    assert guests.calls == ["unpause 5"], "it runs already the second time"


async def test_that_it_goes_on_is_seen_not_believed(executor: XlExecutor, guests: Guests) -> None:
    guests.show(table_row("web", 5, "--p---"))
    guests.on("unpause", "exit 0")
    with pytest.raises(ReconcilerError, match="still paused"):
        await executor.execute(UNPAUSE, ignore)


@pytest.mark.parametrize(
    "command",
    ["xl dump-core web /srv/web.core", "/usr/lib/xen-4.17/bin/xl save 5 /srv/web.save", "xl -v migrate web beta"],
)
async def test_what_needs_it_paused_is_not_disturbed(
    executor: XlExecutor, guests: Guests, tools: Path, command: str
) -> None:
    guests.show(table_row("web", 5, "--p---"))
    write_tool(tools, "ps", f"echo '{command}'")
    with pytest.raises(ReconcilerError, match="is paused while") as caught:
        await executor.execute(UNPAUSE, ignore)
    assert caught.value.diagnostics[0].transient
    assert guests.calls == []


@pytest.mark.parametrize(
    "command", ["xl dump-core db /srv/db.core", "xl save 55 /srv/x", "xl migrate-receive", "grep dump-core web"]
)
async def test_what_works_on_another_domain_is_no_reason_to_wait(
    executor: XlExecutor, guests: Guests, tools: Path, command: str
) -> None:
    guests.show(table_row("web", 5, "--p---"))
    write_tool(tools, "ps", f"echo '{command}'")
    guests.on("unpause", guests.later("goes-on", table_row("web", 5)))
    await executor.execute(UNPAUSE, ignore)


@pytest.mark.parametrize("state", ["---sr-", "---s--", "---sc-"])
async def test_what_ended_and_stays_is_cleared_away(executor: XlExecutor, guests: Guests, state: str) -> None:
    guests.show(table_row("web", 5, state))
    guests.on("destroy", guests.later("gone"))
    await executor.execute(CLEAR, ignore)
    assert guests.calls == ["destroy 5"]


async def test_what_its_process_brings_back_is_left_to_it(executor: XlExecutor, guests: Guests, tools: Path) -> None:
    guests.show(table_row("web", 5, "---sr-"))
    write_tool(tools, "ps", "echo xl create /etc/xen/web.cfg")
    clearing = asyncio.create_task(executor.execute(CLEAR, ignore))
    await asyncio.sleep(0.5)
    guests.show(table_row("web", 6))
    with pytest.raises(ReconcilerError, match="runs by now") as caught:
        await clearing
    assert caught.value.diagnostics[0].moved
    assert guests.calls == []


async def test_what_was_left_half_made_is_cleared_away(executor: XlExecutor, guests: Guests) -> None:
    guests.show(HALF_MADE)
    guests.on("destroy", guests.later("gone"))
    await executor.execute(CLEAR, ignore)
    assert guests.calls == ["destroy 5"]


@pytest.mark.parametrize("lock_it", [fcntl.flock, fcntl.lockf], ids=["flock", "fcntl, as xl does"])
async def test_what_xl_is_making_is_left_alone(
    executor: XlExecutor,
    guests: Guests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock_it: Callable[[IO[str], int], object],
) -> None:
    lock = tmp_path / "xl.lock"
    monkeypatch.setattr(processes, "XL_LOCKS", (str(lock),))
    guests.show(HALF_MADE)
    with lock.open("w") as held:
        lock_it(held, fcntl.LOCK_EX)
        with pytest.raises(ReconcilerError, match="xl seems to be at work") as caught:
            await executor.execute(CLEAR, ignore)
    assert caught.value.diagnostics[0].moved
    assert guests.calls == []


async def test_what_an_xl_create_is_making_that_outlived_its_caller_is_left_alone(
    executor: XlExecutor, guests: Guests, tmp_path: Path
) -> None:
    guests.show(HALF_MADE)
    with (
        process_of_xl(tmp_path, "create", "/etc/xen/web.cfg"),
        pytest.raises(ReconcilerError, match="xl seems to be at work"),
    ):
        await executor.execute(CLEAR, ignore)
    assert guests.calls == []


async def test_a_process_of_xl_that_serves_another_domain_says_nothing(
    executor: XlExecutor, guests: Guests, tmp_path: Path
) -> None:
    guests.show(HALF_MADE)
    guests.on("destroy", guests.later("gone"))
    with process_of_xl(tmp_path, "create", "/etc/xen/web.cfg", log="xl-db.log"):
        await executor.execute(CLEAR, ignore)
    assert guests.calls == ["destroy 5"]


async def test_what_is_whole_by_now_is_left_alone(executor: XlExecutor, guests: Guests, xen: Path) -> None:
    guests.show(HALF_MADE)
    shown(xen)
    with pytest.raises(ReconcilerError, match="runs by now"):
        await executor.execute(CLEAR, ignore)
    guests.show(table_row("web", 5, "--p---", seconds=0.1))
    with pytest.raises(ReconcilerError, match="runs by now"):
        await executor.execute(CLEAR, ignore)
    assert guests.calls == []
