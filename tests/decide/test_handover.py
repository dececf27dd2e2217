"""Disks that others keep, and waves that failed: what holds a change back though its own domain is fine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.boot import with_quarantined
from reconciler.model.domain import Policy
from reconciler.model.fleet import Desired, HostSettings
from reconciler.model.host import Host
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import WriteConfig
from reconciler.plan.verify import verify
from tests.worlds import MIB, NEW, change_of, desired, disk, domain, guest, host, kernel, kinds, plan, stopped

SETTINGS = HostSettings(name="alpha", toolstack="simulated", max_unavailable=3)


def targeted(world: Host, wanted: Desired, *targets: str) -> Plan:
    made = build_plan(wanted, {"alpha": world}, Consent(), targets=frozenset(targets))
    verify(made, {"alpha": world}, wanted)
    return made


def test_a_disk_of_a_domain_that_may_not_be_destroyed_is_not_given_to_its_heir() -> None:
    image = disk("/srv/a.img")
    made = plan(host(guest(domain("a", disks=(image,), prevent_destroy=True))), desired(domain("aa", disks=(image,))))
    assert "/srv/a.img is still a disk of a" in (change_of(made, "aa").blocked or "")
    assert made.steps == ()


def test_a_disk_that_a_held_or_deferred_domain_runs_with_is_not_given_away() -> None:
    old, new = disk("/srv/a.img"), disk("/srv/c.img")
    for policy in (Policy(reconcile=False), Policy(restart="defer")):
        world = host(guest(domain("a", disks=(old,))), files=host(guest(domain("x", disks=(old, new)))).files)
        made = plan(world, desired(domain("a", disks=(new,), policy=policy), domain("n", disks=(old,))))
        assert change_of(made, "n").action is Action.BLOCKED


def test_a_disk_of_a_frozen_domain_is_not_given_away() -> None:
    image = disk("/srv/a.img")
    wanted = desired(domain("aa", disks=(image,)), prune=False)
    assert change_of(plan(host(guest(domain("a", disks=(image,)))), wanted), "aa").action is Action.BLOCKED


def test_half_a_swap_is_blocked() -> None:
    one, two = disk("/srv/one"), disk("/srv/two")
    world = host(guest(domain("a", disks=(one,))), guest(domain("b", disks=(two,))))
    wanted = desired(domain("a", disks=(two,)), domain("b", disks=(one,)), settings=SETTINGS)
    made = targeted(world, wanted, "alpha/a")
    assert "/srv/two is still a disk of b" in (change_of(made, "a").blocked or "")


def test_half_a_rename_is_blocked() -> None:
    image = disk("/srv/b.img")
    made = targeted(host(guest(domain("b", disks=(image,)))), desired(domain("bb", disks=(image,))), "alpha/bb")
    assert change_of(made, "bb").action is Action.BLOCKED


def test_higher_waves_wait_while_the_canary_is_quarantined() -> None:
    canary, other = domain("canary", policy=Policy(wave=-1)), domain("other")
    bad = domain("canary", kernel=kernel("canary", NEW), policy=Policy(wave=-1))
    failed = replace(guest(canary), quarantine=with_quarantined(guest(canary), bad, "it panicked"))
    wanted = desired(bad, domain("other", kernel=kernel("other", NEW)), settings=SETTINGS)
    made = plan(host(failed, guest(other)), wanted)
    waiting = change_of(made, "other")
    assert (waiting.action, waiting.waits_for) == (Action.NO_OP, ("wave: alpha/canary",))
    assert waiting.reason == "wave -1 is not through: alpha/canary is quarantined"
    assert made.steps == ()


def test_a_target_whose_dependency_does_not_run_is_blocked_and_no_bug() -> None:
    made = targeted(host(), desired(domain("base"), domain("top", depends_on=("base",))), "alpha/top")
    assert "depends on base, which does not run" in (change_of(made, "top").blocked or "")


def test_a_target_is_not_destroyed_under_a_domain_that_depends_on_it() -> None:
    world = host(guest(domain("base")), guest(domain("top", depends_on=("base",))), guest(domain("z")))
    made = targeted(world, desired(domain("z"), brake=replace(desired().brake, max_destroy=5)), "alpha/base")
    assert change_of(made, "base").blocked == "top depends on it and runs"


@pytest.mark.parametrize("targets", [(), ("alpha/base",)], ids=["all", "targeted"])
def test_a_held_domain_is_not_taken_down_by_the_restart_of_what_it_depends_on(targets: tuple[str, ...]) -> None:
    base, top = domain("base"), domain("top", depends_on=("base",), policy=Policy(reconcile=False))
    wanted = desired(domain("base", maxmem_kib=1024 * MIB), top, settings=SETTINGS)
    made = targeted(host(guest(base), guest(top)), wanted, *targets)
    assert change_of(made, "base").blocked == "top depends on it and may not restart: its spec says reconcile = false"
    assert made.steps == ()


def test_a_first_boot_that_failed_is_quarantined_again_when_its_retry_fails() -> None:
    web = domain("web")
    down = stopped(web)
    failed = replace(down, quarantine=with_quarantined(down, web, "it hung"), config_proven=False)
    made = plan(host(failed), desired(web), Consent(retry=frozenset({"alpha/web"})))
    assert kinds(made, "web") == ["set_quarantine", "start", "await_ready", "promote_config"]
    (way_back,) = made.ways_back
    assert [step.step.kind for step in way_back.steps] == ["set_quarantine", "shutdown"]


def test_what_outlives_the_spec_is_kept_while_a_restart_is_postponed() -> None:
    world = host(guest(domain("web")))
    new = domain("web", kernel=kernel("web", NEW), prevent_destroy=True)
    made = plan(world, desired(new, postponed={"alpha/web": "its restart waits"}))
    assert kinds(made, "web") == ["write_config"]
    (step,) = made.steps
    assert isinstance(step.step, WriteConfig)
    assert step.step.definition == domain("web", prevent_destroy=True)
    assert change_of(made, "web").waits_for == ("a later try",)
    later = desired(domain("web", kernel=kernel("web", NEW)), postponed={"alpha/web": "its restart waits"})
    assert plan(world, later).steps == ()
