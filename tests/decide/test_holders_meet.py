"""Two rules that hold changes meet: what the law of `tests/laws/test_holders_meet.py` has found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Brake, HostSettings
from tests.worlds import NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, vif

ROOMY = HostSettings(name="alpha", toolstack="simulated", max_unavailable=5)


@pytest.mark.timeout(60)
def test_a_domain_that_the_brake_holds_and_that_waits_for_a_mac_is_decided_in_the_end() -> None:
    """`b` goes down with `a`, and wants what `d` keeps: the brake holds it, and so does the hand-over."""
    macs = {name: f"00:16:3e:00:00:0{at}" for at, name in enumerate("abd")}

    def made(name: str, mac: str, **changes: object) -> Domain:
        return domain(name, vifs=(vif(macs[mac]),), **changes)

    world = host(*map(guest, (made("a", "a"), made("b", "b", depends_on=("a",)), made("d", "d"))))
    wanted = desired(
        made("a", "a", kernel=kernel("a", NEW)),
        made("b", "d", kernel=kernel("b", NEW), depends_on=("a",)),
        made("d", "d", kernel=kernel("d", NEW)),
        settings=ROOMY,
        brake=Brake(max_restart=0),
        postponed={"alpha/d": "failed: no loop device"},
    )
    found = plan(world, wanted)
    assert found.steps == ()
    assert [change_of(found, name).action for name in "ab"] == [Action.BLOCKED, Action.BLOCKED]


def test_who_depends_on_a_frozen_domain_stays_in_its_own_wave() -> None:
    """What is frozen counts in the wave that its mark recorded, also for those that depend on it."""
    low = Policy(wave=-1)
    there = [domain("a", policy=low), domain("b", policy=low, depends_on=("a",)), domain("web")]
    wanted = desired(
        replace(there[1], kernel=kernel("b", NEW)),
        replace(there[2], kernel=kernel("web", NEW)),
        settings=ROOMY,
        frozen=frozenset({"alpha/a"}),
        prune=False,
    )
    found = plan(host(*map(guest, there)), wanted)
    assert change_of(found, "b").wave == -1
    assert "shutdown" in kinds(found, "b")
    assert change_of(found, "web").waits_for == ("wave: alpha/a",)
