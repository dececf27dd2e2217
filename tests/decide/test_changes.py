"""What is decided for one domain: live, restart, pending, blocked, and with which steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.decide.diff import Effect
from reconciler.model.domain import Disk, Policy, Vif
from reconciler.model.host import FileFact, Owner, Power
from reconciler.plan.steps import PromoteConfig
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
    stopped,
    unmanaged,
    vif,
)


def test_a_domain_as_specified_is_left_alone() -> None:
    web = domain("web")
    made = plan(host(guest(web)), desired(web))
    assert change_of(made, "web").action is Action.NO_OP
    assert made.steps == ()


def test_a_new_domain_is_staged_written_started_and_awaited() -> None:
    made = plan(host(), desired(domain("web", disks=(disk("/srv/web"),), autostart=10)))
    assert kinds(made, "web") == [
        "stage_image",
        "create_disk",
        "write_config",
        "start",
        "await_ready",
        "promote_config",
        "set_autostart",
    ]


def test_memory_within_maxmem_changes_live() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", memory_kib=512 * MIB)))
    (field,) = change_of(made, "web").fields
    assert (field.path, field.before, field.after, field.effect) == ("memory", 256 * MIB, 512 * MIB, Effect.LIVE)
    assert kinds(made, "web") == ["set_memory", "write_config"]
    assert made.steps[0].memory_kib == 256 * MIB


def test_a_raised_maxmem_needs_a_restart() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", maxmem_kib=1024 * MIB)))
    assert change_of(made, "web").action is Action.RESTART


def test_a_lowered_maxmem_waits_for_the_next_start() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", maxmem_kib=256 * MIB)))
    change = change_of(made, "web")
    assert change.action is Action.UPDATE  # the config file already says it
    assert change.pending == ("maxmem is lowered at the next start",)
    assert kinds(made, "web") == ["write_config"]


def test_other_bytes_under_the_same_path_are_a_restart_from_a_candidate() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", kernel=kernel("web", NEW))))
    (field,) = change_of(made, "web").fields
    assert (field.path, field.before, field.after) == ("kernel", "1" * 12, "2" * 12)
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
    assert change.pending == ("cmdline needs a restart", "kernel needs a restart")
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


@pytest.mark.parametrize("power", [Power.REBOOTING, Power.SUSPENDED, Power.DYING])
def test_a_domain_between_two_states_is_neither_created_nor_changed(power: Power) -> None:
    made = plan(host(guest(domain("web"), power=power)), desired(domain("web", memory_kib=512 * MIB)))
    change = change_of(made, "web")
    assert change.action is Action.NO_OP
    assert change.waits_for == (f"{power.value} to end",)


def test_a_crashed_and_kept_domain_is_cleared_away_and_started() -> None:
    made = plan(host(guest(domain("web"), power=Power.CRASHED)), desired(domain("web")))
    assert change_of(made, "web").action is Action.START
    assert kinds(made, "web") == ["shutdown", "start", "await_ready"]


def test_a_stopped_domain_gets_everything_but_the_run() -> None:
    made = plan(host(), desired(domain("web", state="stopped", disks=(disk("/srv/web"),))))
    assert kinds(made, "web") == ["stage_image", "create_disk", "write_config"]


def test_a_running_domain_is_stopped_when_the_spec_says_so() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", state="stopped")))
    assert change_of(made, "web").action is Action.STOP
    assert kinds(made, "web") == ["shutdown", "write_config"]


def test_a_config_edited_by_hand_is_written_anew() -> None:
    made = plan(host(guest(domain("web"), edited=True)), desired(domain("web")))
    assert kinds(made, "web") == ["write_config"]
    assert change_of(made, "web").reason == "its config file was edited by hand"


def test_what_a_promotion_keeps_is_judged_by_what_it_promotes_not_by_an_earlier_candidate() -> None:
    old, tried = domain("web"), domain("web", kernel=kernel("web", NEW))
    world = host(guest(tried, config=old, candidate=tried, unproven=True))
    made = plan(world, desired(domain("web", maxmem_kib=1024 * MIB)))
    (promotion,) = [step.step for step in made.steps if isinstance(step.step, PromoteConfig)]
    assert not promotion.replaces_previous, "it boots what the proven config boots"


def test_a_definition_that_runs_unproven_is_awaited_and_promoted() -> None:
    old, new = domain("web"), domain("web", kernel=kernel("web", NEW))
    made = plan(host(guest(new, config=old, candidate=new, unproven=True)), desired(new))
    assert kinds(made, "web") == ["await_ready", "promote_config"]


def test_a_domain_of_the_same_name_that_is_not_ours_blocks() -> None:
    made = plan(host(unmanaged(domain("web"))), desired(domain("web")))
    change = change_of(made, "web")
    assert change.action is Action.BLOCKED
    assert change.hint == "reconciler apply --adopt alpha/web"
    assert made.steps == ()


def test_adopting_never_restarts() -> None:
    running = domain("web", kernel=kernel("web", NEW))
    made = plan(host(unmanaged(running)), desired(domain("web")), Consent(adopt=frozenset({"alpha/web"})))
    change = change_of(made, "web")
    assert change.action is Action.ADOPT
    assert change.pending == ("kernel needs a restart",)
    assert "shutdown" not in kinds(made, "web")


def test_adopting_another_uuid_is_blocked_with_the_line_to_write() -> None:
    running = domain("web", uuid="another")
    made = plan(host(unmanaged(running)), desired(domain("web")), Consent(adopt=frozenset({"alpha/web"})))
    assert change_of(made, "web").hint == 'put uuid = "another" into the spec'


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


def test_a_held_domain_is_shown_and_never_changed() -> None:
    held = domain("web", memory_kib=512 * MIB, policy=Policy(reconcile=False))
    made = plan(host(guest(domain("web"))), desired(held))
    change = change_of(made, "web")
    assert (change.action, made.steps) == (Action.NO_OP, ())
    assert [field.path for field in change.fields] == ["memory"]


def test_a_domain_that_moved_to_another_host_is_blocked_on_both() -> None:
    from reconciler.decide.changes import Fleet
    from reconciler.decide.decide import decide_host

    web = domain("web")
    settings = desired().hosts["alpha"].settings
    fleet = Fleet(declared={"web": "beta"}, managed={"web": ("alpha",)})
    (here,) = decide_host(host(guest(web)), settings, {}, frozenset(), fleet, Consent())
    beta = replace(host(), name="beta")
    (there,) = decide_host(beta, replace(settings, name="beta"), {"web": web}, frozenset(), fleet, Consent())
    assert {here.action, there.action} == {Action.BLOCKED}
    assert "moved from alpha to beta" in here.reason


def test_destroying_keeps_disks_unless_asked_and_removes_the_mark_last() -> None:
    disks = (disk("/srv/keep"), disk("/srv/drop", 51728, on_delete="delete"))
    made = plan(host(guest(domain("web", disks=disks, autostart=5))), desired(domain("other")))
    assert kinds(made, "web") == [
        "shutdown",
        "set_autostart",
        "sweep_images",
        "delete_disk",
        "remove_config",
    ]
    assert not any(getattr(step.step, "disk", disks[1]).target == "/srv/keep" for step in made.steps)


def test_a_disk_that_another_domain_names_is_not_deleted() -> None:
    shared = disk("/srv/shared", on_delete="delete")
    made = plan(host(guest(domain("web", disks=(shared,)))), desired(domain("heir", disks=(shared,))))
    assert "delete_disk" not in kinds(made, "web")
    assert 'pin in its spec: uuid = "uuid-of-web"' in (change_of(made, "heir").hint or "")
    heir_start = next(step for step in made.steps if step.address == "alpha/heir" and step.step.kind == "start")
    web_down = next(step for step in made.steps if step.address == "alpha/web" and step.step.kind == "shutdown")
    assert web_down.id in heir_start.needs


def test_prevent_destroy_outlives_the_spec_file() -> None:
    made = plan(host(guest(domain("web", prevent_destroy=True))), desired(domain("other")))
    change = change_of(made, "web")
    assert change.action is Action.BLOCKED
    assert "prevent_destroy = false" in (change.hint or "")


def test_an_empty_tree_destroys_nothing() -> None:
    made = plan(host(guest(domain("web"))), desired())
    assert change_of(made, "web").action is Action.BLOCKED


def test_a_broken_file_freezes_its_domain_and_all_prunes() -> None:
    made = plan(
        host(guest(domain("web")), guest(domain("old"))),
        desired(frozen=frozenset({"alpha/web"}), prune=False),
    )
    assert {change.action for change in made.changes} == {Action.NO_OP}


def test_what_a_zombie_left_is_not_ours_to_guess() -> None:
    made = plan(host(guest(domain("web"), running=None, problem="left out of `xl list -l`")), desired(domain("web")))
    assert change_of(made, "web").action is Action.BLOCKED
    assert made.hosts["alpha"].used_kib > 0


def test_foreign_marks_are_nobodys_business() -> None:
    made = plan(host(guest(domain("web"), owner=Owner.FOREIGN)), desired(domain("web")))
    assert "another fleet's" in (change_of(made, "web").blocked or "")
