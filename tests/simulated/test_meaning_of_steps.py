"""What a step does to a simulated host is what `meaning` says it means, for every kind of step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from hypothesis import HealthCheck, given, settings

from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.host import Quarantined
from reconciler.plan.meaning import apply_step
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    CreateDisk,
    DeleteDisk,
    DetachVif,
    GrowDisk,
    PromoteConfig,
    Rehearse,
    RehearseEnd,
    RemoveConfig,
    Rename,
    SetAutostart,
    SetMedium,
    SetMemory,
    SetQuarantine,
    SetScheduler,
    SetVcpus,
    StageImage,
    Start,
    Step,
    SweepImages,
    Unpause,
    WriteConfig,
)
from reconciler.toolstack import Question
from tests.simulated.world import image, make_world, ready, shutdown
from tests.strategies import domains

NEW_DISK = Disk(vdev="xvdz", devid=51712 + 25 * 16, kind="lv", target="/dev/vg0/new", size_bytes=1 << 20)
DRIVE = Disk(vdev="hdc", devid=5632, kind="device", target="", access="ro", cdrom=True)
NEW_VIF = Vif(devid=7, mac="00:16:3e:ff:ff:07", bridge="br0")


def bootable(definition: Domain, source: str) -> Domain:
    """The definition with images that exist on the host, booting from a kernel, each disk target once."""
    taken = {NEW_DISK.devid, DRIVE.devid}
    made = (disk for disk in definition.disks if disk.devid not in taken and not disk.used_as_is)
    targets = {disk.target: disk for disk in (*made, DRIVE)}
    return replace(
        definition,
        kernel=image(source.encode(), source, definition.name),
        ramdisk=definition.ramdisk and image(b"/boot/initrd", "/boot/initrd", definition.name),
        bootloader=None,
        bootloader_args=(),
        firmware=None,
        disks=tuple(targets.values()),
    )


def life(first: Domain, second: Domain) -> Iterator[Step]:
    """A life in which every kind of step happens: created, changed live, restarted onto a candidate, removed."""
    name, uuid = first.name, first.uuid
    for each in {*first.images, *second.images}:
        yield StageImage(domain=name, image=each)
    for disk in (*first.disks, NEW_DISK):
        if not disk.used_as_is:
            yield CreateDisk(domain=name, disk=disk)
    yield WriteConfig(definition=first)
    yield SetAutostart(domain=name, order=30)
    yield Start(definition=first)
    yield ready(first)
    yield SetMemory(domain=name, uuid=uuid, before_kib=first.memory_kib, memory_kib=first.maxmem_kib)
    yield SetVcpus(domain=name, uuid=uuid, vcpus=first.maxvcpus)
    yield SetScheduler(domain=name, uuid=uuid, shares=(("cpu_weight", 1000), ("cap", 50)))
    yield Unpause(domain=name, uuid=uuid)
    yield AttachVif(domain=name, uuid=uuid, vif=NEW_VIF)
    yield AttachDisk(domain=name, uuid=uuid, disk=NEW_DISK)
    yield GrowDisk(domain=name, disk=replace(NEW_DISK, size_bytes=1 << 21), attached=True)
    yield SetMedium(domain=name, uuid=uuid, disk=replace(DRIVE, target="/srv/b.iso"))
    yield SetMedium(domain=name, uuid=uuid, disk=DRIVE)
    yield DetachVif(domain=name, uuid=uuid, vif=NEW_VIF)
    yield WriteConfig(definition=second, candidate=True)
    yield shutdown(first)
    yield Start(definition=second, candidate=True)
    yield PromoteConfig(domain=name)
    yield SweepImages(domain=name, keep=tuple(each.path for each in second.images))
    yield SetQuarantine(domain=name, entries=(Quarantined(boot="b", kernel="/boot/b", reason="it panicked"),))
    yield SetQuarantine(domain=name, entries=())
    renamed = replace(second, name=f"{name[:30]}-2")
    yield Rename(domain=renamed.name, old=name, uuid=uuid, definition=renamed)
    yield SweepImages(domain=name)
    yield SetAutostart(domain=renamed.name, order=None)
    yield shutdown(renamed)
    yield RemoveConfig(domain=renamed.name)
    yield SweepImages(domain=name)
    for disk in (*first.disks, NEW_DISK):
        if not disk.used_as_is:
            yield DeleteDisk(domain=name, disk=disk)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(domains())
def test_every_step_does_what_it_means(definition: Domain) -> None:
    first = bootable(definition, "/boot/first")
    second = replace(bootable(definition, "/boot/second"), cmdline="new=1")
    targets = tuple(disk.target for disk in (*first.disks, NEW_DISK))
    done = set()
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), memory_kib=1 << 40)
        left = world.observe(Question(files=targets))
        for step in life(first, second):
            meant = apply_step(left, step)
            world.do(step)
            left = world.observe(Question(files=targets))
            assert left == meant, step
            done.add(type(step))
        assert (left.guests, left.images, left.files) == ({}, {}, {})
    assert done == set(get_args(Step)) - {Rehearse, RehearseEnd}  # these leave nothing: kernels/test_rehearsals
