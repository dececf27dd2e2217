"""What makes a plan stale: all of our domains, and of the others what they take from ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.decide.changes import Consent
from reconciler.model.domain import Domain
from reconciler.model.host import Guest, Power
from reconciler.plan.stale import base_of, moved
from tests.worlds import MIB, desired, disk, domain, guest, host, plan, unmanaged, vif

LEGACY = domain("legacy", disks=(disk("/srv/legacy.img"),), vifs=(vif("00:16:3e:00:00:01"),))


def differences(before: Guest, after: Guest) -> tuple[str, ...]:
    """What moved for a plan that has nothing to do with this guest, but lies on its host."""
    ours = guest(domain("web"))
    made = plan(host(ours, before), desired(domain("web", memory_kib=300 * MIB)))
    return moved(made.base["alpha"], base_of(replace(host(ours, after), files=host(ours, before).files), ()))


def changed(**changes: Any) -> Domain:
    return replace(LEGACY, **changes)


@pytest.mark.parametrize(
    "after",
    [
        unmanaged(LEGACY, power=Power.PAUSED),
        unmanaged(LEGACY, power=Power.CRASHED),
        unmanaged(LEGACY, actual_kib=4 * MIB),
        unmanaged(LEGACY, autostart=3),
        unmanaged(changed(vcpus=2)),
        unmanaged(changed(cpu_weight=512, cap=50, cpus="0")),
        unmanaged(changed(on_crash="preserve", cmdline="single")),
        unmanaged(changed(vifs=(vif("00:16:3e:00:00:01", bridge="other"),))),
    ],
    ids=["paused", "crashed", "ballooning", "autostart", "vcpus", "scheduling", "boot", "bridge"],
)
def test_what_others_do_with_their_own_domains_moves_no_plan(after: Guest) -> None:
    assert differences(unmanaged(LEGACY), after) == ()


def test_of_our_own_domains_all_counts() -> None:
    assert differences(guest(LEGACY), guest(changed(vcpus=2))) == ("domain legacy",)
    assert differences(guest(LEGACY), guest(LEGACY, power=Power.CRASHED)) == ("domain legacy",)


@pytest.mark.parametrize(
    "after",
    [
        unmanaged(changed(uuid="another")),
        unmanaged(changed(memory_kib=512 * MIB)),
        unmanaged(changed(maxvcpus=4)),
        unmanaged(changed(disks=())),
        unmanaged(changed(disks=(disk("/srv/legacy.img", access="ro"),))),
        unmanaged(changed(vifs=(vif("00:16:3e:00:00:02"),))),
        unmanaged(LEGACY, running=None, power=Power.ABSENT),
        unmanaged(LEGACY, config_exists=True),
        unmanaged(LEGACY, name="other"),
    ],
    ids=["uuid", "memory", "overhead", "disk", "access", "mac", "gone", "config file", "name"],
)
def test_what_others_take_from_ours_does(after: Guest) -> None:
    assert "domain legacy" in differences(unmanaged(LEGACY), after)


def test_of_a_domain_that_is_to_be_adopted_all_counts() -> None:
    consent = Consent(adopt=frozenset({"alpha/legacy"}))
    before = host(unmanaged(LEGACY))
    made = plan(before, desired(LEGACY), consent)
    assert made.steps
    after = host(unmanaged(changed(vcpus=2)))
    assert moved(made.base["alpha"], base_of(after, {"legacy"})) == ("domain legacy",)
