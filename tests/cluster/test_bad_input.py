"""What is wrong around a cluster is said in a sentence, and nothing is done that two would do."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from reconciler.cluster import etcd
from reconciler.cluster.controller import Controller
from reconciler.cluster.etcd import Put
from reconciler.cluster.keys import FACTS_A_PAGE, FACTS_BYTES, Facts, read
from reconciler.cluster.report import report
from reconciler.cluster.sharing import Wanted
from reconciler.decide.changes import Action
from reconciler.fence import Line
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.plan.places import FleetLimit
from tests.cluster.fake_etcd import FakeEtcd
from tests.cluster.test_facts import HOSTS, Fleet, known
from tests.worlds import domain, guest, host

pytestmark = pytest.mark.anyio


async def test_clocks_ten_minutes_apart_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are counted by etcd, silence by the clock of a host, and the ages that are shown are none below zero."""
    skews = itertools.cycle((600.0, -600.0))
    for module in ("controller", "facts"):
        skewed = SimpleNamespace(time=lambda: 1_700_000_000.0 + next(skews))
        monkeypatch.setattr(f"reconciler.cluster.{module}.time", skewed)
    fleet = Fleet()
    await fleet.turns()
    for name in HOSTS:
        has, other = fleet.of(name)
        assert other.why_not(name) is not None
        has.took(name, await has.line_for(name, Line(), None))
        limit = FleetLimit(limit=2)
        assert await has.reserve(name, Wanted(restarts=frozenset({f"{name}/web"}), limit=limit)) is None
        await has.tell(name, known(host(guest(domain("web")))))
    text = (await report(fleet.etcds[0], "prod")).text(frozenset(HOSTS), 1_700_000_000.0)
    assert "for -" not in text
    for name in HOSTS:
        has, _ = fleet.of(name)
        await has.give_back(name, has.reserved())
    assert not (await report(fleet.etcds[0], "prod")).fleet.reserved


@pytest.mark.parametrize("value", ["mine!", '{"format": 7}', '{"format":1,"reserved":7}', "\x00"])
async def test_the_key_of_the_fleet_by_hand_is_named_and_nothing_is_counted_anew(value: str) -> None:
    fleet = Fleet(1)
    await fleet.turns()
    (has,) = fleet.all
    await fleet.etcds[0].commit([], [Put("/reconciler/prod/fleet", value)])
    held = await has.reserve("alpha", Wanted(restarts=frozenset({"alpha/web"}), limit=FleetLimit(limit=1)))
    assert held is not None
    assert "/reconciler/prod/fleet in etcd is not understood" in held.detail
    with pytest.raises(ReconcilerError, match="is not understood") as caught:
        await report(fleet.etcds[0], "prod")
    assert "etcdctl del /reconciler/prod/fleet" in (caught.value.diagnostics[0].hint or "")


async def test_members_and_facts_by_hand_are_nobody() -> None:
    fleet = Fleet(1)
    keys = ("member/x", "facts/alpha", "facts/omega", "claim/omega", "else")
    await fleet.etcds[0].commit([], [Put(f"/reconciler/prod/{key}", "by hand") for key in keys])
    await fleet.turns()
    assert all(fleet.all[0].why_not(name) is None for name in HOSTS)
    found = await report(fleet.etcds[0], "prod")
    assert len(found.members) == 1


def test_an_answer_with_the_longest_facts_is_no_longer_than_one_may_be() -> None:
    """Etcd sends them as base64; one that is cut off is understood by nobody."""
    assert FACTS_A_PAGE * FACTS_BYTES * 4 / 3 < etcd._ANSWER_BYTES * 0.9


@pytest.mark.parametrize("at", ["Infinity", "NaN", "1.8e12", "-1e20"])
def test_facts_of_a_moment_that_no_calendar_has_are_nobodys(at: str) -> None:
    """A plan is made with that moment, so all passes would fail."""
    assert read(Facts, f'{{"at": {at}, "problem": "no route to host"}}') is None
    assert read(Facts, '{"at": 1.8e9, "problem": "no route to host"}') is not None


async def test_another_fleet_of_the_same_name_is_named_and_neither_begins_what_the_other_counts() -> None:
    """Two trees with one name: the first has the keys, the second begins nothing and says whose hosts are there."""
    fleet, said = Fleet(1), list[str]()
    await fleet.turns()
    second = Controller(FakeEtcd(fleet.store), 10, say=said.append, clock=lambda: fleet.store.now)
    settings = HostSettings(name="omega", toolstack="simulated")
    second.go_by(Desired(fleet="prod", tree_digest="d2", hosts={"omega": DesiredHost(settings=settings, domains={})}))
    for _ in range(4):
        await second.turn()
        await fleet.turns(1)
    assert second.why_not("omega") is not None
    assert any("etcd has hosts that these specs have not: alpha, beta" in text for text in said)
    assert any("another `fleet`" in text for text in said)
    assert second.why_not("alpha") is not None
    held = await second.reserve("omega", Wanted(restarts=frozenset({"omega/web"}), limit=FleetLimit(limit=1)))
    assert held is not None


async def test_more_than_one_key_can_hold_is_refused_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would understand it, and nothing could be counted any more."""
    monkeypatch.setattr("reconciler.cluster.fleet_key.FACTS_BYTES", 2000)
    fleet = Fleet(1)
    await fleet.turns()
    (has,) = fleet.all
    destroys = {Action.DESTROY: frozenset(f"alpha/web{number:04}" for number in range(200))}
    held = await has.reserve("alpha", Wanted(counted=destroys))
    assert held is not None
    assert "more is counted over the fleet than one key can hold" in held.detail
    assert await has.reserve("alpha", Wanted(counted={Action.DESTROY: frozenset({"alpha/web"})})) is None


@pytest.mark.parametrize(("used", "told"), [(None, False), (0.49, False), (0.63, True)])
async def test_a_quota_that_is_half_used_is_told_before_it_is_reached(used: float | None, told: bool) -> None:
    fleet = Fleet(1)
    fleet.store.used = used
    text = (await report(fleet.etcds[0], "prod")).text(frozenset(HOSTS), 0.0)
    assert ("etcd has used 63% of its quota" in text) == told
