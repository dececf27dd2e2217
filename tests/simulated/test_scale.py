"""A step costs what it changes, however many other domains its simulated host has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.apply.follow import carry_out
from reconciler.model.domain import Disk, Domain
from reconciler.plan.steps import (
    CreateDisk,
    DeleteDisk,
    PromoteConfig,
    RemoveConfig,
    SetMemory,
    StageImage,
    Start,
    Step,
    SweepImages,
    WriteConfig,
)
from reconciler.simulated.domains import start_instance
from reconciler.simulated.draft import changing
from reconciler.simulated.host import SimulatedExecutor
from reconciler.simulated.store import Store
from tests.operations import calls_of
from tests.simulated.world import GIB_KIB, World, domain, image, make_world, ready, shutdown

LV = Disk(vdev="xvdb", devid=51728, kind="lv", target="/dev/vg0/web", size_bytes=1 << 20)


def crowded(folder: Path, others: int) -> World:
    """A host with so many domains beside the one to work on, each with an image and volumes of its own."""
    folder.mkdir()
    made = make_world(folder, memory_kib=10 * GIB_KIB * (1 + others))
    world = replace(made, settings=replace(made.settings, disk_roots=("/srv", "/dev/vg0")))
    store = Store(world.folder, "alpha")
    with changing(world.settings, world.fleet, store) as draft:
        for number in range(others):
            name = f"d{number:05}"
            other = domain(name, uuid=f"22222222-2222-4222-8222-{number:012}", kernel=image(domain=name), vifs=())
            other = replace(other, disks=(*other.disks, replace(LV, target=f"/dev/vg0/{name}")))
            store.put(draft.stored, other.kernel.path if other.kernel else "", b"/boot/vmlinuz")
            draft.bring_disks(other)
            start_instance(draft, other)
    return world


def life(definition: Domain) -> Sequence[Step]:
    """What may happen to a domain, from its first step to its last one."""
    name = definition.name
    grown = replace(definition, memory_kib=definition.memory_kib + 4096)
    return (
        *(StageImage(domain=name, image=each) for each in definition.images),
        *(CreateDisk(domain=name, disk=disk) for disk in definition.disks),
        WriteConfig(definition=definition),
        Start(definition=definition),
        ready(definition, tcp="10.0.0.9:22"),
        PromoteConfig(domain=name, first_boot=True),
        SetMemory(domain=name, uuid=definition.uuid, before_kib=definition.memory_kib, memory_kib=grown.memory_kib),
        WriteConfig(definition=grown, candidate=True),
        shutdown(definition),
        Start(definition=grown, candidate=True),
        ready(grown),
        PromoteConfig(domain=name),
        SweepImages(domain=name, keep=tuple(each.path for each in definition.images)),
        shutdown(definition),
        RemoveConfig(domain=name),
        SweepImages(domain=name, keep=()),
        *(DeleteDisk(domain=name, disk=disk) for disk in definition.disks),
    )


def calls_of_a_life(world: World) -> list[int]:
    """How many calls each step makes."""
    vif = replace(domain().vifs[0], ip="10.0.0.9")
    definition = domain(disks=(*domain().disks, LV), vifs=(vif,))

    async def each_alone() -> list[int]:
        executor = world.executor
        await executor.look("web")  # which reads the whole host, once
        return [await counted(executor, step) for step in life(definition)]

    async def counted(executor: SimulatedExecutor, step: Step) -> int:
        runner = asyncio.Runner()
        calls = await asyncio.to_thread(calls_of, lambda: runner.run(carry_out(executor, step, lambda _: None)))
        await asyncio.to_thread(runner.close)
        return calls

    return asyncio.run(each_alone())


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], list[int]]:
    folder = tmp_path_factory.mktemp("hosts")
    return calls_of_a_life(crowded(folder / "few", 10)), calls_of_a_life(crowded(folder / "many", 400))


def test_no_step_pays_for_the_domains_beside_its_own(costs: tuple[list[int], list[int]]) -> None:
    few, many = costs
    kinds = [step.kind for step in life(domain(disks=(*domain().disks, LV)))]
    grew = {kind: (before, after) for kind, before, after in zip(kinds, few, many, strict=True) if after > before + 100}
    assert not grew
