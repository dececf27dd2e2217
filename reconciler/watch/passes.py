"""Makes one pass: read the specs, observe, plan, apply, look again, judge each domain. Called by the loop.

What goes through all domains is done in threads, one after the other: the loop has locks to beat meanwhile.

What is remembered from pass to pass only decides when something is tried again, never what is to be done.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.apply.result import ApplyResult, Progress
from reconciler.decide.changes import Consent
from reconciler.inspect.observed import Observed
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, unforeseen
from reconciler.model.fleet import Desired
from reconciler.plan.plan import Plan
from reconciler.reconcile import Reconciler, Selection
from reconciler.state_dir import error_log
from reconciler.state_dir.brake_count import BrakeCount
from reconciler.watch.backoff import Backoff
from reconciler.watch.conditions import judge_domains, judge_unseen
from reconciler.watch.paused import Paused
from reconciler.watch.source import Source, Specs

_LAST_LOOK_SECONDS = 5.0  # how long a look may take once watch is to end
_BUSY_RETRY_SECONDS = 10.0  # for a host that somebody else changed, or is changing


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

    @property
    def failed(self) -> bool:
        return bool(self.result.failed) or any(problem.kind is not Kind.NOTE for problem in self.problems)


class Passes:
    """Makes passes over one source. Close it when done, since it holds the connections to the hosts."""

    def __init__(
        self, source: Source, state_dir: Path, *, detect_only: bool, now: Callable[[], float], backoff: Backoff
    ) -> None:
        self._source = source
        self._state_dir = state_dir
        self._detect_only = detect_only
        self._now = now
        self._backoff = backoff
        self._paused = Paused(now, state_dir)
        self._brake_count = BrakeCount(state_dir)
        self._reconciler: Reconciler | None = None
        self._heard: Callable[[], None] | None = None
        self._tell: Callable[[str], None] = lambda _: None

    def listen(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Have `heard` called when something happens on a host, from the next pass on; see `Observer.events`."""
        self._heard, self._tell = heard, tell

    async def make(
        self,
        progress: Progress,
        stop: Callable[[], str | None],
        known: Collection[str] = (),
        work_begins: Callable[[Outcome], Awaitable[None]] | None = None,
        ending: Callable[[], str | None] = lambda: None,
    ) -> Outcome:
        """Make one pass. It never raises: what hosts, specs or disks do, or an error nobody foresaw, is in the outcome.

        `known` are the addresses that earlier passes judged: each gets a new condition, also when it is not seen now.
        `work_begins` is called with what was found before anything is done about it. Once `ending` gives a reason, a
        host that has not answered for some seconds is not waited for any more.
        """
        try:
            specs = await self._source.read()
            return await self._over(specs, progress, stop, known, work_begins, ending)
        except ReconcilerError as error:
            problems = error.diagnostics
        except OSError as error:  # a full disk under the state directory, no more file descriptors
            problems = (_os_problem(error),)
        except Exception as error:  # noqa: BLE001 -- the next pass begins anew, and must be made
            problems = (error_log.keep(self._state_dir, unforeseen("a pass was made", error)),)
        return Outcome(problems=problems, domains=judge_unseen(known, problems))

    def try_all_now(self) -> None:
        """Forget what failed, since a person asks for another try."""
        self._backoff.try_all_now()

    def observed(self) -> Observed | None:
        """Return the hosts as they were last observed; None before the first look."""
        return None if self._reconciler is None else self._reconciler.observed()

    async def close(self) -> None:
        if self._reconciler is not None:
            await self._reconciler.close()

    async def _over(
        self,
        specs: Specs,
        progress: Progress,
        stop: Callable[[], str | None],
        known: Collection[str],
        work_begins: Callable[[Outcome], Awaitable[None]] | None,
        ending: Callable[[], str | None],
    ) -> Outcome:
        reconciler, desired = await self._renewed(specs), specs.reading.desired
        known = {*known, *specs.reading.files}
        await asyncio.to_thread(self._backoff.keep, lambda address: _asked_for(desired, address))
        plan = await self._plan(reconciler, desired, ending)
        drifted = drifted_in(plan)
        result = ApplyResult()
        if plan.steps and not self._detect_only and stop() is None:
            if work_begins is not None:
                judged = await asyncio.to_thread(self._judged, plan, desired, known)
                await work_begins(Outcome(plan=plan, drifted=drifted, domains=judged))
            result = await self._applied(reconciler, plan, desired, progress, stop)
            await asyncio.to_thread(self._learn, result, desired)
            if result.done or result.failed:
                plan = await self._plan(reconciler, desired, ending)
        await asyncio.to_thread(self._learn_of_hosts, plan, desired)
        # what is refused to a single domain is told as its condition
        told = [one for one in plan.diagnostics if one.kind is not Kind.REFUSED or "/" not in (one.address or "")]
        return Outcome(
            commit=desired.commit,
            signer=specs.signer,
            plan=plan,
            drifted=drifted,
            result=result,
            problems=(*specs.problems, *told, *result.diagnostics),
            domains=await asyncio.to_thread(self._judged, plan, desired, known),
            retry_seconds=self._retry_seconds(result),
            given_up=frozenset(name for name, host in plan.hosts.items() if not host.observed and ending() is not None),
        )

    async def _renewed(self, specs: Specs) -> Reconciler:
        if self._reconciler is None:
            self._reconciler = Reconciler(specs.reading, specs.root, self._state_dir)
        await self._reconciler.renew(specs.reading, specs.root, specs.signer)
        if self._heard is not None:
            self._reconciler.listen(self._heard, self._tell)
        return self._reconciler

    async def _applied(
        self,
        reconciler: Reconciler,
        plan: Plan,
        desired: Desired,
        progress: Progress,
        stop: Callable[[], str | None],
    ) -> ApplyResult:
        """Follow the plan. What the brake counts is noted before the first step, in case this process is killed."""
        specs = _specs_of(desired)
        before = self._brake_count.used(specs)
        counted = [change for change in plan.changes if change.address not in before.of(change.action)]
        problem = await asyncio.to_thread(self._brake_count.begins, specs, counted)
        result = await reconciler.apply(plan, progress, stop=stop, history_is_needed=False)
        begun = {one.step.address for one in (*result.done, *result.failed)}
        unbegun = [change for change in counted if change.address not in begun]
        problem = await asyncio.to_thread(self._brake_count.gives_back, specs, unbegun) or problem
        return replace(result, diagnostics=(*result.diagnostics, problem)) if problem is not None else result

    async def _plan(self, reconciler: Reconciler, desired: Desired, ending: Callable[[], str | None]) -> Plan:
        """Make the plan for now, without what failed and is not due yet."""
        failures = self._backoff.waiting(self._now())
        postponed = {address: f"failed: {failure.problem}" for address, failure in failures.items()}
        began = self._now()

        def late() -> str | None:
            return ending() if self._now() - began >= _LAST_LOOK_SECONDS else None

        selection = Selection(postponed=postponed, used=self._brake_count.used(_specs_of(desired)))
        plan = await reconciler.make_plan(selection, Consent(), late)
        consent = Consent(unpause=await asyncio.to_thread(self._paused.note, plan))
        if consent.unpause:
            plan = await reconciler.make_plan(selection, consent, late)
        left = {change.address for change in plan.changes if change.acts or change.target is None}
        for address in list(self._backoff.failures):
            host = plan.hosts.get(address.partition("/")[0])
            if "/" in address and address not in left and host is not None and host.observed:
                self._backoff.succeeded(address)  # as specified, or gone, whoever brought that about
        return plan

    def _learn(self, result: ApplyResult, desired: Desired) -> None:
        """Count the failures and successes of an apply for the backoff."""
        problems = {failed.step.address: failed.problem for failed in reversed(result.failed) if failed.problem}
        for address, problem in problems.items():
            self._backoff.failed(address, _asked_for(desired, address), problem, self._now())
        unfinished = {skipped.step.address for skipped in result.skipped}
        for address in {done.step.address for done in result.done} - unfinished - set(problems):
            self._backoff.succeeded(address)

    def _learn_of_hosts(self, plan: Plan, desired: Desired) -> None:
        """Count silent hosts as failures, so that they are looked at again soon at first, then less often."""
        silent = {problem.address: problem for problem in plan.diagnostics if problem.transient}
        for host in desired.hosts:
            if host in silent:
                self._backoff.failed(host, _asked_for(desired, host), silent[host], self._now())
            else:
                self._backoff.succeeded(host)

    def _judged(self, plan: Plan, desired: Desired, known: Collection[str]) -> dict[str, tuple[Condition, str]]:
        if not (desired.hosts or desired.frozen) and any(problem.kind is Kind.SPEC for problem in plan.diagnostics):
            return judge_unseen(known, plan.diagnostics)  # no tree, or none that can be read
        failures = self._backoff.waiting(self._now())
        return judge_domains(plan, desired, failures, known, detect_only=self._detect_only)

    def _retry_seconds(self, result: ApplyResult) -> float | None:
        now = self._now()
        due = self._backoff.next_try(now)
        waits = [max(0.0, due - now)] if due is not None else []
        if any(problem.kind is Kind.REFUSED for problem in result.diagnostics):  # locked, or moved since the plan
            waits.append(_BUSY_RETRY_SECONDS)
        paused_seconds = self._paused.next_seconds()
        waits += [paused_seconds] if paused_seconds is not None and not self._detect_only else []
        return min(waits, default=None)


def drifted_in(plan: Plan) -> int:
    """Count the domains that differ from their specs."""
    return sum(bool(change.acts or change.fields) for change in plan.changes)


def _specs_of(desired: Desired) -> str:
    """Return what tells these specs from the ones before: the accepted commit and, where there is none, a digest."""
    return f"{desired.commit or 'no commit'} {desired.tree_digest}"


def _asked_for(desired: Desired, address: str) -> str:
    """Return a digest of all that the specs say about a domain and its host; "" when they do not name it."""
    host, _, name = address.partition("/")
    part = desired.hosts.get(host)
    if part is None or (name and name not in part.domains):
        return ""
    asked = (desired.fleet, part.settings, part.domains[name] if name else None)
    return hashlib.sha256(repr(asked).encode(errors="surrogatepass")).hexdigest()


def _os_problem(error: OSError) -> Diagnostic:
    name = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return Diagnostic(
        kind=Kind.WORLD,
        summary="the pass could not be made",
        detail=f"{name}{error.strerror or error}.",
        hint="look whether the disk of the state directory is full",
        transient=True,
    )
