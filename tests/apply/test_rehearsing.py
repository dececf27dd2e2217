"""The verdict of a rehearsal: what counts against a kernel, and what only says that the host could not make one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import cast

import pytest

from reconciler.apply.rehearsing import rehearse
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, world_error
from reconciler.model.domain import Ready
from reconciler.model.host import Look, Power
from reconciler.model.rehearsal import NotMadeError, Rehearsal
from reconciler.plan.steps import Rehearse
from reconciler.toolstack import Executor, RehearsalLook
from tests.worlds import domain

UP = Look(power=Power.RUNNING, uuid="uuid-of-web.rehearsal", boot="1")
CRASHED = replace(UP, power=Power.CRASHED, console="what it said")
STUCK = world_error("taking the rehearsal down failed", "lvremove says no.")


@dataclass
class _Host:
    """How each throwaway looks in turn, first the new one, then the control; and which cannot be taken down."""

    looks: Sequence[Look]
    stuck: Sequence[int] = ()
    begins: Callable[[int], float] = lambda _: 0.0
    boots: Iterator[str] = field(default_factory=lambda: repeat("1"))
    seconds: float = 0
    begun: int = 0
    said: list[str] = field(default_factory=list)
    paused: Callable[[float], None] = lambda _: None

    async def begin_rehearsal(self, rehearsal: Rehearsal, *_: object, **__: object) -> float:
        self.begun += 1
        return self.begins(self.begun)

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
        return RehearsalLook(look=replace(self.looks[self.begun - 1], boot=next(self.boots)))

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        if self.begun in self.stuck:
            raise STUCK

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> float:
        return self.seconds

    def rehearse(self, *, required: bool = True, short_of_memory: bool = False) -> Diagnostic | str | None:
        """What the step ends with: a problem, or what there is to say."""
        one = Rehearsal(
            of="web",
            of_uuid="uuid-of-web",
            definition=domain("web.rehearsal"),
            ready=Ready(min_seconds=1),
            has_less_memory=short_of_memory,
        )
        step = Rehearse(domain="web", rehearsal=one, control=one, required=required, needed_kib=1)
        try:
            return asyncio.run(rehearse(cast(Executor, self), step, self.said.append, self.paused))
        except ReconcilerError as error:
            return error.diagnostics[0]


def _problem(ended: Diagnostic | str | None) -> Diagnostic:
    assert isinstance(ended, Diagnostic), ended
    return ended


@pytest.mark.parametrize("power", [Power.ABSENT, Power.SAVED, Power.DYING])
def test_one_that_somebody_ended_says_nothing_since_none_ends_by_itself(power: Power) -> None:
    problem = _problem(_Host([replace(UP, power=power), UP]).rehearse())
    assert (problem.boot_failed, problem.transient, problem.later) == (False, True, True)
    assert "somebody" in problem.detail


def test_one_that_somebody_started_again_says_nothing() -> None:
    problem = _problem(_Host([UP, UP], boots=iter("122")).rehearse())
    assert (problem.boot_failed, problem.transient, problem.later) == (False, True, True)
    assert "somebody" in problem.detail


def test_one_that_cannot_be_taken_down_keeps_its_verdict() -> None:
    host = _Host([CRASHED, UP], stuck=[2])
    problem = _problem(host.rehearse())
    assert (problem.summary, problem.boot_failed) == ("failed its rehearsal", True)
    assert "lvremove says no" in (problem.hint or "")


@pytest.mark.parametrize("required", [True, False])
def test_no_restart_goes_on_beside_one_that_cannot_be_taken_down(*, required: bool) -> None:
    for looks in ([UP], [CRASHED, UP]):
        host = _Host(looks, stuck=[1])
        problem = _problem(host.rehearse(required=required))
        assert (problem.boot_failed, problem.transient, problem.later, host.begun) == (False, True, True, 1)
        assert "lvremove says no" in problem.detail


@pytest.mark.parametrize(
    "said",
    [
        "xc: error: panic: xg_dom_core.c: segment kernel too large (0x1000 > 0x800)",
        "Kernel panic - not syncing: Out of memory and no killable processes",
    ],
)
def test_one_with_less_memory_than_its_domain_condemns_no_kernel_for_the_lack_of_it(said: str) -> None:
    looks = [replace(CRASHED, console=said), UP]
    problem = _problem(_Host(looks).rehearse(short_of_memory=True))
    assert (problem.boot_failed, problem.transient) == (False, False)  # it is not made again for the same host.toml
    assert "less memory" in problem.detail
    assert "memory under [rehearsal]" in (problem.hint or "")
    assert _problem(_Host(looks).rehearse()).boot_failed


def test_a_pause_in_vain_is_told_though_nothing_could_be_rehearsed() -> None:
    def fails(_: int) -> float:
        raise NotMadeError(*STUCK.diagnostics, paused_seconds=2.5)

    told: list[float] = []
    host = _Host([UP], begins=fails)
    host.paused = told.append
    assert not _problem(host.rehearse()).boot_failed
    assert told == [2.5]


def test_one_that_stays_half_made_says_nothing() -> None:
    problem = _problem(_Host([replace(UP, power=Power.UNFINISHED), UP]).rehearse())
    assert (problem.boot_failed, problem.transient, problem.later) == (False, True, True)
    assert "still half made" in problem.detail


def test_the_last_words_of_a_kernel_are_waited_for() -> None:
    class Late(_Host):
        async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
            seen = await super().look_at_rehearsal(rehearsal)
            return seen if self.seconds else RehearsalLook(look=replace(seen.look, console="loading"))

    assert "what it said" in _problem(Late([CRASHED, UP]).rehearse()).detail
