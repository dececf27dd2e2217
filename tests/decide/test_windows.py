"""Windows: when they are open, over summer time and month ends, and what waits for one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.decide.windows import Shut, is_open
from reconciler.inspect.status import Status, judge
from reconciler.model.boot import with_quarantined
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Desired, Window
from reconciler.model.host import Host
from tests.worlds import NEW, change_of, desired, domain, guest, host, kernel, kinds, plan, stopped

HOUR = 3600
NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)  # a Tuesday


def window(schedule: str, hours: float = 1, kind: Literal["allow", "deny"] = "allow", **changes: Any) -> Window:
    return replace(Window(kind=kind, schedule=schedule, duration_seconds=hours * HOUR), **changes)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "hours", "zone", "moment", "expected"),
    [
        ("0 2 * * *", 1, "UTC", "2026-12-01T02:00", True),  # its first moment
        ("0 2 * * *", 1, "UTC", "2026-12-01T02:59:59", True),
        ("0 2 * * *", 1, "UTC", "2026-12-01T03:00", False),  # the first that is no longer in it
        ("0 2 * * *", 1, "UTC", "2026-12-01T01:59:59", False),
        ("0 22 * * *", 4, "UTC", "2026-12-02T01:30", True),  # over midnight
        ("0 22 * * SAT", 48, "UTC", "2026-12-07T21:59", True),  # over a weekend
        ("0 22 29-31 * *", 6, "UTC", "2027-03-01T01:00", False),  # February has no 29th then ...
        ("0 22 29-31 * *", 6, "UTC", "2028-03-01T01:00", True),  # ... and then it has
        ("0 22 L * *", 6, "UTC", "2027-03-01T01:00", True),  # the last of every month
        ("0 22 31 * *", 6, "UTC", "2026-12-01T01:00", False),  # November has 30 days
        ("30 2 * * *", 1, "Europe/Berlin", "2026-03-29T01:00", True),  # half past two does not come: 03:00 instead
        ("30 2 * * *", 1, "Europe/Berlin", "2026-03-29T00:59", False),
        ("30 2 * * *", 1, "Europe/Berlin", "2026-10-25T00:30", True),  # half past two comes twice: the first counts
        ("30 2 * * *", 1, "Europe/Berlin", "2026-10-25T01:29", True),
        ("30 2 * * *", 1, "Europe/Berlin", "2026-10-25T01:30", False),
        ("30 2 * * *", 2, "Europe/Berlin", "2026-10-25T01:10", True),  # 02:10 for the second time
        ("0 * * * *", 0.5, "Europe/Berlin", "2026-10-25T01:10", True),  # each hour is each hour that goes by
        ("0 0 * * *", 1, "America/St_Johns", "2026-12-01T03:30", True),  # an odd offset
        ("0 0 29 2 *", 24, "UTC", "2028-02-29T12:00", True),
    ],
)
def test_a_window_is_open_from_its_moment_for_its_duration(
    schedule: str, hours: float, zone: str, moment: str, expected: bool
) -> None:
    assert is_open(window(schedule, hours, timezone=zone), utc(moment)) is expected


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([window("0 2 * * *")], "2026-12-02T02:00"),
        ([window("0 2 * * *"), window("0 23 * * *")], "2026-12-01T23:00"),  # whichever comes first
        ([window("0 23 * * *"), window("0 22 1 12 *", 3, "deny")], "2026-12-02T23:00"),  # all of it is denied
        ([window("0 23 * * *", 4), window("0 22 1 12 *", 3, "deny")], "2026-12-02T01:00"),  # the end of it is not
        ([window("0 8 * * MON-FRI", 10, "deny")], "2026-12-01T18:00"),  # no allow: at any other time
        ([window("0 10 * * *", 4, "deny"), window("0 13 * * *", 4, "deny")], "2026-12-01T17:00"),  # two that overlap
    ],
)
def test_it_is_told_when_all_lets_it_happen(windows: list[Window], expected: str) -> None:
    wait = Shut(windows, NOON).wait("alpha/web", "restart")
    assert wait is not None
    assert wait.opens == utc(expected)
    assert Shut(windows, utc(expected)).wait("alpha/web", "restart") is None


def test_windows_that_leave_no_moment_are_told_and_end() -> None:
    never = [window("0 2 * * *"), window("0 * * * *", 1, "deny", reason="freeze")]
    wait = Shut(never, NOON).wait("alpha/web", "restart")
    assert wait is not None
    assert wait.told == "window: freeze, and nobody can tell when it opens"


@pytest.mark.parametrize(
    ("part", "address", "waits"),
    [
        ({"domains": ("alpha/*",)}, "alpha/web", True),
        ({"domains": ("alpha/*",)}, "beta/web", False),
        ({"domains": ("web*",)}, "beta/web2", True),
        ({"domains": ("web",)}, "beta/web2", False),
        ({"domains": ("*/db", "alpha/web")}, "alpha/web", True),
        ({"host": "alpha"}, "alpha/web", True),
        ({"host": "alpha"}, "beta/web", False),
        ({"actions": ("destroy",)}, "alpha/web", False),
    ],
)
def test_a_window_is_about_what_it_names(part: dict[str, Any], address: str, waits: bool) -> None:
    shut = Shut([window("0 2 * * *", **part)], NOON)
    assert (shut.wait(address, "restart") is not None) is waits


# -- what waits -------------------------------------------------------------------------------------------------------

NIGHTS = window("0 2 * * *", reason="nights", timezone="Europe/Berlin")
TOLD = "window: nights, opens 2026-12-02 02:00 Europe/Berlin (2026-12-02 01:00 UTC)"


def wanted(*domains: Domain, window: Window = NIGHTS, **changes: Any) -> Desired:
    return desired(*domains, **{"windows": (window,), "at": NOON, **changes})


def updated(name: str = "web", **changes: Any) -> Domain:
    return domain(name, kernel=kernel(name, NEW), **changes)


def test_a_restart_waits_and_what_can_be_done_live_is_done() -> None:
    made = plan(host(guest(domain("web"))), wanted(updated(memory_kib=128 * 1024)))
    change = change_of(made, "web")
    assert (change.action, change.would) == (Action.UPDATE, Action.RESTART)
    assert change.waits_for == (TOLD,)
    assert [field.path for field in change.fields] == ["memory"]
    assert [pending.field.path for pending in change.pending] == ["kernel"]
    assert kinds(made, "web") == ["set_memory", "write_config"]


def test_a_restart_with_nothing_live_is_shown_with_its_fields() -> None:
    change = change_of(plan(host(guest(domain("web"))), wanted(updated())), "web")
    assert (change.action, change.would, change.waits_for) == (Action.NO_OP, Action.RESTART, (TOLD,))
    assert [field.path for field in change.fields] == ["kernel"]
    assert change.hint == "to do it now all the same: reconciler apply --ignore-windows --target alpha/web"


def test_inside_its_window_it_goes_on() -> None:
    made = plan(host(guest(domain("web"))), wanted(updated(), at=utc("2026-12-02T01:00")))
    assert change_of(made, "web").action is Action.RESTART


def test_no_windows_are_judged_for_who_ignores_them() -> None:
    made = plan(host(guest(domain("web"))), wanted(updated(), at=None))
    assert change_of(made, "web").action is Action.RESTART


def test_a_destroy_waits() -> None:
    change = change_of(plan(host(guest(domain("web")), guest(domain("db"))), wanted(domain("db"))), "web")
    assert (change.action, change.would, change.waits_for) == (Action.NO_OP, Action.DESTROY, (TOLD,))


def test_repairs_wait_only_where_start_is_named() -> None:
    world = host(stopped(domain("web")))
    assert change_of(plan(world, wanted(domain("web"))), "web").action is Action.START
    named = replace(NIGHTS, actions=("start",))
    change = change_of(plan(world, wanted(domain("web"), window=named)), "web")
    assert (change.action, change.would, change.waits_for) == (Action.NO_OP, Action.START, (TOLD,))


@pytest.mark.parametrize(
    ("action", "world", "asked"),
    [
        ("create", host(), domain("web")),
        ("stop", host(guest(domain("web"))), domain("web", state="stopped")),
        ("update", host(guest(domain("web"))), domain("web", memory_kib=128 * 1024)),
    ],
)
def test_each_action_waits_where_it_is_named(action: str, world: Host, asked: Domain) -> None:
    assert change_of(plan(world, wanted(asked)), "web").action == action
    change = change_of(plan(world, wanted(asked, window=replace(NIGHTS, actions=(action,)))), "web")
    assert (change.action, change.would, change.waits_for) == (Action.NO_OP, action, (TOLD,))


def test_of_a_restart_that_waits_what_is_live_waits_for_its_own_window() -> None:
    both = replace(NIGHTS, actions=("restart", "update"))
    change = change_of(plan(host(guest(domain("web"))), wanted(updated(memory_kib=128 * 1024), window=both)), "web")
    assert (change.action, change.would) == (Action.NO_OP, Action.RESTART)


def test_what_is_begun_is_finished() -> None:
    started = replace(NIGHTS, actions=("start", "restart"))
    half = stopped(domain("web"), candidate=updated())
    assert change_of(plan(host(half), wanted(updated(), window=started)), "web").action is Action.START


def test_a_rollback_is_held_by_no_window() -> None:
    rolled = guest(updated(), previous=domain("web"))
    consent = Consent(rollback=frozenset({"alpha/web"}))
    change = change_of(plan(host(rolled), wanted(updated()), consent), "web")
    assert TOLD not in change.waits_for


def test_a_domain_that_no_window_lets_go_down_holds_up_what_it_depends_on() -> None:
    db, web = updated("db"), domain("web", depends_on=("db",))
    only_web = replace(NIGHTS, domains=("web",))
    made = plan(host(guest(domain("db")), guest(web)), wanted(db, web, window=only_web))
    change = change_of(made, "db")
    assert change.would is Action.RESTART
    assert not made.steps
    assert TOLD in (change.blocked or "")


def test_a_later_wave_waits_for_one_that_waits_for_its_window() -> None:
    db, web = updated("db", policy=Policy(wave=0)), updated("web", policy=Policy(wave=1))
    only_db = replace(NIGHTS, domains=("db",))
    made = plan(host(guest(domain("db")), guest(domain("web"))), wanted(db, web, window=only_db))
    assert change_of(made, "web").would is Action.RESTART
    assert change_of(made, "web").waits_for == ("wave: alpha/db",)
    assert kinds(made, "db") + kinds(made, "web") == ["write_config"]  # of the wave alone


def test_all_that_holds_is_told_in_order() -> None:
    deferred = updated(policy=Policy(restart="defer"))
    change = change_of(plan(host(guest(domain("web"))), wanted(deferred)), "web")
    assert change.would is Action.RESTART
    assert TOLD in change.waits_for
    left = updated(policy=Policy(reconcile=False))
    held = change_of(plan(host(guest(domain("web"))), wanted(left)), "web")
    assert held.waits_for == ("reconcile = true", TOLD)


def test_ten_thousand_that_wait_are_judged_in_no_time() -> None:
    shut = Shut([NIGHTS, window("0 9 * * *", 8, "deny")], NOON)
    waits = [shut.wait(f"alpha/d{number}", "restart") for number in range(10_000)]
    assert {wait.opens for wait in waits if wait is not None} == {utc("2026-12-02T01:00")}


def test_a_moment_of_the_year_is_never_missed() -> None:
    """Whatever the hour, what is told to open is shut until then: for a year, over both changes of the clock."""
    shift = window("30 2 * * 6,7", 3, timezone="Europe/Berlin")
    at = utc("2026-01-01T00:07")
    while at < utc("2027-01-01T00:00"):
        wait = Shut([shift], at).wait("a/b", "restart")
        if wait is not None:
            assert wait.opens is not None
            assert wait.opens > at
            assert is_open(shift, wait.opens)
            assert not is_open(shift, wait.opens - timedelta(minutes=1))
        at += timedelta(hours=17)


def test_status_tells_the_window_and_when_it_opens() -> None:
    web, db = guest(domain("web")), guest(domain("db"))
    made = plan(host(web, db), wanted(updated()))
    told = {one.address: one for one in judge(made, {})}
    assert told["alpha/web"].status is Status.PENDING_RESTART
    assert told["alpha/web"].reason == f"its restart waits for a {TOLD}"
    assert told["alpha/db"].status is Status.DRIFTED
    assert told["alpha/db"].reason == f"its destroy waits for a {TOLD}"


def test_what_a_quarantined_domain_can_be_given_live_waits_for_its_window() -> None:
    """Only what leads back is held by no window, and that is no live change."""
    asked = updated(memory_kib=128 * 1024)
    failed = guest(domain("web"), quarantine=with_quarantined(None, asked, "it panicked"))
    both = replace(NIGHTS, actions=("update", "restart"))
    change = change_of(plan(host(failed), wanted(asked, window=both)), "web")
    assert not change.acts
    assert TOLD in change.waits_for
    assert change_of(plan(host(failed), wanted(asked, at=utc("2026-12-02T01:00"))), "web").action is Action.UPDATE
