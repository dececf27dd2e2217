"""A pass over a host that may be another controller's: when it acts, and when it asks again."""

from __future__ import annotations

import asyncio

from reconciler.cluster.sharing import Unshared
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from reconciler.watch.backoff import Backoff
from reconciler.watch.news import Outcome
from reconciler.watch.passes import Attending, Passes
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


def one_pass(world: World, sharing: Shared) -> Outcome:
    async def made() -> Outcome:
        passes = Passes(
            world.local(),
            world.state_dir,
            detect_only=False,
            now=world.clock.now,
            backoff=Backoff(lambda: 0.5),
            sharing=sharing,
        )
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
