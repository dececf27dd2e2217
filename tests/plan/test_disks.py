"""Which disks go with their domain, and which stay since somebody else names them."""

from __future__ import annotations

import pytest

from reconciler.model.domain import Disk
from reconciler.model.fleet import Brake
from reconciler.model.host import FileFact
from tests.worlds import desired, disk, domain, guest, host, kinds, plan

IMAGE = disk("/srv/a.img", on_delete="delete")
VOLUME = Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg/a-1", size_bytes=4096, on_delete="delete")


def deletes(disk_of_a: Disk, *named_by_b: Disk) -> bool:
    world = host(guest(domain("a", disks=(disk_of_a,))), guest(domain("b")))
    made = plan(world, desired(domain("b", disks=named_by_b), brake=Brake(max_destroy=1)))
    assert "remove_config" in kinds(made, "a")
    return "delete_disk" in kinds(made, "a")


def test_a_disk_that_nobody_else_names_goes_with_its_domain() -> None:
    assert deletes(IMAGE)


def test_a_disk_that_a_spec_clones_is_not_deleted() -> None:
    assert not deletes(IMAGE, disk("/srv/b.img", source="/srv/a.img"))


@pytest.mark.parametrize("name", ["/dev/vg/a-1", "/dev/mapper/vg-a--1"])
def test_a_volume_that_a_spec_names_by_either_of_its_names_is_not_deleted(name: str) -> None:
    assert not deletes(VOLUME, Disk(vdev="xvda", devid=51712, kind="device", target=name))


def test_a_disk_that_a_spec_names_through_a_link_is_not_deleted() -> None:
    world = host(guest(domain("a", disks=(IMAGE,))), guest(domain("b")))
    fact = FileFact(kind="file", size_bytes=4096, key="8:1", real_path="/srv/a.img")
    world.files.update({"/srv/a.img": fact, "/srv/link": fact})  # type: ignore[attr-defined]  # a dict of ours
    made = plan(world, desired(domain("b", disks=(disk("/srv/link"),)), brake=Brake(max_destroy=1)))
    assert "delete_disk" not in kinds(made, "a")
