"""What of a change can be had at once, while the rest of it waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.decide.changes import Action, Change
from reconciler.decide.partial import defer, postponed, without_boot, without_restart
from reconciler.model.boot import boot_digest
from reconciler.model.domain import Domain, Policy
from reconciler.model.host import Guest
from tests.worlds import MIB, NEW, change_of, desired, disk, domain, guest, host, kernel, plan, stopped, vif

RUNNING = domain("web", disks=(disk("/srv/web"),), vifs=(vif("00:16:3e:00:00:01"),))
KEPT: dict[str, Any] = {"prevent_destroy": True, "shutdown_timeout_seconds": 5, "on_shutdown_timeout": "destroy"}
LATER = replace(RUNNING, kernel=kernel("web", NEW), cmdline="quiet", maxmem_kib=1024 * MIB, maxvcpus=4, cpus="0-1")
TARGET = replace(LATER, memory_kib=768 * MIB, vcpus=3, cpu_weight=512, cap=50, autostart=7, **KEPT)


class TestWithoutRestart:
    part = without_restart(TARGET, RUNNING)

    def test_it_boots_what_runs(self) -> None:
        assert boot_digest(self.part) == boot_digest(RUNNING)
        assert (self.part.kernel, self.part.cmdline, self.part.cpus) == (RUNNING.kernel, RUNNING.cmdline, RUNNING.cpus)

    def test_it_takes_what_changes_live(self) -> None:
        assert (self.part.cpu_weight, self.part.cap, self.part.autostart) == (512, 50, 7)

    def test_it_goes_as_far_as_the_ceilings_of_what_runs(self) -> None:
        assert (self.part.memory_kib, self.part.vcpus) == (RUNNING.maxmem_kib, RUNNING.maxvcpus)
        lower = without_restart(replace(TARGET, memory_kib=128 * MIB, vcpus=1), RUNNING)
        assert (lower.memory_kib, lower.vcpus) == (128 * MIB, 1)

    def test_it_takes_what_has_to_outlive_the_spec(self) -> None:
        assert {key: getattr(self.part, key) for key in KEPT} == KEPT

    def test_a_new_disk_is_taken_and_one_that_goes_stays(self) -> None:
        more = disk("/srv/more", 51728)
        assert without_restart(replace(RUNNING, disks=(*RUNNING.disks, more)), RUNNING).disks == (*RUNNING.disks, more)
        assert without_restart(replace(RUNNING, disks=()), RUNNING).disks == RUNNING.disks
        moved = replace(RUNNING, disks=(disk("/srv/other"),))
        assert without_restart(moved, RUNNING).disks == RUNNING.disks

    def test_interfaces_come_and_go_and_none_is_changed(self) -> None:
        more = vif("00:16:3e:00:00:02", 1)
        assert without_restart(replace(RUNNING, vifs=(*RUNNING.vifs, more)), RUNNING).vifs == (*RUNNING.vifs, more)
        assert without_restart(replace(RUNNING, vifs=()), RUNNING).vifs == ()
        elsewhere = replace(RUNNING, vifs=(vif("00:16:3e:00:00:01", bridge="other"),))
        assert without_restart(elsewhere, RUNNING).vifs == RUNNING.vifs


def change_towards(target: Domain, one: Guest) -> Change:
    return change_of(plan(host(one), desired(target)), "web")


def test_what_has_to_wait_is_said_in_words_and_a_lowered_ceiling_is_not_among_it() -> None:
    target = replace(RUNNING, cmdline="quiet", memory_kib=300 * MIB, maxvcpus=1)
    fields = change_towards(target, guest(RUNNING)).fields
    part, live, waiting = defer(host(), RUNNING, target, fields)
    assert tuple(map(str, waiting)) == ("cmdline needs a restart",)
    assert [field.path for field in live] == ["memory"]
    assert (part.memory_kib, part.cmdline) == (300 * MIB, None)


class TestWithoutBoot:
    """What can be done of a change that may not boot its target."""

    def rest(self, one: Guest) -> Change | None:
        change = replace(change_towards(TARGET, guest(RUNNING)), guest=one, target=TARGET)
        return without_boot(host(one), change)

    def test_of_a_running_domain_its_live_part(self) -> None:
        rest = self.rest(guest(RUNNING))
        assert rest is not None
        assert rest.action is Action.UPDATE
        assert rest.target == without_restart(TARGET, RUNNING)

    def test_of_a_stopped_one_what_has_to_outlive_the_spec_and_nothing_that_starts_it(self) -> None:
        down = replace(RUNNING, state="stopped")
        rest = self.rest(stopped(down))
        assert rest is not None
        assert rest.target is not None
        assert (rest.target.prevent_destroy, rest.target.state) == (True, "stopped")
        assert boot_digest(rest.target) == boot_digest(down)

    def test_nothing_of_one_whose_update_was_cut_short(self) -> None:
        assert self.rest(guest(RUNNING, unproven=True)) is None
        assert self.rest(stopped(RUNNING, candidate=TARGET)) is None

    def test_nothing_where_nothing_is_known(self) -> None:
        assert self.rest(Guest(name="web", owner=guest(RUNNING).owner)) is None


class TestPostponed:
    def test_nothing_is_done_for_now(self) -> None:
        target = replace(RUNNING, kernel=kernel("web", NEW))
        later = postponed(host(guest(RUNNING)), change_towards(target, guest(RUNNING)), "it failed before")
        assert (later.action, later.reason, later.waits_for) == (Action.NO_OP, "it failed before", ("a later try",))

    def test_but_that_what_has_to_outlive_the_spec_is_kept(self) -> None:
        target = replace(RUNNING, kernel=kernel("web", NEW), prevent_destroy=True, policy=Policy(wave=2))
        later = postponed(host(guest(RUNNING)), change_towards(target, guest(RUNNING)), "it failed before")
        assert later.action is Action.UPDATE
        assert later.target == replace(RUNNING, prevent_destroy=True)
        assert later.waits_for == ("a later try",)

    def test_not_even_that_while_an_update_is_cut_short(self) -> None:
        target = replace(RUNNING, prevent_destroy=True)
        unproven = guest(RUNNING, unproven=True)
        change = replace(change_towards(target, guest(RUNNING)), guest=unproven)
        assert postponed(host(unproven), change, "it failed before").action is Action.NO_OP
