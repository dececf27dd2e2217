"""Holds, on a real host and on a simulated one: kept and lifted without its lock, heeded by looks and before steps."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.decide.changes import Action, Consent
from reconciler.decide.holds import render_hold
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Domain
from reconciler.model.host import WHOLE_HOST, Hold
from reconciler.plan.steps import SetVcpus
from tests.both.passes import look, reconcile
from tests.both.sides import Side, SimulatedSide, make_domain, make_sides, outcome_of, started
from tests.both.test_newer_versions import write

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["xl", "simulated"])
def side(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    real, simulated = make_sides(tmp_path, monkeypatch)
    return real if request.param == "xl" else simulated


async def running(side: Side) -> Domain:
    web = make_domain(side.settings, vifs=())
    assert not (await outcome_of(side, started(web))).failed
    return web


async def hold(side: Side, name: str, seconds: float | None = None) -> Hold:
    return await side.executor().hold(name, seconds=seconds, by="ann@desk", reason="mine")


@pytest.mark.parametrize("name", ["web", WHOLE_HOST], ids=["domain", "host"])
async def test_nothing_is_begun_while_it_lasts(side: Side, name: str) -> None:
    web = await running(side)
    wanted = {"web": replace(web, vcpus=2)}
    async with side.executor().lock():
        made = await hold(side, name)
    seen = await look(side, wanted)
    assert seen.host.holds == {name: made}
    (change,) = seen.plan.changes
    assert (change.action, change.would, change.waits_for) == (Action.NO_OP, Action.UPDATE, ("hold: mine",))
    assert [field.path for field in change.fields] == ["vcpus"]
    assert seen.plan.steps == ()
    step = SetVcpus(domain="web", uuid=web.uuid, vcpus=2)
    with pytest.raises(ReconcilerError, match="held: mine, by ann@desk"):
        await side.executor().execute(step, lambda _: None, unless_held=True)
    assert (await look(side, wanted)).host.guests["web"].running == seen.host.guests["web"].running
    assert await side.executor().unhold(name)
    assert not await side.executor().unhold(name)
    assert (await reconcile(side, wanted)).plan.steps
    assert (await look(side, wanted)).plan.steps == ()


async def test_a_prune_waits_too_and_who_ignores_holds_does_not(side: Side) -> None:
    await running(side)
    await hold(side, "web")
    other = {"db": make_domain(side.settings, "db", 2, vifs=())}
    changes = {change.domain: change for change in (await look(side, other)).plan.changes}
    assert (changes["web"].action, changes["web"].would) == (Action.NO_OP, Action.DESTROY)
    assert changes["db"].action is Action.CREATE
    ignored = await reconcile(side, other, Consent(ignore_holds=True))
    assert ignored.result is not None
    assert not ignored.result.skipped
    assert (await look(side, other)).host.holds.keys() == {"web"}
    assert "web" not in (await look(side, other)).host.guests


async def test_it_ends_by_itself(side: Side) -> None:
    web = await running(side)
    made = await hold(side, "web", seconds=3600)
    assert made.ends == made.begins + 3600
    assert (await look(side, {"web": web})).host.holds == {"web": made}
    await keep(side, replace(made, ends=time.time() - 1))
    seen = await look(side, {"web": replace(web, vcpus=2)})
    assert seen.host.holds == {}
    assert [step.step.kind for step in seen.plan.steps] == ["set_vcpus", "write_config"]
    await side.executor().execute(SetVcpus(domain="web", uuid=web.uuid, vcpus=2), lambda _: None, unless_held=True)


async def test_a_clock_before_its_beginning_lets_it_stand_and_is_told(side: Side) -> None:
    web = await running(side)
    ahead = time.time() + 1e6
    await keep(side, Hold(begins=ahead, ends=ahead + 60, reason="mine"))
    (change,) = (await look(side, {"web": replace(web, vcpus=2)})).plan.changes
    assert change.action is Action.NO_OP
    assert "a clock that is before its beginning" in change.reason


async def test_a_file_that_nobody_understands_holds(side: Side) -> None:
    web = await running(side)
    await hold(side, "web")
    step = SetVcpus(domain="web", uuid=web.uuid, vcpus=2)
    for text in ("", "{", "[]", '{"format": 2, "begins": 0, "ends": null, "by": "", "reason": ""}'):
        write(side, hold_file(side), text.encode())
        with pytest.raises(ReconcilerError, match="cannot be read"):
            await side.executor().execute(step, lambda _: None, unless_held=True)
    (change,) = (await look(side, {"web": replace(web, vcpus=2)})).plan.changes
    assert (change.action, change.would) == (Action.NO_OP, Action.UPDATE)


async def test_a_domain_that_is_down_for_a_restart_comes_back_first(side: Side) -> None:
    """An apply was killed in the middle of a restart, and then somebody held the domain."""
    web = await running(side)
    wanted = {"web": replace(web, cmdline="quiet")}
    plan = (await look(side, wanted)).plan
    for planned in plan.steps[: [step.step.kind for step in plan.steps].index("shutdown") + 1]:
        await side.executor().execute(planned.step, lambda _: None)  # type: ignore[arg-type]  # none awaits readiness
    await hold(side, "web")
    await reconcile(side, wanted)
    seen = await look(side, wanted)
    assert seen.host.guests["web"].running is not None
    assert seen.host.guests["web"].config == wanted["web"]
    assert seen.plan.steps == ()


async def keep(side: Side, hold: Hold) -> None:
    await side.executor().hold("web", seconds=None, by="", reason="")
    write(side, hold_file(side), render_hold(hold).encode())


def hold_file(side: Side) -> str:
    assert isinstance(side, SimulatedSide) or Path(side.settings.kernel_dir).is_dir()
    return f"{side.settings.kernel_dir}/.holds/web.json"
