"""What of a pass is news: once when it begins, once when it has ended, over however many passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.notify.events import Event, Facts, Told, of_pass, of_specs
from tests.notify.conftest import AT
from tests.worlds import desired, domain, guest, host, plan

READY, STALLED, BUSY = (Condition.READY, "as specified"), (Condition.STALLED, "no kernel"), (Condition.RECONCILING, "…")
CALM = plan(host(guest(domain("web"))), desired(domain("web")))


def facts(**about: Any) -> Facts:
    base = Facts(at=AT, fleet="farm", host="alpha", specs="c0ffee", commit="c0ffee", plan=CALM)
    return replace(base, **about)


def reading(**about: Any) -> Facts:
    return facts(**{"host": None, "plan": None, "hosts": ("alpha", "beta"), "touched": ("alpha", "beta"), **about})


def tell(*all_facts: Facts) -> list[Event]:
    told, said = Told(), list[Event]()
    for one in all_facts:
        told, events = (of_pass if one.plan is not None or one.host is not None else of_specs)(told, one)
        said += events
    return said


def words(events: list[Event], *, statuses: bool = False) -> list[str]:
    return [
        f"{one.event} {one.address or one.state or ''}".strip() for one in events if statuses or one.event != "status"
    ]


def test_a_stall_is_told_once_and_so_is_its_end() -> None:
    stalled, busy, ready = (facts(domains={"alpha/web": one}) for one in (STALLED, BUSY, READY))
    assert words(tell(stalled, stalled, busy, stalled, ready, ready)) == ["stalled alpha/web", "recovered alpha/web"]


def test_a_domain_that_is_gone_has_recovered_and_one_that_nobody_sees_has_not() -> None:
    stalled, gone = facts(domains={"alpha/web": STALLED}), facts(domains={})
    assert words(tell(stalled, gone)) == ["stalled alpha/web", "recovered alpha/web"]
    silent = replace(CALM, hosts={"alpha": replace(CALM.hosts["alpha"], observed=False)})
    assert words(tell(stalled, facts(domains={}, plan=silent))) == ["stalled alpha/web"]


def test_a_host_that_the_specs_no_longer_describe_leaves_nothing_behind() -> None:
    stalled, left = facts(domains={"alpha/web": STALLED}), reading(specs="", hosts=("beta",))
    assert words(tell(stalled, left, left)) == ["stalled alpha/web", "recovered alpha/web"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Kind.WORLD, ["failed alpha", "recovered alpha"]), (Kind.REFUSED, ["refused alpha"]), (Kind.NOTE, [])],
)
def test_what_stands_against_a_host(kind: Kind, said: list[str]) -> None:
    problem = Diagnostic(kind=kind, summary="no answer", detail="ssh gave up.", address="alpha")
    later = replace(problem, detail="ssh gave up after 9 s.")
    assert words(tell(facts(problems=[problem]), facts(problems=[later]), facts())) == said


def test_a_commit_is_told_once_and_its_status_follows_the_fleet() -> None:
    beta = replace(CALM, hosts={"beta": CALM.hosts["alpha"]})
    said = tell(
        reading(),
        reading(),
        facts(domains={"alpha/web": READY}),
        facts(host="beta", plan=beta, domains={"beta/db": BUSY}),
        facts(host="beta", plan=beta, domains={"beta/db": STALLED}),
        facts(host="beta", plan=beta, domains={"beta/db": READY}),
        reading(specs="facade", commit="facade", touched=()),
    )
    assert words(said, statuses=True) == [
        "commit",
        "status pending",
        "stalled beta/db",
        "status failure",
        "recovered beta/db",
        "status success",
        "commit",
        "status success",
    ]


def test_a_tree_without_git_has_no_status() -> None:
    assert words(tell(reading(specs="digest", commit=None), facts(specs="digest", commit=None)), statuses=True) == [
        "commit"
    ]


def test_a_remote_that_is_away_says_nothing_of_the_commit() -> None:
    away = Diagnostic(kind=Kind.WORLD, summary="the remote does not answer", detail="")
    said = tell(reading(touched=()), reading(touched=(), problems=[away]))
    assert [one.state for one in said if one.state] == ["success"]
