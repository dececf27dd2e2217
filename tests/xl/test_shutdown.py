"""Shutting a domain down: asked first, waited for, and only destroyed where that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.dom0.connection import Connection, Result
from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.domain import Domain
from reconciler.plan.steps import Shutdown, Start
from reconciler.xl.commands import Xl
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import UUID, table_row, write_tool
from tests.xl.fake_guests import OTHER_UUID, Guests, ignore

pytestmark = pytest.mark.anyio


@pytest.fixture
def step() -> Shutdown:
    return Shutdown(domain="web", uuid=UUID, timeout_seconds=60, on_timeout="fail")


async def test_a_guest_that_obeys_is_gone_afterwards(executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
    guests.show(table_row("web", 5))
    cleaning, gone = guests.later("cleaning", table_row("web", 5, "--ps--")), guests.later("gone")
    guests.on("shutdown", f"{cleaning}; sleep 0.1; {gone}")
    await executor.execute(step, ignore)
    assert guests.calls == ["shutdown -F 5"]


async def test_gone_already_is_success(executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
    await executor.execute(step, ignore)
    guests.show(table_row("web", 5, uuid=OTHER_UUID))  # somebody else's by now
    await executor.execute(step, ignore)
    assert guests.calls == [], "nobody was asked to go"


async def test_a_deaf_guest_fails_the_step_and_lives_on(executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
    guests.show(table_row("web", 5))
    guests.on("shutdown", "exit 0")
    with pytest.raises(ReconcilerError, match="still runs after 60 s"):
        await executor.execute(step, ignore)
    assert guests.calls == ["shutdown -F 5"]


async def test_pulling_the_plug_has_to_be_asked_for(executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
    guests.show(table_row("web", 5, "--p---"))
    guests.on("shutdown", "sleep 60; exit 1")  # as for a paused guest
    guests.on("destroy", guests.later("gone"))
    await executor.execute(replace(step, on_timeout="destroy"), ignore)
    assert guests.calls == ["shutdown -F 5", "destroy 5"]


def devices(tools: Path, *states: str) -> None:
    """What xenstore says of the states of its devices, each on both ends."""
    paths = "".join(f'/libxl/5/device/vbd/{at}/frontend = "/front/{at}"\n' for at in range(len(states)))
    write_tool(tools, "xenstore-ls", f"cat <<'E'\n/libxl/5/type = \"pv\"\n{paths}E")
    cases = " ".join(f"/front/{at}/state) echo {state} ;;" for at, state in enumerate(states))
    write_tool(tools, "xenstore-read", f"case $1 in {cases} *) exit 1 ;; esac")


@pytest.mark.parametrize("states", [("2",), ("2", "1"), ()])
async def test_a_failed_boot_that_got_hold_of_nothing_is_not_waited_for_long(
    executor: XlExecutor, guests: Guests, tools: Path, step: Shutdown, states: tuple[str, ...]
) -> None:
    """A guest without any device may do something else of worth: it is as patient as its spec."""
    guests.show(table_row("web", 5))
    devices(tools, *states)
    guests.on("shutdown", "exit 0")
    guests.on("destroy", guests.later("gone"))
    failed_boot = replace(step, unconnected_seconds=20)
    if states:
        await executor.execute(failed_boot, ignore)
        assert guests.calls == ["shutdown -F 5", "destroy 5"]
    else:
        with pytest.raises(ReconcilerError, match="still runs after 60 s"):
            await executor.execute(failed_boot, ignore)
        assert guests.calls == ["shutdown -F 5"]


@pytest.mark.parametrize("states", [("4",), ("4", "2")])
async def test_one_that_got_hold_of_a_disk_may_be_writing_and_goes_down_as_its_spec_says(
    executor: XlExecutor, guests: Guests, tools: Path, step: Shutdown, states: tuple[str, ...]
) -> None:
    guests.show(table_row("web", 5))
    devices(tools, *states)
    guests.on("shutdown", "exit 0")
    with pytest.raises(ReconcilerError, match="still runs after 60 s"):
        await executor.execute(replace(step, unconnected_seconds=20), ignore)
    assert guests.calls == ["shutdown -F 5"], "its plug was not pulled"


@pytest.mark.parametrize("state", ["---sc-", "---s--"])
async def test_what_nobody_clears_away_is_destroyed(
    executor: XlExecutor, guests: Guests, step: Shutdown, state: str
) -> None:
    guests.show(table_row("web", 5, state))
    guests.on("destroy", guests.later("gone"))
    await executor.execute(step, ignore)
    assert guests.calls == ["destroy 5"]


async def test_a_guest_that_reboots_meanwhile_is_asked_again(
    executor: XlExecutor, guests: Guests, step: Shutdown
) -> None:
    guests.show(table_row("web", 5, "---sr-"))
    guests.on("shutdown", guests.later("gone"))
    shutting = asyncio.create_task(executor.execute(step, ignore))
    await asyncio.sleep(0.1)
    guests.show(table_row("web", 6))
    await shutting
    assert guests.calls == ["shutdown -F 6"]


async def test_a_guest_between_two_lives_is_not_gone(
    executor: XlExecutor, guests: Guests, tools: Path, step: Shutdown
) -> None:
    write_tool(tools, "ps", "echo 77 /usr/lib/xen-4.17/bin/xl create /etc/xen/web.cfg")
    guests.on("shutdown", f"{guests.later('gone')}; echo true >{tools}/ps")
    shutting = asyncio.create_task(executor.execute(step, ignore))
    await asyncio.sleep(0.1)
    guests.show(table_row("web", 6))
    await shutting
    assert guests.calls == ["shutdown -F 6"]


@pytest.mark.parametrize("gone", [False, True], ids=["while it waits for the guest", "while it ends what it asked"])
async def test_a_shutdown_that_is_cancelled_is_never_taken_for_done(
    executor: XlExecutor, guests: Guests, step: Shutdown, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that runs beside the looking is cancelled too, and its end must not stand for that of the step."""
    asked, ending = asyncio.Event(), asyncio.Event()

    async def run(self: Xl, *arguments: str, timeout_seconds: float = 60) -> Result:
        if arguments[0] != "shutdown":
            return await real_run(self, *arguments, timeout_seconds=timeout_seconds)
        asked.set()
        try:
            await asyncio.sleep(60)
        finally:
            ending.set()
            await asyncio.sleep(0.2)  # a process that is killed is gone only after a moment
        raise AssertionError

    real_run = Xl.run
    monkeypatch.setattr(Xl, "run", run)
    guests.show(table_row("web", 5))
    said: list[str] = []
    shutting = asyncio.create_task(executor.execute(step, said.append))
    await asyncio.wait_for(asked.wait(), 20)
    if gone:
        guests.show()
        await asyncio.wait_for(ending.wait(), 20)
    shutting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(shutting, 20)
    assert ending.is_set()
    assert "web is down" not in said


async def test_a_zombie_is_reported_not_hammered(executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
    guests.show(table_row("(null)", 5, "--ps-d"))
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    assert caught.value.diagnostics[0].summary == "domain is a zombie"
    assert not (guests._folder / "calls").read_text().count("destroy")


async def test_without_a_uuid_nothing_is_shut_down(executor: XlExecutor, guests: Guests, step: Shutdown) -> None:
    guests.show(table_row("web", 5))
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(replace(step, uuid=""), ignore)
    assert caught.value.diagnostics[0].kind is Kind.REFUSED


async def test_while_a_domain_is_down_for_a_restart_nothing_is_done_but_what_has_to_be(
    executor: XlExecutor,
    guests: Guests,
    tools: Path,
    xen: Path,
    step: Shutdown,
    make_domain: Callable[..., Domain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end is seen by the script that waits for it there, and one more round trip creates it."""
    guests.show(table_row("web", 5))
    guests.on("shutdown", "exit 0")
    guests.on("create", guests.later("up", table_row("web", 6)))
    goes = (
        f"cd {xen}; echo read >>reads; [ $(wc -l <reads) -ne 3 ] || {{ {guests.later('gone')}; echo is gone >>calls; }}"
    )
    write_tool(tools, "xenstore-read", f"{goes}; grep -q ' 5 ' list")
    real = Connection.script

    async def script(self: Connection, text: str, **how: Any) -> Result:
        with (xen / "calls").open("a") as calls:
            calls.write("round trip\n")
        return await real(self, text, **how)

    monkeypatch.setattr(Connection, "script", script)
    await executor.execute(step, ignore)
    await executor.execute(Start(definition=make_domain()), ignore)
    done = (xen / "calls").read_text().splitlines()
    file = f"{executor._settings.config_dir}/web.cfg"
    before, after = done[: done.index("is gone")], done[done.index("is gone") + 1 : done.index(f"create {file}")]
    assert sorted(after) == ["info", "list -v", "list -v", "round trip"]
    assert done[done.index(f"create {file}") + 1 :] == ["list -v"]
    assert before.count("list -v") == 1, "it is waited for without lists"
