"""PCI devices, and disks that every host can reach: no two domains ever have one, under whatever name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Disk, Domain
from reconciler.model.fleet import Allow, DesiredHost, HostSettings
from reconciler.model.host import Devices, FileFact, Guest, Host, Owner, Power
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.verify import verify
from reconciler.show.documents import plan_document
from reconciler.toolstack import question_for
from tests.worlds import change_of, desired, domain, guest, host, stopped, unmanaged

NIC = "0000:03:00.0"
SETTINGS = HostSettings(
    name="alpha", toolstack="simulated", max_unavailable=9, allow=Allow(pci=("0000:03:00.*", "name=nic0", NIC))
)
BETA = replace(SETTINGS, name="beta")
WAYS = ("0000:03:00.0", "0000:03:00.*", "name=nic0", "0000:03:00.0,permissive=1", "name=nic0,seize=1")


def with_pci(*guests: Guest) -> Host:
    return replace(host(*guests), pci={NIC: "nic0", "0000:03:00.1": "", "0000:04:00.0": ""})


def given(name: str, *devices: str, **changes: Any) -> Domain:
    return domain(name, pci=devices, **changes)


def planned(world: Host, *domains: Domain, consent: Consent | None = None) -> Plan:
    wanted = desired(*domains, settings=SETTINGS)
    made = build_plan(wanted, {"alpha": world}, consent or Consent())
    verify(made, {"alpha": world}, wanted)
    return made


@pytest.mark.parametrize("one", WAYS)
@pytest.mark.parametrize("other", WAYS)
def test_two_new_domains_never_get_one_device(one: str, other: str) -> None:
    made = planned(with_pci(), given("a", one), given("b", other))
    assert made.steps == ()
    assert f"{NIC} is still a PCI device of b" in (change_of(made, "a").blocked or "")


@pytest.mark.parametrize("way", WAYS)
def test_a_device_of_a_domain_that_keeps_it_goes_to_nobody_else(way: str) -> None:
    keeps = given("a", "name=nic0")
    for world in (with_pci(guest(keeps), guest(domain("b"))), with_pci(stopped(keeps), guest(domain("b")))):
        made = planned(world, keeps, given("b", way))
        assert f"{NIC} is still a PCI device of a" in (change_of(made, "b").blocked or "")
    foreign = planned(with_pci(unmanaged(keeps), guest(domain("b"))), given("b", way))
    assert "a, which is not ours" in (change_of(foreign, "b").blocked or "")


def test_a_device_changes_hands_when_the_one_that_had_it_is_down() -> None:
    made = planned(
        with_pci(guest(given("a", "name=nic0")), guest(given("b", "0000:04:00.0"))), given("a"), given("b", NIC)
    )
    order = [(step.address, step.step.kind) for step in made.steps]
    assert order.index(("alpha/a", "shutdown")) < order.index(("alpha/b", "start"))
    assert change_of(made, "b").waits_for == (f"alpha/a to let go of {NIC}",)


def test_functions_of_one_card_may_go_to_several() -> None:
    made = planned(with_pci(), given("a", NIC), given("b", "0000:03:00.1"))
    assert not [change for change in made.changes if change.blocked]


def lun(access: Any = "rw", name: str = "/dev/disk/by-id/wwn-0x5000", script: str | None = None) -> Disk:
    return Disk(vdev="xvda", devid=51712, kind="device", target=name, access=access, script=script)


NAMES = [
    ("/dev/disk/by-id/wwn-0x5000", None),
    ("/dev/disk/by-id/nvme-eui.0025", None),
    ("/dev/disk/by-id/dm-uuid-mpath-36001405abcdef0123456789", None),
    ("/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2001-05.org:a-lun-0", None),
    ("iqn=iqn.2001-05.org:a,portal=10.0.0.1,user=u,password=hunter2", "block-iscsi"),
    ("10.0.0.1 1234", "block-nbd"),
    ("disk/by-id/wwn-0x5000", "block"),
]


def on_two_hosts(alpha: Host, beta: Host, a: Domain | None, b: Domain | None) -> Plan:
    def seen(world: Host, name: str) -> Host:
        targets = [disk.target for one in (a, b) if one is not None for disk in one.disks]
        facts = {path: FileFact(kind="block", size_bytes=4096, key="8:0", real_path="/dev/sda") for path in targets}
        return replace(world, name=name, files={**world.files, **facts})

    hosts = {"alpha": seen(alpha, "alpha"), "beta": seen(beta, "beta")}
    parts = {
        name: DesiredHost(settings=settings, domains={} if one is None else {one.name: one})
        for name, settings, one in (("alpha", SETTINGS, a), ("beta", BETA, b))
    }
    wanted = replace(desired(), hosts=parts)
    made = build_plan(wanted, hosts, Consent(allow_destroy=1))
    verify(made, hosts, wanted)
    return made


@pytest.mark.parametrize(("name", "script"), NAMES)
def test_a_disk_that_every_host_can_reach_is_written_by_one_domain_of_the_fleet(name: str, script: str | None) -> None:
    disks = (lun(name=name, script=script),)
    keeps, asks = domain("b", disks=disks), domain("a", disks=disks)
    blocked = change_of(on_two_hosts(host(), host(guest(keeps)), asks, keeps), "a")
    assert blocked.action is Action.BLOCKED
    assert "is still a disk of beta/b" in (blocked.blocked or "")
    assert "hunter2" not in str(blocked.blocked)
    started = change_of(on_two_hosts(host(stopped(asks)), host(guest(keeps)), asks, keeps), "a")
    assert started.action is Action.BLOCKED


def test_such_a_disk_changes_hands_when_the_one_that_had_it_is_gone() -> None:
    had, gets = domain("b", disks=(lun(),)), domain("a", disks=(lun(),))
    made = on_two_hosts(host(), host(guest(had)), gets, domain("c"))
    order = [(step.address, step.step.kind) for step in made.steps]
    assert order.index(("beta/b", "shutdown")) < order.index(("alpha/a", "start"))


def test_such_a_disk_is_known_of_a_domain_that_xl_tells_nothing_of() -> None:
    ghost = Guest(name="ghost", owner=Owner.UNMANAGED, power=Power.DYING, actual_kib=1, uuid="u")
    ghost = replace(ghost, devices=Devices(disks=((lun().target, "rw"),)))
    made = on_two_hosts(host(), host(ghost), domain("a", disks=(lun(),)), None)
    assert "still a disk of beta/ghost, which is not ours" in (change_of(made, "a").blocked or "")


NAMES_OF_MANY = ("dm-name-vg-a", "ata-QEMU_HARDDISK_QM00003", "scsi-0QEMU_x", "virtio-data", "dm-uuid-CRYPT-PLAIN-x")


@pytest.mark.parametrize(
    "one",
    [
        lun("ro"),
        lun(name="/dev/sda"),
        lun(name="pool/a", script="block-x"),
        *(lun(name=f"/dev/disk/by-id/{name}") for name in NAMES_OF_MANY),
    ],
)
def test_what_is_only_read_or_belongs_to_its_host_may_be_named_by_both(one: Disk) -> None:
    a, b = domain("a", disks=(one,)), domain("b", disks=(one,))
    made = on_two_hosts(host(), host(guest(b)), a, b)
    assert change_of(made, "a").action is Action.CREATE


def test_a_password_in_the_target_of_a_script_is_told_to_nobody() -> None:
    one = lun(name="iqn=iqn.2001-05.org:a,password=hunter2", script="block-iscsi")
    had, gets = domain("a", disks=(one,)), domain("b", disks=(one,))
    refused = planned(host(guest(had)), had, gets)
    assert "is also a disk of a" in (change_of(refused, "b").blocked or "")
    handed_over = planned(host(guest(had), guest(domain("b"))), domain("a"), gets)
    assert "alpha/a to let go of" in str(change_of(handed_over, "b").waits_for)
    for made in (refused, handed_over):
        told = plan_document(made)
        assert "hunter2" not in str([told["changes"], told["diagnostics"]])


@pytest.mark.parametrize("name", ["/dev/vg0/a", "vg0/a"])
@pytest.mark.parametrize("script", ["block", "/etc/xen/scripts/block"])
def test_a_disk_under_the_script_that_xl_calls_anyway_is_the_same_disk(script: str, name: str) -> None:
    plain = domain("a", disks=(lun(name="/dev/vg0/a"),))
    said = domain("b", disks=(lun(name=name, script=script),))
    made = planned(host(guest(plain)), plain, said)
    assert f"{name} is also a disk of a" in (change_of(made, "b").blocked or "")
    assert question_for(desired(said).hosts["alpha"]).files == ("/dev/vg0/a",)
