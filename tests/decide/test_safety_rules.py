"""The safety rules of one domain: what blocks its change, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action
from reconciler.decide.safety_rules import HostIndex, block_change, block_destroy
from reconciler.model.domain import Disk, Vif
from reconciler.model.fleet import Allow, HostSettings
from reconciler.model.host import FileFact
from tests.worlds import change_of, desired, disk, domain, guest, host, kinds, plan, stopped, unmanaged, vif

M = "00:16:3e:00:00:01"
STRICT = HostSettings(name="alpha", toolstack="simulated", overcommit_vcpus=False)
EMPTY = HostIndex.of(host(), {})


def unnamed(index: int, bridge: str) -> Vif:
    return vif(f"00:16:3e:00:01:0{index}", index, named=False, bridge=bridge)


def volume(name: str, size_bytes: int) -> Disk:
    return Disk(vdev="xvda", devid=51712, kind="lv", target=f"/dev/vg/{name}", size_bytes=size_bytes)


def test_removing_an_unnamed_interface_from_the_middle_is_refused_beside_a_named_one() -> None:
    named = vif(M)
    before = (named, unnamed(1, "b1"), unnamed(2, "b2"), unnamed(3, "b3"))
    made = plan(host(guest(domain("a", vifs=before))), desired(domain("a", vifs=(*before[:2], unnamed(2, "b3")))))
    assert "removed from the middle of unnamed ones" in (change_of(made, "a").blocked or "")


def test_the_last_unnamed_interface_can_go_while_a_named_one_changes() -> None:
    before = (vif(M), unnamed(1, "b1"), unnamed(2, "b2"))
    after = (vif(M, bridge="other"), unnamed(1, "b1"))
    made = plan(host(guest(domain("a", vifs=before))), desired(domain("a", vifs=after)))
    assert change_of(made, "a").action is Action.RESTART


@pytest.mark.parametrize("wanted", [{"maxvcpus": 9}, {"vcpus": 9, "maxvcpus": 9}])
def test_neither_vcpus_nor_maxvcpus_may_be_more_than_the_cpus_of_the_host(wanted: dict[str, int]) -> None:
    made = plan(host(), desired(domain("a", **wanted), settings=STRICT))
    assert change_of(made, "a").blocked == f"it asks for 9 {min(wanted, key=len)} and the host has 4 cpus"


PCI = {"0000:01:00.0": "nic0", "0000:01:00.1": "", "0000:03:00.0": "gpu"}


@pytest.mark.parametrize(
    ("device", "allowed", "there", "stands_for"),
    [
        ("0000:01:00.*", ("0000:01:00.0", "0000:01:00.1"), PCI, None),
        ("0000:01:00.*", ("0000:01:00.0",), PCI, "0000:01:00.0, 0000:01:00.1"),
        ("0000:01:00.*", ("0000:01:00.0", "0000:01:00.1"), None, ", ".join(f"0000:01:00.{at}" for at in range(8))),
        ("0000:01:00.*", ("0000:01:00.*",), None, None),
        ("name=nic0", ("0000:01:00.0",), PCI, None),
        ("name=nic0", ("0000:01:00.*",), PCI, None),
        ("name=nic0", ("name=nic0",), PCI, None),
        ("name=gpu", ("0000:01:00.0",), PCI, "0000:03:00.0"),
        ("name=nobody", ("0000:01:00.0",), PCI, ""),
        ("name=nic0", ("0000:01:00.0",), None, ""),
    ],
)
def test_names_and_wildcards_of_pci_devices_are_allowed_by_what_they_stand_for(
    device: str, allowed: tuple[str, ...], there: dict[str, str] | None, stands_for: str | None
) -> None:
    settings = HostSettings(name="alpha", toolstack="simulated", allow=Allow(pci=allowed))
    made = plan(host(pci=there), desired(domain("a", pci=(f"{device},permissive=1",)), settings=settings))

    blocked = change_of(made, "a").blocked
    if stands_for is None:
        assert blocked is None
    else:
        which = f" is {stands_for} on the host, which" if stands_for else ""
        assert blocked == f"the PCI device {device}{which} is not allowed by alpha/host.toml"


def test_a_source_larger_than_the_disk_is_refused() -> None:
    world = host(files={"/srv/big": FileFact(kind="file", size_bytes=8192)})
    made = plan(world, desired(domain("a", disks=(disk("/srv/new", source="/srv/big"),))))
    assert "has 8192 bytes, more than the 4096 of the disk" in (change_of(made, "a").blocked or "")
    fits = disk("/srv/new", source="/srv/big", size_bytes=None)
    assert change_of(plan(world, desired(domain("a", disks=(fits,)))), "a").action is Action.CREATE


@pytest.mark.parametrize(("free_bytes", "fits"), [(4096, True), (4095, False)])
def test_all_volumes_that_specs_ask_for_must_fit_into_their_group(free_bytes: int, fits: bool) -> None:
    world = host(vg_free_bytes={"vg": free_bytes})
    made = plan(world, desired(*(domain(name, disks=(volume(name, 2048),)) for name in ("a", "b"))))
    assert [change_of(made, name).action is Action.CREATE for name in ("a", "b")] == [fits, fits]


def test_a_volume_that_is_there_needs_no_room() -> None:
    there = domain("a", disks=(volume("a", 4096),))
    made = plan(host(guest(there), vg_free_bytes={"vg": 0}), desired(replace(there, memory_kib=512 * 1024)))
    assert kinds(made, "a") == ["set_memory", "write_config"]


def test_a_domain_gets_another_uuid_by_being_stopped() -> None:
    world = host(guest(domain("a")))
    assert change_of(plan(world, desired(domain("a", uuid="new"))), "a").action is Action.BLOCKED
    made = plan(world, desired(domain("a", uuid="new", state="stopped")))
    assert kinds(made, "a") == ["shutdown", "write_config"]


def test_a_disk_of_an_unmanaged_domain_is_never_shared_under_any_path() -> None:
    theirs, ours = domain("legacy", disks=(disk("/srv/link"),)), domain("web", disks=(disk("/srv/real"),))
    fact = FileFact(kind="file", size_bytes=4096, key="1:42")
    world = host(unmanaged(theirs), files={"/srv/link": fact, "/srv/real": fact})
    assert "also a disk of legacy" in (change_of(plan(world, desired(ours)), "web").blocked or "")


def test_a_mac_of_an_unmanaged_domain_is_refused() -> None:
    interface = vif("00:16:3e:00:00:01")
    made = plan(host(unmanaged(domain("legacy", vifs=(interface,)))), desired(domain("web", vifs=(interface,))))
    assert "in use by the unmanaged domain legacy" in (change_of(made, "web").blocked or "")


def test_a_missing_bridge_blocks_before_anything_is_done() -> None:
    made = plan(host(bridges=frozenset({"xenbr1"})), desired(domain("web", vifs=(vif("00:16:3e:00:00:01"),))))
    assert "bridge xenbr0 does not exist" in (change_of(made, "web").blocked or "")


def test_a_disk_that_vanished_is_not_replaced_by_an_empty_one() -> None:
    web = domain("web", disks=(disk("/srv/web"),))
    made = plan(host(stopped(web), files={}), desired(web))
    assert "was a disk of it and is gone" in (change_of(made, "web").blocked or "")


@pytest.mark.parametrize(
    ("missing", "asked"),
    [
        (Disk(vdev="xvda", devid=51712, kind="file", target="/srv/web.img"), "is the file system mounted"),
        (Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg/web"), "is its volume group active"),
        (Disk(vdev="xvda", devid=51712, kind="device", target="/dev/sdb"), "is it attached"),
    ],
    ids=["file", "lv", "device"],
)
def test_of_a_disk_that_should_be_there_it_is_asked_first_where_it_is(missing: Disk, asked: str) -> None:
    made = plan(host(), desired(domain("web", disks=(missing,))))
    hint = change_of(made, "web").hint or ""
    assert hint.startswith(asked)


def test_a_changed_path_needs_the_new_target_or_a_source() -> None:
    web = domain("web", disks=(disk("/srv/web"),))
    made = plan(host(guest(web)), desired(domain("web", disks=(disk("/srv/other"),))))
    assert "contents would be lost" in (change_of(made, "web").blocked or "")
    cloned = Disk(vdev="xvda", devid=51712, kind="file", target="/srv/other", size_bytes=4096, source="/srv/template")
    world = host(guest(web))
    files = {**world.files, "/srv/template": FileFact(kind="file", size_bytes=4096)}
    made = plan(replace(world, files=files), desired(domain("web", disks=(cloned,))))
    assert change_of(made, "web").action is Action.RESTART


def test_more_vcpus_than_cpus_are_refused_only_where_the_host_says_so() -> None:
    big = domain("web", vcpus=6, maxvcpus=6)
    strict = replace(desired(big).hosts["alpha"].settings, overcommit_vcpus=False)
    assert change_of(plan(host(), desired(big)), "web").action is Action.CREATE
    assert "the host has 4 cpus" in (change_of(plan(host(), desired(big, settings=strict)), "web").blocked or "")


@pytest.mark.parametrize(
    ("theirs", "ours", "blocked"), [("rw", "rw", True), ("rw", "ro", True), ("ro", "rw", True), ("ro", "ro", False)]
)
def test_only_readers_share_a_disk_with_a_domain_that_is_not_ours(theirs: str, ours: str, blocked: bool) -> None:
    world = host(unmanaged(domain("legacy", disks=(disk("/srv/iso", access=theirs),))))
    web = domain("web", disks=(disk("/srv/iso", access=ours),))
    found = block_change(world, STRICT, None, web, HostIndex.of(world, {"web": web}), ())
    assert (found is not None) is blocked
    assert found is None or "also a disk of legacy" in found.reason


def test_prevent_destroy_counts_in_the_config_file_and_in_what_runs() -> None:
    kept, free = domain("a", prevent_destroy=True), domain("a")
    for one in (guest(kept), guest(free, config=kept), guest(kept, config=free), stopped(kept)):
        block = block_destroy(host(), one, EMPTY, any_specs=True)
        assert block is not None
        assert "prevent_destroy" in block.reason
    assert block_destroy(host(), guest(free), EMPTY, any_specs=True) is None


def test_what_cannot_be_read_and_all_of_an_empty_tree_are_not_destroyed() -> None:
    unread = guest(domain("a"), running=None, config=None, problem="no such key")
    for one, any_specs, reason in ((unread, True, "cannot be read"), (guest(domain("a")), False, "no domain at all")):
        block = block_destroy(host(), one, EMPTY, any_specs=any_specs)
        assert block is not None
        assert reason in block.reason


@pytest.mark.parametrize("bridge", ["ovsbr0", "ovsbr0.42", "ovsbr0.42:200:300", "ovsbr0:100"])
@pytest.mark.parametrize("script", ["vif-openvswitch", "/etc/xen/scripts/vif-openvswitch"])
def test_a_tag_of_open_vswitch_is_no_part_of_the_bridge(bridge: str, script: str) -> None:
    web = domain("web", vifs=(vif("00:16:3e:00:00:01", bridge=bridge, script=script),))
    made = plan(host(bridges=frozenset({"ovsbr0"})), desired(web))
    assert change_of(made, "web").action is Action.CREATE
    missing = plan(host(bridges=frozenset({"ovsbr"})), desired(web))
    assert change_of(missing, "web").blocked == "bridge ovsbr0 does not exist on the host"
    other = replace(web, vifs=(vif("00:16:3e:00:00:01", bridge="br0.42"),))
    assert change_of(plan(host(bridges=frozenset({"br0"})), desired(other)), "web").action is Action.BLOCKED
