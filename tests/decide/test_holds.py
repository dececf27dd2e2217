"""Holds: nothing is begun with a domain, what would be done is told, and what needs it down or ready waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.inspect.status import Condition, Status, judge
from reconciler.model.domain import Policy
from reconciler.model.fleet import HostSettings
from reconciler.model.host import WHOLE_HOST, Hold, Host
from reconciler.plan.plan import Plan, build_plan
from reconciler.watch.conditions import judge_domains
from tests.worlds import MIB, NEW, change_of, desired, domain, guest, host, kernel, plan, stopped, unmanaged

WEB = domain("web")
NEWER = domain("web", kernel=kernel("web", NEW))
MINE = Hold(begins=0, reason="mine")


def held(world: Host, *names: str) -> Host:
    return replace(world, holds=dict.fromkeys(names, MINE))


@pytest.mark.parametrize(
    ("world", "wanted", "would"),
    [
        (host(guest(WEB)), domain("web", memory_kib=300 * MIB), Action.UPDATE),
        (host(guest(WEB)), NEWER, Action.RESTART),
        (host(guest(WEB)), domain("web", state="stopped"), Action.STOP),
        (host(stopped(WEB)), WEB, Action.START),
        (host(), WEB, Action.CREATE),
        (host(guest(WEB)), domain("other"), Action.DESTROY),
        (host(guest(WEB)), domain("web", kernel=kernel("web", NEW), policy=Policy(restart="defer")), Action.RESTART),
    ],
    ids=lambda value: value.value if isinstance(value, Action) else "",
)
@pytest.mark.parametrize("name", ["web", WHOLE_HOST], ids=["domain", "host"])
def test_every_action_waits_and_says_what_it_would_be(world: Host, wanted: object, would: Action, name: str) -> None:
    made = plan(held(world, name), desired(wanted))  # type: ignore[arg-type]  # of parametrize
    change = change_of(made, "web")
    assert (change.action, change.would) == (Action.NO_OP, would)
    assert "hold: mine" in change.waits_for
    assert change.hint == f"reconciler unhold {'alpha/web' if name else 'alpha'}"
    assert not [step for step in made.steps if step.address == "alpha/web"]
    assert change_of(plan(world, desired(wanted)), "web").fields == change.fields  # type: ignore[arg-type]


def test_a_hold_of_one_domain_is_no_other_ones() -> None:
    made = plan(
        held(host(guest(WEB), guest(domain("db"))), "web"), desired(NEWER, domain("db", kernel=kernel("db", NEW)))
    )
    assert change_of(made, "db").action is Action.RESTART


def test_reconcile_false_and_a_hold_are_both_told() -> None:
    made = plan(held(host(guest(WEB)), "web"), desired(replace(NEWER, policy=Policy(reconcile=False))))
    change = change_of(made, "web")
    assert change.waits_for == ("reconcile = true", "hold: mine")
    assert made.steps == ()


def test_what_is_not_ours_stays_blocked_and_what_is_as_specified_tells_of_its_hold() -> None:
    foreign = plan(held(host(unmanaged(WEB)), "web"), desired(WEB))
    assert change_of(foreign, "web").action is Action.BLOCKED
    (status,) = judge(plan(held(host(guest(WEB)), "web"), desired(WEB)), {})
    assert (status.status, status.reason) == (Status.READY, "as specified; held: mine")


def test_status_says_who_holds_it() -> None:
    by = Hold(begins=0, ends=7200, by="ann@desk", reason="disk check")
    (status,) = judge(plan(host(guest(WEB), holds={"web": by}), desired(NEWER)), {})
    assert status.status is Status.DRIFTED
    assert status.reason == "held: disk check, by ann@desk, until 1970-01-01 02:00:00 UTC"
    assert status.hint == "reconciler unhold alpha/web"


def test_a_later_wave_waits_for_it_and_names_the_way_out() -> None:
    later = domain("app", kernel=kernel("app", NEW), policy=Policy(wave=1))
    made = plan(held(host(guest(WEB), guest(domain("app"))), "web"), desired(NEWER, later))
    change = change_of(made, "app")
    assert change.would is Action.RESTART
    assert change.waits_for == ("wave: alpha/web",)
    assert change.hint is not None
    assert "reconciler unhold alpha/web" in change.hint


@pytest.mark.parametrize("targets", [frozenset[str](), frozenset({"alpha/db"})], ids=["all", "the other one"])
def test_it_is_not_taken_down_for_what_it_depends_on(targets: frozenset[str]) -> None:
    app, two = domain("app", depends_on=("db",)), HostSettings(name="alpha", toolstack="simulated", max_unavailable=2)
    wanted = desired(domain("db", kernel=kernel("db", NEW)), app, settings=two)
    world = held(host(guest(domain("db")), guest(app)), "app")
    made = build_plan(wanted, {"alpha": world}, Consent(), targets=targets)
    assert made.steps == ()
    db = change_of(made, "db")
    assert (db.action, db.would) == (Action.BLOCKED, Action.RESTART)
    assert "app depends on it" in str(db.blocked)
    assert "held: mine" in str(db.blocked)


def test_what_was_begun_is_finished() -> None:
    down = stopped(WEB, candidate=NEWER)
    assert change_of(plan(held(host(down), "web"), desired(NEWER)), "web").action is Action.START
    proving = guest(WEB, candidate=NEWER, running=NEWER, unproven=True)
    assert change_of(plan(held(host(proving), WHOLE_HOST), desired(NEWER)), "web").action is Action.UPDATE


def test_who_ignores_holds_ignores_them_and_the_plan_says_so() -> None:
    made = _ignoring(held(host(guest(WEB)), "web", WHOLE_HOST))
    assert change_of(made, "web").action is Action.RESTART
    assert made.ignore_holds


def _ignoring(world: Host) -> Plan:
    return plan(world, desired(NEWER), Consent(ignore_holds=True))


def test_a_command_that_cannot_be_killed_keeps_its_host_and_is_named() -> None:
    """Whoever begins another one there is refused by the host, so nothing is planned."""
    stuck = "alpha/db: xl create db, since 2026-11-30 14:00:00 UTC"
    world = replace(host(guest(WEB), guest(domain("db"))), stuck=(stuck,))
    made = plan(world, desired(NEWER, domain("db")))
    web, db = change_of(made, "web"), change_of(made, "db")
    assert (web.action, web.would, db.action) == (Action.BLOCKED, Action.RESTART, Action.NO_OP)
    assert stuck in (web.blocked or "")
    assert not made.steps
    statuses = {one.address: one for one in judge(made, {})}
    for address in ("alpha/db", "alpha/web"):
        assert statuses[address].status is Status.STALLED, "also where nothing is to be done now"
        assert stuck in statuses[address].reason
    conditions = judge_domains(made, desired(NEWER, domain("db")), {}, (), detect_only=False)
    assert {address: word for address, (word, _) in conditions.items()} == dict.fromkeys(statuses, Condition.STALLED)
