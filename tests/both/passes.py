"""Passes over one side: observe, complete, plan, prove, apply, with the product's own code for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.apply.follow import apply_plan
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.decide.changes import Consent
from reconciler.decide.unusable import complete
from reconciler.model.domain import Domain
from reconciler.model.fleet import Desired, DesiredHost
from reconciler.model.host import Host
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import PlannedStep
from reconciler.plan.verify import verify
from reconciler.toolstack import question_for
from tests.both.sides import FLEET, Reachable

NONE = Consent()


class Quiet:
    """Progress is of no interest here."""

    def started(self, step: PlannedStep) -> None: ...

    def noted(self, step: PlannedStep, text: str) -> None: ...

    def finished(self, result: StepResult) -> None: ...


@dataclass(frozen=True, slots=True)
class Pass:
    """What was seen, what was planned for it, and what became of it."""

    host: Host
    plan: Plan
    result: ApplyResult | None = None


async def look(side: Reachable, domains: Mapping[str, Domain], consent: Consent = NONE) -> Pass:
    """A plan for what the side is now."""
    part = DesiredHost(settings=side.settings, domains=domains)
    host = await side.observer().observe(question_for(part))
    desired, problems = complete(Desired(fleet=FLEET, hosts={side.settings.name: part}), {host.name: host})
    plan = build_plan(desired, {host.name: host}, consent, diagnostics=problems)
    verify(plan, {host.name: host}, desired)
    return Pass(host, plan)


async def reconcile(side: Reachable, domains: Mapping[str, Domain], consent: Consent = NONE) -> Pass:
    """The same, applied."""
    seen = await look(side, domains, consent)
    name = side.settings.name
    result = await apply_plan(seen.plan, {name: side.executor()}, {name: 4}, Quiet(), {})
    return Pass(seen.host, seen.plan, result)
