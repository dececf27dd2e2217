"""A host in memory that notes what it is asked to do and fails where a test says so; plans of restarts made by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from reconciler.apply.result import StepResult
from reconciler.decide.changes import Action, Change
from reconciler.decide.holds import begun_meanwhile
from reconciler.model.host import Hold, LockHolder, Look, Power, Quarantined
from reconciler.model.rehearsal import Rehearsal
from reconciler.plan.plan import Plan
from reconciler.plan.steps import (
    AwaitReady,
    HostStep,
    PlannedStep,
    PromoteConfig,
    SetQuarantine,
    Shutdown,
    Start,
    Step,
    WayBack,
    WriteConfig,
    domain_of,
)
from reconciler.toolstack import RehearsalLook
from tests.worlds import domain


@dataclass
class RecordingHost:
    """Which domains run. `fails` gives the error that a step ends with, by its kind and domain.

    The kinds "start again" and "await_ready again" are those of a definition that is proven.
    """

    running: set[str]
    fails: Callable[[str, str], BaseException | None] = lambda kind, name: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    unproven: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    seconds: float = 0.0

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        if unless_held and domain_of(step) in self.held:
            raise begun_meanwhile("alpha", domain_of(step), Hold(begins=0, reason="mine"), domain_of(step))
        self.asked.append((step.kind, domain_of(step)))
        proven = isinstance(step, Start) and not step.candidate
        error = self.fails("start again" if proven else step.kind, domain_of(step))
        if error is not None:
            raise error
        match step:
            case Shutdown():
                self.running.discard(step.domain)
            case Start():
                self.running.add(step.definition.name)
                (self.unproven.add if step.candidate else self.unproven.discard)(step.definition.name)

    async def hold(self, domain: str, *, seconds: float | None, by: str, reason: str) -> Hold:
        raise NotImplementedError

    async def unhold(self, domain: str) -> bool:
        raise NotImplementedError

    async def unlock(self) -> LockHolder | None:
        raise NotImplementedError

    async def look(self, domain: str) -> Look:
        candidate = domain in self.unproven
        error = self.fails("await_ready" if candidate else "await_ready again", domain)
        if error is not None:
            raise error
        return Look(power=Power.RUNNING if domain in self.running else Power.ABSENT, uuid=f"uuid-of-{domain}", boot="1")

    async def begin_rehearsal(
        self, rehearsal: Rehearsal, report: Callable[[str], None], *, unless_held: bool = False
    ) -> float:
        self.asked.append(("rehearse", rehearsal.of))
        error = self.fails("rehearse", rehearsal.of)
        if error is not None:
            raise error
        return 0

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
        return RehearsalLook(look=Look(power=Power.RUNNING, uuid=rehearsal.uuid, boot="1"))

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        self.asked.append(("rehearse_end", rehearsal.of))

    async def clear_leftovers(self) -> None:
        raise NotImplementedError

    async def probe_tcp(self, address: str) -> bool:
        return True

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> float:
        return self.seconds

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        yield


class Silence:
    """Progress that nobody looks at."""

    def started(self, step: PlannedStep) -> None: ...

    def noted(self, step: PlannedStep, text: str) -> None: ...

    def finished(self, result: StepResult) -> None: ...


def restarts(names: Iterable[str], *, host: str = "alpha", one_by_one: bool = True) -> Plan:
    """Each of these domains is restarted onto a candidate, with a way back; with `one_by_one` each after the other."""
    steps: list[PlannedStep] = []
    ways_back = []
    for name in names:
        chain, back = _restart(name), _way_back(name)
        ids = [f"s{len(steps) + place}" for place in range(1, len(chain) + 1)]
        before = [steps[-1].id] if steps and one_by_one else []
        for step_id, step, need in zip(ids, chain, ["", *ids], strict=False):
            needs = [need] if need else []
            needs += before if isinstance(step, Shutdown) else []
            steps.append(PlannedStep(id=step_id, host=host, step=step, needs=tuple(needs)))
        planned = [PlannedStep(id=f"{ids[2]}.{place}", host=host, step=step) for place, step in enumerate(back, 1)]
        ways_back.append(WayBack(address=f"{host}/{name}", after=(ids[2], ids[3]), steps=tuple(planned)))
    changes = tuple(
        Change(host=host, domain=name, action=Action.RESTART, reason="spec changed") for name in sorted(names)
    )
    return plan_of(steps, changes, ways_back)


def _restart(name: str) -> list[Step]:
    definition = domain(name)
    return [
        WriteConfig(definition=definition, candidate=True),
        Shutdown(domain=name, uuid=definition.uuid, timeout_seconds=90, on_timeout="fail"),
        Start(definition=definition, candidate=True),
        AwaitReady(domain=name, uuid=definition.uuid, ready=definition.policy.ready),
        PromoteConfig(domain=name),
    ]


def _way_back(name: str) -> list[Step]:
    _, shutdown, _, ready, _ = _restart(name)
    return [
        SetQuarantine(domain=name, entries=(Quarantined(boot=name),)),
        shutdown,
        Start(definition=domain(name)),
        ready,
    ]


def plan_of(steps: Iterable[PlannedStep], changes: Iterable[Change] = (), ways_back: Iterable[WayBack] = ()) -> Plan:
    return Plan(
        commit=None,
        hosts={},
        changes=tuple(changes),
        steps=tuple(steps),
        ledger=(),
        unmanaged=(),
        diagnostics=(),
        base={},
        ways_back=tuple(ways_back),
    )
