"""What can hold a change back is judged in one order, and all that hold are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Brake, Desired, HostSettings
from reconciler.model.host import Hold, Host, Power
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, unmanaged

CANARY = Policy(wave=-1)
AUTO, LATER = Policy(), Policy(restart="defer")
DEFERRED = Policy(wave=-1, restart="defer")
SETTINGS = HostSettings(name="alpha", toolstack="simulated", max_unavailable=9)
HELD = {"web": Hold(begins=0, reason="mine")}


def new(name: str, policy: Policy = AUTO, **changes: object) -> Domain:
    return domain(name, kernel=kernel(name, NEW), policy=policy, **changes)


def wanted(*domains: Domain, **changes: object) -> Desired:
    return desired(*domains, settings=SETTINGS, **changes)


@pytest.fixture
def world() -> Host:
    return host(guest(domain("canary", policy=CANARY)), guest(domain("web")), guest(domain("db")))


@pytest.mark.parametrize("grows", [False, True])
def test_a_deferred_restart_tells_the_wave_too(world: Host, *, grows: bool) -> None:
    memory_kib = (512 if grows else 256) * MIB
    web = new("web", LATER, memory_kib=memory_kib)
    change = change_of(plan(world, wanted(new("canary", DEFERRED), web, domain("db"))), "web")
    assert change.waits_for == ("restart: defer", "wave: alpha/canary")
    assert (change.action, change.would) == (Action.UPDATE if grows else Action.NO_OP, Action.RESTART)


def test_a_hold_is_told_before_what_is_judged_later(world: Host) -> None:
    made = wanted(new("canary", DEFERRED), new("web", LATER), domain("db"))
    change = change_of(plan(replace(world, holds=HELD), made), "web")
    assert change.waits_for == ("hold: mine", "restart: defer", "wave: alpha/canary")


def test_reconcile_false_comes_first_and_is_out_of_its_wave(world: Host) -> None:
    policy = Policy(restart="defer", reconcile=False)
    there = replace(world, guests={**world.guests, "web": guest(domain("web", policy=policy))}, holds=HELD)
    change = change_of(plan(there, wanted(new("canary", DEFERRED), new("web", policy), domain("db"))), "web")
    assert change.waits_for == ("reconcile = true", "hold: mine", "restart: defer")


def test_a_domain_that_is_blocked_tells_the_wave_too(world: Host) -> None:
    settings = replace(SETTINGS, overcommit_vcpus=False)
    made = desired(new("canary", DEFERRED), new("web", vcpus=9, maxvcpus=9), domain("db"), settings=settings)
    change = change_of(plan(world, made), "web")
    assert (change.action, change.waits_for) == (Action.BLOCKED, ("wave: alpha/canary",))


class TestTheBrake:
    """It holds what is judged after it too, and counts what the run would do."""

    def test_what_waits_anyway_is_refused_with_the_run_and_tells_both(self, world: Host) -> None:
        web, db = new("web", LATER), new("db", policy=Policy(wave=1))
        gone = {"gone": guest(domain("gone"))}
        there = replace(world, guests={**world.guests, **gone})
        made = plan(there, wanted(new("canary", DEFERRED), web, db, brake=Brake(max_destroy=0)))
        for name, waits_for in {
            "gone": (),
            "canary": ("restart: defer",),
            "web": ("restart: defer", "wave: alpha/canary"),
            "db": ("wave: alpha/canary",),
        }.items():
            change = change_of(made, name)
            assert (change.action, change.blocked) == (Action.BLOCKED, "held by the brake")
            assert change.would is (Action.DESTROY if name == "gone" else Action.RESTART)
            assert change.waits_for == waits_for
        assert made.steps == ()

    def test_what_is_judged_before_it_stays_as_it_is(self, world: Host) -> None:
        there = replace(world, guests={**world.guests, "gone": guest(domain("gone"))}, holds=HELD)
        made = plan(
            there, wanted(domain("canary", policy=CANARY), new("web"), domain("db"), brake=Brake(max_destroy=0))
        )
        change = change_of(made, "web")
        assert (change.action, change.blocked, change.waits_for) == (Action.NO_OP, None, ("hold: mine",))

    def test_it_counts_no_restart_that_waits(self, world: Host) -> None:
        made = wanted(new("canary", DEFERRED), new("web"), new("db", LATER), brake=Brake(max_restart=1))
        assert plan(world, made).brakes == ()
        asked = Consent(restart=frozenset({"alpha/canary"}))
        (brake,) = plan(world, made, asked).brakes
        assert (brake.counted, brake.allowed) == (2, 1)


class TestACanaryIsBehind:
    """Its kernel is new, and this run does not restart it."""

    def held(self, there: Host, canary: Domain, consent: Consent | None = None) -> str:
        made = plan(there, wanted(canary, new("web"), domain("db")), consent)
        assert kinds(made, "web") == []
        change = change_of(made, "web")
        assert (change.would, change.waits_for) == (Action.RESTART, ("wave: alpha/canary",))
        return f"{change.reason} {change.hint}"

    def test_paused(self, world: Host) -> None:
        paused = guest(domain("canary", policy=CANARY), power=Power.PAUSED)
        there = replace(world, guests={**world.guests, "canary": paused})
        assert "xl unpause canary" in self.held(there, new("canary", CANARY))

    def test_unpaused_by_this_run_and_deferred(self, world: Host) -> None:
        paused = guest(domain("canary", policy=CANARY), power=Power.PAUSED)
        there = replace(world, guests={**world.guests, "canary": paused})
        consent = Consent(unpause=frozenset({"alpha/canary"}))
        assert "is deferred" in self.held(there, new("canary", DEFERRED), consent)

    def test_taken_over_by_this_run(self, world: Host) -> None:
        there = replace(world, guests={**world.guests, "canary": unmanaged(domain("canary"))})
        consent = Consent(adopt=frozenset({"alpha/canary"}))
        assert "taken over first" in self.held(there, new("canary", CANARY), consent)
