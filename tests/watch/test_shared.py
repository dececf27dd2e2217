"""A pass over a host that may be another controller's: when it acts, and when it asks again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.cluster.keys import Reserved
from reconciler.cluster.sharing import Known, Told, Unshared
from reconciler.decide.changes import Action
from reconciler.inspect.observed import Observed, observed_document, read_observed
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import world_error
from reconciler.model.host import Power
from reconciler.reconcile import Reconciler
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from reconciler.state_dir.brake_count import BrakeCount
from reconciler.watch.backoff import Backoff
from reconciler.watch.ground import Attending
from reconciler.watch.news import Outcome
from reconciler.watch.passes import Passes
from tests.both.passes import Quiet
from tests.watch.conftest import World


class Shared(Unshared):
    """A cluster in which the host is ours, or `why` it is not."""

    busy_seconds: float | None = 1.0

    def __init__(self, why: str | None = None) -> None:
        super().__init__()
        self.why = why

    def why_not(self, host: str) -> str | None:
        return self.why

    def is_taken(self, host: str) -> bool:
        return False


def passes_of(world: World, sharing: Shared) -> Passes:
    return Passes(
        world.local(),
        world.state_dir,
        detect_only=False,
        now=world.clock.now,
        backoff=Backoff(lambda: 0.5),
        sharing=sharing,
    )


def one_pass(world: World, sharing: Shared) -> Outcome:
    async def made() -> Outcome:
        passes = passes_of(world, sharing)
        try:
            await passes.take_specs(())
            return await passes.make_of_host(
                "alpha", Attending(progress=Quiet(), stop=lambda: passes.stop_reason("alpha"))
            )
        finally:
            await passes.close()

    return asyncio.run(made())


def test_a_host_of_another_controller_is_looked_at_and_left_alone(world: World) -> None:
    outcome = one_pass(world, Shared("two acts on alpha"))
    assert outcome.plan is not None
    assert outcome.drifted > 0
    assert not outcome.result.done
    assert one_pass(world, Shared()).result.done


def test_a_host_whose_lock_a_stopped_one_still_has_is_asked_for_again_soon(world: World) -> None:
    """Not at the interval: it is to be taken over within three leases."""
    one_pass(world, Shared())
    with SimulatedLock(Store(world.state_dir, "alpha")).taken():
        outcome = one_pass(world, Shared())
    assert [problem.summary for problem in outcome.problems] == ["host is locked"]
    assert outcome.retry_seconds == 1.0


class Telling(Shared):
    """One that keeps what is told of its host."""

    def __init__(self) -> None:
        super().__init__()
        self.known: Known | None = None

    async def tell(self, host: str, known: Known) -> None:
        self.known = known


class Hearing(Shared):
    """One whose host is another's, which tells of it."""

    def __init__(self, told: Told) -> None:
        super().__init__("two acts on alpha")
        self.of_alpha = told
        self.reached: bool | None = None

    async def told(self, host: str) -> Told | None:
        return self.of_alpha

    def looked(self, host: str, *, reached: bool) -> None:
        self.reached = reached


def test_a_host_of_another_controller_is_seen_as_that_one_tells_and_not_looked_at(world: World) -> None:
    owner = Telling()
    one_pass(world, owner)
    known = owner.known
    assert known is not None
    assert known.host is not None
    guests = known.host.guests
    domains = dict.fromkeys(known.domains, ("Stalled", "it has failed twice"))
    told = Told(who="two", at=world.clock.now(), seen=known.observed, domains=domains)
    world.hand.fault("unreachable", 9)
    hearing = Hearing(told)
    outcome = one_pass(world, hearing)
    assert outcome.of_another
    assert outcome.plan is not None
    assert outcome.plan.hosts["alpha"].observed
    assert {address: (word.value, why) for address, (word, why) in outcome.domains.items()} == domains
    assert len(domains) == len(guests) > 0
    assert hearing.reached is None
    world.hand.fault("unreachable", 0)
    again = Hearing(replace(told, is_unreached=True))
    one_pass(world, again)
    assert again.reached is True


def test_a_host_that_its_controller_does_not_reach_is_not_observed(world: World) -> None:
    outcome = one_pass(world, Hearing(Told(who="two", at=0.0, seen=None, problem="no route to host")))
    assert outcome.plan is not None
    assert not outcome.plan.hosts["alpha"].observed
    assert any("two, which has alpha, cannot observe it: no route to host" in one.detail for one in outcome.problems)
    assert {condition for condition, _ in outcome.domains.values()} == {Condition.RECONCILING}


def test_what_hosts_are_is_told_of_those_of_others_as_they_tell_and_marked(world: World) -> None:
    """A plan by that, in which the digests of their secrets are by another key, is the plan that they have."""
    owner = Telling()
    one_pass(world, owner)
    assert owner.known is not None
    assert owner.known.host is not None
    told = Told(who="two", at=world.clock.now(), seen=owner.known.observed)

    async def observed_by(*each: Told) -> Observed | None:
        hearing = Hearing(told)
        passes = passes_of(world, hearing)
        try:
            await passes.take_specs(())
            for hearing.of_alpha in each:
                await passes.make_of_host("alpha", Attending(progress=Quiet()))
            assert passes.view().last_seen()["alpha"].told_by == "two"
            return passes.observed()
        finally:
            await passes.close()

    seen = asyncio.run(observed_by(told))
    assert seen is not None
    assert (seen.hosts["alpha"].told_by, seen.hosts["alpha"].key) == ("two", owner.known.observed.key)
    document = json.loads(json.dumps(observed_document(seen)))
    assert document["hosts"]["alpha"]["told_by"] == "two"
    assert observed_document(read_observed(document, seen.fleet)) == document
    unreached = asyncio.run(observed_by(told, replace(told, seen=None, problem="no route to host")))
    assert unreached is not None
    assert not unreached.hosts


class Retaken(Telling):
    """One whose host has to be taken anew, as where its lease was lost; it counts how often it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.times = False, 0

    def is_taken(self, host: str) -> bool:
        return self.taken

    async def tell(self, host: str, known: Known) -> None:
        self.times += 1


def test_a_host_that_is_taken_anew_is_told_of_anew_although_nothing_has_changed(world: World) -> None:
    """Etcd may have been emptied meanwhile."""

    async def passes_made() -> list[int]:
        sharing, told = Retaken(), list[int]()
        passes = passes_of(world, sharing)
        attending = Attending(progress=Quiet(), stop=lambda: passes.stop_reason("alpha"))
        try:
            await passes.take_specs(())
            for taken in (False, True, True, True, False):
                sharing.taken = taken
                await passes.make_of_host("alpha", attending)
                told.append(sharing.times)
            return told
        finally:
            await passes.close()

    first, *_, before, at_rest, again = asyncio.run(passes_made())
    assert first == 1
    assert before == at_rest
    assert again == at_rest + 1


class Keeping(Shared):
    """One that keeps what is told of its host, and what was done with places."""

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Known] = []
        self.back: list[str] = []
        self.idle = 0

    async def tell(self, host: str, known: Known) -> None:
        self.known.append(known)

    def reserved(self) -> Mapping[str, Reserved]:
        return {"alpha/web": Reserved(who="dead")}

    async def give_back(self, host: str, places: Mapping[str, Reserved]) -> None:
        self.back += places

    async def ended(self, host: str, unbegun: Mapping[Action, frozenset[str]]) -> None:
        self.idle += 1


def test_a_silent_host_of_one_that_died_is_told_as_unreached_and_waits_as_long_as_any(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all believe for ever what the dead one last saw."""

    async def silent(self: Reconciler, name: str) -> None:
        raise world_error("no answer", f"{name} does not answer.", None, name, transient=True)

    monkeypatch.setattr(Reconciler, "take", silent)
    world.hand.fault("unreachable", 99)
    sharing = Keeping()
    outcome = one_pass(world, sharing)
    assert [(one.host, bool(one.problem)) for one in sharing.known] == [(None, True)]
    assert outcome.plan is not None
    assert outcome.retry_seconds is not None
    assert outcome.retry_seconds > 1.0, "not again and again as where somebody else has it"


def test_a_host_that_refuses_to_be_taken_is_told_of_all_the_same(world: World) -> None:
    one_pass(world, Shared())
    sharing = Keeping()
    with SimulatedLock(Store(world.state_dir, "alpha")).taken():
        outcome = one_pass(world, sharing)
    assert [one.host is not None for one in sharing.known] == [True]
    assert not outcome.result.done
    assert outcome.retry_seconds == 1.0


def test_a_host_is_looked_at_again_once_it_was_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of the one before may have been under way, and ended since the first look."""
    one_pass(world, Shared())
    take = Reconciler.take

    async def taken(self: Reconciler, name: str) -> None:
        world.hand.pause("web")
        await take(self, name)

    monkeypatch.setattr(Reconciler, "take", taken)
    sharing = Keeping()
    one_pass(world, sharing)
    (known,) = sharing.known
    assert known.host is not None
    assert known.host.guests["web"].power is Power.PAUSED
    assert not sharing.back


def test_a_count_that_cannot_be_noted_leaves_no_host_at_work_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(BrakeCount, "begins", fails)
    sharing = Keeping()
    one_pass(world, sharing)
    assert sharing.idle == 1
