"""The ways out of a person beside a cluster: an apply that reserves, a host that leaves, specs that are accepted."""

from __future__ import annotations

import pytest

from reconciler.cluster.report import Leaving, Reserving, accept, report
from reconciler.cluster.sharing import Wanted
from reconciler.fence import Line
from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.plan.places import FleetLimit
from tests.cluster.test_facts import Fleet

pytestmark = pytest.mark.anyio
SEEN = Line(number=7, session="aa", who="one:root@one:7", cluster="c1", lease_seconds=10)
OWN = Line(session="bb", who="ann@desk:1")


async def refusal_of_leaving(fleet: Fleet, silent_seconds: float | None) -> str:
    try:
        await Leaving(fleet.etcds[0], "prod", OWN).line_for("alpha", SEEN, silent_seconds)
    except ReconcilerError as error:
        assert error.diagnostics[0].kind is Kind.REFUSED
        return error.diagnostics[0].detail
    return ""


async def test_a_host_leaves_its_cluster_once_no_controller_spoke_to_it_or_has_it() -> None:
    fleet = Fleet(1)
    assert await refusal_of_leaving(fleet, 29.0) == "one:root@one:7 spoke to alpha 29 s ago."
    line = await Leaving(fleet.etcds[0], "prod", OWN).line_for("alpha", SEEN, 31.0)
    assert line == Line(number=8, session="bb", who="ann@desk:1")
    await fleet.turns()
    assert await refusal_of_leaving(fleet, 31.0) == "In etcd, c0 has alpha."


@pytest.mark.parametrize("taken", [False, True])
async def test_an_apply_on_a_host_of_a_cluster_reserves_what_it_takes_down_or_is_refused(taken: bool) -> None:
    fleet, told = Fleet(1), list[str]()
    await fleet.turns()
    limit, (controller,) = FleetLimit(limit=1), fleet.all
    if taken:
        assert await controller.reserve("beta", Wanted(restarts=frozenset({"beta/db"}), limit=limit)) is None
    wanted = {"alpha": Wanted(restarts=frozenset({"alpha/web"}), limit=limit)}
    fencing = Reserving(fleet.etcds[0], "prod", told.append, wanted)
    if taken:
        with pytest.raises(ReconcilerError, match=r"Nothing is begun on alpha: max_unavailable .* is 1.*: beta/db"):
            await fencing.line_for("alpha", SEEN, 0.0)
    else:
        assert (await fencing.line_for("alpha", SEEN, 0.0)).number == SEEN.number + 1
        assert told == ["alpha is taken from one:root@one:7 (token 7) until this is done"]
    alone = await fencing.line_for("gamma", Line(), None)
    assert (alone.number, alone.cluster) == (1, "")
    assert set((await report(fleet.etcds[0], "prod")).fleet.reserved) == {"beta/db" if taken else "alpha/web"}


async def test_of_trees_that_differ_a_person_accepts_one_that_is_there() -> None:
    fleet = Fleet()
    ours, theirs = "1" * 64, "2" * 64
    for one, digest in zip(fleet.all, (ours, theirs), strict=True):
        one.go_by(fleet.tree.__class__(fleet="prod", tree_digest=digest, hosts=fleet.tree.hosts))
    await fleet.turns()
    why = [one.why_not("alpha") or "" for one in fleet.all]
    assert all("222222" in text and "111111" in text for text in why if "digest" in text)
    for unknown in ("3" * 64, "2222"):
        with pytest.raises(ReconcilerError, match="The controllers that are there have 111111111111, 222222222222"):
            await accept(fleet.etcds[0], "prod", unknown)
    assert await accept(fleet.etcds[0], "prod", theirs[:12]) == theirs
    await fleet.turns()
    assert fleet.all[1].why_not("alpha") is None or fleet.all[1].why_not("beta") is None
    assert all(fleet.all[0].why_not(name) for name in ("alpha", "beta"))
