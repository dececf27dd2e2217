"""What a simulated host refuses, as a real one and its executor would; and that a refused step changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reconciler.model.domain import Disk
from reconciler.model.host import Owner, Power
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    CreateDisk,
    DeleteDisk,
    DetachVif,
    GrowDisk,
    PromoteConfig,
    RemoveConfig,
    SetAutostart,
    SetMemory,
    SetVcpus,
    StageImage,
    Start,
    Step,
    SweepImages,
    WriteConfig,
)
from reconciler.simulated.store import Store, StoredHost
from reconciler.toolstack import Question
from tests.simulated.world import GIB_KIB, UUID, World, domain, image, shutdown

DISK = domain().disks[0]
OTHER_UUID = "22222222-2222-4222-8222-222222222222"


def stored_text(world: World) -> StoredHost:
    return Store(world.folder, "alpha").read()


def refused(world: World, step: Step) -> str:
    before = stored_text(world)
    problem = world.fail(step)
    assert stored_text(world) == before
    return problem.summary


def test_a_disk_that_exists_is_never_created_over(world: World) -> None:
    world.hand.put("/srv/web", b"precious")
    assert refused(world, CreateDisk(domain="web", disk=DISK)) == "disk exists already"


def test_a_disk_is_cloned_from_its_source_and_is_as_large_as_asked(world: World) -> None:
    world.hand.put("/srv/golden", b"image" * 1000)
    question = Question(files=("/srv/golden", "/srv/web"), sources=("/srv/golden",))
    world.do(CreateDisk(domain="web", disk=replace(DISK, source="/srv/golden", size_bytes=10_000)))
    assert world.observe(question).files["/srv/web"].size_bytes == 10_000
    store = Store(world.folder, "alpha")
    assert store.content(store.read(), "/srv/web") == b"image" * 1000


def test_sources_are_there_and_disks_are_not_until_somebody_makes_them(world: World) -> None:
    question = Question(files=("/srv/golden", "/srv/web"), sources=("/srv/golden",), images=("/boot/k",))
    host = world.observe(question)
    assert set(host.files) == {"/srv/golden"}
    assert set(host.digests) == {"/boot/k"}


@pytest.mark.parametrize("size_bytes", [1 << 20, None])
def test_a_disk_never_shrinks(world: World, size_bytes: int | None) -> None:
    world.do(CreateDisk(domain="web", disk=DISK))
    step = GrowDisk(domain="web", disk=replace(DISK, size_bytes=size_bytes), attached=False)
    assert refused(world, step) == "disk would shrink"


def test_a_disk_that_is_not_there_cannot_grow(world: World) -> None:
    world.hand.create("other")
    assert refused(world, GrowDisk(domain="web", disk=DISK, attached=False)) == "no such disk"


def test_a_disk_in_use_is_not_deleted(world: World) -> None:
    world.start(domain())
    assert refused(world, DeleteDisk(domain="web", disk=DISK)) == "disk in use"


def test_two_domains_never_hold_one_disk_read_write(world: World) -> None:
    world.start(domain())
    other = domain("db", uuid=OTHER_UUID)
    sharing = replace(other, disks=(replace(DISK, access="ro"),))
    world.do(StageImage(domain="db", image=image(domain="db")), WriteConfig(definition=sharing))
    assert refused(world, Start(definition=sharing)) == "disk in use"


def test_an_image_that_changed_since_the_plan_is_not_staged(world: World) -> None:
    world.hand.put("/boot/vmlinuz", b"other bytes")
    assert refused(world, StageImage(domain="web", image=image())) == "image changed since the plan"


def test_images_of_the_tree_are_read_when_they_are_staged(world: World) -> None:
    (world.folder / "specs" / "kernels").mkdir()
    (world.folder / "specs" / "kernels" / "k").write_bytes(b"from the tree")
    kernel = image(b"from the tree", "kernels/k")
    world.do(StageImage(domain="web", image=kernel))
    assert world.observe().images == {kernel.path: kernel.sha256}
    (world.folder / "specs" / "kernels" / "k").unlink()
    world.do(StageImage(domain="web", image=kernel))
    missing = image(b"from the tree", "kernels/k", domain="db")
    assert refused(world, StageImage(domain="db", image=missing)) == "image cannot be read"


def test_an_image_that_a_domain_runs_from_is_not_swept(world: World) -> None:
    world.start(domain())
    world.do(SweepImages(domain="web"))
    assert world.observe().images == {image().path: image().sha256}


def test_a_domain_does_not_start_from_an_image_that_is_not_staged(world: World) -> None:
    world.do(WriteConfig(definition=replace(domain(), disks=())))
    assert refused(world, Start(definition=replace(domain(), disks=()))) == "no such file"


def test_a_domain_does_not_start_without_its_config_file_or_its_disk(world: World) -> None:
    world.do(StageImage(domain="web", image=image()))
    assert refused(world, Start(definition=domain())) == "no config file"
    world.do(WriteConfig(definition=domain()))
    assert refused(world, Start(definition=domain())) == "no such disk"
    assert refused(world, Start(definition=domain(), candidate=True)) == "no config file"


def test_a_domain_that_runs_already_is_a_success(world: World) -> None:
    world.start(domain())
    boot = world.look().boot
    world.do(Start(definition=domain()))
    assert world.look().boot == boot


def test_what_runs_in_place_of_a_candidate_has_to_be_it(world: World) -> None:
    world.start(domain())
    new = replace(domain(), cmdline="new")
    world.do(WriteConfig(definition=new, candidate=True))
    assert refused(world, Start(definition=new, candidate=True)) == "another definition was started"


def test_a_remnant_holds_the_name(world: World) -> None:
    world.start(domain())
    world.hand.set("web", {"power": "dying"})
    assert refused(world, Start(definition=domain())) == "name taken"


def test_a_start_waits_for_memory_and_gives_up(world: World) -> None:
    big = domain(memory_kib=9 * GIB_KIB, maxmem_kib=9 * GIB_KIB)
    world.start(replace(domain("small", uuid=OTHER_UUID), disks=()))
    world.do(StageImage(domain="web", image=image()), CreateDisk(domain="web", disk=DISK), WriteConfig(definition=big))
    began = world.executor.now()
    assert refused(world, Start(definition=big)) == "not enough memory"
    assert 55 <= world.executor.now() - began <= 65


def test_a_start_takes_the_memory_that_comes_free_meanwhile(world: World) -> None:
    first = domain(memory_kib=6 * GIB_KIB, maxmem_kib=6 * GIB_KIB)
    second = domain("db", uuid=OTHER_UUID, memory_kib=6 * GIB_KIB, maxmem_kib=6 * GIB_KIB)
    world.start(first)
    world.do(
        StageImage(domain="db", image=image(domain="db")),
        CreateDisk(domain="db", disk=second.disks[0]),
        WriteConfig(definition=second),
    )

    async def together() -> None:
        executor = world.executor
        await asyncio.gather(
            executor.execute(Start(definition=second), lambda text: None),
            executor.execute(shutdown(first), lambda text: None),
        )

    asyncio.run(together())
    assert (world.guest("web").power, world.guest("db").power) == (Power.ABSENT, Power.RUNNING)


def test_a_balloon_grows_only_into_free_memory_and_up_to_maxmem(world: World) -> None:
    world.start(domain(maxmem_kib=16 * GIB_KIB))

    def grow(memory_kib: int) -> SetMemory:
        return SetMemory(domain="web", uuid=UUID, before_kib=GIB_KIB // 2, memory_kib=memory_kib)

    assert refused(world, grow(9 * GIB_KIB)) == "not enough memory"
    assert refused(world, grow(17 * GIB_KIB)) == "above maxmem"


def test_a_file_that_is_not_ours_is_kept_unless_adopted(world: World) -> None:
    world.hand.put("/etc/xen/web.cfg", b'name = "web"\nmemory = 512\nkernel = "/vmlinuz"\n')
    assert refused(world, WriteConfig(definition=domain())) == "not ours"
    assert refused(world, RemoveConfig(domain="web")) == "not ours"
    assert refused(world, SetAutostart(domain="web", order=1)) == "not ours"
    world.do(WriteConfig(definition=domain(), adopt=True))
    assert (world.guest().owner, world.guest().config) == (Owner.OURS, domain())


def test_an_unmanaged_domain_is_kept_unless_adopted(world: World) -> None:
    world.hand.create("web")
    live = world.guest().running
    assert live is not None
    assert refused(world, WriteConfig(definition=domain())) == "not ours"
    world.do(shutdown(domain()))  # ours is gone, and who has its name is left alone
    world.do(WriteConfig(definition=replace(domain(), uuid=live.uuid), adopt=True))
    assert (world.guest().owner, world.guest().running) == (Owner.OURS, live)


def test_the_disks_of_an_adopted_config_stay_where_they_are(world: World) -> None:
    text = f'name = "web"\nuuid = "{UUID}"\nmemory = 512\nkernel = "/vmlinuz"\ndisk = [ "file:/srv/web,xvda,w" ]\n'
    world.hand.put("/etc/xen/web.cfg", text.encode())
    assert "/srv/web" in world.observe().files
    world.do(
        StageImage(domain="web", image=image()),
        WriteConfig(definition=domain(), adopt=True),
        Start(definition=domain()),
    )
    assert refused(world, CreateDisk(domain="web", disk=DISK)) == "disk exists already"


def test_a_file_of_another_fleet_is_not_ours(world: World) -> None:
    World(world.folder, world.settings, fleet="theirs").do(WriteConfig(definition=domain()))
    assert world.guest().owner is Owner.FOREIGN
    assert refused(world, WriteConfig(definition=domain())) == "not ours"


def test_an_edit_by_hand_is_seen(world: World) -> None:
    world.do(WriteConfig(definition=domain()))
    store = Store(world.folder, "alpha")
    text = store.content(store.read(), "/etc/xen/web.cfg")
    world.hand.put("/etc/xen/web.cfg", text.replace(b"memory = 512", b"memory = 256"))
    guest = world.guest()
    assert (guest.owner, guest.edited) == (Owner.OURS, True)
    assert guest.config is not None
    assert guest.config.memory_kib == GIB_KIB // 4


def test_a_config_file_that_defines_another_domain_by_now_is_not_started(world: World) -> None:
    world.do(WriteConfig(definition=domain()))
    store = Store(world.folder, "alpha")
    text = store.content(store.read(), "/etc/xen/web.cfg")
    world.hand.put("/etc/xen/web.cfg", text.replace(b'name = "web"', b'name = "db"'))
    assert refused(world, Start(definition=domain())) == "config file of another domain"


def test_nothing_to_promote_is_an_error(world: World) -> None:
    world.do(WriteConfig(definition=domain()))
    assert refused(world, PromoteConfig(domain="web")) == "step makes no sense here"


def test_promoting_keeps_the_old_config_as_the_previous_one(world: World) -> None:
    new = domain(cmdline="new")
    world.do(WriteConfig(definition=domain()), WriteConfig(definition=new, candidate=True), PromoteConfig(domain="web"))
    files = Store(world.folder, "alpha").read().files
    assert "/var/lib/xen/kernels/web/previous.cfg" in files
    assert "/var/lib/xen/kernels/web/candidate.cfg" not in files
    world.do(RemoveConfig(domain="web"))
    assert not [path for path in Store(world.folder, "alpha").read().files if path.endswith(".cfg")]


def test_live_changes_that_xl_refuses(world: World) -> None:
    world.start(domain())
    vif = replace(domain().vifs[0], mac="00:16:3e:00:00:77")
    assert refused(world, SetVcpus(domain="web", uuid=UUID, vcpus=2)) == "above maxvcpus"
    assert refused(world, AttachVif(domain="web", uuid=UUID, vif=vif)) == "device exists already"
    other = replace(DISK, target="/srv/other")
    assert refused(world, AttachDisk(domain="web", uuid=UUID, disk=other)) == "device name is taken"
    missing = Disk(vdev="xvdb", devid=51728, kind="file", target="/srv/missing")
    assert refused(world, AttachDisk(domain="web", uuid=UUID, disk=missing)) == "no such disk"
    assert refused(world, SetVcpus(domain="web", uuid=OTHER_UUID, vcpus=1)) == "another domain of that name"
    world.hand.destroy("web")
    assert refused(world, DetachVif(domain="web", uuid=UUID, vif=vif)) == "does not run"


def test_volume_groups_have_room_that_volumes_take(world: World) -> None:
    roomy = World(world.folder, replace(world.settings, disk_roots=("/srv", "vg0", "/dev/vg1")))
    before = roomy.observe().vg_free_bytes
    assert set(before) == {"vg0", "vg1"}
    volume = Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg0/web", size_bytes=1 << 30)
    roomy.do(CreateDisk(domain="web", disk=volume))
    assert roomy.observe().vg_free_bytes == {**before, "vg0": before["vg0"] - (1 << 30)}
