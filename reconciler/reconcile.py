"""The whole pass: observe hosts, plan, prove the plan, follow it. The command line and `watch` call this.

`make_plan` works with observers only, which cannot change a host; `apply` is the one place where executors are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from contextvars import Context
from dataclasses import field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from reconciler.apply.evidence import place_of, with_evidence
from reconciler.apply.follow import TakePlace, apply_plan
from reconciler.apply.history import History, Recorded, Recording, unrecorded_note
from reconciler.apply.result import ApplyResult, Progress, StepResult
from reconciler.apply.windows import ClosingWindows
from reconciler.decide.changes import Consent
from reconciler.decide.holds import kept_by_others
from reconciler.decide.unusable import complete
from reconciler.doctor.facts import Examination
from reconciler.fence import Alone, Fencing
from reconciler.inspect.observed import Observed, Seen
from reconciler.model.claims import fleet_claims, live_claims
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, unforeseen
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Host
from reconciler.open import OpenHost, open_host
from reconciler.person import this_process
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.refusals import Used
from reconciler.plan.stale import adopted_by, base_of, moved
from reconciler.plan.verify import verify
from reconciler.records import dataclass
from reconciler.specs import TreeReading
from reconciler.specs.commit import signer_of
from reconciler.state_dir import consoles, error_log, sightings
from reconciler.state_dir.digest_key import digest_key
from reconciler.toolstack import Executor, Observer, Question, Questions
from reconciler.waiting import Stop, UnderWay, never, unless_stopped

_HOSTS_AT_ONCE = 64
_LISTEN_AGAIN_SECONDS = 60

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Says what a run is about: these hosts, these addresses. Empty means all."""

    hosts: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    postponed: Mapping[str, str] = field(default_factory=dict)  # addresses to leave alone this time -> why
    used: Used = field(default_factory=Used)  # what the brake has counted before this run
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  # the moment for which windows are judged

    def host_names(self, known: Iterable[str]) -> frozenset[str]:
        named = self.hosts | {target.split("/", 1)[0] for target in self.targets}
        return frozenset(known) & named if named else frozenset(known)


class Reconciler:
    """Reconciles one spec tree with the hosts it describes. Close it when done: it may hold ssh connections."""

    def __init__(self, reading: TreeReading, spec_root: Path, state_dir: Path, fencing: Fencing | None = None) -> None:
        self._reading = reading
        self._desired = reading.desired
        self._spec_root = spec_root
        self._state_dir = state_dir
        self.fencing = fencing or Alone()
        self._opened: dict[str, OpenHost] = {}
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._history = History(state_dir)
        self._signer: str | None = None
        self._seen: dict[str, Seen] = {}
        self.questions = Questions()
        self.asking = UnderWay()  # the hosts that have not answered yet

    async def renew(self, reading: TreeReading, spec_root: Path, signer: str | None) -> None:
        """Go on with other specs. Connections are kept to the hosts whose settings stayed the same.

        `signer` is who signed the commit of these specs, for the history, where their source has checked it.
        """
        before, after = self._desired, reading.desired
        for name in list(self._opened):
            same_host = name in after.hosts and after.hosts[name].settings == before.hosts[name].settings
            if not same_host or after.fleet != before.fleet:
                await self._leave(name)
        self._reading, self._desired, self._spec_root, self._signer = reading, after, spec_root, signer

    def listen(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Have `heard` called when something happens on any host; see `Observer.events`. Call it after each `renew`."""
        for name, part in self._desired.hosts.items():
            if name not in self._listeners:
                listening = self._hear(self._observer(part.settings), heard, tell)
                # it outlives what it is begun in, and is no sign that this goes on
                self._listeners[name] = asyncio.create_task(listening, context=Context())

    async def _hear(self, observer: Observer, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Pass on a host's events until it has none. After an error nobody foresaw, it is tried again later."""
        while True:
            try:
                return await observer.events(heard, tell)
            except Exception as error:  # noqa: BLE001 -- one listener must not end, nor end anything else
                problem = self._unforeseen(f"listening to {observer.name}", error, observer.name)
                tell(f"{problem.detail} {problem.hint}")
                await asyncio.sleep(_LISTEN_AGAIN_SECONDS)

    async def make_plan(self, selection: Selection, consent: Consent, stop: Stop = never) -> Plan:
        """Look at the hosts and return what apply would do. Raises ReconcilerError if the plan fails its proof.

        Once `stop` gives a reason, no host is waited for any more.
        """
        selected = selection.host_names(self._desired.hosts)
        hosts, problems = await self.observe(selected, stop)
        elsewhere = self._desired.max_unavailable is not None or self._waits_for_waves_elsewhere(selected)
        if elsewhere or self._may_be_elsewhere(selected, hosts):
            others, silent = await self.observe(frozenset(self._desired.hosts) - selected, stop)
            hosts |= others
            problems += tuple(replace(problem, kind=Kind.NOTE) for problem in silent)
        return await asyncio.to_thread(self.plan_as_seen, selection, consent, hosts, problems)

    def plan_as_seen(
        self, selection: Selection, consent: Consent, hosts: Mapping[str, Host], problems: tuple[Diagnostic, ...]
    ) -> Plan:
        """Make the plan for hosts as they were seen. It is for a thread beside the loop, which has locks to renew.

        Raises ReconcilerError if the plan fails its proof.
        """
        at = None if consent.ignore_windows else selection.at
        given_up = sightings.forgotten(self._state_dir) - hosts.keys()
        given = replace(self._desired, postponed=selection.postponed, at=at, forgotten=given_up)
        desired, missing = complete(given, hosts)
        desired = with_evidence(desired, hosts, self._spec_root, self._history, consent.adopt)
        downtime, forgotten = self._expected_downtime()
        notes = [note for host in hosts.values() for note in (*kept_by_others(host, this_process()), *host.notes)]
        plan = build_plan(
            desired,
            hosts,
            consent,
            targets=selection.targets | selection.hosts,
            unseen=sightings.unseen(self._state_dir, self._known, hosts),
            downtime=downtime,
            used=selection.used,
            diagnostics=(*self.problems_of_specs(), *problems, *missing, *forgotten, *notes),
        )
        verify(plan, hosts, desired)
        selected = selection.host_names(self._desired.hosts)
        return replace(
            plan,
            hosts={name: summary for name, summary in plan.hosts.items() if name in selected},
            unmanaged=tuple(address for address in plan.unmanaged if address.split("/", 1)[0] in selected),
        )

    async def apply(
        self,
        plan: Plan,
        progress: Progress,
        *,
        stop: Stop = never,
        place: TakePlace | None = None,
        history_is_needed: bool = True,
    ) -> ApplyResult:
        """Follow a plan of `make_plan`, under the lock of each host, and only where nothing moved since it was made.

        For `stop` and `place` see `apply_plan`. When the history cannot be written, that is an error before anything is
        done or, where the history is not needed, a diagnostic of the result.
        """
        if history_is_needed:
            await asyncio.to_thread(self._history.check_writable)
        async with AsyncExitStack() as locks:
            executors, held = await self._lock_hosts(plan, locks, stop)
            held |= await self._moved(plan, frozenset(executors) - set(held), stop)
            left = await self._clear_leftovers(executors, held)
            result = await self._follow(plan, executors, held, progress, stop, place, history_is_needed)
            return replace(result, diagnostics=(*result.diagnostics, *left))

    async def take(self, name: str) -> None:
        """Have a host know that we act on it, before there is anything to do."""
        async with self._executor(self._desired.hosts[name].settings).lock():
            pass

    async def apply_saved(
        self, plan: Plan, progress: Progress, use: Callable[[], None], *, stop: Stop = never
    ) -> ApplyResult:
        """Follow a plan that was approved as a whole: nothing is done unless all that it saw is as it was.

        `use` is called before the first step; it raises ReconcilerError for a plan that was used before. `stop` gives a
        reason when no more steps are to begin; if no step has begun by then, the plan is not used up.
        """
        await asyncio.to_thread(self._history.check_writable)
        async with AsyncExitStack() as locks:
            executors, held = await self._lock_hosts(plan, locks, stop)
            held |= await self._moved(plan, frozenset(plan.base) - set(held), stop)
            held |= ClosingWindows(plan).all_closed()
            left = await self._clear_leftovers(executors, held)
            if held:
                reason = f"nothing was done, since {min(held)} cannot be changed as planned"
                skipped = tuple(StepResult(step=step, reason=reason) for step in plan.steps)
                return ApplyResult(skipped=skipped, diagnostics=tuple(held[host] for host in sorted(held)))
            if stop() is None:
                use()
            result = await self._follow(plan, executors, held, progress, stop)
            return replace(result, diagnostics=(*result.diagnostics, *left))

    async def _lock_hosts(
        self, plan: Plan, locks: AsyncExitStack, stop: Stop
    ) -> tuple[dict[str, Executor], dict[str, Diagnostic]]:
        """Lock each host that has steps. Returns their executors, and why some could not be locked."""
        names = sorted({step.host for step in plan.steps} | set(plan.leftovers))
        executors = {name: self._executor(self._desired.hosts[name].settings) for name in names}
        held: dict[str, Diagnostic] = {}
        for name in names:
            try:
                if not await unless_stopped(_locked(executors[name], locks), stop):
                    held[name] = _given_up(name, stop)
            except ReconcilerError as error:
                held[name] = error.diagnostics[0]
            except Exception as error:  # noqa: BLE001 -- what goes wrong with one host must not cost the others
                held[name] = self._unforeseen(f"{name} was locked", error, name)
        return executors, held

    async def _clear_leftovers(self, executors: Mapping[str, Executor], held: Collection[str]) -> list[Diagnostic]:
        """Take down what is left of rehearsals. Returns why some stays: no step counts on its memory and room."""
        left: list[Diagnostic] = []
        for name in sorted(name for name in executors if name not in held and name in self._seen):
            try:
                if self._seen[name].host.leftovers:
                    await executors[name].clear_leftovers()
            except ReconcilerError as error:
                left += error.diagnostics
        return left

    async def _moved(self, plan: Plan, names: frozenset[str], stop: Stop) -> dict[str, Diagnostic]:
        """Return the hosts that are not as the plan saw them, or that do not answer, with the reason."""
        hosts, problems = await self.observe(names, stop)
        held = {problem.address: problem for problem in problems if problem.address is not None}
        adopted = adopted_by(plan.changes)
        for name, host in hosts.items():
            if differences := await asyncio.to_thread(_moved_since, plan, host, adopted.get(name, ())):
                held[name] = _stale(name, differences)
        return held

    async def _follow(
        self,
        plan: Plan,
        executors: Mapping[str, Executor],
        held: Mapping[str, Diagnostic],
        progress: Progress,
        stop: Stop = never,
        place: TakePlace | None = None,
        history_is_needed: bool = True,
    ) -> ApplyResult:
        parallel = {name: self._desired.hosts[name].settings.parallel for name in executors}
        if not plan.steps:
            return ApplyResult(diagnostics=tuple(held[host] for host in sorted(held)))
        with ExitStack() as noting:
            recording, unrecorded = await asyncio.to_thread(self._recording, plan, noting, history_is_needed)
            followed = progress if recording is None else Recorded(progress, recording)
            result = self._kept(await apply_plan(plan, executors, parallel, followed, held, stop, place))
            if recording is not None:
                await asyncio.to_thread(recording.end, result)
                unrecorded = recording.problem
        await asyncio.to_thread(
            sightings.remember_steps, self._state_dir, [done.step for done in result.done], self._known
        )
        noted = () if unrecorded is None else (unrecorded_note(unrecorded),)
        return replace(result, diagnostics=(*result.diagnostics, *noted))

    def _recording(self, plan: Plan, noting: ExitStack, history_is_needed: bool) -> tuple[Recording | None, str | None]:
        """Return a recording that ends with `noting`; or None and why there is none.

        A full disk shows when the first thing is written.
        """
        signer = self._signer or signer_of(self._spec_root, plan.commit)
        try:
            tree = place_of(self._spec_root, self._desired)
            return noting.enter_context(self._history.recording(plan, signer, tree)), None
        except ReconcilerError as error:
            if history_is_needed:
                raise
            return None, error.diagnostics[0].detail.rstrip(".")

    async def observe(
        self, names: frozenset[str], stop: Stop = never
    ) -> tuple[dict[str, Host], tuple[Diagnostic, ...]]:
        """Observe these hosts. Returns those that answer, and why the others do not.

        Once `stop` gives a reason, those that have not answered are given up.
        """
        answers = await self._ask_each(names, lambda observer, question: observer.observe(question), stop)
        hosts = {name: answer for name, answer in answers.items() if isinstance(answer, Host)}
        before = self._seen
        unchanged = {name for name in hosts.keys() & before.keys() if hosts[name].guests is before[name].host.guests}
        self._note_seen(names, hosts)
        await asyncio.to_thread(sightings.remember, self._state_dir, hosts, self._known, unchanged)
        return hosts, tuple(answer for answer in answers.values() if isinstance(answer, Diagnostic))

    def _note_seen(self, names: frozenset[str], hosts: Mapping[str, Host]) -> None:
        now, parts = datetime.now(UTC), self._desired.hosts
        self._seen = {name: seen for name, seen in self._seen.items() if name in parts and name not in names}
        self._seen |= {
            name: Seen(host=host, question=self.questions.about(parts[name]), at=now) for name, host in hosts.items()
        }

    def observed(self) -> Observed:
        """Return the hosts as they were last observed, less those that did not answer then."""
        return Observed(fleet=self._desired.fleet, key=digest_key(self._state_dir), hosts=self._seen)

    async def examine(self, names: frozenset[str]) -> dict[str, Examination | Diagnostic]:
        """Look at these hosts and at what their dom0s tell of themselves; of one that does not answer, return why."""
        return await self._ask_each(names, lambda observer, question: observer.examine(question))

    async def _ask_each(
        self, names: frozenset[str], ask: Callable[[Observer, Question], Coroutine[Any, Any, T]], stop: Stop = never
    ) -> dict[str, T | Diagnostic]:
        """Ask many hosts at once. Return by name, in order, what each answers, or why it does not."""
        gate = asyncio.Semaphore(_HOSTS_AT_ONCE)

        async def ask_one(name: str) -> T | Diagnostic:
            part = self._desired.hosts[name]
            async with gate, self.asking.during(name):
                try:
                    asked = ask(self._observer(part.settings), await asyncio.to_thread(self.questions.about, part))
                    return await unless_stopped(asked, stop) or _given_up(name, stop)
                except ReconcilerError as error:
                    return replace(error.diagnostics[0], address=name)
                except Exception as error:  # noqa: BLE001 -- what goes wrong with one host must not cost the others
                    return self._unforeseen(f"{name} was looked at", error, name)

        return dict(zip(sorted(names), await asyncio.gather(*map(ask_one, sorted(names))), strict=True))

    async def close(self) -> None:
        for name in list(self._opened):
            await self._leave(name)

    async def _leave(self, name: str) -> None:
        """Forget a host, and end what goes on with it."""
        if name in self._listeners:
            listener = self._listeners.pop(name)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        await self._opened.pop(name).observer.close()

    def _unforeseen(self, doing: str, error: Exception, host: str) -> Diagnostic:
        return error_log.keep(self._state_dir, unforeseen(doing, error, host))

    def _kept(self, result: ApplyResult) -> ApplyResult:
        """Return the result with the tracebacks of errors nobody foresaw moved to the log; keep consoles for `why`."""
        for one in result.failed:
            if one.problem is not None and one.problem.console is not None:
                consoles.keep(self._state_dir, one.step.address, one.problem.console)
        failed = tuple(
            replace(one, problem=error_log.keep(self._state_dir, one.problem)) if one.problem is not None else one
            for one in result.failed
        )
        told = tuple(error_log.keep(self._state_dir, problem) for problem in result.diagnostics)
        return replace(result, failed=failed, diagnostics=told)

    def _may_be_elsewhere(self, selected: frozenset[str], hosts: Mapping[str, Host]) -> bool:
        """Return whether a host that was not looked at could have what a domain is to have."""
        return selected != frozenset(self._desired.hosts) and any(
            not fleet_claims(domain).keys() <= live_claims(host, host.guests.get(domain.name)).keys()
            for name, host in hosts.items()
            for domain in self._desired.hosts[name].domains.values()
        )

    def problems_of_specs(self) -> list[Diagnostic]:
        """Return what is wrong with the specs, and which hosts they no longer describe."""
        told = [error_log.keep(self._state_dir, problem) for problem in self._reading.diagnostics]
        return [*told, *self._forgotten_hosts()]

    def _waits_for_waves_elsewhere(self, selected: frozenset[str]) -> bool:
        """Return whether a lower wave may be on other hosts. Selecting hosts does not override waves."""
        waves = {
            name: [domain.policy.wave for domain in part.domains.values()] for name, part in self._desired.hosts.items()
        }
        lowest = min((wave for each in waves.values() for wave in each), default=0)
        return selected != frozenset(waves) and any(wave > lowest for name in selected for wave in waves[name])

    @property
    def _known(self) -> frozenset[str]:
        """Return the names of all hosts of the tree, also of those whose host.toml has errors."""
        return frozenset(self._desired.hosts) | {name for name in self._desired.frozen if "/" not in name}

    def _forgotten_hosts(self) -> list[Diagnostic]:
        known = set(self._desired.hosts) | self._desired.frozen
        if not known:
            return []  # there is no tree, or nothing in it, which is told already
        return [
            Diagnostic(
                kind=Kind.NOTE,
                summary=f"{host} is no longer in the specs",
                detail=f"The specs no longer describe host {host}, where {len(seen.ours)} of our domains were last "
                "seen. Nothing is done there.",
                hint=f"to give its domains up for good, remove their files first and {host}/host.toml later; "
                f"to give up the host as it is: reconciler forget {host}",
                address=host,
            )
            for host, seen in sorted(sightings.recall(self._state_dir, (), known).items())
            if seen is not None and seen.ours
        ]

    def _expected_downtime(self) -> tuple[dict[str, float], tuple[Diagnostic, ...]]:
        """Return how long restarts took before. A plan needs it not, so a broken history is only told."""
        try:
            return self._history.expected_downtime(), ()
        except ReconcilerError as error:
            return {}, tuple(replace(diagnostic, kind=Kind.NOTE) for diagnostic in error.diagnostics)

    def _observer(self, settings: HostSettings) -> Observer:
        return self._open(settings).observer

    def _executor(self, settings: HostSettings) -> Executor:
        return self._open(settings).executor(self._desired.commit, self._spec_root, self.fencing)

    def _open(self, settings: HostSettings) -> OpenHost:
        if settings.name not in self._opened:
            self._opened[settings.name] = open_host(settings, self._desired.fleet, self._state_dir)
        return self._opened[settings.name]


async def _locked(executor: Executor, locks: AsyncExitStack) -> bool:
    await locks.enter_async_context(executor.lock())
    return True


def _given_up(host: str, stop: Stop) -> Diagnostic:
    detail = f"{host} had not answered yet, and is not waited for: {stop() or 'it was asked to stop'}."
    return Diagnostic(kind=Kind.NOTE, summary="not waited for", detail=detail, address=host, transient=True)


def _moved_since(plan: Plan, host: Host, adopted: Collection[str]) -> tuple[str, ...]:
    return moved(plan.base.get(host.name, {}), base_of(host, adopted))


def _stale(host: str, differences: tuple[str, ...]) -> Diagnostic:
    named = ", ".join(differences[:5]) + (f" and {len(differences) - 5} more" if len(differences) > 5 else "")
    return Diagnostic(
        kind=Kind.REFUSED,
        summary=f"{host} changed since the plan was made",
        detail=f"The plan is stale: on {host} these are no longer as observed: {named}. Nothing was done there.",
        hint="run `reconciler plan` again to see the new plan",
        address=host,
    )
