"""Changing cpus, weights and interfaces of a running domain, each confirmed by looking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.domain import Disk, Vif
from reconciler.plan.steps import AttachDisk, AttachVif, DetachVif, SetMedium, SetScheduler, SetVcpus
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import INFO, UUID, table_row, write_tool
from tests.xl.fake_guests import Guests, ignore, shown

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def running(guests: Guests, tools: Path) -> None:
    guests.show(table_row("web", 5))
    write_tool(tools, "xenstore-read", "case $1 in */state) echo 4 ;; *) echo /path ;; esac")


async def test_vcpus_are_what_xl_says_was_asked(executor: XlExecutor, guests: Guests, xen: Path) -> None:
    shown(xen, b_info={"avail_vcpus": [0, 1]})
    guests.on("vcpu-set", "exit 0")
    said: list[str] = []
    await executor.execute(SetVcpus(domain="web", uuid=UUID, vcpus=2), said.append)
    assert "uses 1 of its 2 vcpus" in said[0]
    guests.on("vcpu-set", "echo 'maxcpus is 2!' >&2; exit 1")
    with pytest.raises(ReconcilerError, match="maxcpus is 2!"):
        await executor.execute(SetVcpus(domain="web", uuid=UUID, vcpus=3), ignore)


async def test_weights_are_set_for_the_scheduler_that_runs(executor: XlExecutor, guests: Guests, xen: Path) -> None:
    step = SetScheduler(domain="web", uuid=UUID, shares=(("cpu_weight", 512), ("cap", 50)))
    guests.on("sched-credit2", "echo 'Name  ID Weight  Cap'; echo 'web    5    512   50'")
    await executor.execute(step, ignore)
    assert guests.calls == ["sched-credit2 -d 5 -w 512 -c 50", "sched-credit2 -d 5"]
    with pytest.raises(ReconcilerError, match="weight 256 and cap 0"):
        await executor.execute(replace(step, shares=(("cpu_weight", 256), ("cap", 0))), ignore)
    (xen / "info").write_text(INFO.replace("credit2", "null"))
    with pytest.raises(ReconcilerError, match="scheduler 'null'"):
        await executor.execute(step, ignore)


async def test_a_nic_left_behind_by_a_failed_attach_is_taken_away(
    executor: XlExecutor, guests: Guests, xen: Path
) -> None:
    vif = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="nobr")
    shown(xen, nics=[])
    left = json.dumps([{"domid": 5, "config": {"nics": [{"devid": 1, "mac": vif.mac, "bridge": "nobr"}]}}])
    guests.on("network-attach", f"echo '{left}' >long; echo 'Could not find bridge device nobr' >&2; exit 1")
    guests.on("network-detach", "echo '[]' >long")
    with pytest.raises(ReconcilerError, match="Could not find bridge"):
        await executor.execute(AttachVif(domain="web", uuid=UUID, vif=vif), ignore)
    assert guests.calls == [f"network-attach 5 mac={vif.mac} devid=1 bridge=nobr", "network-detach 5 1"]


async def test_a_disk_that_finds_no_vnd_device_may_find_one_later(
    executor: XlExecutor, guests: Guests, xen: Path, tmp_path: Path
) -> None:
    file = tmp_path / "disks" / "more"
    file.touch()
    disk = Disk(vdev="0x1", devid=1, kind="file", target=str(file))
    shown(xen, disks=[])
    guests.on("block-attach", "echo 'libxl: error: script: no available vnd device' >&2; exit 1")
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(AttachDisk(domain="web", uuid=UUID, disk=disk), ignore)
    (problem,) = caught.value.diagnostics
    assert problem.transient
    assert "sh MAKEDEV vnd4" in (problem.hint or "")


async def test_an_interface_that_is_there_already_is_not_attached_twice(
    executor: XlExecutor, guests: Guests, xen: Path
) -> None:
    vif = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="xenbr0")
    shown(xen, nics=[{"devid": 1, "mac": vif.mac, "bridge": "xenbr0"}])
    await executor.execute(AttachVif(domain="web", uuid=UUID, vif=vif), ignore)
    assert guests.calls == []


async def test_an_interface_that_an_attach_left_behind_without_its_bridge_is_attached_anew(
    executor: XlExecutor, guests: Guests, xen: Path, tools: Path
) -> None:
    vif = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="xenbr0")
    nics = [{"devid": 1, "mac": vif.mac, "bridge": "xenbr0"}]
    shown(xen, nics=nics)
    write_tool(tools, "xenstore-read", f"case $1 in */state) cat {xen}/state || echo 2 ;; *) echo /path ;; esac")
    guests.on("network-detach", "echo '[]' >long")
    guests.on("network-attach", f"echo '{json.dumps([{'domid': 5, 'config': {'nics': nics}}])}' >long; echo 4 >state")
    await executor.execute(AttachVif(domain="web", uuid=UUID, vif=vif), ignore)
    assert guests.calls == ["network-detach 5 1", f"network-attach 5 mac={vif.mac} devid=1 bridge=xenbr0"]


async def test_only_the_very_interface_is_detached(executor: XlExecutor, guests: Guests, xen: Path) -> None:
    vif = Vif(devid=1, mac="00:16:3e:00:00:77")
    shown(xen, nics=[{"devid": 1, "mac": "00:16:3e:00:00:78"}])
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(DetachVif(domain="web", uuid=UUID, vif=vif), ignore)
    assert caught.value.diagnostics[0].kind is Kind.REFUSED
    shown(xen, nics=[])
    await executor.execute(DetachVif(domain="web", uuid=UUID, vif=vif), ignore)  # gone already
    assert guests.calls == []


DRIVE = Disk(vdev="hdc", devid=5632, kind="device", target="", access="ro", cdrom=True)


async def test_a_drive_is_emptied_once(executor: XlExecutor, guests: Guests, xen: Path) -> None:
    step = SetMedium(domain="web", uuid=UUID, disk=DRIVE)
    shown(xen, disks=[{"vdev": "hdc", "pdev_path": "/srv/a.iso"}])
    empty = json.dumps([{"domid": 5, "config": {"disks": [{"vdev": "hdc", "is_cdrom": 1}]}}])
    guests.on("cd-eject", f"echo '{empty}' >long")
    await executor.execute(step, ignore)
    await executor.execute(step, ignore)
    assert guests.calls == ["cd-eject 5 hdc"]


async def test_a_medium_that_xl_does_not_put_in_is_told_with_its_reason(
    executor: XlExecutor, guests: Guests, xen: Path, tmp_path: Path
) -> None:
    medium = tmp_path / "b.iso"
    medium.touch()
    step = SetMedium(domain="web", uuid=UUID, disk=replace(DRIVE, target=str(medium)))
    shown(xen, disks=[{"vdev": "hdc"}])
    guests.on("cd-insert", "echo 'Cannot stat file' >&2; exit 1")
    with pytest.raises(ReconcilerError, match="could not be put into the drive hdc of web: Cannot stat file"):
        await executor.execute(step, ignore)
    assert guests.calls == [f"cd-insert 5 hdc {medium}"]
    shown(xen, disks=[])
    with pytest.raises(ReconcilerError, match="no CD drive hdc"):
        await executor.execute(step, ignore)


async def test_a_device_model_that_ends_over_a_medium_is_told(
    executor: XlExecutor, guests: Guests, xen: Path, tmp_path: Path
) -> None:
    """QEMU 7.2 does, of a drive that was empty at the start; then `xl list -l` leaves the domain out."""
    medium = tmp_path / "b.iso"
    medium.touch()
    step = SetMedium(domain="web", uuid=UUID, disk=replace(DRIVE, target=str(medium)))
    shown(xen, disks=[{"vdev": "hdc"}])
    guests.on("cd-insert", "echo '[]' >long; echo 'Connection reset by peer' >&2; exit 1")
    with pytest.raises(ReconcilerError, match=r"has ended\. Connection reset by peer") as caught:
        await executor.execute(step, ignore)
    assert "qemu-dm-web.log" in str(caught.value.diagnostics[0].hint)


async def test_an_empty_drive_that_is_attached_is_not_waited_for(
    executor: XlExecutor, guests: Guests, xen: Path
) -> None:
    shown(xen, disks=[])
    drive = json.dumps([{"domid": 5, "config": {"disks": [{"vdev": "hdc", "is_cdrom": 1, "pdev_path": ""}]}}])
    guests.on("block-attach", f"echo '{drive}' >long")
    await executor.execute(AttachDisk(domain="web", uuid=UUID, disk=DRIVE), ignore)
    assert [call.split()[0] for call in guests.calls] == ["block-attach"]
