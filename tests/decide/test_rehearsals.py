"""Which snapshots a rehearsal is made on, and the room that there has to be for all rehearsals of a plan together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.domain import Disk, Domain, Policy
from reconciler.model.fleet import HostSettings, RehearsalSettings
from reconciler.model.host import Host
from reconciler.model.rehearsal import Clone, SnapshotFact, Way
from reconciler.plan.plan import Plan
from reconciler.plan.steps import Rehearse, RehearseEnd, takes_down
from reconciler.show.rehearsals import rehearsal_lines, step_document
from tests.worlds import NEW, change_of, desired, disk, domain, guest, host, kernel, plan

GIB, EXTENT = 1 << 30, 4 << 20


def lv(path: str, devid: int = 51712, **changes: Any) -> Disk:
    return disk(path, devid, kind="lv", size_bytes=None, **changes)


def fact(way: Way = "lvm", room: str = "vg0", **changes: Any) -> SnapshotFact:
    return replace(
        SnapshotFact(way=way, room=room, size_bytes=GIB, free_bytes=10 * GIB, total_bytes=20 * GIB), **changes
    )


def world(*domains: Domain, known: SnapshotFact) -> Host:
    made = host(*map(guest, domains))
    return replace(
        made, snapshots={one.target: known for each in domains for one in each.disks}, vg_free_bytes={"vg0": 10 * GIB}
    )


def planned(seen: Host, *others: Domain, **settings: Any) -> Plan:
    """A plan that restarts all domains there are, each rehearsed first."""
    wanted = [
        replace(one.running, kernel=kernel(name, NEW), policy=Policy(rehearse="required"))
        for name, one in seen.guests.items()
        if one.running is not None
    ]
    ours = HostSettings(
        name="alpha",
        toolstack="simulated",
        parallel=8,
        max_unavailable=8,
        keep_free_kib=0,
        rehearsal=RehearsalSettings(**settings),
    )
    return plan(seen, desired(*wanted, *others, settings=ours))


def clone_of(path: str, known: SnapshotFact, **settings: Any) -> Clone | str | None:
    """The snapshot of a disk, or why there is none."""
    change = change_of(planned(world(domain("web", disks=(lv(path),)), known=known), **settings), "web")
    return change.rehearsal.clones[0] if change.rehearsal is not None else change.blocked


@pytest.mark.parametrize(
    ("path", "known", "origin", "target"),
    [
        ("/dev/vg0/web", fact(), "/dev/vg0/web", "/dev/vg0/web.rehearsal-0xca00"),
        ("/dev/mapper/vg--0-web--1", fact(room="vg-0"), "/dev/vg-0/web-1", "/dev/vg-0/web.rehearsal-0xca00"),
        ("/dev/mapper/vg0-web", fact("thin", "vg0/pool"), "/dev/vg0/web", "/dev/vg0/web.rehearsal-0xca00"),
    ],
)
def test_a_volume_is_known_by_its_group_and_name(path: str, known: SnapshotFact, origin: str, target: str) -> None:
    clone = clone_of(path, known)
    assert isinstance(clone, Clone), clone
    assert (clone.origin, clone.target) == (origin, target)


@pytest.mark.parametrize("path", ["/dev/disk/by-id/dm-name-vg0-web", "/dev/mapper/other-web", "/dev/mapper/vg0-w-real"])
def test_a_volume_under_a_name_that_does_not_tell_which_it_is_has_no_way(path: str) -> None:
    said = clone_of(path, fact())
    assert isinstance(said, str)
    assert f"there is no way to snapshot {path}: its path does not tell" in said
    assert "/dev/vg0/" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a" * 63, "would be 5 characters too long"),
        ("snapshot", "LVM takes no such name"),
        ("db_rmeta", "no such name"),
    ],
)
def test_a_volume_whose_snapshot_could_have_no_name_has_no_way(name: str, why: str) -> None:
    group = "g" * 46
    (change,) = planned(world(domain(name, disks=(lv(f"/dev/{group}/{name}"),)), known=fact(room=group))).changes
    assert why in (change.blocked or "")
    fits = domain("a" * 58, disks=(lv(f"/dev/{group}/data"),))
    (change,) = planned(world(fits, known=fact(room=group))).changes
    assert change.rehearsal is not None


@pytest.mark.parametrize("path", ["/srv/a|b", "/srv/a\nb"])
def test_a_path_that_splits_a_line_has_no_way(path: str) -> None:
    assert "no way to snapshot" in str(clone_of(path, fact("reflink", "/srv")))


@pytest.mark.parametrize(
    ("size", "wanted"), [(1.0, GIB), (2 * GIB, GIB), (0.2, GIB // 5), (GIB - EXTENT, GIB - 2 * EXTENT), (0.0, 0)]
)
def test_a_snapshot_that_never_fills_up_has_room_for_its_table_too(size: float, wanted: int) -> None:
    clone = clone_of("/dev/vg0/web", fact(), snapshot_size=size)
    assert isinstance(clone, Clone)
    assert clone.room_bytes % EXTENT == 0
    beyond = GIB // 100 + EXTENT if wanted == GIB else 0
    assert wanted + beyond <= clone.room_bytes <= wanted + beyond + EXTENT


def waits(made: Plan) -> list[bool]:
    """Of each rehearsal in its turn: whether it waits for one before it to end."""
    ends = {step.id for step in made.steps if isinstance(step.step, RehearseEnd)}
    return [not ends.isdisjoint(step.needs) for step in made.steps if isinstance(step.step, Rehearse)]


def test_rehearsals_of_a_plan_count_on_the_same_room_only_one_after_the_other() -> None:
    names = ("a", "b", "c", "d")
    files = [domain(name, disks=(disk(f"/srv/{name}"),)) for name in names]
    room = fact("reflink", "/srv", free_bytes=2 * GIB)
    assert waits(planned(world(*files, known=room), keep_free=0)) == [False, False, True, True]
    assert waits(planned(world(*files, known=replace(room, free_bytes=4 * GIB)), keep_free=0)) == [False] * 4
    volumes = [domain(name, disks=(lv(f"/dev/vg0/{name}"),)) for name in names]
    assert waits(planned(world(*volumes, known=fact(free_bytes=GIB)), snapshot_size=0.5)) == [False, False, True, True]


def test_what_the_specs_ask_of_a_group_or_file_system_is_no_room_for_snapshots() -> None:
    seen = world(domain("web", disks=(lv("/dev/vg0/web"),)), known=fact())
    new = domain("new", disks=(disk("/dev/vg0/new", kind="lv", size_bytes=10 * GIB),))
    assert "its snapshots need" in str(change_of(planned(seen, new), "web").blocked)
    assert change_of(planned(seen), "web").blocked is None

    seen = world(domain("web", disks=(disk("/srv/web"),)), known=fact("reflink", "/srv"))
    full = domain("new", disks=(disk("/srv/new", size_bytes=10 * GIB, allocate="full"),))
    assert "its snapshots need" in str(change_of(planned(seen, full), "web").blocked)
    sparse = domain("new", disks=(disk("/srv/new", size_bytes=10 * GIB),))
    assert change_of(planned(seen, sparse), "web").blocked is None


def test_the_pause_of_the_control_counts_as_well() -> None:
    """What runs has two disks, and what is new has one: only the control takes a pause, if there is one."""
    seen = world(domain("web", disks=(lv("/dev/vg0/web"), lv("/dev/vg0/more", devid=51728))), known=fact())
    new = domain("web", kernel=kernel("web", NEW), disks=(lv("/dev/vg0/web"),), policy=Policy(rehearse="required"))
    ours = HostSettings(name="alpha", toolstack="simulated", rehearsal=RehearsalSettings(pause=True))
    made = plan(seen, desired(new, settings=ours))
    (step,) = (one.step for one in made.steps if isinstance(one.step, Rehearse))
    assert (step.rehearsal.pause_seconds, step.control.pause_seconds, takes_down(step)) == (0, 2, True)
    assert "is paused for about 2 s, too, if what runs now has to be booted to compare" in "\n".join(
        rehearsal_lines(change_of(made, "web"))
    )
    assert step_document(step)["control_pause_seconds"] == 2


def test_a_copy_leaves_what_is_kept_free() -> None:
    seen = world(domain("web", disks=(disk("/srv/web"),)), known=fact("copy", "/srv", free_bytes=2 * GIB))
    settings: dict[str, Any] = {"pause": True, "copy_limit_bytes": GIB}
    assert change_of(planned(seen, keep_free=GIB, **settings), "web").blocked is None
    assert "are kept free" in str(change_of(planned(seen, keep_free=GIB + 1, **settings), "web").blocked)


def test_a_throwaway_shares_nothing_that_its_domain_writes_to_and_stays_whatever_its_guest_does() -> None:
    path = "/dev/vg0/web"
    colo = lv(path, colo=True, colo_host="peer", colo_port=9999, active_disk="/srv/active", hidden_disk="/srv/hidden")
    keys = (("nomigrate", 1), ("on_soft_reset", "restart"), ("spice", 1), ("spiceport", 5900))
    web = domain("web", disks=(colo,), xl=keys, pci=("0000:03:00.0",))
    (change,) = planned(world(web, known=fact())).changes
    assert change.rehearsal is not None, change
    one = change.rehearsal.definition
    assert dict(one.xl) == {"nomigrate": 1, "on_soft_reset": "preserve"}
    assert {one.on_poweroff, one.on_reboot, one.on_crash, one.on_watchdog} == {"preserve"}
    (written,) = one.disks
    assert (written.target, written.colo, written.active_disk, written.hidden_disk) == (
        "/dev/vg0/web.rehearsal-0xca00",
        None,
        None,
        None,
    )
    assert one.pci == ()
    assert any("without its PCI devices" in line for line in rehearsal_lines(change))


@pytest.mark.parametrize("other", [{"script": "block-x"}, {"backend": "storage"}, {"format": "qcow2"}])
def test_a_disk_of_which_the_dom0_knows_no_moment_has_no_way(other: dict[str, Any]) -> None:
    (change,) = planned(world(domain("web", disks=(lv("/dev/vg0/web", **other),)), known=fact())).changes
    assert "no way to snapshot" in (change.blocked or "")


def test_a_disk_that_others_only_read_as_well_is_rehearsed_as_it_is() -> None:
    common = lv("/dev/vg0/common", access="ro")
    change = change_of(planned(world(*(domain(name, disks=(common,)) for name in ("web", "db")), known=fact())), "web")
    assert change.rehearsal is not None, change
    assert (change.rehearsal.definition.disks, change.rehearsal.clones) == ((common,), ())
