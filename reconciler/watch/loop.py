"""Runs the loops, one a host: wait for a reason to look, make a pass, tell what came of it. `cli.act.watch` builds it.

One more loop takes the specs; a host goes by new ones from its next pass on. What speaks of the whole fleet is decided
on what is known of all hosts (`fleet`), so a host that is slow or silent costs the others nothing. A reason only says
"look now"; what is to be done follows from specs and hosts alone. After one signal to stop, the steps in flight end;
the rest is left for the next start, which looks at the hosts and goes on from there.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.apply.history import History
from reconciler.fleet import FleetView
from reconciler.inspect.observed import Observed
from reconciler.inspect.status import judge
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, exit_code, unforeseen
from reconciler.notify import Notifications
from reconciler.plan.plan import Plan
from reconciler.show.status import status_document
from reconciler.waiting import signs_of_life
from reconciler.watch import conditions
from reconciler.watch.conditions import DomainCondition, WatchRecord
from reconciler.watch.ground import Attending
from reconciler.watch.logs import Log, LoggedSteps
from reconciler.watch.news import FLEET, Board, Findings, Outcome, ShownSteps, facts_of
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier, collect_old_objects
from reconciler.watch.source import Source
from reconciler.watch.triggers import ASKED, EVENT, INTERVAL, OTHERS, SPECS, Clock, Triggers
from reconciler.watch.view import Metrics, StepUnderWay

_FAILED = 1
_STUCK_SECONDS = 1800.0  # without a sign of life; whatever waits or copies gives one every few seconds
_SIGNS_A_WATCHDOG_PERIOD = 3
_HOSTS_AT_WORK = 64
_TAKES_A_COLLECTION = 100
_STORE_SHARE, _STORE_WAIT_SECONDS = 10.0, 30.0  # writes take a tenth of the time at most
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0  # before a task that failed is begun again


class Watcher:
    """The running loop, which also answers as a `WatchView`. Call `run` once."""

    def __init__(
        self,
        source: Source,
        passes: Passes,
        state_dir: Path,
        *,
        interval_seconds: float,
        clock: Clock,
        log: Log,
        notifier: Notifier,
        shake: Callable[[float], float] = lambda seconds: seconds,
    ) -> None:
        self._source = source
        self._passes = passes
        self.state_dir = state_dir
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._log = log
        self._notifier = notifier
        self._shake = shake
        self._triggers = Triggers(clock)
        self._triggers_of: dict[str, Triggers] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._at_work = asyncio.Semaphore(_HOSTS_AT_WORK)
        self._stopping = False
        self._unready: set[str] | None = None  # hosts without a first pass; None: the specs were not read yet
        self._turns: dict[str, float] = {}  # what does not wait -> its last sign of life
        self._plan: Plan | None = None  # of the last pass over all hosts at once
        self._storing: asyncio.Task[None] | None = None
        self._is_to_store = False
        self._taken = 0  # how often the specs were
        self._stored_at = clock.now()
        self._news_at_once = True  # no writing of the conditions waits for another one
        record = WatchRecord(process=os.getpid(), source=source.name, domains=conditions.kept(state_dir))
        self._board = Board(log, record)
        self.notifications = Notifications(state_dir, clock.now, self._receivers_fare)

    async def run(self, *, once: bool = False) -> int:
        """Run until `stop` is called, or for one pass over all hosts. Returns its exit code then, else 0."""
        self._log.say("watch begins", source=self._source.name, interval_seconds=self._interval_seconds)
        try:
            if once:
                outcome = await self.make_pass(frozenset({"once"}))
                await self.notifications.send_all()
                return _exit_code(outcome)
            async with self.notifications.attended(), self._attended():
                self._notifier.tell("READY=1")  # a first pass may take longer than a manager waits for a start
                await self._work()
            return 0
        finally:
            self._source.stop()
            await self._passes.close()
            self._board.stopped(self._clock.now())
            self._store()
            await self._stored_all()
            self._log.say("watch ended")

    def stop(self) -> None:
        """Begin nothing more; `run` returns when the steps in flight have ended."""
        self._stopping = True
        self._notifier.tell("STOPPING=1")
        self._log.say("asked to stop", note="what is under way is finished; a second signal leaves at once")
        for triggers in (self._triggers, *self._triggers_of.values()):
            triggers.ask("stop")
        self._source.stop()

    async def make_pass(self, reasons: frozenset[str]) -> Outcome:
        """Make one pass over all hosts at once. `reasons` say why it is made; they are logged."""
        with self._log.in_pass():
            if ASKED in reasons:
                self._passes.try_all_now()
            outcome = await self._make_pass(FLEET, reasons, self._passes.make)
            self._plan = outcome.plan or self._plan
            await self._stored_all()
            return outcome

    async def _make_pass(
        self, scope: str, reasons: frozenset[str], make: Callable[[Attending], Awaitable[Outcome]]
    ) -> Outcome:
        """Make a pass over a host, or over all, and tell what came of it, where that is news."""
        began, before = self._clock.now(), self._board.of(scope)
        turned = partial(self._turned, scope)
        turned()
        attending = Attending(
            progress=ShownSteps(LoggedSteps(self._log, turned), self._board, self._clock.now),
            known=before,
            stop=partial(self._stop_reason, scope),
            ending=self._end_reason,
            work_begins=partial(self._work_begins, scope, before),
        )
        with signs_of_life(turned):
            outcome = await make(attending)
            turned()
            if not outcome.same and (scope == FLEET or scope in self._passes.hosts()):
                await self._tell(scope, outcome, before, reasons, began)
        self._board.passed(outcome, began, self._clock.now())
        if not outcome.same or self._clock.now() - self._stored_at >= self._interval_seconds:
            self._store()
        return outcome

    async def _work(self) -> None:
        """Take the specs, again and again. Each host that they describe has a loop of its own beside this one."""
        reasons = frozenset({"start"})
        while not self._stopping:
            try:
                await self._take_specs(reasons)
            except Exception as error:  # noqa: BLE001 -- the specs in force stay so, and are taken again later
                self._log.problem(unforeseen("the specs were taken", error))
            self._taken += 1
            if self._taken % _TAKES_A_COLLECTION == 0:
                collect_old_objects()
            self._turns.pop(FLEET, None)
            reasons = await self._triggers.wait(self._interval_seconds)
        self._turns.pop(FLEET, None)
        await asyncio.gather(*self._loops.values())

    async def _take_specs(self, reasons: frozenset[str]) -> None:
        """Read the specs, and wake the hosts of which they say something else than before."""
        turned, began = partial(self._turned, FLEET), self._clock.now()
        turned()
        with signs_of_life(turned):
            outcome = await self._passes.take_specs(self._board.of(FLEET))
        if self._stopping:
            return
        hosts, now = self._passes.hosts(), self._clock.now()
        touched = frozenset(name for name in hosts if self._passes.is_touched(name))
        if ASKED in reasons:
            self._passes.try_all_now()
        self._tend_hosts(hosts, asked=ASKED in reasons)
        findings = await asyncio.to_thread(Findings.of, outcome, self._board.of(FLEET), now)
        self._board.specs_taken(outcome, findings, hosts)
        if outcome.failed:
            self._board.passed(outcome, began, now)
        self._store()
        await self._notify(FLEET, outcome, touched)
        news = self._board.news(FLEET)
        told = await asyncio.to_thread(news.of_problems, outcome.problems)
        told |= await asyncio.to_thread(news.of_domains, outcome.domains, None)
        if told or SPECS in reasons:
            self._log.say("specs taken", commit=outcome.commit, hosts=len(hosts))

    def _tend_hosts(self, hosts: frozenset[str], *, asked: bool) -> None:
        """Begin the loops of hosts that are new, and wake those that are touched, or gone, or asked for."""
        self._unready = (self._unready if self._unready is not None else set(hosts)) & hosts
        for name in sorted(hosts | self._loops.keys()):
            if name in hosts and (name not in self._loops or self._loops[name].done()):
                self._triggers_of[name] = Triggers(self._clock)
                self._loops[name] = asyncio.create_task(self._tend(name), context=Context())
            elif name not in hosts or self._passes.is_touched(name):
                self._triggers_of[name].ask(SPECS)
            if name in hosts and asked:
                self._triggers_of[name].ask(ASKED)

    async def _tend(self, name: str) -> None:
        """Make passes over one host for as long as the specs describe it."""
        reasons, triggers = frozenset({"start"}), self._triggers_of[name]
        while not self._stopping and name in self._passes.hosts():
            outcome = Outcome()
            async with self._at_work:  # it is given in the order of asking, so who always has work starves nobody
                if self._stopping:
                    break
                try:
                    with self._log.in_pass():
                        outcome = await self._make_pass(name, reasons, partial(self._passes.make_of_host, name))
                except Exception as error:  # noqa: BLE001 -- what goes wrong with one pass ends neither others nor its host's next
                    self._log.problem(unforeseen(f"a pass over {name} was made", error, name))
            self._turns.pop(name, None)
            if self._unready is not None:
                self._unready.discard(name)
            if self._stopping:
                break
            seconds = self._shake(self._interval_seconds)
            if outcome.retry_seconds is not None:
                seconds = min(seconds, max(outcome.retry_seconds, 1.0))
            reasons = await triggers.wait(seconds)
        if not self._stopping:
            await self._passes.leave(name)

    def _stop_reason(self, scope: str) -> str | None:
        """Return the reason why a running apply should begin no more steps; None when it may go on."""
        if self._stopping:
            return "left for the next start, since watch was asked to stop"
        if self._triggers.is_asked(SPECS) if scope == FLEET else self._passes.is_touched(scope):
            return "left for the next pass, since the specs changed"
        return self._passes.stop_reason(scope) if scope != FLEET else None

    def _end_reason(self) -> str | None:
        return "watch was asked to stop" if self._stopping else None

    @asynccontextmanager
    async def _attended(self) -> AsyncIterator[None]:
        """Run the tasks beside the loops: listen to hosts and specs, and give signs of life."""
        of_no_pass = copy_context()  # a pass begins to listen, and what is heard later bears no id of it
        self._passes.listen(
            lambda name: self._ask(name, EVENT),
            lambda name: self._ask(name, OTHERS),
            lambda text: of_no_pass.run(self._log.say, text, "warning"),
        )
        self._news_at_once = False
        work = [partial(self._source.watch, lambda: self._triggers.ask(SPECS))]
        if self._notifier.watchdog_seconds is not None:
            work.append(partial(self._give_signs, self._notifier.watchdog_seconds))
        tasks = [asyncio.create_task(self._keep_alive(one)) for one in work]
        try:
            yield
        finally:
            self._news_at_once = True
            for task in (*tasks, *self._loops.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._loops.values(), return_exceptions=True)

    def _ask(self, name: str, reason: str) -> None:
        if name in self._triggers_of:
            self._triggers_of[name].ask(reason)

    async def _keep_alive(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what goes on beside the passes. After an error that nobody foresaw it is begun again, ever later."""
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await work()
            except Exception as error:  # noqa: BLE001 -- one task of watch must neither end nor end the others
                self._log.problem(unforeseen("watch looked out for changes and gave signs of life", error))
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _give_signs(self, period_seconds: float) -> None:
        while True:
            if self.is_healthy():
                self._notifier.tell("WATCHDOG=1")
            await asyncio.sleep(period_seconds / _SIGNS_A_WATCHDOG_PERIOD)

    def _turned(self, scope: str) -> None:
        self._turns[scope] = self._clock.now()

    async def _work_begins(self, scope: str, before: Mapping[str, DomainCondition], found: Outcome) -> None:
        """Publish what a pass found before it acts on that, since acting may take long."""
        try:
            findings = await asyncio.to_thread(Findings.of, found, before, self._clock.now())
            self._board.found(scope, found, findings)
            self._plan = found.plan if scope == FLEET else self._plan
            await asyncio.to_thread(self._board.news(scope).of_domains, found.domains, found.plan)
            if (specs := self._passes.specs) is not None:
                await self.notifications.found(facts_of(scope, found, specs, self._clock.now()))
        except Exception as error:  # noqa: BLE001 -- what cannot be told is done all the same
            self._log.problem(unforeseen("what a pass found was told", error))
        self._store()

    async def _tell(
        self,
        scope: str,
        outcome: Outcome,
        before: Mapping[str, DomainCondition],
        reasons: frozenset[str],
        began: float,
    ) -> None:
        """Show what a pass came to; log what is new, changed or gone, and the pass in one line if it brought news."""
        try:
            domains = {**outcome.domains, **conditions.of_hosts(outcome.given_up, before)}
            known = replace(outcome, domains=domains) if outcome.given_up else outcome
            findings = await asyncio.to_thread(Findings.of, known, before, self._clock.now())
            self._board.ended(scope, known, findings)
            if outcome.of_another:
                return
            await asyncio.to_thread(self._log_pass, scope, known, reasons, began)
            if not outcome.given_up:
                await self._notify(scope, outcome)
        except Exception as error:  # noqa: BLE001 -- the outcome says when to try again, told or not
            self._log.problem(unforeseen("a pass was told of", error))

    async def _notify(self, scope: str, outcome: Outcome, touched: frozenset[str] | None = None) -> None:
        """Tell the receivers of reconciler.toml of a pass, or (with `touched`) of a reading of the specs."""
        specs = self._passes.specs
        if specs is None:
            return
        hosts = touched if touched is not None else frozenset(specs.reading.desired.hosts)
        facts = facts_of(scope, outcome, specs, self._clock.now(), touched=hosts)
        if scope == FLEET:
            of_specs = facts if touched is not None else replace(facts, domains={})  # of a pass over all hosts
            await self.notifications.specs_taken(specs.reading.desired.receivers, specs.root, of_specs)
        if touched is None:
            await self.notifications.passed(facts)

    def _receivers_fare(self, problems: Sequence[Diagnostic]) -> None:
        """Show which receivers are not told, and why."""
        self._board.receivers_fare(problems)
        self._store()

    def _log_pass(self, scope: str, outcome: Outcome, reasons: frozenset[str], began: float) -> None:
        news = self._board.news(scope)
        told = news.of_problems(outcome.problems)
        told |= news.of_domains(outcome.domains, outcome.plan)
        everything = self._board.counted(FLEET)
        self._notifier.tell("STATUS=" + (", ".join(f"{everything[word]} {word}" for word in everything) or "no domain"))
        if told or outcome.result.done or not reasons <= {INTERVAL, EVENT, OTHERS}:
            self._log.say(
                "pass ended",
                "warning" if outcome.failed else "info",
                host=scope or None,
                because=", ".join(sorted(reasons)),
                commit=outcome.commit,
                drifted=outcome.drifted,
                steps_done=len(outcome.result.done),
                steps_failed=len(outcome.result.failed),
                seconds=round(self._clock.now() - began, 2),
                **{word.lower(): count for word, count in self._board.counted(scope).items()},
            )

    def _store(self) -> None:
        """Have the conditions written down beside the loop, as they are when that begins."""
        self._is_to_store = True
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._stored())

    async def _stored_all(self) -> None:
        while self._storing is not None and not self._storing.done():
            await self._storing

    async def _stored(self) -> None:
        while self._is_to_store:
            self._is_to_store, began = False, time.monotonic()
            self._stored_at = self._clock.now()
            try:
                await asyncio.to_thread(lambda: conditions.store(self.state_dir, self._board.record()))
            except OSError as error:
                self._log.say("the conditions could not be stored", "error", detail=str(error))
            except Exception as error:  # noqa: BLE001 -- the next pass stores them again
                self._log.problem(unforeseen("the conditions were stored", error))
            if not (self._news_at_once or self._stopping):  # of a large fleet there is always something new
                await asyncio.sleep(min(_STORE_SHARE * (time.monotonic() - began), _STORE_WAIT_SECONDS))

    # What follows is the WatchView.

    def status_document(self) -> dict[str, Any]:
        plan, record = self.plan(), self._board.record()
        if plan is None:
            empty = {"format": 1, "domains": [], "hosts": {}, "diagnostics": [], "summary": {}}
            return conditions.with_conditions(empty, record)
        problems = [problem for problem in plan.diagnostics if problem.kind is not Kind.REFUSED]
        document = status_document(judge(plan, {}), plan, problems)
        return conditions.with_conditions(document, record)

    def plan(self) -> Plan | None:
        return self._passes.plan() or self._plan

    def observed(self) -> Observed | None:
        return self._passes.observed()

    def revision(self) -> int:
        return self._board.revision

    def fleet(self) -> FleetView:
        return self._passes.view()

    def steps(self) -> tuple[StepUnderWay, ...]:
        return self._board.steps()

    def metrics(self) -> Metrics:
        try:
            downtime = History(self.state_dir).expected_downtime()
        except ReconcilerError:  # the passes tell that the history is broken
            downtime = {}
        except Exception as error:  # noqa: BLE001 -- all other numbers can be told
            self._log.problem(unforeseen("the history was asked for down times", error))
            downtime = {}
        return replace(self._board.metrics, downtime_seconds_by_address=downtime)

    def is_healthy(self) -> bool:
        now = self._clock.now()
        return all(now - turned < _STUCK_SECONDS for turned in list(self._turns.values()))

    def is_ready(self) -> bool:
        return self._board.metrics.passes_total > 0 and not self._unready

    def take_specs_soon(self) -> None:
        self._triggers.ask(SPECS)

    def reconcile_now(self) -> None:
        self._triggers.ask(ASKED)

    def look_at(self, host: str) -> None:
        self._ask(host, ASKED)

    def problem(self, problem: Diagnostic) -> None:
        self._log.problem(problem)


def _exit_code(outcome: Outcome) -> int:
    refusals = outcome.plan.diagnostics if outcome.plan is not None else ()
    return _FAILED if outcome.result.failed else exit_code((*outcome.problems, *refusals))
