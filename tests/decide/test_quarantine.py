"""Boot inputs that failed are not tried again, and what last worked is brought back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Change, Consent
from reconciler.model.boot import ROLLED_BACK, with_quarantined
from reconciler.model.domain import Domain, Policy, Ready
from reconciler.model.host import Guest
from reconciler.plan.meaning import Replay
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, stopped

GOOD = domain("web")
BAD = domain("web", kernel=kernel("web", NEW))
FAILED = with_quarantined(None, BAD, "it panicked")
RETRY = Consent(retry=frozenset({"alpha/web"}))


def decided(one: Guest, wanted: Domain = BAD, consent: Consent | None = None) -> Change:
    return change_of(plan(host(one), desired(wanted), consent), "web")


def steps(one: Guest, wanted: Domain = BAD, consent: Consent | None = None) -> list[str]:
    return kinds(plan(host(one), desired(wanted), consent), "web")


def test_what_failed_is_blocked_and_the_hint_says_how_it_is_tried_again() -> None:
    change = decided(guest(GOOD, quarantine=FAILED))
    assert change.action is Action.BLOCKED
    assert change.blocked == "its boot inputs are quarantined, since they failed before: it panicked"
    assert "reconciler apply --retry alpha/web" in (change.hint or "")
    assert change.quarantined == FAILED[0]


def test_what_can_be_had_live_is_had_meanwhile() -> None:
    change = decided(guest(GOOD, quarantine=FAILED), replace(BAD, memory_kib=300 * MIB))
    assert change.action is Action.UPDATE
    assert change.target == replace(GOOD, memory_kib=300 * MIB)
    assert [str(pending) for pending in change.pending] == ["kernel is quarantined"]
    assert steps(guest(GOOD, quarantine=FAILED), replace(BAD, memory_kib=300 * MIB)) == ["set_memory", "write_config"]


def test_other_boot_inputs_are_tried() -> None:
    assert decided(guest(GOOD, quarantine=FAILED), replace(BAD, cmdline="single")).action is Action.RESTART


@pytest.mark.parametrize(
    "one",
    [stopped(GOOD, quarantine=FAILED), guest(BAD, config=GOOD, candidate=BAD, unproven=True, quarantine=FAILED)],
    ids=["down", "runs what failed"],
)
def test_what_else_changed_comes_once_it_is_back(one: Guest) -> None:
    world, wanted = host(one), desired(replace(BAD, memory_kib=300 * MIB))
    back = plan(world, wanted)
    assert change_of(back, "web").target == GOOD
    replay = Replay(world)
    for step in back.steps:
        replay.apply(step.step)
    after = change_of(plan(replay.host(), wanted), "web")
    assert (after.action, after.target) == (Action.UPDATE, replace(GOOD, memory_kib=300 * MIB))


def test_a_domain_that_is_down_is_brought_back_as_it_last_worked() -> None:
    change = decided(stopped(GOOD, quarantine=FAILED))
    assert (change.action, change.target) == (Action.START, GOOD)
    assert change.reason.startswith("it does not run, and its boot inputs are quarantined")
    assert steps(stopped(GOOD, quarantine=FAILED)) == ["start", "await_ready"]


def test_it_is_ready_by_the_signs_of_what_it_boots() -> None:
    old = replace(GOOD, policy=Policy(ready=Ready(tcp="web:1")))
    change = decided(stopped(old, quarantine=FAILED), replace(BAD, policy=Policy(ready=Ready(tcp="web:2"), wave=3)))
    assert change.target is not None
    assert change.target.policy == Policy(ready=Ready(tcp="web:1"), wave=3)


def test_what_failed_and_runs_all_the_same_is_restarted_as_it_last_worked() -> None:
    cut_short = guest(BAD, config=GOOD, candidate=BAD, unproven=True, quarantine=FAILED)
    change = decided(cut_short)
    assert (change.action, change.target) == (Action.RESTART, GOOD)
    assert "it runs what did not get ready" in change.reason


def test_a_first_boot_that_failed_leads_only_down() -> None:
    first = guest(BAD, config_proven=False, unproven=True, quarantine=FAILED)
    change = decided(first)
    assert change.action is Action.STOP
    assert steps(first)[0] == "shutdown"
    assert "start" not in steps(first)


def test_a_domain_that_has_never_worked_and_is_down_stays_down() -> None:
    assert decided(stopped(BAD, config_proven=False, quarantine=FAILED)).action is Action.BLOCKED


def test_what_is_to_be_stopped_needs_no_boot() -> None:
    down = replace(BAD, state="stopped")
    assert decided(guest(GOOD, quarantine=FAILED), down).action is Action.STOP


def test_a_retry_lifts_the_quarantine_before_anything_else() -> None:
    change = decided(guest(GOOD, quarantine=FAILED), consent=RETRY)
    assert (change.action, change.quarantine) == (Action.RESTART, ())
    assert steps(guest(GOOD, quarantine=FAILED), consent=RETRY)[0] == "set_quarantine"


def test_a_retry_of_one_domain_is_none_of_another() -> None:
    other = Consent(retry=frozenset({"alpha/db"}))
    assert decided(guest(GOOD, quarantine=FAILED), consent=other).action is Action.BLOCKED


def test_what_a_rollback_left_is_said_to_be_that() -> None:
    left = guest(GOOD, quarantine=with_quarantined(None, BAD, ROLLED_BACK))
    assert decided(left).blocked == f"its boot inputs are quarantined: {ROLLED_BACK}"
