"""Runs the loop: wait for a reason to look, make a pass, tell what came of it. `cli.act.watch` builds and runs it.

A reason only says "look now"; what is to be done follows from specs and hosts alone. After one signal to stop, the
steps in flight end; the rest is left for the next start, which looks at the hosts and goes on from there.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.apply.history import History
from reconciler.inspect.observed import Observed
from reconciler.inspect.status import Condition, judge
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, exit_code, unforeseen
from reconciler.plan.plan import Plan
from reconciler.show.status import status_document
from reconciler.waiting import signs_of_life
from reconciler.watch import conditions
from reconciler.watch.conditions import DomainCondition, WatchRecord
from reconciler.watch.logs import Log, LoggedSteps, moment
from reconciler.watch.news import News
from reconciler.watch.notify import Notifier
from reconciler.watch.passes import Outcome, Passes, drifted_in
from reconciler.watch.source import Source
from reconciler.watch.triggers import ASKED, EVENT, INTERVAL, SPECS, Clock, Triggers
from reconciler.watch.view import Metrics

_FAILED = 1
_STUCK_SECONDS = 1800.0  # without a sign of life; whatever waits or copies gives one every few seconds
_SIGNS_A_WATCHDOG_PERIOD = 3
_PASSES_A_COLLECTION = 1_000
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
    ) -> None:
        self._source = source
        self._passes = passes
        self._state_dir = state_dir
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._log = log
        self._notifier = notifier
        self._triggers = Triggers(clock)
        self._stopping = False
        self._waiting = False
        self._last_turn = clock.now()
        self._plan: Plan | None = None
        self._storing: asyncio.Task[None] | None = None
        self._metrics = Metrics()
        self._record = WatchRecord(process=os.getpid(), source=source.name, domains=_kept(state_dir))
        self._news = News(log)

    async def run(self, *, once: bool = False) -> int:
        """Run until `stop` is called, or for one pass. Returns the exit code: that of the one pass, else 0."""
        self._log.say("watch begins", source=self._source.name, interval_seconds=self._interval_seconds)
        try:
            if once:
                return _exit_code(await self.make_pass(frozenset({"once"})))
            async with self._attended():
                self._notifier.tell("READY=1")  # a first pass may take longer than a manager waits for a start
                await self._turn()
            return 0
        finally:
            self._source.stop()
            await self._passes.close()
            self._store(replace(self._record, stopped=moment(self._clock.now())))
            await self._stored_all()
            self._log.say("watch ended")

    def stop(self) -> None:
        """Begin nothing more; `run` returns when the steps in flight have ended."""
        self._stopping = True
        self._notifier.tell("STOPPING=1")
        self._log.say("asked to stop", note="what is under way is finished; a second signal leaves at once")
        self._triggers.ask("stop")
        self._source.stop()

    async def make_pass(self, reasons: frozenset[str]) -> Outcome:
        """Make one pass. `reasons` say why it is made; they are logged."""
        with self._log.in_pass():
            return await self._make_pass(reasons)

    async def _make_pass(self, reasons: frozenset[str]) -> Outcome:
        began = self._clock.now()
        self._turned()
        if ASKED in reasons:
            self._passes.try_all_now()
        before = self._record.domains
        steps = LoggedSteps(self._log, self._turned)
        with signs_of_life(self._turned):
            outcome = await self._passes.make(steps, self._stop_reason, before, self._work_begins, self._end_reason)
        if outcome.given_up:
            outcome = replace(outcome, domains={**outcome.domains, **_of_hosts(outcome.given_up, before)})
        self._turned()
        await self._remember(outcome, before, began)
        try:
            await asyncio.to_thread(self._tell, outcome, reasons, began)
        except Exception as error:  # noqa: BLE001 -- the outcome says when to try again, told or not
            self._log.problem(unforeseen("a pass was told of", error))
        await self._stored_all()
        return outcome

    async def _turn(self) -> None:
        reasons = frozenset({"start"})
        while not self._stopping:
            try:
                outcome = await self.make_pass(reasons)
            except Exception as error:  # noqa: BLE001 -- what goes wrong in telling of one pass must not end the others
                self._log.problem(unforeseen("a pass was told of", error))
                outcome = Outcome()
            if self._stopping:
                return
            if self._metrics.passes_total % _PASSES_A_COLLECTION == 0:
                gc.collect()  # now, since nothing is under way
            seconds = self._interval_seconds
            if outcome.retry_seconds is not None:
                seconds = min(seconds, max(outcome.retry_seconds, 1.0))
            self._waiting = True
            reasons = await self._triggers.wait(seconds)
            self._waiting = False

    def _stop_reason(self) -> str | None:
        """Return the reason why a running apply should begin no more steps; None when it may go on."""
        if self._stopping:
            return "left for the next start, since watch was asked to stop"
        if self._triggers.is_asked(SPECS):
            return "left for the next pass, since the specs changed"
        return None

    def _end_reason(self) -> str | None:
        return "watch was asked to stop" if self._stopping else None

    @asynccontextmanager
    async def _attended(self) -> AsyncIterator[None]:
        """Run the tasks beside the loop: listen to hosts and specs, and give signs of life."""
        of_no_pass = copy_context()  # a pass begins to listen, and what is heard later bears no id of it
        self._passes.listen(
            lambda: self._triggers.ask(EVENT), lambda text: of_no_pass.run(self._log.say, text, "warning")
        )
        work = [partial(self._source.watch, lambda: self._triggers.ask(SPECS))]
        if self._notifier.watchdog_seconds is not None:
            work.append(partial(self._give_signs, self._notifier.watchdog_seconds))
        tasks = [asyncio.create_task(self._keep_alive(one)) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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

    def _turned(self) -> None:
        self._last_turn = self._clock.now()

    async def _work_begins(self, found: Outcome) -> None:
        """Publish what a pass found before it acts on that, since acting may take long."""
        self._plan = found.plan
        before, now = self._record.domains, self._clock.now()
        domains, counted = await asyncio.to_thread(_dated, found.domains, before, now)
        self._record = replace(self._record, domains=domains)
        self._metrics = replace(self._metrics, domains_by_condition=counted, drifted=found.drifted)
        try:
            await asyncio.to_thread(self._news.of_domains, found.domains, found.plan)
        except Exception as error:  # noqa: BLE001 -- what cannot be told is done all the same
            self._log.problem(unforeseen("what a pass found was told", error))
        self._store(self._record)

    async def _remember(self, outcome: Outcome, before: Mapping[str, DomainCondition], began: float) -> None:
        """Publish what a pass found and did. `before` are the conditions that the last pass ended with.

        A domain that failed again keeps the "since" that it had there, although it was Reconciling during the pass.
        """
        now = self._clock.now()
        if outcome.plan is not None:
            self._plan = outcome.plan
        domains, counted = await asyncio.to_thread(_dated, outcome.domains, before, now)
        problems = await asyncio.to_thread(conditions.told, outcome.problems)
        self._record = replace(
            self._record,
            commit=outcome.commit if outcome.plan is not None else self._record.commit,
            signer=outcome.signer if outcome.plan is not None else self._record.signer,
            last_pass=moment(now),
            problems=problems,
            domains=domains,
        )
        self._metrics = replace(
            self._metrics,
            domains_by_condition=counted,
            drifted=drifted_in(outcome.plan) if outcome.plan is not None else self._metrics.drifted,
            passes_total=self._metrics.passes_total + 1,
            pass_failures_total=self._metrics.pass_failures_total + outcome.failed,
            last_pass_seconds=now - began,
            steps_done_total=self._metrics.steps_done_total + len(outcome.result.done),
            steps_failed_total=self._metrics.steps_failed_total + len(outcome.result.failed),
            last_commit=self._record.commit,
            last_pass_ended=now,
        )
        self._store(self._record)

    def _store(self, record: WatchRecord) -> None:
        """Write the conditions down beside the loop, each time after the time before."""
        self._storing = asyncio.create_task(self._stored(self._storing, record))

    async def _stored_all(self) -> None:
        if self._storing is not None:
            await self._storing

    async def _stored(self, before: asyncio.Task[None] | None, record: WatchRecord) -> None:
        if before is not None:
            await before
        try:
            await asyncio.to_thread(conditions.store, self._state_dir, record)
        except OSError as error:
            self._log.say("the conditions could not be stored", "error", detail=str(error))
        except Exception as error:  # noqa: BLE001 -- each store waits for the one before, so one would end all others
            self._log.problem(unforeseen("the conditions were stored", error))

    def _tell(self, outcome: Outcome, reasons: frozenset[str], began: float) -> None:
        """Log problems and domains that are new, changed or gone; and the pass in one line, if it brought news."""
        told = self._news.of_problems(outcome.problems)
        told |= self._news.of_domains(outcome.domains, outcome.plan)
        news = told or outcome.result.done or not reasons <= {INTERVAL, EVENT}
        counted = {word: count for word, count in self._metrics.domains_by_condition.items() if count}
        self._notifier.tell(
            "STATUS=" + (", ".join(f"{counted[word]} {word}" for word in sorted(counted)) or "no domain")
        )
        if news:
            self._log.say(
                "pass ended",
                "warning" if outcome.failed else "info",
                because=", ".join(sorted(reasons)),
                commit=outcome.commit,
                drifted=outcome.drifted,
                steps_done=len(outcome.result.done),
                steps_failed=len(outcome.result.failed),
                seconds=round(self._clock.now() - began, 2),
                **{word.lower(): counted[word] for word in sorted(counted)},
            )

    # What follows is the WatchView.

    def status_document(self) -> dict[str, Any]:
        if self._plan is None:
            empty = {"format": 1, "domains": [], "hosts": {}, "diagnostics": [], "summary": {}}
            return conditions.with_conditions(empty, self._record)
        problems = [problem for problem in self._plan.diagnostics if problem.kind is not Kind.REFUSED]
        document = status_document(judge(self._plan, {}), self._plan, problems)
        return conditions.with_conditions(document, self._record)

    def plan(self) -> Plan | None:
        return self._plan

    def observed(self) -> Observed | None:
        return self._passes.observed()

    def metrics(self) -> Metrics:
        try:
            downtime = History(self._state_dir).expected_downtime()
        except ReconcilerError:  # the passes tell that the history is broken
            downtime = {}
        return replace(self._metrics, downtime_seconds_by_address=downtime)

    def is_healthy(self) -> bool:
        return self._waiting or self._clock.now() - self._last_turn < _STUCK_SECONDS

    def is_ready(self) -> bool:
        return self._metrics.passes_total > 0

    def reconcile_now(self) -> None:
        self._triggers.ask(ASKED)

    def problem(self, problem: Diagnostic) -> None:
        self._log.problem(problem)


def leave_old_objects_alone() -> None:
    """Have Python's collector look at young objects only; `Watcher` has it look at all of them now and then.

    To look at all takes 0.3 s with 10,000 domains, holds the loop, and may come at any moment of a pass. What a pass
    makes has no cycles, so that it is freed without a collector.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1_000_000)


def _kept(state_dir: Path) -> dict[str, DomainCondition]:
    """Load the conditions that an earlier watch left, so that "since" survives a restart."""
    record = conditions.load(state_dir)
    return dict(record.domains) if record is not None else {}


def _of_hosts(hosts: Collection[str], known: Mapping[str, DomainCondition]) -> dict[str, tuple[Condition, str]]:
    """Return what is known of the domains of these hosts."""
    return {
        address: (one.condition, one.reason) for address, one in known.items() if address.partition("/")[0] in hosts
    }


def _dated(
    judged: Mapping[str, tuple[Condition, str]], before: Mapping[str, DomainCondition], now: float
) -> tuple[dict[str, DomainCondition], dict[str, int]]:
    """Return the conditions with their dates, and how many there are of each."""
    domains = conditions.with_since(judged, before, now)
    counts = Counter(known.condition.value for known in domains.values())
    return domains, {one.value: 0 for one in Condition} | counts


def _exit_code(outcome: Outcome) -> int:
    refusals = outcome.plan.diagnostics if outcome.plan is not None else ()
    return _FAILED if outcome.result.failed else exit_code((*outcome.problems, *refusals))
