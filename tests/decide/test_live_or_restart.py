"""What a difference costs the running domain: nothing, a restart, or a wait for the next start."""

from __future__ import annotations

from dataclasses import replace

from reconciler.decide.changes import Action, Consent
from reconciler.decide.diff import Effect
from reconciler.model.domain import Disk, Policy, Vif
from reconciler.model.host import FileFact, Power
from tests.worlds import (
    MIB,
    NEW,
    change_of,
    desired,
    disk,
    domain,
    guest,
    host,
    kernel,
    kinds,
    plan,
    vif,
)


def test_memory_within_maxmem_changes_live() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", memory_kib=512 * MIB)))
    (field,) = change_of(made, "web").fields
    assert (field.path, field.before, field.after, field.effect) == ("memory", 256 * MIB, 512 * MIB, Effect.LIVE)
    assert kinds(made, "web") == ["set_memory", "write_config"]
    assert made.steps[0].delta_kib == 256 * MIB


def test_a_raised_maxmem_needs_a_restart() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", maxmem_kib=1024 * MIB)))
    assert change_of(made, "web").action is Action.RESTART


def test_a_lowered_maxmem_waits_for_the_next_start() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", maxmem_kib=256 * MIB)))
    change = change_of(made, "web")
    assert change.action is Action.UPDATE  # the config file already says it
    assert tuple(map(str, change.pending)) == ("maxmem is lowered at the next start",)
    assert kinds(made, "web") == ["write_config"]


def test_other_bytes_under_the_same_path_are_a_restart_from_a_candidate() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", kernel=kernel("web", NEW))))
    (field,) = change_of(made, "web").fields
    assert (field.path, field.before, field.after) == ("kernel", f"vmlinuz ({'1' * 12})", f"vmlinuz ({'2' * 12})")
    assert kinds(made, "web")[:6] == [
        "stage_image",
        "write_config",
        "shutdown",
        "start",
        "await_ready",
        "promote_config",
    ]


def test_a_deferred_restart_is_pending_with_every_reason_while_live_changes_go_on() -> None:
    wanted = domain(
        "web", kernel=kernel("web", NEW), cmdline="quiet", memory_kib=512 * MIB, policy=Policy(restart="defer")
    )
    made = plan(host(guest(domain("web"))), desired(wanted))
    change = change_of(made, "web")
    assert change.action is Action.UPDATE
    assert tuple(map(str, change.pending)) == ("cmdline needs a restart", "kernel needs a restart")
    assert [field.path for field in change.fields] == ["memory"]
    released = plan(host(guest(domain("web"))), desired(wanted), Consent(restart=frozenset({"alpha/web"})))
    assert change_of(released, "web").action is Action.RESTART


def test_a_disk_is_added_live_and_removed_only_by_a_restart() -> None:
    one, two = disk("/srv/a"), disk("/srv/b", 51728)
    added = plan(host(guest(domain("web", disks=(one,)))), desired(domain("web", disks=(one, two))))
    assert kinds(added, "web") == ["create_disk", "attach_disk", "write_config"]
    removed = plan(host(guest(domain("web", disks=(one, two)))), desired(domain("web", disks=(one,))))
    assert change_of(removed, "web").action is Action.RESTART


def test_removing_the_first_of_two_named_vifs_detaches_just_that_one() -> None:
    first, second = vif("00:16:3e:00:00:01"), vif("00:16:3e:00:00:02", 1)
    made = plan(
        host(guest(domain("web", vifs=(first, second)))), desired(domain("web", vifs=(replace(second, devid=0),)))
    )
    assert kinds(made, "web") == ["detach_vif", "write_config"]
    assert [field.path for field in change_of(made, "web").fields] == ["vif[0]"]


def test_removing_one_from_the_middle_of_unnamed_vifs_is_blocked() -> None:
    vifs = tuple(Vif(devid=at, mac=f"00:16:3e:00:00:0{at}", bridge=f"br{at}") for at in range(3))
    wanted = (vifs[0], replace(vifs[1], bridge="br2"))
    made = plan(host(guest(domain("web", vifs=vifs))), desired(domain("web", vifs=wanted)))
    assert "removed from the middle" in (change_of(made, "web").blocked or "")


def test_a_disk_grows_live_and_never_shrinks() -> None:
    web = domain("web", disks=(disk("/srv/web"),))
    grown = plan(host(guest(web)), desired(domain("web", disks=(disk("/srv/web", size_bytes=8192),))))
    assert kinds(grown, "web") == ["grow_disk"]
    shrunk = plan(host(guest(web)), desired(domain("web", disks=(disk("/srv/web", size_bytes=1024),))))
    assert "never shrink" in (change_of(shrunk, "web").blocked or "")


def test_a_volume_that_lvm_rounded_up_is_neither_grown_nor_shrunk() -> None:
    volume = disk("/dev/vg0/web", kind="lv", size_bytes=1001 * 1024 * 1024)
    world = host(guest(domain("web", disks=(volume,))))
    rounded = FileFact(kind="block", size_bytes=1004 * 1024 * 1024)
    made = plan(replace(world, files={"/dev/vg0/web": rounded}), desired(domain("web", disks=(volume,))))
    assert change_of(made, "web").action is Action.NO_OP


def test_on_netbsd_a_file_disk_grows_by_a_restart() -> None:
    web = domain("web", disks=(disk("/srv/web"),))
    made = plan(host(guest(web), flavour="netbsd"), desired(domain("web", disks=(disk("/srv/web", size_bytes=8192),))))
    assert change_of(made, "web").action is Action.RESTART


def test_an_update_of_the_config_file_alone_says_what_that_has_otherwise() -> None:
    web = domain("web", memory_kib=512 * MIB, cpu_weight=512)
    behind = guest(web, config=domain("web"))  # an apply was cut short after its live changes
    change = change_of(plan(host(behind), desired(web)), "web")
    assert (change.action, change.fields) == (Action.UPDATE, ())
    assert change.reason == "its config file has another cpu_weight, memory"


def test_a_domain_that_is_down_and_is_to_stay_so_says_what_its_config_file_lacks() -> None:
    web = domain("web", state="stopped")
    down = guest(domain("web"), running=None, power=Power.ABSENT, actual_kib=0)
    change = change_of(plan(host(down), desired(web)), "web")
    assert (change.action, change.reason) == (Action.UPDATE, "its config file has another state")


def test_a_disk_whose_target_holds_a_password_is_added_by_a_restart_alone() -> None:
    """What xl is given as an argument all of the dom0 can read; a config file only root can."""
    plain = Disk(vdev="xvdb", devid=51728, kind="device", target="iqn=iqn.2001-05.org:a", script="block-iscsi")
    for target, steps in (
        (plain.target, ["attach_disk", "write_config"]),
        (f"{plain.target},user=u,password=p", ["write_config", "shutdown", "start", "await_ready", "promote_config"]),
    ):
        made = plan(host(guest(domain("web"))), desired(domain("web", disks=(replace(plain, target=target),))))
        assert kinds(made, "web")[: len(steps)] == steps
        assert "password=p" not in str(change_of(made, "web").fields)


def test_a_disk_that_is_given_such_a_target_is_restarted_too() -> None:
    plain = Disk(vdev="xvdb", devid=51728, kind="device", target="iqn=iqn.2001-05.org:a", script="block-iscsi")
    had, gets = domain("web", disks=(plain,)), domain("web", disks=(replace(plain, target=f"{plain.target},passwd=p"),))
    made = plan(host(guest(had)), desired(gets))
    (field,) = change_of(made, "web").fields
    assert (field.effect, "passwd=p" in str(field)) == (Effect.RESTART, False)
