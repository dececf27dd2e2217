"""A look at one domain: what is up, what is only between two lives, and what answers on a port."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.apply.follow import carry_out
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Ready
from reconciler.model.host import Power
from reconciler.plan.steps import AwaitReady
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import UUID, table_row, write_tool
from tests.xl.fake_guests import Guests, ignore

pytestmark = pytest.mark.anyio


@pytest.fixture
def xenstore(tools: Path) -> Callable[[str], None]:
    def answer(states: str, kind: str = "pv") -> None:
        write_tool(
            tools,
            "xenstore-ls",
            f"""cat <<'E'
/libxl/5/device/vbd/51712/frontend = "/local/domain/5/device/vbd/51712"
/libxl/5/device/vbd/51712/backend = "/local/domain/0/backend/vbd/5/51712"
/libxl/5/device/vbd/51712/state = "1"
/libxl/5/device/console/0/frontend = "/local/domain/5/console"
/libxl/5/type = "{kind}"
E""",
        )
        front, back = states.split()
        write_tool(
            tools, "xenstore-read", f"case $1 in */5/device/*/state) echo {front} ;; */state) echo {back} ;; esac"
        )

    return answer


@pytest.mark.parametrize(
    ("states", "kind", "connected"),
    [("4 4", "pv", True), ("3 4", "pv", False), ("1 2", "hvm", None), ("4 5", "hvm", False), ("4 4", "hvm", True)],
)
async def test_both_ends_of_every_device_count(
    executor: XlExecutor,
    guests: Guests,
    xenstore: Callable[..., None],
    states: str,
    kind: str,
    connected: bool | None,
) -> None:
    guests.show(table_row("web", 5))
    xenstore(states, kind)
    look = await executor.look("web")
    assert (look.power, look.uuid, look.boot, look.actual_kib) == (Power.RUNNING, UUID, "5", 96 * 1024)
    assert look.devices_connected is connected


@pytest.mark.parametrize(
    ("kind", "opens", "connected"),
    [
        ("hvm", "aio:/srv/a.iso", True),  # Linux leaves it to the emulated drive
        ("hvm", "aio:", True),
        ("pv", "aio:", True),  # no backend comes up for nothing
        ("pvh", "", True),
        ("pv", "/srv/a.iso", False),
    ],
)
async def test_a_drive_that_no_guest_connects_is_not_waited_for(
    executor: XlExecutor, guests: Guests, tools: Path, kind: str, opens: str, connected: bool
) -> None:
    drive = "/libxl/5/device/vbd/5632"
    nodes = f"""/libxl/5/device/vbd/51712/frontend = "/disk/front"
/libxl/5/device/vbd/51712/backend = "/disk/back"
/libxl/5/device/vbd/51712/params = "/srv/web.img"
/libxl/5/device/vbd/51712/device-type = "disk"
{drive}/frontend = "/drive/front"
{drive}/backend = "/drive/back"
{drive}/params = "{opens}"
{drive}/device-type = "cdrom"
/libxl/5/type = "{kind}"
"""
    write_tool(tools, "xenstore-ls", f"cat <<'E'\n{nodes}E")
    write_tool(tools, "xenstore-read", "case $1 in /disk/*) echo 4 ;; /drive/*) echo 1 ;; esac")
    guests.show(table_row("web", 5))
    look = await executor.look("web")
    assert (look.devices_connected, look.any_connected) == (connected, True)


async def test_a_domain_that_is_not_there_is_absent(executor: XlExecutor) -> None:
    assert (await executor.look("web")).power is Power.ABSENT


@pytest.mark.parametrize(
    ("process", "power"),
    [
        ("/usr/lib/xen-4.17/bin/xl create /etc/xen/web.cfg", Power.REBOOTING),
        ("xl create /var/lib/xen/kernels/web/candidate.cfg", Power.REBOOTING),
        ("xl create --quiet --defconfig /usr/pkg/etc/xen/web", Power.REBOOTING),
        ("xl create --quiet --defconfig /etc/xen/auto/500-web", Power.REBOOTING),
        ("xl create --quiet --defconfig /etc/xen/auto/web.cfg", Power.REBOOTING),
        ("/usr/lib/xen-4.17/bin/xl restore /var/lib/xen/save/web", Power.REBOOTING),
        ("xl create --quiet --defconfig /etc/xen/auto/500-web2", Power.ABSENT),
        ("xl create /etc/xen/500-web", Power.ABSENT),
        ("xl restore /var/lib/xen/save/web2", Power.ABSENT),
        ("xl save web /var/lib/xen/save/web", Power.ABSENT),
        ("xl create /etc/xen/web2.cfg", Power.ABSENT),
        ("xl console web", Power.ABSENT),
        ("vi /etc/xen/web.cfg", Power.ABSENT),
    ],
)
async def test_a_domain_that_xl_is_about_to_create_again_reboots(
    executor: XlExecutor, tools: Path, process: str, power: Power
) -> None:
    write_tool(tools, "ps", f"echo 77 {process}")
    write_tool(tools, "sleep", "")
    assert (await executor.look("web")).power is power


@pytest.mark.parametrize(
    ("log", "power"),
    [
        ("xl-web.log", Power.REBOOTING),
        ("xl-web--incoming.log", Power.REBOOTING),
        ("xl-web2--incoming.log", Power.ABSENT),
    ],
)
async def test_after_a_migration_the_process_is_known_by_its_log(
    executor: XlExecutor, tools: Path, tmp_path: Path, log: str, power: Power
) -> None:
    with (tmp_path / log).open("w") as out:
        daemon = subprocess.Popen(["sleep", "60"], stdout=out)
    try:
        write_tool(tools, "ps", f"echo {daemon.pid} xl migrate-receive")
        write_tool(tools, "sleep", "")
        assert (await executor.look("web")).power is power
    finally:
        daemon.kill()
        daemon.wait()


async def test_the_gate_stands_on_these_looks(
    executor: XlExecutor, guests: Guests, xenstore: Callable[..., None]
) -> None:
    guests.show(table_row("web", 5))
    gate = AwaitReady(domain="web", uuid=UUID, ready=Ready(min_seconds=0, timeout_seconds=0))
    xenstore("4 4")
    await carry_out(executor, gate, ignore)
    xenstore("4 2")
    with pytest.raises(ReconcilerError, match="not connected"):
        await carry_out(executor, gate, ignore)


async def test_a_port_is_tried_from_the_dom0(executor: XlExecutor) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await executor.probe_tcp(f"127.0.0.1:{port}")
    server.close()
    await server.wait_closed()
    assert not await executor.probe_tcp(f"127.0.0.1:{port}")
