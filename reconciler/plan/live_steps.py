"""Lists the steps that change a running domain without a restart, in the order in which they are safe."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.disks import has_live_medium
from reconciler.model.domain import Domain
from reconciler.model.parts import shares
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    DetachVif,
    SetMedium,
    SetMemory,
    SetScheduler,
    SetVcpus,
    Step,
)


def live_steps(running: Domain, target: Domain) -> Iterator[Step]:
    """Yield what makes the target of a running domain. Memory comes last, since a balloon may refuse."""
    yield from _devices(running, target)
    if running.vcpus != target.vcpus:
        yield SetVcpus(domain=target.name, uuid=running.uuid, vcpus=target.vcpus)
    if shares(running) != shares(target):
        yield SetScheduler(domain=target.name, uuid=running.uuid, shares=shares(target))
    if running.memory_kib != target.memory_kib:
        yield SetMemory(
            domain=target.name, uuid=running.uuid, before_kib=running.memory_kib, memory_kib=target.memory_kib
        )


def _devices(running: Domain, target: Domain) -> Iterator[Step]:
    """Detach what goes first, so that others who wait for it do not wait for what is attached here."""
    there = {disk.devid: disk for disk in running.disks}
    wanted_vifs = {vif.devid for vif in target.vifs}
    present_vifs = {vif.devid for vif in running.vifs}
    for vif in running.vifs:
        if vif.devid not in wanted_vifs:
            yield DetachVif(domain=target.name, uuid=running.uuid, vif=vif)
    for disk in target.disks:
        if disk.devid not in there:
            yield AttachDisk(domain=target.name, uuid=running.uuid, disk=disk)
        elif has_live_medium(disk, target) and disk.target != there[disk.devid].target:
            yield SetMedium(domain=target.name, uuid=running.uuid, disk=disk)
    for vif in target.vifs:
        if vif.devid not in present_vifs:
            yield AttachVif(domain=target.name, uuid=running.uuid, vif=vif)
