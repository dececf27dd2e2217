"""Laws of saved plans, tried on generated worlds: what is read back is what was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli import saved_plan
from reconciler.plan.plan import Plan
from reconciler.plan.steps import Shutdown
from reconciler.specs import TreeReading

from .fleets import World, worlds
from .law import law
from .test_plan_laws import interleaving, plan_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


def saved_and_read(plan: Plan, world: World, folder: Path) -> Plan:
    reading = TreeReading(desired=world.desired, diagnostics=())
    saved_plan.save(folder / "plan.json", plan, reading, folder / "specs")
    return saved_plan.load(folder / "plan.json").plan


@given(world=worlds())
@law(examples=75)
def test_a_plan_read_back_is_the_plan_that_was_saved(world: World, folder: Path) -> None:
    plan = plan_for(world.host, world.desired)
    read = saved_and_read(plan, world, folder)
    assert read.digest == plan.digest
    assert read.steps == plan.steps
    # who decided from what is not needed to follow a plan; all else is there
    changes = tuple(replace(change, guest=None, target=None) for change in plan.changes)
    assert read == replace(plan, changes=changes)


@given(worlds(), st.integers(0, 10**6))
@law(examples=75)
def test_no_order_takes_more_domains_down_than_the_plan_says(world: World, seed: int) -> None:
    plan = plan_for(world.host, world.desired)
    restarting = {change.address for change in plan.changes if change.restarts}
    down: set[str] = set()
    most = 0
    for step in interleaving(plan, seed):
        if step.address in restarting and isinstance(step.step, Shutdown):
            down.add(step.address)
        if step.step.kind == "await_ready":
            down.discard(step.address)
        most = max(most, len(down))
    assert most <= plan.most_down_at_once
    assert (plan.most_down_at_once > 0) == bool(restarting & {step.address for step in plan.steps})
