"""The steps of one change: prepared while the old domain runs, down for a short time, proven before the old goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Consent
from reconciler.model.boot import with_quarantined
from reconciler.model.domain import Domain, Policy, Ready
from reconciler.model.host import Guest, Host
from reconciler.plan.steps import AwaitReady, GrowDisk, PromoteConfig, Shutdown, Start, Step, SweepImages, WriteConfig
from tests.worlds import MIB, NEW, desired, disk, domain, guest, host, kernel, kinds, plan, stopped, unmanaged, vif

OLD, CHANGED = domain("web"), domain("web", kernel=kernel("web", NEW))


def steps(world: Host, wanted: Domain, consent: Consent | None = None) -> list[Step]:
    return [step.step for step in plan(world, desired(wanted), consent).steps]


def way_back(one: Guest, wanted: Domain, consent: Consent | None = None) -> list[Step]:
    """The steps of the only way back of a plan; [] when it has none."""
    ways = plan(host(one), desired(wanted), consent).ways_back
    assert len(ways) < 2
    return [planned.step for way in ways for planned in way.steps]


def kinds_of(found: list[Step]) -> list[str]:
    return [step.kind for step in found]


class TestRestart:
    def test_all_that_may_fail_is_done_while_the_old_one_runs(self) -> None:
        more = disk("/srv/more", 51728)
        wanted = replace(CHANGED, disks=(more,), autostart=3)
        made = steps(host(guest(OLD)), wanted)
        assert kinds_of(made) == [
            "stage_image",
            "create_disk",
            "write_config",
            "shutdown",
            "start",
            "await_ready",
            "promote_config",
            "set_autostart",
            "sweep_images",
        ]

    def test_it_starts_from_a_candidate_that_is_promoted_when_it_is_ready(self) -> None:
        made = steps(host(guest(OLD)), CHANGED)
        assert [step.candidate for step in made if isinstance(step, WriteConfig | Start)] == [True, True]
        assert [step.replaces_previous for step in made if isinstance(step, PromoteConfig)] == [True]

    def test_what_boots_the_same_is_nothing_to_roll_back_to(self) -> None:
        made = steps(host(guest(OLD)), replace(OLD, maxmem_kib=1024 * MIB))
        assert [step.replaces_previous for step in made if isinstance(step, PromoteConfig)] == [False]

    def test_the_images_of_what_it_boots_and_of_what_it_booted_before_stay(self) -> None:
        made = steps(host(guest(OLD)), CHANGED)
        assert [set(step.keep) for step in made if isinstance(step, SweepImages)] == [
            {image.path for one in (OLD, CHANGED) for image in one.images}
        ]

    def test_how_long_it_may_take_to_go_down_is_what_the_spec_says_now(self) -> None:
        wanted = replace(CHANGED, shutdown_timeout_seconds=7, on_shutdown_timeout="destroy")
        made = steps(host(guest(replace(OLD, shutdown_timeout_seconds=300))), wanted)
        assert [(step.timeout_seconds, step.on_timeout) for step in made if isinstance(step, Shutdown)] == [
            (7, "destroy")
        ]


class TestStart:
    def test_a_first_boot_is_proven_without_a_candidate(self) -> None:
        made = steps(host(), OLD)
        assert [step.candidate for step in made if isinstance(step, Start)] == [False]
        assert [step.first_boot for step in made if isinstance(step, PromoteConfig)] == [True]

    def test_what_stopped_by_itself_is_started_as_it_was(self) -> None:
        assert kinds_of(steps(host(stopped(OLD)), OLD)) == ["start", "await_ready"]

    def test_a_kernel_that_came_while_it_was_down_has_to_prove_itself(self) -> None:
        made = steps(host(stopped(OLD)), CHANGED)
        assert [step.candidate for step in made if isinstance(step, WriteConfig | Start)] == [True, True]

    @pytest.mark.parametrize("attached", [False, True])
    def test_a_disk_grows_before_its_domain_starts_and_under_one_that_runs(self, attached: bool) -> None:
        small, large = disk("/srv/web"), disk("/srv/web", size_bytes=8192)
        one = guest(replace(OLD, disks=(small,))) if attached else stopped(replace(OLD, disks=(small,)))
        made = steps(host(one), replace(OLD, disks=(large,)))
        assert kinds_of(made) == ["grow_disk", *([] if attached else ["start", "await_ready"])]
        assert [step.attached for step in made if isinstance(step, GrowDisk)] == [attached]


class TestStopped:
    def test_what_is_to_stay_down_gets_its_definition_and_never_starts(self) -> None:
        down = replace(OLD, state="stopped", autostart=3)
        assert kinds_of(steps(host(), down)) == ["stage_image", "write_config", "set_autostart"]

    def test_other_boot_inputs_wait_beside_the_proven_ones(self) -> None:
        """A dom0 that boots starts what has worked."""
        down = replace(OLD, state="stopped")
        made = steps(host(stopped(down)), replace(CHANGED, state="stopped"))
        assert [step.candidate for step in made if isinstance(step, WriteConfig)] == [True]

    def test_but_what_must_outlive_the_spec_is_written_into_the_proven_one(self) -> None:
        down = replace(OLD, state="stopped")
        made = steps(host(stopped(down)), replace(CHANGED, state="stopped", prevent_destroy=True))
        written = [step for step in made if isinstance(step, WriteConfig)]
        assert [step.candidate for step in written] == [False, True]
        assert written[0].definition == replace(down, prevent_destroy=True)


class TestLive:
    def test_memory_comes_last_before_the_file_since_a_balloon_may_refuse(self) -> None:
        wanted = replace(
            OLD,
            disks=(disk("/srv/more"),),
            vifs=(vif("00:16:3e:00:00:01"),),
            vcpus=2,
            cap=50,
            memory_kib=300 * MIB,
            autostart=3,
        )
        assert kinds_of(steps(host(guest(OLD)), wanted)) == [
            "create_disk",
            "attach_disk",
            "attach_vif",
            "set_vcpus",
            "set_scheduler",
            "set_memory",
            "write_config",
            "set_autostart",
        ]

    def test_what_runs_unproven_is_awaited_before_it_is_changed(self) -> None:
        one = guest(CHANGED, config=OLD, candidate=CHANGED, unproven=True)
        made = kinds_of(steps(host(one), replace(CHANGED, memory_kib=300 * MIB)))
        assert made.index("promote_config") < made.index("set_memory")

    def test_adopting_writes_our_file_and_touches_nothing_that_runs(self) -> None:
        made = steps(host(unmanaged(OLD)), OLD, Consent(adopt=frozenset({"alpha/web"})))
        assert kinds_of(made) == ["write_config"]
        assert [step.adopt for step in made if isinstance(step, WriteConfig)] == [True]


class TestDestroy:
    def gone(self, one: Guest) -> list[str]:
        return kinds(plan(host(one), desired(domain("other"))), "web")

    def test_the_file_that_says_it_is_ours_goes_last(self) -> None:
        image = disk("/srv/web", on_delete="delete")
        of_running = self.gone(guest(replace(OLD, disks=(image,), autostart=3)))
        assert of_running == ["shutdown", "set_autostart", "sweep_images", "delete_disk", "remove_config"]
        assert self.gone(stopped(OLD)) == ["sweep_images", "remove_config"]

    def test_a_disk_stays_unless_its_spec_said_otherwise(self) -> None:
        assert "delete_disk" not in self.gone(guest(replace(OLD, disks=(disk("/srv/web"),))))


class TestWayBack:
    def test_the_failed_boot_is_remembered_first_and_then_the_old_one_is_started(self) -> None:
        back = way_back(guest(OLD), CHANGED)
        assert kinds_of(back) == ["set_quarantine", "shutdown", "start", "await_ready"]
        assert [step.definition for step in back if isinstance(step, Start)] == [OLD]

    def test_it_is_ready_by_the_signs_of_its_own_time(self) -> None:
        old = replace(OLD, policy=Policy(ready=Ready(tcp="web:1")))
        back = way_back(guest(old), replace(CHANGED, policy=Policy(ready=Ready(tcp="web:2"))))
        assert [step.ready.tcp for step in back if isinstance(step, AwaitReady)] == ["web:1"]

    def test_a_first_boot_leads_only_down(self) -> None:
        (way,) = plan(host(), desired(OLD)).ways_back
        assert [planned.step.kind for planned in way.steps] == ["set_quarantine", "shutdown"]

    def test_what_failed_before_is_not_gone_back_to(self) -> None:
        failed = guest(OLD, quarantine=with_quarantined(None, OLD, "it panicked"))
        assert "start" not in kinds_of(way_back(failed, CHANGED))

    def test_what_was_stopped_is_not_started(self) -> None:
        assert kinds_of(way_back(stopped(replace(OLD, state="stopped")), CHANGED)) == ["set_quarantine", "shutdown"]

    def test_one_that_starts_as_it_was_has_nothing_to_fall_back_to(self) -> None:
        assert way_back(stopped(OLD), OLD) == []
        assert way_back(guest(OLD), replace(OLD, memory_kib=300 * MIB)) == []

    def test_who_only_goes_down_with_another_just_starts_again(self) -> None:
        top = domain("top", depends_on=("web",))
        wanted = desired(CHANGED, top)
        two = replace(wanted.hosts["alpha"], settings=replace(wanted.hosts["alpha"].settings, max_unavailable=2))
        made = plan(host(guest(OLD), guest(top)), replace(wanted, hosts={"alpha": two}))
        ways = {way.address: [planned.step.kind for planned in way.steps] for way in made.ways_back}
        assert ways["alpha/top"] == ["start", "await_ready"]
