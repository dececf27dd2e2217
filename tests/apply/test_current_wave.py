"""Waves, as they are followed: no step of a wave begins while something of the wave before is still being done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from reconciler.apply.follow import apply_plan
from reconciler.model.domain import Domain, Policy
from reconciler.model.fleet import Brake, HostSettings
from reconciler.plan.steps import HostStep, domain_of
from tests.apply.recording_host import RecordingHost, Silence
from tests.worlds import MIB, NEW, desired, domain, guest, host, kernel, plan

LATER = Policy(wave=1)


@dataclass
class SlowHost(RecordingHost):
    """One step takes so long that all others which may begin have begun by then."""

    slow: tuple[str, str] = ("", "")
    begun_meanwhile: tuple[tuple[str, str], ...] = ()

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        await super().execute(step, report, unless_held=unless_held)
        if (step.kind, domain_of(step)) == self.slow:
            before = len(self.asked)
            await asyncio.sleep(0.1)
            self.begun_meanwhile = tuple(self.asked[before:])


@pytest.mark.parametrize(
    "slow",
    [("write_config", "a"), ("remove_config", "gone"), ("write_config", "stops"), ("write_config", "b")],
    ids=" of ".join,
)
def test_what_somebody_waited_for_stands_for_no_step_after_it(slow: tuple[str, str]) -> None:
    """`b` waits for the memory of `a`, `gone` and `stops`; they still have files to write or to remove then."""
    small: list[Domain] = [domain("a"), domain("b"), domain("c"), domain("gone"), domain("stops")]
    running = [replace(one, memory_kib=512 * MIB) if one.name == "a" else one for one in small]
    wanted = [
        domain("a"),
        domain("b", memory_kib=1024 * MIB, maxmem_kib=1024 * MIB, kernel=kernel("b", NEW)),
        domain("c", kernel=kernel("c", NEW), policy=LATER),
        domain("stops", state="stopped"),
    ]
    settings = HostSettings(name="alpha", toolstack="simulated", max_unavailable=3)
    world = host(*map(guest, running), free_mib=0)
    made = plan(world, desired(*wanted, settings=settings, brake=Brake(max_destroy=1)))
    followed = SlowHost(running={one.name for one in small}, slow=slow)
    result = asyncio.run(apply_plan(made, {"alpha": followed}, {"alpha": 16}, Silence(), {}))
    assert not result.failed
    assert slow in followed.asked
    assert [step for step in followed.begun_meanwhile if step[1] == "c"] == []
