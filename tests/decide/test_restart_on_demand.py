"""`apply --restart ADDRESS` of a domain that is as its spec says, or almost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Policy
from reconciler.model.host import Guest, Hold, Power
from reconciler.plan.plan import Plan
from tests import worlds
from tests.worlds import desired, domain, guest, host

ASKED = Consent(restart=frozenset({"alpha/web"}))


def plan(there: Guest, wanted: Domain, consent: Consent = ASKED) -> Plan:
    return worlds.plan(host(there), desired(wanted), consent)


def test_a_domain_as_specified_restarts_when_somebody_asks_and_else_not() -> None:
    wanted = domain("web")
    (change,) = plan(guest(wanted), wanted).changes
    assert (change.action, change.reason, change.fields) == (Action.RESTART, "a restart was asked for", ())
    assert change.downtime_seconds is None
    assert [step.step.kind for step in plan(guest(wanted), wanted).steps] == ["shutdown", "start", "await_ready"]
    assert plan(guest(wanted), wanted, Consent()).steps == ()


def test_what_else_could_be_done_live_is_done_by_the_restart() -> None:
    wanted = domain("web", memory_kib=domain("web").memory_kib // 2)
    (change,) = plan(guest(domain("web")), wanted).changes
    assert (change.action, [field.path for field in change.fields]) == (Action.RESTART, ["memory"])


def test_what_waits_for_the_next_start_has_it() -> None:
    lower = replace(domain("web"), memory_kib=domain("web").memory_kib // 2, maxmem_kib=domain("web").maxmem_kib // 2)
    (before,) = plan(guest(domain("web")), lower, Consent()).changes
    (change,) = plan(guest(domain("web")), lower).changes
    assert (before.action, len(before.pending)) == (Action.UPDATE, 1)
    assert (change.action, change.pending) == (Action.RESTART, ())


@pytest.mark.parametrize("power", [Power.ABSENT, Power.PAUSED])
def test_one_that_does_not_run_is_started_or_goes_on_and_no_more(power: Power) -> None:
    wanted = domain("web")
    seen = guest(wanted)
    (change,) = plan(replace(seen, power=power, running=seen.running if power.holds else None), wanted).changes
    assert change.action is (Action.UPDATE if power.holds else Action.START)


def test_a_hold_holds_it_like_any_other() -> None:
    wanted = domain("web")
    held = host(guest(wanted), holds={"web": Hold(begins=0, reason="mine")})
    made = worlds.plan(held, desired(wanted), ASKED)
    assert (made.changes[0].action, made.changes[0].would) == (Action.NO_OP, Action.RESTART)
    assert made.steps == ()


def test_one_that_a_lower_wave_holds_leaves_what_would_be_done_had_nobody_asked() -> None:
    first = domain("db", policy=Policy(wave=-1))
    wide = domain("web", policy=Policy(wave=1))
    lower = replace(wide, memory_kib=wide.memory_kib // 2, maxmem_kib=wide.maxmem_kib // 2)
    seen = host(guest(first, power=Power.REBOOTING), guest(wide))
    made = worlds.plan(seen, desired(first, lower), ASKED)
    change = worlds.change_of(made, "web")
    assert (change.action, change.would) == (Action.UPDATE, Action.RESTART)
    assert worlds.kinds(made, "web") == ["set_memory", "write_config"]
