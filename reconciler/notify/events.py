"""Decides which of what a pass found and did is news, on what was told before. Pure.

A condition is told when it begins and when it has ended, however often it is seen in between; so it is told once more
at most when watch was killed after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from reconciler.apply.result import ApplyResult
from reconciler.decide.changes import DRIFTED, SPEC_CHANGED, Action, Change
from reconciler.expressions import expression
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.plan.plan import Plan
from reconciler.records import dataclass

_LONGEST = 2000  # characters of a text that others than us choose
_ADDRESSES_MAX = 100  # that one event names
_COMMIT = expression(r"^[0-9a-f]{12}:")  # before the path of a file in a repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `state` is what the commit's status becomes by it, for the forges alone."""

    event: str
    summary: str
    at: float  # Unix seconds
    fleet: str
    commit: str | None = None
    address: str | None = None
    detail: str = ""
    hint: str | None = None
    domains: tuple[str, ...] = ()  # that an apply brought to what their specs say
    steps_done: int | None = None
    seconds: float | None = None
    state: str | None = None


STATUS = "status"
"""The event of a commit's status, which only the formats of forges send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the receivers know already, by address or scope. It is kept in the spool."""

    specs: str = ""  # the commit in force, or the digest of a tree without git
    waiting: tuple[str, ...] = ()  # hosts that have not come through with these specs yet
    status: str = ""  # of the commit
    stalled: Mapping[str, str] = field(default_factory=dict)  # address -> why
    failed: Mapping[str, str] = field(default_factory=dict)  # address -> the problem
    drifted: Mapping[str, str] = field(default_factory=dict)  # address -> what differed
    problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # scope -> problem -> its kind and address
    busy: Mapping[str, int] = field(default_factory=dict)  # host -> its domains that are Reconciling


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a pass over a host (or all: `host` None), or a reading of the specs, came to. `plan` None: nothing was seen.

    Of a reading, `hosts` are those that the specs describe, `touched` those of which they say something else.
    """

    at: float
    fleet: str
    host: str | None
    specs: str
    commit: str | None = None
    plan: Plan | None = None
    result: ApplyResult = field(default_factory=ApplyResult)
    problems: Sequence[Diagnostic] = ()
    domains: Mapping[str, tuple[Condition, str]] = field(default_factory=dict)
    hosts: Collection[str] = ()
    touched: Collection[str] = ()


ALL_HOSTS = ""
"""The scope of what is about no single host."""


def of_specs(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell of a reading of the specs: a new commit is in force, or something is wrong with them."""
    events = []
    if facts.specs and facts.specs != told.specs:
        what = f"Commit {facts.commit[:12]}" if facts.commit is not None else f"A tree of digest {facts.specs[:12]}"
        events.append(_event(facts, "commit", f"{what} is in force."))
        told = replace(told, specs=facts.specs, waiting=tuple(sorted(facts.touched)), status="")
    for judge in (_of_problems, _left, _stalled, _status):
        told, more = judge(told, facts)
        events += more
    return told, events


def of_pass(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell of a pass over one host, or over all."""
    events = [*_applied(facts)]
    for judge in (_of_problems, _failed, _stalled, _recovered, _drifted, _come_through, _status):
        told, more = judge(told, facts)
        events += more
    return told, events


def of_drift(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell of what a pass found before it acts on that."""
    return _drifted(told, facts)


def _event(facts: Facts, event: str, summary: str, **about: Any) -> Event:
    detail = about.pop("detail", "")[:_LONGEST]
    commit = about.pop("commit", facts.commit)
    return Event(
        event=event, summary=summary[:_LONGEST], at=facts.at, fleet=facts.fleet, commit=commit, detail=detail, **about
    )


def _applied(facts: Facts) -> Iterator[Event]:
    done = facts.result.done
    unfinished = {one.step.address for one in (*facts.result.failed, *facts.result.skipped)}
    complete = sorted({one.step.address for one in done} - unfinished)
    if complete:
        named = ", ".join(complete[:_ADDRESSES_MAX]) + (" and more" if len(complete) > _ADDRESSES_MAX else "")
        yield _event(
            facts,
            "applied",
            f"{len(done)} {'step' if len(done) == 1 else 'steps'} done. Complete: {named}.",
            address=facts.host,
            domains=tuple(complete),
            steps_done=len(done),
            seconds=round(max(one.began + one.seconds for one in done) - min(one.began for one in done), 1),
        )


def _failed(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    events, failed = [], dict(told.failed)
    for one in facts.result.failed:
        address, problem = one.step.address, one.problem
        if problem is None or failed.get(address) == problem.summary:
            continue
        failed[address] = problem.summary
        summary = f"{address}: {problem.summary}"
        events.append(_event(facts, "failed", summary, address=address, detail=problem.detail or "", hint=problem.hint))
    return replace(told, failed=failed), events


def _stalled(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    events, stalled = [], dict(told.stalled)
    hints = {change.address: change.hint for change in facts.plan.changes} if facts.plan is not None else {}
    for address, (condition, reason) in facts.domains.items():
        if condition is Condition.STALLED and address not in stalled:
            stalled[address] = reason[:_LONGEST]
            summary = f"{address} is stalled."
            events.append(_event(facts, "stalled", summary, address=address, detail=reason, hint=hints.get(address)))
    return replace(told, stalled=stalled), events


def _recovered(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell of domains that are well again, left alone on purpose, or gone."""
    if facts.plan is None:
        return told, []
    events = []
    observed = {name for name, host in facts.plan.hosts.items() if host.observed}
    for address in sorted({*told.stalled, *told.failed}):
        known = facts.domains.get(address)
        gone = known is None and (facts.host is None or address.partition("/")[0] == facts.host)
        if known is not None and known[0] not in (Condition.READY, Condition.HELD):
            continue
        if known is None and not (gone and address.partition("/")[0] in observed):
            continue
        summary = f"{address} is gone." if known is None else f"{address} is {known[0].lower()} again."
        events.append(_event(facts, "recovered", summary, address=address, detail=known[1] if known else ""))
    well = {event.address for event in events}
    return replace(
        told,
        stalled={address: why for address, why in told.stalled.items() if address not in well},
        failed={address: why for address, why in told.failed.items() if address not in well},
    ), events


def _left(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell of domains on hosts that the specs no longer describe, and forget those hosts."""
    events = []
    for address in sorted({*told.stalled, *told.failed} - facts.domains.keys()):
        if address.partition("/")[0] not in facts.hosts:
            summary = f"{address} is no longer looked after, since the specs no longer describe its host."
            events.append(_event(facts, "recovered", summary, address=address))
    left = {event.address for event in events}
    return replace(
        told,
        waiting=tuple(host for host in told.waiting if host in facts.hosts),
        busy={host: count for host, count in told.busy.items() if host in facts.hosts},
        problems={host: known for host, known in told.problems.items() if host in (ALL_HOSTS, *facts.hosts)},
        stalled={address: why for address, why in told.stalled.items() if address not in left},
        failed={address: why for address, why in told.failed.items() if address not in left},
        drifted={a: what for a, what in told.drifted.items() if a.partition("/")[0] in facts.hosts},
    ), events


def _drifted(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    if facts.plan is None:
        return told, []
    events, drifted = [], dict(told.drifted)
    for change in facts.plan.changes:
        what = _drift(change, fresh=facts.specs != told.specs or change.host in told.waiting)
        if what is None:
            drifted.pop(change.address, None)
        elif drifted.get(change.address) != what:
            drifted[change.address] = what
            summary = f"{change.address} is not as specified."
            events.append(_event(facts, "drifted", summary, address=change.address, detail=what, hint=change.hint))
    return replace(told, drifted=drifted), events


def _drift(change: Change, *, fresh: bool) -> str | None:
    """Say how a domain differs from what was last made of it; None where it does not, or its spec asks for that.

    With `fresh` specs, only what its config file shows is a difference that somebody else made.
    """
    guest = change.guest
    if guest is None or not (change.acts or change.fields) or change.reason.startswith(SPEC_CHANGED):
        return None
    if change.whole is Action.DESTROY or change.notes or change.leads_back or change.resumes or guest.unproven:
        return None
    if fresh and not (guest.edited or change.reason.startswith(DRIFTED)):
        return None
    fields = ", ".join(one.path for one in change.fields)
    return f"{change.reason}: {fields}" if fields else change.reason


def _of_problems(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell of what stands against a host, the specs or the whole run: new ones, and those that are gone."""
    scope = facts.host or ALL_HOSTS
    before, now, events = told.problems.get(scope, {}), dict[str, str](), []
    for problem in facts.problems:
        event = "refused" if problem.kind is Kind.REFUSED else "failed"
        if problem.kind is Kind.NOTE:
            continue
        where = str(problem.source) if problem.source is not None else problem.address or ""
        key = f"{problem.summary} {_COMMIT.sub('', where)}".strip()
        if key not in before and key not in now:
            summary = f"{where}: {problem.summary}" if where else problem.summary
            about = {"address": problem.address, "detail": problem.detail, "hint": problem.hint}
            events.append(_event(facts, event, summary, **about))
        now[key] = f"{problem.kind.value} {problem.address or ''}"
    for key in sorted(before.keys() - now.keys()):
        kind, _, address = before[key].partition(" ")
        if kind != Kind.REFUSED.value:
            events.append(_event(facts, "recovered", f"No longer: {key}.", address=address or None))
    problems = {name: known for name, known in {**told.problems, scope: now}.items() if known}
    return replace(told, problems=problems), events


def _come_through(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Count the domains that are being worked on, and the hosts that are through with the specs in force."""
    if facts.plan is None:
        return told, []
    hosts = [facts.host] if facts.host is not None else list(facts.plan.hosts)
    working = Counter(
        address.partition("/")[0]
        for address, (condition, _) in facts.domains.items()
        if condition is Condition.RECONCILING
    )
    busy = {**told.busy, **{host: working[host] for host in hosts}}
    waiting = tuple(host for host in told.waiting if host not in hosts) if facts.specs == told.specs else told.waiting
    return replace(told, busy=busy, waiting=waiting), []


def _status(told: Told, facts: Facts) -> tuple[Told, list[Event]]:
    """Tell what the status of the commit in force becomes."""
    if facts.commit is None or facts.commit != told.specs:
        return told, []
    wrong = sorted({*told.stalled, *told.failed}) or sorted(
        key
        for scope, known in told.problems.items()
        for key, about in known.items()
        if scope != ALL_HOSTS or about.startswith(Kind.SPEC.value)  # a remote that is away says nothing of a commit
    )
    busy = sum(told.busy.values())
    if told.waiting or (busy and not wrong):
        left = len(told.waiting)
        looks = f"{left} {'host has' if left == 1 else 'hosts have'} yet to come through with it" if left else ""
        works = f"{busy} {'domain is' if busy == 1 else 'domains are'} being worked on" if busy else ""
        state, summary = "pending", f"{', '.join(filter(None, (looks, works)))}."
    elif wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        state, summary = "failure", f"Not as specified: {', '.join(wrong[:3])}{more}."
    else:
        state, summary = "success", "All domains are as specified, or held on purpose."
    if state == told.status:
        return told, []
    return replace(told, status=state), [_event(facts, STATUS, summary, state=state)]
