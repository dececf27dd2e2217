"""When a place of max_unavailable is given back, and what is counted for the brake over the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.cluster import counting, passing
from reconciler.cluster.keys import Fleet, Reserved
from reconciler.cluster.passing import Beyond
from reconciler.cluster.sharing import Unshared, Wanted
from reconciler.decide.changes import Action
from reconciler.inspect.observed import Observed, Seen
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.fleet import Brake
from reconciler.model.host import Devices, Guest, Host, LockHolder, Power
from reconciler.plan.places import FleetLimit
from reconciler.plan.refusals import Used
from reconciler.toolstack import Question
from tests.worlds import NEW, desired, domain, guest, host, kernel, plan, stopped

pytestmark = pytest.mark.anyio
WEB = domain("web")
BEFORE = {"alpha/web": Reserved(who="me", since=1.0), "beta/web": Reserved(who="you", since=1.0)}


class Noting(Unshared):
    def __init__(self) -> None:
        super().__init__()
        self.back: set[str] = set()
        self.wanted: Wanted | None = None

    async def give_back(self, host: str, places: Mapping[str, Reserved]) -> None:
        self.back |= places.keys()

    async def reserve(self, host: str, wanted: Wanted) -> Diagnostic | None:
        self.wanted = wanted
        return None


async def given_back(seen: Host, condition: Condition | None, places: Mapping[str, Reserved] = BEFORE) -> bool:
    sharing, look = Noting(), Seen(host=seen, question=Question(), at=datetime(2026, 1, 2, tzinfo=UTC))
    observed = Observed(fleet="prod", key=b"", hosts={"alpha": look})
    domains = {"alpha/web": (condition, "")} if condition is not None else {}
    await passing.judged(sharing, "alpha", observed, (), domains, places)
    assert "beta/web" not in sharing.back, "another host's"
    return "alpha/web" in sharing.back


def one(web: Guest, **changes: object) -> Guest:
    return replace(web, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("web", "condition", "back"),
    [
        (guest(WEB), Condition.READY, True),
        (stopped(WEB), Condition.READY, True),  # as its spec asks
        (None, None, True),  # gone, and no spec names it
        (None, Condition.RECONCILING, False),  # gone, and to come back
        (guest(WEB), Condition.STALLED, True),  # quarantined, and what was before runs
        (guest(WEB), Condition.RECONCILING, True),  # it did not go down
        (stopped(WEB), Condition.RECONCILING, False),
        (stopped(WEB), Condition.STALLED, False),
        (one(guest(WEB), unproven=True), Condition.RECONCILING, False),
        (one(guest(WEB), power=Power.CRASHED), Condition.STALLED, False),
        (one(guest(WEB), power=Power.PAUSED), Condition.RECONCILING, False),
        (one(guest(WEB), devices=Devices(connected=False)), Condition.RECONCILING, False),
    ],
)
async def test_a_place_is_given_back_once_the_domain_needs_it_no_more(
    web: Guest | None, condition: Condition | None, back: bool
) -> None:
    assert await given_back(host(web) if web is not None else host(), condition) == back


async def test_what_was_reserved_after_the_look_began_stays() -> None:
    assert not await given_back(host(guest(WEB)), Condition.READY, {})


async def test_nothing_is_given_back_while_somebody_else_may_have_a_step_under_way() -> None:
    locked = replace(host(guest(WEB)), locked=LockHolder(by="ann@desk (process 7)", since="", silent_seconds=0.0))
    assert not await given_back(locked, Condition.READY)
    commands = replace(host(guest(WEB)), under_way=("xl destroy web, since 2026-01-02 00:00:00 UTC",))
    assert not await given_back(commands, Condition.READY)


@pytest.mark.parametrize(("brake", "counted"), [(Brake(), False), (Brake(max_restart=5), True)])
async def test_restarts_are_counted_where_the_brake_has_a_bound_for_them(brake: Brake, counted: bool) -> None:
    """Each is an address in a key that is written whole, and a new kernel restarts the whole fleet."""
    sharing = Noting()
    made = plan(host(guest(WEB)), desired(domain("web", kernel=kernel("web", NEW))))
    await passing.reserve(sharing, "alpha", made, made.changes, Used(), Beyond(brake, None))
    assert sharing.wanted is not None
    assert sharing.wanted.restarts == {"alpha/web"}
    assert (Action.RESTART in sharing.wanted.counted) == counted


def test_a_place_on_a_host_that_nobody_can_see_counts_once() -> None:
    limit = FleetLimit(limit=2, taken=(("beta", 1),))
    before = Fleet(reserved={"beta/web": Reserved(who="you")})
    after = counting.reserve(before, Wanted(restarts=frozenset({"alpha/web"}), limit=limit), Reserved(who="me"))
    assert isinstance(after, Fleet)
    assert set(after.reserved) == {"alpha/web", "beta/web"}
    more = Wanted(restarts=frozenset({"alpha/db"}), limit=limit)
    assert counting.reserve(after, more, Reserved(who="me")) == (
        "max_unavailable of the fleet is 2, and so many are down, or may be: alpha/web, beta/web, beta"
    )
