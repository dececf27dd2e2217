"""Logs problems and conditions of domains once each: when they come, change or go. Called by the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.decide.changes import Action, Change
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic
from reconciler.plan.plan import Plan
from reconciler.show.values import before_and_after
from reconciler.watch.logs import Level, Log

_Told = tuple[Condition, str, str | None]  # condition, reason, what differs


class News:
    """Remembers what was logged so far."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._problems: frozenset[Diagnostic] = frozenset()
        self._domains: dict[str, _Told] = {}

    def of_problems(self, problems: Sequence[Diagnostic]) -> bool:
        """Log problems that are new or gone. Returns whether there were any."""
        now, before = frozenset(problems), self._problems
        for problem in problems:
            if problem not in before:
                self._log.problem(problem)
        for gone in sorted(before - now, key=lambda problem: (problem.summary, problem.detail)):
            self._log.say("no longer", problem=gone.summary, address=gone.address)
        self._problems = now
        return now != before

    def of_domains(self, domains: Mapping[str, tuple[Condition, str]], plan: Plan | None) -> bool:
        """Log the conditions that are new or changed. Returns whether there were any.

        Ready is logged only for a domain that was something else before.
        """
        changes = {change.address: change for change in plan.changes} if plan is not None else {}
        before, self._domains = self._domains, {}
        told = False
        for address, (condition, reason) in domains.items():
            change = changes.get(address)
            differs = _differences(change) if change is not None else None
            self._domains[address] = now = (condition, reason, differs)
            was = before.get(address)
            if now == was or (condition is Condition.READY and (was is None or was[0] is Condition.READY)):
                continue
            hint = change.hint if change is not None else None
            level: Level = "warning" if condition is Condition.STALLED else "info"
            self._log.say(
                f"domain {condition.lower()}", level, address=address, reason=reason, differs=differs, hint=hint
            )
            told = True
        return told


def _differences(change: Change) -> str | None:
    """Spell the differing fields; None for a domain that does not exist yet, since all of it differs."""
    if change.action is Action.CREATE or not change.fields:
        return None
    return ", ".join(f"{field.path}: {' -> '.join(before_and_after(field))}" for field in change.fields)
