"""What goes down after its rehearsal takes its places in etcd then, all together, and waits for them a while."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cluster import late_places, passing
from reconciler.cluster.late_places import LatePlaces
from reconciler.cluster.refusing import held
from reconciler.cluster.sharing import Unshared, Wanted
from reconciler.fleet import Fleet
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.domain import Policy
from reconciler.model.fleet import Brake, HostSettings
from reconciler.plan.plan import Plan
from reconciler.plan.refusals import Used
from tests.worlds import NEW, desired, domain, guest, host, kernel, plan

pytestmark = pytest.mark.anyio
BOTH = frozenset({"alpha/base", "alpha/leaf"})


class Counting(Unshared):
    """An etcd that has no place so many times."""

    counts = True

    def __init__(self, refusals: int = 0) -> None:
        super().__init__()
        self.refusals, self.wanted = refusals, list[Wanted]()

    async def reserve(self, host: str, wanted: Wanted) -> Diagnostic | None:
        self.wanted.append(wanted)
        return held(host, "max_unavailable of the fleet is 1") if len(self.wanted) <= self.refusals else None


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A rehearsed restart that takes another domain down, and one that is not rehearsed."""
    monkeypatch.setattr(late_places, "_POLL_SECONDS", 0.0)
    base, leaf, plain = domain("base"), domain("leaf", depends_on=("base",)), domain("plain")
    seen = replace(host(guest(base), guest(leaf), guest(plain)), snapshots={})
    wanted = desired(
        domain("base", kernel=kernel("base", NEW), policy=Policy(rehearse="required")),
        domain("leaf", kernel=kernel("leaf", NEW), depends_on=("base",)),
        domain("plain", kernel=kernel("plain", NEW)),
        settings=HostSettings(name="alpha", toolstack="simulated", max_unavailable=3),
    )
    return plan(seen, wanted)


def places(tmp_path: Path, sharing: Counting, made: Plan, stopped: str | None = None) -> LatePlaces:
    fleet = Fleet(tmp_path, lambda: 0.0, lambda _: None, sharing)
    return LatePlaces(fleet, sharing, "alpha", made, lambda: stopped)


async def test_they_are_taken_together_once_and_beside_what_was_reserved_before(tmp_path: Path, made: Plan) -> None:
    sharing = Counting()
    await passing.reserve(sharing, "alpha", made, made.changes, Used(), passing.Beyond(Brake(), None))
    late = places(tmp_path, sharing, made)
    taken = await asyncio.gather(*(late.take(address) for address in ("alpha/leaf", "alpha/base", "alpha/plain")))
    assert taken == [None] * 3
    assert [(one.restarts, one.is_more) for one in sharing.wanted] == [({"alpha/plain"}, False), (BOTH, True)]


async def test_one_that_is_free_soon_is_waited_for(tmp_path: Path, made: Plan) -> None:
    sharing = Counting(refusals=3)
    assert await places(tmp_path, sharing, made).take("alpha/base") is None
    assert len(sharing.wanted) == 4


@pytest.mark.parametrize(("stopped", "tries"), [(None, 61), ("watch was asked to stop", 1)])
async def test_where_none_gets_free_the_restart_is_for_a_later_pass(
    tmp_path: Path, made: Plan, stopped: str | None, tries: int
) -> None:
    sharing = Counting(refusals=99)
    problem = await places(tmp_path, sharing, made, stopped).take("alpha/base")
    assert problem is not None
    assert problem.moved, "it is no failure"
    assert "max_unavailable of the fleet is 1" in problem.detail
    assert len(sharing.wanted) == tries
