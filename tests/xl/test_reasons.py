"""Whatever xl says when it fails is in the message, for every command that steps run; and the hint fits it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.dom0.connection import Result
from reconciler.model.diagnostics import Diagnostic, ReconcilerError
from reconciler.model.domain import Domain, Vif
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    DetachVif,
    HostStep,
    SetMemory,
    SetScheduler,
    SetVcpus,
    Shutdown,
    Start,
)
from reconciler.xl.commands import reason_of
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import UUID, running_json, table_row, write_tool
from tests.xl.fake_guests import Guests, ignore

pytestmark = pytest.mark.anyio

WORDS = "the reason that only xl knows"
FAILS = f"echo 'libxl: error: libxl_x.c:12:fun: Domain 5:{WORDS}' >&2; exit 1"
VIF = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="xenbr0")
WEIGHT = (("cpu_weight", 512),)
NIC = {"devid": 1, "mac": VIF.mac, "bridge": "xenbr0"}


def shutdown(on_timeout: Any) -> Callable[[Domain], HostStep]:
    return lambda web: Shutdown(domain="web", uuid=UUID, timeout_seconds=15, on_timeout=on_timeout)


COMMANDS: dict[str, tuple[str, Callable[[Domain], HostStep]]] = {
    "mem-set": ("mem-set", lambda web: SetMemory(domain="web", uuid=UUID, before_kib=98304, memory_kib=131072)),
    "mem-set by 1 MiB": ("mem-set", lambda web: SetMemory(domain="web", uuid=UUID, before_kib=98304, memory_kib=99328)),
    "vcpu-set": ("vcpu-set", lambda web: SetVcpus(domain="web", uuid=UUID, vcpus=2)),
    "sched-credit2": (
        "sched-credit2",
        lambda web: SetScheduler(domain="web", uuid=UUID, shares=WEIGHT),
    ),
    "network-attach": ("network-attach", lambda web: AttachVif(domain="web", uuid=UUID, vif=VIF)),
    "network-detach": ("network-detach", lambda web: DetachVif(domain="web", uuid=UUID, vif=replace(VIF, devid=2))),
    "block-attach": (
        "block-attach",
        lambda web: AttachDisk(domain="web", uuid=UUID, disk=replace(web.disks[0], vdev="xvdz", devid=58112)),
    ),
    "create": ("create", lambda web: Start(definition=replace(web, name="db", uuid=UUID.replace("2-", "3-", 1)))),
    "shutdown": ("shutdown", shutdown("fail")),
    "destroy": ("destroy", shutdown("destroy")),
    "list -v": ("list", lambda web: SetVcpus(domain="web", uuid=UUID, vcpus=2)),
    "info": ("info", lambda web: SetScheduler(domain="web", uuid=UUID, shares=WEIGHT)),
}


@pytest.fixture
def running(guests: Guests, xen: Path, tools: Path, make_domain: Callable[..., Domain]) -> Domain:
    web = make_domain()
    Path(web.disks[0].target).write_text("a disk")
    guests.show(table_row("web", 5))
    entry: dict[str, Any] = running_json(5, web)
    entry["config"]["nics"].append({**NIC, "devid": 2})
    (xen / "long").write_text(json.dumps([entry]))
    for command, _ in COMMANDS.values():
        if command not in ("list", "info"):
            guests.on(command, "exit 0")
    write_tool(tools, "xenstore-read", "case $1 in */state) echo 4 ;; *) echo /path ;; esac")
    return web


async def failing(executor: XlExecutor, step: HostStep) -> Diagnostic:
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("title", COMMANDS)
async def test_the_reason_of_every_command_is_told(
    title: str, executor: XlExecutor, guests: Guests, running: Domain
) -> None:
    command, step = COMMANDS[title]
    guests.on(command, FAILS)
    problem = await failing(executor, step(running))
    assert WORDS in problem.detail
    assert "libxl_x.c" not in problem.detail, "a place in xl's sources says nothing to a person"


async def test_a_guest_that_cannot_be_asked_is_not_given_more_time(
    executor: XlExecutor, guests: Guests, running: Domain
) -> None:
    refusal = "HVM domain without PV drivers: graceful shutdown not possible, use destroy"
    guests.on("shutdown", f"echo '{refusal}' >&2; exit 1")
    problem = await failing(executor, shutdown("fail")(running))
    assert refusal in problem.detail
    assert problem.hint is not None
    assert 'on_shutdown_timeout = "destroy"' in problem.hint
    assert "more time" not in problem.hint.replace("More time will not help", "")
    assert len(guests.calls) <= 2, "in 15 s it is asked twice (once on a busy machine), not each second"


async def test_a_start_that_fails_and_a_rest_that_stays_are_both_told(
    executor: XlExecutor, guests: Guests, running: Domain
) -> None:
    guests.show()
    left = guests.later("half", table_row("web", 6, "--p---", seconds=0))
    guests.on("create", f"{left}; echo 'script: Failed to find an unused loop device' >&2; exit 3")
    guests.on("destroy", "echo 'Domain 6 is still in use' >&2; exit 1")
    problem = await failing(executor, Start(definition=running))
    assert "web did not start: script: Failed to find an unused loop device" in problem.detail
    assert "still there after `xl destroy`: Domain 6 is still in use" in problem.detail


async def test_a_nic_that_neither_comes_nor_goes_is_told_with_both_reasons(
    executor: XlExecutor, guests: Guests, running: Domain, xen: Path
) -> None:
    entry: dict[str, Any] = running_json(5, running)
    entry["config"]["nics"].append(NIC)
    (xen / "left").write_text(json.dumps([entry]))
    guests.on("network-attach", f"cp left long; {FAILS}")
    guests.on("network-detach", "echo 'no such backend' >&2; exit 1")
    problem = await failing(executor, AttachVif(domain="web", uuid=UUID, vif=VIF))
    assert WORDS in problem.detail
    assert "could not be detached: no such backend" in problem.detail


async def test_what_was_said_of_a_device_that_does_not_connect_is_told(
    executor: XlExecutor, guests: Guests, running: Domain, xen: Path, tools: Path
) -> None:
    entry: dict[str, Any] = running_json(5, running)
    entry["config"]["disks"].append({"pdev_path": running.disks[0].target, "vdev": "xvdz", "readwrite": 1})
    (xen / "left").write_text(json.dumps([entry]))
    guests.on("block-attach", f"cp left long; {FAILS}")
    write_tool(tools, "xenstore-read", "case $1 in */state) echo 2 ;; *) echo /path ;; esac")
    problem = await failing(executor, COMMANDS["block-attach"][1](running))
    assert "has not connected" in problem.detail
    assert WORDS in problem.detail


def test_of_many_lines_the_first_and_the_last_are_told() -> None:
    lines = ["Parsing config from /etc/xen/web.cfg", *(f"libxl: error: libxl_x.c:{n}:f: line {n}" for n in range(9))]
    said = "\n".join([*lines, "libxl: error: libxl_x.c:9:f: line 8", "the last word"])
    result = Result(exit_code=3, stdout=b"", stderr=said.encode())
    assert reason_of(result) == "line 0 / line 1 / line 2 / … / the last word"


def reason(errors: bytes = b"", output: bytes = b"") -> str:
    return reason_of(Result(exit_code=3, stdout=output, stderr=errors))


ASIDES = b"""WARNING: ignoring "kernel" directive for HVM guest. Use "firmware_override" instead.
libxl: warning: libxl_dm.c:2000:f: Domain 12:a warning
libxl: notice: libxl_numa.c:518:f: NUMA placement candidate
xc: progress: Loading kernel: 10/100   10%
"""


def test_warnings_and_notes_do_not_hide_why_it_failed() -> None:
    assert reason(ASIDES + b"libxl: error: libxl_device.c:1337:f: script: no loop device\n") == "script: no loop device"
    assert reason(ASIDES).startswith('WARNING: ignoring "kernel" directive')


def test_what_was_said_last_is_told_even_if_it_was_said_before() -> None:
    assert reason(b"a\nb\nc\nd\ne\nd\n") == "a / b / c / … / d"


def test_what_was_said_as_output_counts_where_nothing_was_said_as_an_error() -> None:
    assert reason(output=b"Parsing config from x\nshutdown failed\n") == "shutdown failed"
    assert reason(b"an error\n", b"output\n") == "an error"
    assert reason(b"Parsing config from x\n", b"\n") == "it gave no reason (exit 3)."


def test_what_is_no_utf_8_or_very_long_is_told_as_far_as_it_goes() -> None:
    assert reason(b"no disk \xff\xfe\n") == "no disk \ufffd\ufffd"
    assert len(reason(b"x" * 100_000)) == 500


def test_a_password_that_xl_repeats_is_not_told() -> None:
    said = reason(b"libxl: error: libxl_x.c:1:f: block-iscsi iqn=a,password=hunter2 failed\nrbd:p/w:key=AQ==\n")
    assert said == "block-iscsi iqn=a,password=(sensitive) / rbd:p/w:key=(sensitive)"
