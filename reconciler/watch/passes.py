"""Makes one pass: observe, plan, apply, look again, judge each domain. Called by the loop.

A pass is over one host, or over all at once (`watch --once`). One over a host follows that host's part of the plan that
is made for the whole fleet as it was last seen (`fleet`).
What goes through all domains is done in threads, one after the other: the loop has locks to beat meanwhile.
What is remembered from pass to pass only decides when something is tried again, never what is to be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from reconciler.apply.result import ApplyResult
from reconciler.cluster import passing
from reconciler.cluster.late_places import LatePlaces
from reconciler.cluster.sharing import Sharing, Told, Unshared
from reconciler.decide.changes import Consent
from reconciler.fleet import (
    Asked,
    Fleet,
    FleetView,
    Heeding,
    Seen,
    about,
    asked_for,
    asked_of_hosts,
    drifted_in,
    leads_to_the_same,
    specs_of,
)
from reconciler.inspect.observed import Observed
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, unforeseen
from reconciler.model.fleet import Desired
from reconciler.plan.plan import Plan
from reconciler.reconcile import Reconciler, Selection
from reconciler.state_dir import error_log
from reconciler.state_dir.brake_count import BrakeCount
from reconciler.waiting import Stop
from reconciler.watch import others
from reconciler.watch.backoff import Backoff, learn, learn_of_hosts
from reconciler.watch.conditions import is_no_tree, judge_domains, judge_elsewhere, judge_unseen
from reconciler.watch.ground import Attending, GoneError, Ground
from reconciler.watch.news import Outcome
from reconciler.watch.paused import Paused
from reconciler.watch.source import Source, Specs, is_same

_LAST_LOOK_SECONDS = 5.0  # how long a look may take once watch is to end
_BUSY_RETRY_SECONDS = 10.0  # for a host that somebody else changed, or is changing


class Passes:
    """Makes passes over one source. Close it when done, since it holds the connections to the hosts."""

    def __init__(
        self,
        source: Source,
        state_dir: Path,
        *,
        detect_only: bool,
        now: Callable[[], float],
        backoff: Backoff,
        sharing: Sharing | None = None,
    ) -> None:
        self._source = source
        self._state_dir = state_dir
        self._detect_only = detect_only
        self._sharing = sharing or Unshared()
        self._now = now
        self._backoff = backoff
        self._paused = Paused(now, state_dir)
        self._brake_count = BrakeCount(state_dir)
        self._fleet = Fleet(state_dir, now, lambda name: self._wake(name), self._sharing)
        self._specs: Specs | None = None
        self._asked_of_hosts: Mapping[str, str] = {}
        self._all: Ground | None = None
        self._grounds: dict[str, Ground] = {}
        self._heard: Callable[[str], None] | None = None
        self._wake: Callable[[str], None] = lambda _: None
        self._tell: Callable[[str], None] = lambda _: None

    def listen(self, heard: Callable[[str], None], wake: Callable[[str], None], tell: Callable[[str], None]) -> None:
        """Have `heard` called with each host on which something happens, from its next pass on; see `Observer.events`.

        `wake` is called with a host that can go on since another one has come through.
        """
        self._heard, self._wake, self._tell = heard, wake, tell

    def wake(self, name: str) -> None:
        self._wake(name)

    async def make(self, attending: Attending) -> Outcome:
        """Make one pass over all hosts at once. It never raises: what hosts, specs or disks do is in the outcome."""

        async def over_all() -> Outcome:
            specs = await self._source.read()
            if self._all is None:
                reconciler = Reconciler(specs.reading, specs.root, self._state_dir)
                self._all = Ground(
                    reconciler=reconciler, specs=specs, desired=specs.reading.desired, backoff=self._backoff
                )
            await self._all.reconciler.renew(specs.reading, specs.root, specs.signer)
            self._all.specs, self._all.desired = specs, specs.reading.desired
            return await self._over(self._all, attending)

        return await self._told(over_all, attending.known)

    async def take_specs(self, known: Collection[str]) -> Outcome:
        """Read the specs; from then on they are those of all passes over one host that begin. It never raises.

        The outcome tells of the specs, and of the domains that are on no host that they describe.
        """

        async def taken() -> Outcome:
            in_use = {ground.specs.root for ground in self._grounds.values()}
            specs, before = await self._source.read(in_use), self._specs
            self._sharing.fetched(problem=any(one.transient for one in specs.problems))
            if before is None or not is_same(before, specs):
                asked = await asyncio.to_thread(asked_of_hosts, specs.reading.desired)
                self._fleet.renew(specs.reading, specs.root)
                self._specs, self._asked_of_hosts = specs, asked
                self._sharing.go_by(specs.reading.desired)
            return await asyncio.to_thread(self._of_specs, specs, known)

        outcome = await self._told(taken, known if self._specs is None else ())
        if self._specs is None:
            return outcome
        return replace(outcome, commit=self._specs.reading.desired.commit, signer=self._specs.signer)

    @property
    def specs(self) -> Specs | None:
        """Return the specs in force; None before the first reading that brought any."""
        return self._specs if self._specs is not None or self._all is None else self._all.specs

    def hosts(self) -> frozenset[str]:
        """Return the hosts that the specs in force describe."""
        return frozenset(self._specs.reading.desired.hosts) if self._specs is not None else frozenset()

    def is_touched(self, name: str) -> bool:
        """Return whether the specs in force say something else about a host than those that its last pass went by."""
        ground = self._grounds.get(name)
        return ground is None or (ground.specs is not self._specs and ground.asked != self._asked_of_hosts.get(name))

    def stop_reason(self, name: str) -> str | None:
        """Return why nothing more is to begin on a host: it is another controller's, or a restart failed elsewhere."""
        if (why := self._sharing.why_not(name)) is not None:
            return f"nothing is begun here: {why}"
        failed = self._fleet.fails_elsewhere(name)
        return f"left for the next pass, since the restart of {failed} failed" if failed is not None else None

    def plan(self) -> Plan | None:
        """Return the plan over all hosts as they were last seen, which the passes over single hosts follow."""
        return self._fleet.plan

    def view(self) -> FleetView:
        """Return the fleet as the passes over single hosts last saw it."""
        return self._fleet.view

    async def make_of_host(self, name: str, attending: Attending) -> Outcome:
        """Make one pass over one host. It never raises: what the host, specs or disks do is in the outcome."""

        async def over_host() -> Outcome:
            ground = self._ground(name)
            if (told := await self._sharing.told(name)) is not None:
                return await self._as_told(ground, name, told, attending)
            is_news = await self._look(ground, attending.ending)
            refused = await self._take(ground, name, attending.ending)
            if not is_news and ground.at_rest is not None and not passing.has_places(ground.places, name):
                part = await self._fleet.part(name, self._asked)
                if part is not None and await asyncio.to_thread(leads_to_the_same, part, ground.at_rest.plan):
                    return ground.at_rest
            outcome = await self._over(ground, attending, looked=True, refused=refused)
            ground.at_rest = outcome.at_rest()
            look, seen, soon = self._fleet.view.seen[name], ground.reconciler.observed(), bool(refused)
            if look.era == self._sharing.era:  # etcd was not emptied meanwhile
                soon |= await passing.judged(self._sharing, name, seen, look.problems, outcome.domains, ground.places)
            return replace(outcome, retry_seconds=self._sharing.busy_seconds) if soon else outcome

        try:
            outcome = await self._told(over_host, attending.known)  # without a plan, it was locked and is asked again
            return outcome if outcome.plan else replace(outcome, retry_seconds=self._sharing.busy_seconds)
        except GoneError:
            return Outcome()
        finally:
            self._fleet.release(name)

    async def _as_told(self, ground: Ground, name: str, told: Told, attending: Attending) -> Outcome:
        """Make a pass over a host that another controller has. It is only looked at to see whether it answers here."""
        reading = replace(ground.specs.reading, desired=ground.desired)
        await ground.reconciler.renew(reading, ground.specs.root, ground.specs.signer)
        if told.is_unreached:
            hosts, _ = await ground.reconciler.observe(frozenset({name}), self._late(attending.ending))
            self._sharing.looked(name, reached=name in hosts)
        await ground.reconciler.close()
        ground.at_rest, ground.unpause, ground.backoff = None, frozenset(), self._backoff.another()
        await self._fleet.look(name, others.look_of(name, told))
        outcome = await self._outcome(ground, await self._plan_for(ground, attending.ending), ApplyResult(), attending)
        return replace(outcome, domains=others.as_told(outcome.domains, told), of_another=True)

    def observed(self) -> Observed | None:
        """Return the hosts as they were last observed; None before the first look."""
        grounds = [self._all] if self._all is not None else self._grounds.values()
        found = [ground.reconciler.observed() for ground in list(grounds)]
        seen = others.with_told(
            {name: seen for one in found for name, seen in one.hosts.items()}, self._fleet.view.seen
        )
        return replace(found[0], hosts=seen) if found else None

    async def leave(self, name: str) -> None:
        """Forget a host that the specs no longer describe."""
        if name in self._grounds:
            await self._grounds.pop(name).reconciler.close()

    def try_all_now(self) -> None:
        """Forget what failed, since a person asks for another try."""
        for backoff in (self._backoff, *(ground.backoff for ground in self._grounds.values())):
            backoff.try_all_now()

    async def close(self) -> None:
        for ground in (*([self._all] if self._all is not None else []), *self._grounds.values()):
            await ground.reconciler.close()

    async def _told(self, work: Callable[[], Awaitable[Outcome]], known: Collection[str]) -> Outcome:
        """Do what makes an outcome. An error that ends it is in the outcome, also one that nobody foresaw."""
        try:
            return await work()
        except ReconcilerError as error:
            problems = error.diagnostics
        except OSError as error:  # a full disk under the state directory, no more file descriptors
            problems = (error_log.os_problem(error),)
        except GoneError:
            raise
        except Exception as error:  # noqa: BLE001 -- the next pass begins anew, and must be made
            problems = (error_log.keep(self._state_dir, unforeseen("a pass was made", error)),)
        return Outcome(problems=problems, domains=judge_unseen(known, problems))

    def _ground(self, name: str) -> Ground:
        """Return what a pass over a host goes by, with the specs in force."""
        specs, desired = self._about(name)
        ground = self._grounds.get(name)
        if ground is None:
            reading = replace(specs.reading, desired=desired)
            reconciler = Reconciler(reading, specs.root, self._state_dir, self._sharing.fencing)
            backoff = self._backoff.another()
            ground = Ground(reconciler=reconciler, specs=specs, desired=desired, backoff=backoff, name=name)
            self._grounds[name] = ground
        if ground.specs is not specs:
            ground.at_rest = None
        ground.specs, ground.desired, ground.asked = specs, desired, self._asked_of_hosts[name]
        return ground

    def _about(self, name: str) -> tuple[Specs, Desired]:
        """Return the specs in force, and what they say of one host."""
        if self._specs is None or name not in self._specs.reading.desired.hosts:
            raise GoneError
        return self._specs, about(self._specs.reading.desired, name)

    async def _look(self, ground: Ground, ending: Stop) -> bool:
        """Look at the one host, and ask all that the specs in force do. Returns whether it shows anything new."""
        assert ground.name is not None
        name, is_news = ground.name, False
        while True:
            specs, desired = self._about(name)
            ground.places, era = self._sharing.reserved(), self._sharing.era
            await ground.reconciler.renew(replace(specs.reading, desired=desired), specs.root, specs.signer)
            if self._heard is not None:
                ground.reconciler.listen(partial(self._heard, name), self._tell)
            hosts, problems = await ground.reconciler.observe(frozenset({name}), self._late(ending))
            part, asked = desired.hosts[name], ground.reconciler.questions.about(desired.hosts[name])
            self._sharing.looked(name, reached=name in hosts)
            look = Seen(host=hosts.get(name), asked=asked, part=part, problems=problems, at=self._now(), era=era)
            is_news = await self._fleet.look(name, look) or is_news
            if self._fleet.is_answered(name):
                return is_news

    async def _take(self, ground: Ground, name: str, ending: Stop) -> tuple[Diagnostic, ...]:
        """Have a host of ours that answers know it, and look at it again. Returns why that cannot be, if so."""
        if self._sharing.is_taken(name) or self._sharing.why_not(name) is not None:
            return ()
        ground.at_rest = None  # etcd may have lost what was told of it
        if self._fleet.view.seen[name].host is None:
            return ()
        try:
            await ground.reconciler.take(name)
        except ReconcilerError as error:
            return error.diagnostics
        await self._look(ground, ending)  # a command of the one before may have ended since
        return ()

    async def _over(
        self, ground: Ground, attending: Attending, *, looked: bool = False, refused: tuple[Diagnostic, ...] = ()
    ) -> Outcome:
        """Follow the plan, and judge what came of it. Nothing is done where the host has `refused` to be ours."""
        await asyncio.to_thread(ground.backoff.keep, lambda address: asked_for(ground.desired, address))
        plan = await self._plan(ground, attending.ending, looked=looked)
        drifted, result = drifted_in(plan), ApplyResult(diagnostics=refused)
        if plan.acts and not refused and not self._detect_only and attending.stop() is None:
            if attending.work_begins is not None:
                judged = await asyncio.to_thread(self._judged, ground, plan, attending.known)
                await attending.work_begins(Outcome(plan=plan, drifted=drifted, domains=judged))
            result = await self._applied(ground, plan, attending)
            await asyncio.to_thread(learn, ground.backoff, ground.desired, result, self._now())
            if result.done or result.failed:
                plan = await self._plan(ground, attending.ending)
        await asyncio.to_thread(learn_of_hosts, ground.backoff, ground.desired, plan, self._now())
        outcome = await self._outcome(ground, plan, result, attending)
        return replace(outcome, drifted=drifted, retry_seconds=self._retry_seconds(ground, plan, result))

    async def _outcome(self, ground: Ground, plan: Plan, result: ApplyResult, attending: Attending) -> Outcome:
        # what is refused to a single domain is told as its condition
        told = [one for one in plan.diagnostics if one.kind is not Kind.REFUSED or "/" not in (one.address or "")]
        # what is wrong with the specs is told once for all hosts
        told = [*ground.specs.problems, *told] if ground.name is None else [one for one in told if one.source is None]
        return Outcome(
            commit=ground.desired.commit,
            signer=ground.specs.signer,
            plan=plan,
            drifted=drifted_in(plan),
            result=result,
            problems=(*told, *result.diagnostics),
            domains=await asyncio.to_thread(self._judged, ground, plan, attending.known),
            given_up=frozenset(
                name for name, host in plan.hosts.items() if not host.observed and attending.ending() is not None
            ),
        )

    async def _applied(self, ground: Ground, plan: Plan, attending: Attending) -> ApplyResult:
        """Follow the plan. What the brake counts is noted before the first step, in case this process is killed."""
        specs = specs_of(ground.desired)
        before = passing.used_by_all(self._sharing, self._brake_count.used(specs))
        counted = [change for change in plan.changes if change.address not in before.of(change.action)]
        beyond = passing.Beyond(ground.desired.brake, self._fleet.limit)
        if (held := await passing.reserve(self._sharing, ground.name, plan, counted, before, beyond)) is not None:
            return ApplyResult(diagnostics=(held,))
        progress = attending.progress
        try:
            problem = await asyncio.to_thread(self._brake_count.begins, specs, counted)
            if ground.name is not None:
                self._fleet.begins(ground.name, plan)
                restarts = {change.address for change in plan.changes if change.restarts}
                progress = Heeding(progress, restarts, partial(self._fleet.fails, ground.name))
            late = LatePlaces(self._fleet, self._sharing, ground.name, plan, attending.stop)
            result = await ground.reconciler.apply(
                plan, progress, stop=attending.stop, place=late.take, history_is_needed=False
            )
        finally:
            if ground.name is not None:
                self._fleet.ended(ground.name)
            await passing.ended(self._sharing, ground.name)
        begun = {one.step.address for one in (*result.done, *result.failed)}
        unbegun = [change for change in counted if change.address not in begun]
        problem = await asyncio.to_thread(self._brake_count.gives_back, specs, unbegun) or problem
        await passing.ended(self._sharing, ground.name, unbegun)
        return replace(result, diagnostics=(*result.diagnostics, problem)) if problem is not None else result

    async def _plan(self, ground: Ground, ending: Stop, *, looked: bool = False) -> Plan:
        """Make the plan for now, without what failed and is not due yet. `looked`: the host was looked at just now."""
        if ground.name is not None and not looked:
            await self._look(ground, ending)
        plan = await self._plan_for(ground, ending)
        unpause = await asyncio.to_thread(self._paused.note, plan)
        if unpause != ground.unpause or unpause:
            ground.unpause = unpause
            plan = await self._plan_for(ground, ending)
        left = {change.address for change in plan.changes if change.acts or change.target is None}
        for address in list(ground.backoff.failures):
            host = plan.hosts.get(address.partition("/")[0])
            if "/" in address and address not in left and host is not None and host.observed:
                ground.backoff.succeeded(address)  # as specified, or gone, whoever brought that about
        return plan

    async def _plan_for(self, ground: Ground, ending: Stop) -> Plan:
        if ground.name is not None:
            if (plan := await self._fleet.part(ground.name, self._asked)) is None:
                raise GoneError
            _, ground.desired = self._about(ground.name)  # that the plan goes by
            return plan
        asked = self._asked_of([ground])
        at = datetime.fromtimestamp(self._now(), UTC)
        selection = Selection(postponed=asked.postponed, used=asked.used, at=at)
        return await ground.reconciler.make_plan(selection, Consent(unpause=asked.unpause), self._late(ending))

    def _asked(self) -> Asked:
        return self._asked_of(self._grounds.values())

    def _asked_of(self, grounds: Iterable[Ground]) -> Asked:
        grounds, now = list(grounds), self._now()
        failures = {address: one for ground in grounds for address, one in ground.backoff.waiting(now).items()}
        specs = specs_of((self._specs or grounds[0].specs).reading.desired)
        return Asked(
            postponed={address: f"failed: {failure.problem}" for address, failure in failures.items()},
            unpause=frozenset(address for ground in grounds for address in ground.unpause),
            used=passing.used_by_all(self._sharing, self._brake_count.used(specs)),
            given_up=self._sharing.given_up(),
        )

    def _late(self, ending: Stop) -> Stop:
        began = self._now()
        return lambda: ending() if self._now() - began >= _LAST_LOOK_SECONDS else None

    def _judged(self, ground: Ground, plan: Plan, known: Collection[str]) -> dict[str, tuple[Condition, str]]:
        desired, files = ground.desired, ground.specs.reading.files
        if is_no_tree(desired, plan.diagnostics):
            return judge_unseen({*known, *files}, plan.diagnostics)
        if ground.name is None or ground.name in desired.frozen:  # of a host that is frozen, only files name domains
            mine = (one for one in files if ground.name is None or one.startswith(f"{ground.name}/"))
            known = {*known, *mine}
        failures = ground.backoff.waiting(self._now())
        only_looks = self._detect_only or (ground.name is not None and self._sharing.why_not(ground.name) is not None)
        return judge_domains(plan, desired, failures, known, detect_only=only_looks)

    def _of_specs(self, specs: Specs, known: Collection[str]) -> Outcome:
        """Tell of the specs, and judge the domains of hosts that they do not describe, or not readably."""
        desired, files = specs.reading.desired, specs.reading.files
        reconciler = Reconciler(specs.reading, specs.root, self._state_dir)
        problems = (*specs.problems, *reconciler.problems_of_specs())
        domains = judge_elsewhere(desired, {*known, *files}, problems)
        return Outcome(commit=desired.commit, signer=specs.signer, problems=problems, domains=domains)

    def _retry_seconds(self, ground: Ground, plan: Plan, result: ApplyResult) -> float | None:
        now = self._now()
        moments = ground.backoff.next_try(now), plan.next_opening(datetime.fromtimestamp(now, UTC))
        waits = [max(0.0, moment - now) for moment in moments if moment is not None]
        left = ground.name is not None and bool(result.skipped)  # what others do may stand against it no more
        if left or any(problem.kind is Kind.REFUSED for problem in result.diagnostics):  # locked, or moved meanwhile
            waits.append(self._sharing.busy_seconds or _BUSY_RETRY_SECONDS)
        waits += [self._sharing.busy_seconds] if self._sharing.busy_seconds is not None and result.done else []
        paused_seconds = self._paused.next_seconds(ground.desired.hosts)
        waits += [paused_seconds] if paused_seconds is not None and not self._detect_only else []
        return min(waits, default=None)
