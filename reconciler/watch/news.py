"""Keeps what the passes found, host by host, and tells it once: when it comes, changes or goes. Used by the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace

from reconciler.apply.result import ApplyResult, Progress, StepResult
from reconciler.decide.changes import Action, Change
from reconciler.fleet import drifted_in
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.notify import Facts
from reconciler.plan.plan import Plan
from reconciler.plan.steps import PlannedStep
from reconciler.records import dataclass
from reconciler.show.steps import in_words
from reconciler.show.values import before_and_after
from reconciler.watch import conditions
from reconciler.watch.conditions import DomainCondition, Told, WatchRecord
from reconciler.watch.logs import Level, Log, moment
from reconciler.watch.source import Specs
from reconciler.watch.view import Metrics, StepUnderWay

_Told = tuple[Condition, str, str | None]  # condition, reason, what differs


FLEET = ""
"""The scope of what is about no single host: passes over all hosts, and the specs."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The findings and the deeds of a pass. With `plan` None there were no specs, so nothing was looked at."""

    commit: str | None = None
    signer: str | None = None
    plan: Plan | None = None  # as things are after the pass
    drifted: int = 0  # domains that were not as specified when the pass began
    result: ApplyResult = field(default_factory=ApplyResult)
    problems: tuple[Diagnostic, ...] = ()
    domains: Mapping[str, tuple[Condition, str]] = field(default_factory=dict)
    retry_seconds: float | None = None  # when to look again at the latest, if not at the interval
    given_up: frozenset[str] = frozenset()  # hosts that had not answered when watch was to end: nothing new is known
    same: bool = False  # as the pass before: nothing was decided
    of_another: bool = False  # over a host that another controller has, which tells of it itself

    @property
    def failed(self) -> bool:
        return bool(self.result.failed) or any(problem.kind is not Kind.NOTE for problem in self.problems)

    def at_rest(self) -> Outcome | None:
        """Return what a pass that sees the same ends with; None where time alone, or another host, may change that."""
        calm = all(condition is Condition.READY for condition, _ in self.domains.values())
        if self.failed or self.plan is None or self.plan.steps or self.retry_seconds is not None or not calm:
            return None
        return replace(self, result=ApplyResult(), same=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a pass found, made ready to be shown: conditions by host and address, and problems."""

    domains: Mapping[str, Mapping[str, DomainCondition]]
    counts: Mapping[str, Counter[str]]  # by host
    problems: tuple[Told, ...]

    @staticmethod
    def of(outcome: Outcome, before: Mapping[str, DomainCondition], now: float) -> Findings:
        """Date what a pass found. It goes through all domains, so it is for a thread.

        `before` are the conditions that the pass before ended with. A domain that failed again keeps the "since" that
        it had there, although it was Reconciling during the pass.
        """
        domains = _by_host(conditions.with_since(outcome.domains, before, now))
        counts = {host: Counter(one.condition.value for one in known.values()) for host, known in domains.items()}
        return Findings(domains=domains, counts=counts, problems=conditions.told(outcome.problems))


def facts_of(scope: str, outcome: Outcome, specs: Specs, at: float, *, touched: Collection[str] = ()) -> Facts:
    """Return what is to be told of a pass, or of a reading of the specs, to whoever reconciler.toml names."""
    desired, plan = specs.reading.desired, outcome.plan
    commit, digest = (desired.commit, desired.tree_digest) if plan is None else (plan.commit, plan.tree_digest)
    return Facts(
        at=at,
        fleet=desired.fleet,
        host=scope or None,
        specs=commit or digest,
        commit=commit,
        plan=plan,
        result=outcome.result,
        problems=outcome.problems,
        domains=outcome.domains,
        hosts=desired.hosts.keys(),
        touched=touched,
    )


@dataclass(slots=True)
class _Scope:
    """What the passes over one host, or over what is no single host, found last."""

    news: News
    problems: tuple[Told, ...] = ()
    drifted: int = 0


class Board:
    """Shows what is known of the fleet. A pass writes down what it found of its host, and leaves all else as it is."""

    def __init__(self, log: Log, record: WatchRecord) -> None:
        self._log = log
        self._about = replace(record, domains={}, problems=())
        self._scopes: dict[str, _Scope] = {}
        self._domains: dict[str, Mapping[str, DomainCondition]] = dict(_by_host(record.domains))
        self._counts: dict[str, Counter[str]] = {}
        self._steps: dict[tuple[str, str], StepUnderWay] = {}
        self.metrics = Metrics()
        self.revision = 0  # of all that it shows
        self._news_of_receivers = News(log)
        self._receivers: tuple[Told, ...] = ()  # which of them are not told, and why

    def record(self) -> WatchRecord:
        """Return all of it as one value. It may be called from any thread."""
        by_host, scopes = dict(self._domains), dict(self._scopes)
        domains = {address: one for host in sorted(by_host) for address, one in by_host[host].items()}
        problems = dict.fromkeys(problem for _, one in sorted(scopes.items()) for problem in one.problems)
        return replace(self._about, domains=domains, problems=(*problems, *self._receivers))

    def of(self, scope: str) -> dict[str, DomainCondition]:
        """Return the conditions of a host's domains, or of all domains."""
        known = list(self._domains.values()) if scope == FLEET else [self._domains.get(scope, {})]
        return {address: one for each in known for address, one in each.items()}

    def steps(self) -> tuple[StepUnderWay, ...]:
        """Return what is being done now. It may be called from any thread."""
        return tuple(self._steps.copy().values())

    def step(self, address: str, id_: str, under_way: StepUnderWay | None) -> None:
        """Show how a step fares; None: it has ended."""
        self.revision += 1
        if under_way is not None:
            self._steps[address, id_] = under_way
        else:
            self._steps.pop((address, id_), None)

    def news(self, scope: str) -> News:
        return self._scope(scope).news

    def found(self, scope: str, found: Outcome, findings: Findings) -> None:
        """Show what a pass found before it acts on that, since acting may take long."""
        self._scope(scope).drifted = found.drifted
        self._show(scope, findings)

    def ended(self, scope: str, outcome: Outcome, findings: Findings) -> None:
        """Show what a pass found and did."""
        mine = self._scope(scope)
        mine.problems = findings.problems
        if outcome.plan is not None:
            mine.drifted = drifted_in(outcome.plan)
            self._about = replace(self._about, commit=outcome.commit, signer=outcome.signer)
        self._show(scope, findings)

    def passed(self, outcome: Outcome, began: float, now: float) -> None:
        """Count a pass."""
        self.revision += 1
        self._about = replace(self._about, last_pass=moment(now))
        self.metrics = replace(
            self.metrics,
            passes_total=self.metrics.passes_total + 1,
            pass_failures_total=self.metrics.pass_failures_total + outcome.failed,
            last_pass_seconds=now - began,
            steps_done_total=self.metrics.steps_done_total + len(outcome.result.done),
            steps_failed_total=self.metrics.steps_failed_total + len(outcome.result.failed),
            last_commit=self._about.commit,
            last_pass_ended=now,
        )

    def specs_taken(self, outcome: Outcome, findings: Findings, hosts: Collection[str]) -> None:
        """Show what is wrong with the specs, and the domains that are on none of these hosts, which have passes."""
        for host in self._domains.keys() - hosts:
            del self._domains[host]
            self._counts.pop(host, None)
        for name in self._scopes.keys() - hosts - {FLEET}:
            del self._scopes[name]
        self._domains |= findings.domains
        self._counts |= findings.counts
        self._scope(FLEET).problems = findings.problems
        self._about = replace(self._about, commit=outcome.commit, signer=outcome.signer)
        self._count()

    def stopped(self, now: float) -> None:
        self._about = replace(self._about, stopped=moment(now))

    def receivers_fare(self, problems: Sequence[Diagnostic]) -> None:
        """Show which receivers are not told, and why; log what of that is new."""
        self._news_of_receivers.of_problems(problems)
        self._receivers = conditions.told(problems)
        self.revision += 1

    def counted(self, scope: str) -> dict[str, int]:
        """Count the conditions of a host's domains, or of all."""
        counts = self._counts.get(scope, Counter()) if scope != FLEET else self.metrics.domains_by_condition
        return {word: count for word, count in sorted(counts.items()) if count}

    def _scope(self, scope: str) -> _Scope:
        if scope not in self._scopes:
            self._scopes[scope] = _Scope(News(self._log))
        return self._scopes[scope]

    def _show(self, scope: str, findings: Findings) -> None:
        if scope == FLEET:
            self._domains, self._counts = dict(findings.domains), dict(findings.counts)
        else:
            self._domains[scope] = findings.domains.get(scope, {})
            self._counts[scope] = findings.counts.get(scope, Counter())
        self._count()

    def _count(self) -> None:
        self.revision += 1
        counts = sum(self._counts.values(), Counter({one.value: 0 for one in Condition}))
        self.metrics = replace(
            self.metrics,
            domains_by_condition={one.value: counts[one.value] for one in Condition},
            domains_by_host={host: dict(known) for host, known in self._counts.items()},
            drifted=sum(one.drifted for one in self._scopes.values()),
        )


class ShownSteps:
    """Passes progress on, and shows each step on the board for as long as it is being done."""

    def __init__(self, progress: Progress, board: Board, now: Callable[[], float]) -> None:
        self._progress, self._board, self._now = progress, board, now

    def started(self, step: PlannedStep) -> None:
        kind, words = step.step.kind, in_words(step.step)
        begun = StepUnderWay(address=step.address, id=step.id, kind=kind, step=words, began=self._now())
        self._board.step(step.address, step.id, begun)
        self._progress.started(step)

    def noted(self, step: PlannedStep, text: str) -> None:
        known = next((one for one in self._board.steps() if (one.address, one.id) == (step.address, step.id)), None)
        if known is not None:
            self._board.step(step.address, step.id, replace(known, note=text))
        self._progress.noted(step, text)

    def finished(self, result: StepResult) -> None:
        self._board.step(result.step.address, result.step.id, None)
        self._progress.finished(result)


def _by_host(domains: Mapping[str, DomainCondition]) -> dict[str, dict[str, DomainCondition]]:
    found: dict[str, dict[str, DomainCondition]] = {}
    for address, known in domains.items():
        found.setdefault(address.partition("/")[0], {})[address] = known
    return found


def _differences(change: Change) -> str | None:
    """Spell the differing fields; None for a domain that does not exist yet, since all of it differs."""
    if change.action is Action.CREATE or not change.fields:
        return None
    return ", ".join(f"{field.path}: {' -> '.join(before_and_after(field))}" for field in change.fields)
