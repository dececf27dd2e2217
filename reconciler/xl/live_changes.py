"""Changes running domains: memory, vcpus, scheduling, interfaces and disks. Each change is confirmed by looking.

Called by `execute`. Where a guest has to cooperate (memory, devices), it is waited for, within bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.dom0.connection import Result
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import ReconcilerError, refused
from reconciler.model.disks import may_share
from reconciler.model.domain import Disk, Vif, address_of
from reconciler.model.parts import key_named
from reconciler.plan.steps import AttachDisk, AttachVif, DetachVif, Rename, SetMedium, SetMemory, SetScheduler, SetVcpus
from reconciler.texts.create_failures import hint_of
from reconciler.texts.devices import device_path
from reconciler.texts.listing import Row
from reconciler.waiting import NotYet, wait_until
from reconciler.xl.commands import Xl, also_said, reason_of
from reconciler.xl.patience import BALLOON_SECONDS, CONNECT_SECONDS, STUCK_SECONDS
from reconciler.xl.starting import wait_for_free

_MIB_KIB = 1024
_TOLERANCE_KIB = 2 * _MIB_KIB  # `xl list` rounds to MiB, and balloons to what their guest can spare
_USUAL_OFFSET_KIB = 16 * 1024  # HVM guests always show a little less than their target (video memory and the like)
_CONNECTED = "4"

Report = Callable[[str], None]

# States of a device, front end and back end: 4 is connected.
_DEVICE_STATES = """
states "$domid" "$kind" "$devid" "$mac"
"""

# Prints the domid of each of the others that has the disk; they are given as lines of a domid and a path.
_USERS = """
identity=$(identity_of "$target")
[ "$identity" ] || fail "$target is not there."
printf '%s\\n' "$others" | while read -r owner path; do
    if [ "$owner" ] && [ "$(identity_of "$path")" = "$identity" ]; then echo "$owner"; fi
done
"""


async def set_memory(xl: Xl, step: SetMemory, report: Report) -> None:
    """Balloon to the target, and wait until the guest gets there. When it is stuck, it keeps what it reached.

    Where the toolstack does not tell what a guest has, nothing is waited for: what grows later waits for free memory.
    """
    row = await xl.live(step.domain, step.uuid)
    grown_kib = step.memory_kib - row.memory_kib
    if grown_kib > 0:
        await wait_for_free(xl, step.domain, grown_kib, report)
        row = await xl.live(step.domain, step.uuid)
    offset_kib = row.memory_kib - step.before_kib
    goal_kib = step.memory_kib + (offset_kib if abs(offset_kib) <= _USUAL_OFFSET_KIB else 0)
    # without its suffix xl's documentation and xl do not agree on the unit
    result = await xl.change("mem-set", str(row.domid), f"{step.memory_kib // 1024}m")
    if not await _has_target(xl, row.domid, step.memory_kib, result):
        raise xl.failed(
            step.domain,
            "memory not set",
            f"{step.domain} was to have {step.memory_kib // 1024} MiB, and `{xl.tool} mem-set` did not do it: "
            f"{reason_of(result)}",
        )
    if not xl.dialect.tells_actual_memory:
        mib = step.memory_kib // 1024
        report(f"{step.domain} was asked to have {mib} MiB; {xl.tool} does not tell how far its balloon has got")
        return
    reached_kib, moved = row.memory_kib, xl.clock.now()

    async def look() -> NotYet | None:
        nonlocal reached_kib, moved
        now_kib = (await xl.live(step.domain, step.uuid)).memory_kib
        if abs(now_kib - goal_kib) <= _TOLERANCE_KIB:
            return None
        if now_kib != reached_kib:
            reached_kib, moved = now_kib, xl.clock.now()
        if xl.clock.now() - moved > STUCK_SECONDS:
            raise _out_of_reach(xl, step, reached_kib, result)
        return NotYet(
            f"{step.domain} has {reached_kib // 1024} of {step.memory_kib // 1024} MiB",
            lambda: _out_of_reach(xl, step, reached_kib, result),
        )

    await wait_until(look, clock=xl.clock, seconds=BALLOON_SECONDS, report=report)


async def _has_target(xl: Xl, domid: int, memory_kib: int, result: Result) -> bool:
    """Return whether the balloon has this target now. Where xl does not tell, its exit code decides."""
    config = (await xl.configs(domid)).get(domid, {})
    target_kib = config.get("b_info", {}).get("target_memkb")
    if not isinstance(target_kib, int):
        return result.exit_code == 0
    return abs(target_kib - memory_kib) < _MIB_KIB


def _out_of_reach(xl: Xl, step: SetMemory, reached_kib: int, result: Result) -> ReconcilerError:
    return xl.failed(
        step.domain,
        "memory target not reached",
        f"{step.domain} should have {step.memory_kib // 1024} MiB and has {reached_kib // 1024} MiB; "
        f"its balloon does not get further.{also_said(xl.tool, result)}",
        "What was reached stays. The guest may be short of memory, or lack a balloon driver.",
    )


async def rename(xl: Xl, step: Rename) -> None:
    """Give a domain that runs its new name. One that has it already, or does not run, is left as it is."""
    row = await _row_of(xl, step)
    if row is None or row.name == step.domain:
        return
    result = await xl.change("rename", str(row.domid), step.domain)
    row = await _row_of(xl, step)
    if row is not None and row.name != step.domain:
        detail = f"{step.old} is not called {step.domain} after rename: {reason_of(result)}"
        raise xl.failed(step.domain, "domain is not renamed", detail)


async def _row_of(xl: Xl, step: Rename) -> Row | None:
    """Find the domain by its uuid. Raises when another one has its new name, or it has neither of the two."""
    rows = await xl.rows()
    if any(row.name == step.domain and row.uuid != step.uuid for row in rows):
        raise xl.name_taken(step.domain)
    found = next((row for row in rows if row.uuid == step.uuid), None)
    if found is not None and found.name not in (step.old, step.domain):
        detail = f"The domain with its uuid is called {found.name} on {xl.host}; it is left alone."
        raise xl.failed(step.domain, "domain has another name", detail)
    return found


async def set_vcpus(xl: Xl, step: SetVcpus, report: Report) -> None:
    """Set the number of vcpus. A guest need not use new ones (without udev it does not); that is reported."""
    row = await xl.live(step.domain, step.uuid)
    result = await xl.change("vcpu-set", *xl.dialect.vcpu_set, str(row.domid), str(step.vcpus))
    config = (await xl.configs(row.domid)).get(row.domid, {})
    asked = len(config.get("b_info", {}).get("avail_vcpus", ()))
    if asked != step.vcpus:
        raise xl.failed(
            step.domain,
            "vcpus not set",
            f"{step.domain} was to have {step.vcpus} vcpus and has {asked}: {reason_of(result)}",
        )
    online = (await xl.live(step.domain, step.uuid)).vcpus
    if online != step.vcpus:
        report(f"{step.domain} uses {online} of its {step.vcpus} vcpus so far; its guest decides when it uses the rest")


async def set_scheduler(xl: Xl, step: SetScheduler) -> None:
    """Set weight and cap, by whichever scheduler the host runs."""
    row = await xl.live(step.domain, step.uuid)
    scheduler = (await xl.info()).scheduler
    names = [name for name, _ in step.shares]
    if scheduler not in ("credit", "credit2"):
        raise xl.failed(
            step.domain,
            "scheduler has no weights",
            f"{xl.host} runs the scheduler {scheduler!r}, which knows neither {' nor '.join(names)}.",
            f"Remove {' and '.join(f'`{name}`' for name in names)} from the spec, or boot Xen with sched=credit2.",
        )
    command = "sched-credit" if scheduler == "credit" else "sched-credit2"
    domid = str(row.domid)
    options = [word for name, value in step.shares for word in (key_named(name).share_option or "", str(value))]
    result = await xl.change(command, "-d", domid, *options)
    listed = await xl.run(command, "-d", domid)
    found = re.findall(r"[ \t](\d+)[ \t]+(\d+)[ \t]+(\d+)[ \t]*$", listed.text, re.MULTILINE)
    if (domid, *(str(value) for _, value in step.shares)) not in found:  # in the order of xl's columns
        shown = " and ".join(f"{name} {value}" for name, value in step.shares)
        raise xl.failed(
            step.domain,
            "scheduling not set",
            f"{step.domain} was to have {shown}: {reason_of(result if result.exit_code != 0 else listed)}",
        )


async def attach_vif(xl: Xl, shell: Dom0Shell, step: AttachVif) -> None:
    """Attach an interface. If that fails, what it left behind in the guest is detached again."""
    row = await xl.live(step.domain, step.uuid)
    vif = step.vif
    if _is(vif, await _nic(xl, row.domid, vif)):  # by a run whose answer was lost, or that was cut short
        try:
            await _await_connected(xl, shell, step.domain, row.domid, vif, None)
        except ReconcilerError:
            await _take_back(xl, row.domid, vif)
        else:
            return
    result = await xl.change("network-attach", str(row.domid), *xl.dialect.vif(vif))
    nic = await _nic(xl, row.domid, vif)
    if result.exit_code != 0 or not _is(vif, nic):
        remains = ""
        if nic is not None and nic.get("mac") == vif.mac:
            remains = await _take_back(xl, row.domid, vif)
        raise xl.failed(
            step.domain,
            "interface not attached",
            f"vif {vif.devid} ({vif.mac}) of {step.domain} could not be attached: {reason_of(result)}{remains}",
        )
    await _await_connected(xl, shell, step.domain, row.domid, vif, result)


async def _take_back(xl: Xl, domid: int, vif: Vif) -> str:
    """Detach what a failed attach left behind. Returns a sentence if that fails, else ""."""
    result = await xl.change("network-detach", str(domid), xl.dialect.vif_name(vif))
    if await _nic(xl, domid, vif) is None:
        return ""
    return f"\nWhat that left behind could not be detached: {reason_of(result)}"


async def detach_vif(xl: Xl, step: DetachVif) -> None:
    """Detach an interface by its number, after a check that it is the right one.

    If it is gone already, that is success.
    """
    row = await xl.live(step.domain, step.uuid)
    vif = step.vif
    nic = await _nic(xl, row.domid, vif)
    if nic is None:
        return
    if vif.mac and nic.get("mac") != vif.mac:
        raise refused(
            "another interface is there",
            f"vif {vif.devid} of {step.domain} has the mac {nic.get('mac')}, where {vif.mac} was expected.",
            "Plan again.",
            address_of(xl.host, step.domain),
        )
    result = await xl.change("network-detach", str(row.domid), xl.dialect.vif_name(vif))
    if await _nic(xl, row.domid, vif) is not None:
        raise xl.failed(
            step.domain,
            "interface not detached",
            f"vif {vif.devid} of {step.domain} is still there: {reason_of(result)}",
        )


async def attach_disk(xl: Xl, shell: Dom0Shell, step: AttachDisk) -> None:
    """Attach a disk that no other domain has."""
    row = await xl.live(step.domain, step.uuid)
    disk = step.disk
    there = await _disk_target(xl, row.domid, disk.vdev)
    if there is not None and there != disk.target:
        raise xl.failed(
            step.domain, "device name is taken", f"{disk.vdev} of {step.domain} is {there}, not {disk.target}."
        )
    result = None
    if there is None:
        if disk.is_on_host:
            await _refuse_shared(xl, shell, step, row.domid)
        result = await xl.change("block-attach", str(row.domid), *xl.dialect.disk(disk))
        if await _disk_target(xl, row.domid, disk.vdev) is None:
            raise xl.failed(
                step.domain,
                "disk not attached",
                f"{disk.target} could not be attached to {step.domain}: {reason_of(result)}",
                mend := hint_of(result.errors),
                passing=mend is not None,
            )
    if disk.target or not disk.cdrom:  # no guest connects a drive without a medium
        await _await_connected(xl, shell, step.domain, row.domid, disk, result)


async def set_medium(xl: Xl, shell: Dom0Shell, step: SetMedium) -> None:
    """Put a medium into a drive, or empty it. If it is so already, that is success."""
    row = await xl.live(step.domain, step.uuid)
    disk = step.disk
    there = await _disk_target(xl, row.domid, disk.vdev)
    if there is None:
        raise xl.failed(step.domain, "no such drive", f"{step.domain} has no CD drive {disk.vdev}.")
    if there == disk.target:
        return
    if disk.target:
        await _refuse_shared(xl, shell, step, row.domid)
        result = await xl.change("cd-insert", str(row.domid), disk.vdev, disk.target)
    else:
        result = await xl.change("cd-eject", str(row.domid), disk.vdev)
    if await _disk_target(xl, row.domid, disk.vdev) != disk.target:
        if row.domid not in await xl.configs():
            raise xl.failed(
                step.domain,
                "the device model has ended",
                f"{xl.tool} tells of {step.domain} no more since the medium of {disk.vdev} was to be changed: the "
                f"program that emulates its devices has ended. {reason_of(result)}",
                f"Look at /var/log/xen/qemu-dm-{step.domain}.log on {xl.host}; {step.domain} runs on without its "
                "emulated devices until it is shut down and started again.",
            )
        what = f"{disk.target} could not be put into" if disk.target else "Nothing could be taken out of"
        raise xl.failed(
            step.domain, "medium not changed", f"{what} the drive {disk.vdev} of {step.domain}: {reason_of(result)}"
        )


async def _refuse_shared(xl: Xl, shell: Dom0Shell, step: AttachDisk | SetMedium, domid: int) -> None:
    """Raise if another domain writes to the disk, or reads it while this one would write.

    The toolstack itself would allow both.
    """
    configs = await xl.configs()
    untold = [row for row in await xl.rows() if row.domid not in (0, domid) and row.domid not in configs]
    if untold:
        raise xl.failed(
            step.domain,
            "disks of another domain are unknown",
            f"{xl.tool} does not tell which disks {untold[0].name or 'a domain without a name'} "
            f"(domid {untold[0].domid}) has, so {step.disk.target} is not attached.",
            f"Look at `{xl.list_command}` on {xl.host}: it is being made, or what is left of it holds its disks.",
        )
    others = [
        f"{owner} {disk['pdev_path']}"
        for owner, config in configs.items()
        if owner != domid
        for disk in config.get("disks", ())
        if disk.get("pdev_path") and not may_share("rw" if disk.get("readwrite") else "ro", step.disk.access)
    ]
    given = {"target": device_path(step.disk.target), "others": "\n".join(others)}
    users = (await shell.act(step.domain, "disk not attached", _USERS, given, looks=True)).split()
    if users:
        raise refused(
            "disk is in use",
            f"{step.disk.target} belongs to a running domain (domid {', '.join(users)}), so it is not attached.",
            f"Look at `{xl.tool} list` on {xl.host}.",
            address_of(xl.host, step.domain),
        )


async def _await_connected(
    xl: Xl, shell: Dom0Shell, domain: str, domid: int, device: Disk | Vif, attached: Result | None
) -> None:
    """Wait until guest and dom0 have both connected a device.

    `attached` is the result of attaching it; None when an earlier run did that.
    """
    kind, devid = ("vif" if isinstance(device, Vif) else "vbd"), device.devid
    mac = device.mac if isinstance(device, Vif) else ""
    given = {"domid": str(domid), "kind": kind, "devid": str(devid), "mac": mac}

    async def look() -> NotYet | None:
        states = (
            await shell.act(domain, "xenstore cannot be read", xl.dialect.scripts + _DEVICE_STATES, given, looks=True)
        ).split()
        if states == [_CONNECTED, _CONNECTED]:
            return None
        return NotYet(
            f"waiting until {kind} {devid} of {domain} connects",
            lambda: xl.failed(
                domain,
                "device not connected",
                f"{kind} {devid} was attached to {domain}, but has not connected in {CONNECT_SECONDS} s "
                f"(states {' and '.join(states)}, where {_CONNECTED} is connected).{also_said(xl.tool, attached)}",
                "The guest may lack the driver, or not take devices while it runs.",
            ),
        )

    await wait_until(look, clock=xl.clock, seconds=CONNECT_SECONDS)


async def _nic(xl: Xl, domid: int, vif: Vif) -> dict[str, Any] | None:
    """Return what is told of the interface with this number, or by its mac where no number is told; None: no such."""
    config = (await xl.configs(domid)).get(domid, {})
    nics = config.get("nics", ())
    return next((nic for nic in nics if nic.get("devid", vif.devid if _has_mac(vif, nic) else None) == vif.devid), None)


def _has_mac(vif: Vif, nic: Mapping[str, Any]) -> bool:
    return str(nic.get("mac", "")).lower() == vif.mac


def _is(vif: Vif, nic: Mapping[str, Any] | None) -> bool:
    """Return whether an interface that exists is the one that is wanted."""
    return nic is not None and nic.get("mac") == vif.mac and vif.bridge in (None, nic.get("bridge"))


async def _disk_target(xl: Xl, domid: int, vdev: str) -> str | None:
    config = (await xl.configs(domid)).get(domid, {})
    return next((disk.get("pdev_path", "") for disk in config.get("disks", ()) if disk.get("vdev") == vdev), None)
