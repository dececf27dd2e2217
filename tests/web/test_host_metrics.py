"""The numbers of single hosts, windows and receivers: what is known, and nothing that is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from reconciler.decide.changes import Action
from reconciler.decide.windows import WINDOW
from reconciler.fleet import FleetView, Seen
from reconciler.model.fleet import Window
from reconciler.model.host import WHOLE_HOST, Hold
from reconciler.notify import Fared
from reconciler.plan.plan import HostSummary
from reconciler.watch.view import Metrics
from reconciler.web.metrics import metrics_text
from tests.web.fleet import FakeReceivers, FakeView, a_plan
from tests.worlds import host

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()


def numbers(view: FakeView) -> dict[str, float]:
    lines = metrics_text(view, lambda: NOW)().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_a_host_that_answers_and_one_that_is_silent() -> None:
    plan = a_plan()
    held = replace(host(name="beta"), holds={WHOLE_HOST: Hold(begins=0)})
    told = {"alpha": Seen(host=host(), at=NOW - 5), "beta": Seen(host=held, at=NOW - 300)}
    view = FakeView(
        made=replace(plan, hosts={**plan.hosts, "beta": HostSummary(observed=False)}),
        known=FleetView(told=told, seen={"alpha": told["alpha"], "beta": Seen(host=None, at=NOW)}),
        numbers=Metrics(domains_by_condition={"Ready": 1, "Stalled": 0}, domains_by_host={"alpha": {"Ready": 1}}),
    )
    found = numbers(view)
    summary = plan.hosts["alpha"]
    assert found['reconciler_host_observed{host="alpha"}'] == 1
    assert found['reconciler_host_observed{host="beta"}'] == 0
    assert found['reconciler_host_held{host="alpha"}'] == 0
    assert found['reconciler_host_held{host="beta"}'] == 1
    assert found['reconciler_host_last_look_age_seconds{host="alpha"}'] == 5
    assert found['reconciler_host_last_look_age_seconds{host="beta"}'] == 300
    assert found['reconciler_host_memory_bytes{host="alpha"}'] == summary.memory_kib * 1024
    assert found['reconciler_host_memory_capacity_bytes{host="alpha"}'] == summary.capacity_kib * 1024
    assert found['reconciler_host_memory_used_bytes{host="alpha"}'] == summary.used_kib * 1024
    assert found['reconciler_host_changes_waiting{host="alpha"}'] == 2
    assert found['reconciler_host_domains{condition="Stalled",host="alpha"}'] == 0
    assert not [name for name in found if "memory" in name and "beta" in name]


def test_a_host_that_never_answered_has_no_age() -> None:
    plan = a_plan()
    found = numbers(FakeView(made=replace(plan, hosts={"beta": HostSummary(observed=False)})))
    assert found['reconciler_host_observed{host="beta"}'] == 0
    assert 'reconciler_host_last_look_age_seconds{host="beta"}' not in found


def test_what_waits_for_a_window() -> None:
    plan = a_plan()
    nights = Window(kind="allow", schedule="0 2 * * *", duration_seconds=3600, reason="nights")
    held = [
        replace(change, action=Action.NO_OP, would=Action.RESTART, waits_for=(f"{WINDOW}nights",))
        for change in plan.changes
    ]
    found = numbers(FakeView(made=replace(plan, changes=tuple(held), windows=(nights,))))
    assert found['reconciler_window_changes_waiting{window="nights"}'] == len(held)
    opens = datetime(2026, 12, 2, 2, tzinfo=UTC).timestamp()
    assert found['reconciler_window_opens_timestamp_seconds{window="nights"}'] == opens


def test_receivers() -> None:
    known = {"json https://a": Fared(waiting=3, delivered=2, failed=1, dropped=4, last_delivery=NOW), "b": Fared()}
    found = numbers(FakeView(notifications=FakeReceivers(known)))
    of_a = 'receiver="json https://a"'
    assert found[f'reconciler_notifications_total{{{of_a},result="delivered"}}'] == 2
    assert found[f'reconciler_notifications_total{{{of_a},result="dropped"}}'] == 4
    assert found[f"reconciler_notifications_waiting{{{of_a}}}"] == 3
    assert found[f"reconciler_notifications_last_delivery_timestamp_seconds{{{of_a}}}"] == NOW
    assert 'reconciler_notifications_last_delivery_timestamp_seconds{receiver="b"}' not in found
