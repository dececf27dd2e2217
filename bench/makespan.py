"""`python -m bench.makespan [PLANS [SCHEDULES [SEED]]]`: how long apply takes, against the best of many random orders.

Each plan has some 1,000 steps on 20 hosts, which take random times that nobody knows before. Apply follows it on hosts
that only wait, by one clock; then random list schedules of the same steps are tried, which begin any step that may
begin. They heed the same rules: what steps need, slots of hosts, waves. Exit code 1 tells that a goal was missed.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from reconciler.apply.current_wave import Waves
from reconciler.apply.follow import apply_plan
from reconciler.apply.result import StepResult
from reconciler.decide.changes import Consent
from reconciler.model.domain import Domain, Policy, Ready
from reconciler.model.fleet import DesiredHost, HostSettings
from reconciler.model.host import Guest, Look, Power
from reconciler.plan.order import expected_seconds
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import AwaitReady, HostStep, PlannedStep, domain_of
from reconciler.simulated.clock import VirtualClock
from reconciler.simulated.store import Store
from tests.apply.recording_host import RecordingHost
from tests.worlds import MIB, NEW, desired, domain, guest, host, kernel

_HOSTS, _STEPS, _STEPS_A_DOMAIN = 20, 1_000, 4
_PLANS, _SCHEDULES = 15, 1_000
_MEDIAN_AT_MOST, _WORST_AT_MOST = 1.05, 1.15


@dataclass(frozen=True, slots=True)
class Case:
    """A plan, how many steps each host takes at once, and how long each step takes (seconds)."""

    plan: Plan
    parallel: Mapping[str, int]
    seconds: Mapping[str, float]


def main() -> int:
    numbers = [int(text) for text in sys.argv[1:]] + [_PLANS, _SCHEDULES, 1][len(sys.argv) - 1 :]
    plans, schedules, seed = numbers
    ratios = []
    for number in range(plans):
        dice = random.Random(seed * 1000 + number)
        case = random_case(dice)
        others = [random_schedule(case, dice) for _ in range(schedules)]
        best = min(others)
        took = asyncio.run(followed(case))
        ratios.append(took / best)
        print(
            f"{len(case.plan.steps)} steps: {took:7.1f} s, {took / best:.3f} × the best of {schedules}, "
            f"{took / median(others):.3f} × their median, {took / max(others):.3f} × the worst"
        )
    print(f"makespan, of {plans} plans: median {median(ratios):.3f} × (at most {_MEDIAN_AT_MOST}), ", end="")
    print(f"worst {max(ratios):.3f} × (at most {_WORST_AT_MOST})")
    return int(median(ratios) > _MEDIAN_AT_MOST or max(ratios) > _WORST_AT_MOST)


def random_case(dice: random.Random) -> Case:
    """Make a plan that creates, restarts, stops, grows and destroys domains, some in waves or for each other."""
    worlds, parts, parallel = {}, {}, {}
    slots = dice.randint(2, 6)  # the same everywhere, else the slowest host alone decides
    for number in range(_HOSTS):
        name = f"h{number:02}"
        guests, wanted = _random_domains(dice, name)
        worlds[name] = replace(host(*guests, free_mib=10**6), name=name)
        parallel[name] = slots
        settings = HostSettings(
            name=name, toolstack="simulated", max_unavailable=dice.randint(1, 2 * slots), parallel=slots
        )
        parts[name] = DesiredHost(settings=settings, domains={one.name: one for one in wanted})
    plan = build_plan(replace(desired(), hosts=parts), worlds, Consent(allow_destroy=10**6))
    seconds = {step.id: expected_seconds(step.step) * dice.uniform(0.5, 1.5) for step in plan.steps}
    return Case(plan, parallel, seconds)


def _random_domains(dice: random.Random, host_name: str) -> tuple[list[Guest], list[Domain]]:
    guests: list[Guest] = []
    wanted: list[Domain] = []
    for number in range(_STEPS // _HOSTS // _STEPS_A_DOMAIN):
        name = f"{host_name}-{number:02}"
        policy = Policy(wave=int(dice.random() < 0.2), ready=Ready(min_seconds=0))
        base = (dice.choice(wanted).name,) if wanted and dice.random() < 0.3 else ()
        old = domain(name, policy=policy, depends_on=base)
        match dice.choice(("create", "create", "restart", "restart", "restart", "stop", "grow", "destroy")):
            case "create":
                wanted.append(old)
            case "restart":
                guests.append(guest(old))
                wanted.append(replace(old, kernel=kernel(name, NEW)))
            case "stop":
                guests.append(guest(replace(old, depends_on=())))
                wanted.append(replace(old, state="stopped", depends_on=()))
            case "grow":
                guests.append(guest(old))
                wanted.append(replace(old, memory_kib=384 * MIB))
            case _:
                guests.append(guest(replace(old, depends_on=())))
    return guests, wanted


def random_schedule(case: Case, dice: random.Random) -> float:
    """Begin any step that may begin, as long as its host has a slot. Returns when the last one ends."""
    steps = {step.id: step for step in case.plan.steps}
    missing = {step.id: len(step.needs) for step in case.plan.steps}
    followers: dict[str, list[str]] = defaultdict(list)
    for step in case.plan.steps:
        for need in step.needs:
            followers[need].append(step.id)
    waves, slots = Waves(case.plan.steps), dict(case.parallel)
    offered: dict[str, list[str]] = defaultdict(list)
    under_way: list[tuple[float, str]] = []
    now = 0.0

    def offer(step: PlannedStep) -> None:
        if waves.may_begin(step):
            offered[step.host].append(step.id)

    def begin(name: str) -> None:
        line = offered[name]
        while line and slots[name]:
            at = dice.randrange(len(line))
            line[at], line[-1] = line[-1], line[at]
            step_id = line.pop()
            slots[name] -= 1
            heapq.heappush(under_way, (now + case.seconds[step_id], step_id))

    for step in case.plan.steps:
        if not missing[step.id]:
            offer(step)
    touched = set(slots)
    while True:
        for name in sorted(touched):
            begin(name)
        if not under_way:
            return now
        now, step_id = heapq.heappop(under_way)
        step = steps[step_id]
        slots[step.host] += 1
        touched = {step.host}
        for follower in followers[step_id]:
            missing[follower] -= 1
            if not missing[follower]:
                offer(steps[follower])
        for later in waves.ended(step):
            offer(later)
            touched.add(later.host)
        touched |= {steps[follower].host for follower in followers[step_id]}


class _OnlyTime(Store):
    """The time of all hosts, which is kept nowhere."""

    def __init__(self) -> None:
        super().__init__(Path(), "all")
        self._seconds = 0.0

    def read_clock(self) -> float:
        return self._seconds

    def write_clock(self, seconds: float) -> None:
        self._seconds = seconds


class _Waiting(RecordingHost):
    """A host on which steps do nothing but take their time. A look at a domain waits until it is ready."""

    def __init__(
        self, clock: VirtualClock, seconds: Callable[[HostStep], float], ready: Callable[[str], float]
    ) -> None:
        super().__init__(running=set())
        self._clock, self._seconds, self._ready = clock, seconds, ready

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        await self._clock.sleep(self._seconds(step))

    async def look(self, domain: str) -> Look:
        await self._clock.sleep(self._ready(domain))
        return Look(power=Power.RUNNING, uuid=f"uuid-of-{domain}", boot="1")

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def now(self) -> float:
        return self._clock.now()


class _Silent:
    def started(self, step: PlannedStep) -> None: ...

    def noted(self, step: PlannedStep, text: str) -> None: ...

    def finished(self, result: StepResult) -> None: ...


async def followed(case: Case) -> float:
    """Have apply follow the plan. Returns when its last step ends."""
    clock = VirtualClock(_OnlyTime())
    ids = {id(step.step): step.id for step in case.plan.steps}
    ready = {domain_of(step.step): step.id for step in case.plan.steps if isinstance(step.step, AwaitReady)}
    executors = {
        name: _Waiting(clock, lambda step: case.seconds[ids[id(step)]], lambda domain: case.seconds[ready[domain]])
        for name in case.parallel
    }
    result = await apply_plan(case.plan, executors, case.parallel, _Silent(), {})
    assert len(result.done) == len(case.plan.steps), _first_problem(result.failed)
    return clock.now()


def _first_problem(failed: Sequence[StepResult]) -> str:
    return str(failed[0].problem) if failed else "left out"


if __name__ == "__main__":
    sys.exit(main())
