"""Stands between a controller and its hosts: counts each command, lets it fail as scripts say, and judges its effect.

It is made in the process of one run, and tells the player of everything, a line of JSON each, so that what was told
before a kill is known after it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from reconciler import reconcile
from reconciler.apply import history
from reconciler.apply.result import ApplyResult
from reconciler.doctor.facts import Examination
from reconciler.fence import Fencing
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Hold, Host, LockHolder, Look
from reconciler.model.rehearsal import Rehearsal
from reconciler.open import OpenHost, open_host
from reconciler.plan.plan import Plan
from reconciler.plan.steps import HostStep, Step, domain_of
from reconciler.reconcile import Reconciler
from reconciler.toolstack import Executor as HostExecutor
from reconciler.toolstack import Observer, Question, RehearsalLook
from tests.simulate.laws import Laws
from tests.simulate.script import Incident
from tests.simulate.turns import KILLED

T = TypeVar("T")
FAULTS = ("before", "after", "hang", "late", "crash", "odd", "kill", "stop", "other")
UNFORESEEN = ("crash", "odd")  # whose traceback goes into the log
_HANGS_SECONDS = 120.0
_LATE_SECONDS = 20.0
Deed = Callable[[str, str], None]
"""What a hand does on a host, in the words of a script; see `play.by_hand`."""


@dataclass
class Between:
    """All hosts of one run."""

    pipe: int
    incidents: Collection[Incident]
    laws: Laws
    by_hand: Deed
    counts: Counter[str] = field(default_factory=Counter)
    locked: set[str] = field(default_factory=set)
    observed: set[str] = field(default_factory=set)
    planned: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))

    def tell(self, what: str, **more: Any) -> None:
        os.write(self.pipe, (json.dumps({"what": what, **more}) + "\n").encode())

    def broken(self, law: str, why: str) -> None:
        self.tell("broken", law=law, why=why)

    def stand(self) -> None:
        """Take our place in this process."""
        between = self

        def opened(settings: HostSettings, fleet: str, state_dir: Path) -> OpenHost:
            real = open_host(settings, fleet, state_dir)

            def executor(commit: str | None, root: Path, fencing: Fencing) -> HostExecutor:
                return WatchedExecutor(between, real.executor(commit, root, fencing), settings.name)

            return OpenHost(WatchedObserver(between, real.observer), executor)

        vars(reconcile)["open_host"] = opened
        vars(history)["ThreadPoolExecutor"] = _AtOnce
        for name in ("apply", "apply_saved"):
            setattr(Reconciler, name, self._recorded(getattr(Reconciler, name)))

    def _recorded(self, apply: Callable[..., Awaitable[ApplyResult]]) -> Any:
        async def recorded(reconciler: Reconciler, plan: Plan, *rest: Any, **keys: Any) -> ApplyResult:
            self._note(plan)
            result = await apply(reconciler, plan, *rest, **keys)
            ends = {
                kind: [[one.step.address, one.step.step.kind, _said(one.problem), one.reason] for one in ended]
                for kind, ended in (("done", result.done), ("failed", result.failed), ("skipped", result.skipped))
            }
            self.tell("result", **ends)
            return result

        return recorded

    def _note(self, plan: Plan) -> None:
        ways_back = [step for way in plan.ways_back for step in way.steps]
        for step in (*plan.steps, *ways_back):
            self.planned[step.address].append(step.step)
        acting = {change.address: str(change.action) for change in plan.changes if change.acts}
        self.laws.plan_made(plan)
        self.tell("plan", acting=acting, steps=len(plan.steps))

    async def command(self, host: str, what: str, call: Callable[[], Awaitable[T]], step: HostStep | None = None) -> T:
        """Give a host one command."""
        self.counts[host] += 1
        number, faults = self.counts[host], list[str]()
        address = "" if step is None else f"{host}/{domain_of(step)}"
        for one in self.incidents:
            if (one.host, one.number) == (host, number) or (one.host, one.number) == (host, 0):
                if one.what in FAULTS:
                    faults.append(one.what)
                else:
                    self.by_hand(host, one.what)
                    self.tell("hand", host=host, deed=one.what)
        fault = faults[0] if faults else ""
        self.tell("command", host=host, number=number, does=what, address=address, fault=fault)
        if step is not None:
            self._judge_before(host, step)
        if fault == "stop":
            signal.raise_signal(signal.SIGTERM)
        await self._fail(host, fault, before=True)
        result = await call()
        if step is not None:
            self.laws.after(host, step)
        await self._fail(host, fault, before=False)
        if fault == "other" and isinstance(result, Look):
            return replace(result, uuid="ffffffff-0000-4000-8000-000000000000")
        return result

    def _judge_before(self, host: str, step: HostStep) -> None:
        address = f"{host}/{domain_of(step)}"
        if host not in self.locked:
            self.broken("lock", f"{step.kind} of {address} without the lock of its host")
        if host not in self.observed:
            self.broken("unseen host", f"{step.kind} of {address} on a host that did not answer")
        if step not in self.planned[address]:
            self.broken("only what was planned", f"{step.kind} of {address} is in no plan: {step}")
        self.laws.before(host, step)

    async def _fail(self, host: str, fault: str, *, before: bool) -> None:
        match fault, before:
            case "before", True:
                raise _no_answer(host)
            case "after", False:
                raise _no_answer(host)
            case "hang", True:
                await asyncio.sleep(_HANGS_SECONDS)
                raise _no_answer(host)
            case "late", True:
                await asyncio.sleep(_LATE_SECONDS)
            case "crash", True:
                raise OSError(errno.EMFILE, "Too many open files")
            case "odd", True:
                raise ValueError("invalid literal for int() with base 10: 'garbage'")
            case "kill", False:
                os._exit(KILLED)
            case _:
                pass


class _AtOnce(Executor):
    """Writes the history at the moment at which it is told of, as no thread does."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def submit(self, work: Callable[..., T], /, *args: Any, **keys: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **keys))
        except Exception as error:  # noqa: BLE001 -- told to who asks for the result
            future.set_exception(error)
        return future


def _said(problem: Any) -> str | None:
    return None if problem is None else f"{problem.summary}: {problem.detail}"


def _no_answer(host: str) -> ReconcilerError:
    return world_error("no answer", f"{host} did not answer.", None, host, transient=True)


class WatchedObserver:
    """Looks at a host through `Between`."""

    def __init__(self, between: Between, real: Observer) -> None:
        self.name = real.name
        self._between, self._real = between, real

    async def observe(self, question: Question) -> Host:
        self._between.observed.discard(self.name)
        host = await self._between.command(self.name, "observe", lambda: self._real.observe(question))
        self._between.observed.add(self.name)
        return host

    async def examine(self, question: Question) -> Examination:
        return await self._real.examine(question)

    async def events(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        await self._real.events(heard, tell)

    async def close(self) -> None:
        await self._real.close()


class WatchedExecutor:
    """Changes a host through `Between`."""

    def __init__(self, between: Between, real: HostExecutor, name: str) -> None:
        self.name = name
        self._between, self._real = between, real

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        does = lambda: self._real.execute(step, report, unless_held=unless_held)  # noqa: E731
        await self._between.command(self.name, step.kind, does, step)

    async def look(self, domain: str) -> Look:
        return await self._between.command(self.name, "look", lambda: self._real.look(domain))

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        async with self._real.lock():
            self._between.tell("locked", host=self.name)
            self._between.locked.add(self.name)
            try:
                yield
            finally:
                self._between.locked.discard(self.name)

    async def hold(self, domain: str, *, seconds: float | None, by: str, reason: str) -> Hold:
        return await self._real.hold(domain, seconds=seconds, by=by, reason=reason)

    async def unhold(self, domain: str) -> bool:
        return await self._real.unhold(domain)

    async def unlock(self) -> LockHolder | None:
        return await self._real.unlock()

    async def begin_rehearsal(
        self, rehearsal: Rehearsal, report: Callable[[str], None], *, unless_held: bool = False
    ) -> float:
        does = lambda: self._real.begin_rehearsal(rehearsal, report, unless_held=unless_held)  # noqa: E731
        return await self._between.command(self.name, "begin_rehearsal", does)

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
        does = lambda: self._real.look_at_rehearsal(rehearsal)  # noqa: E731
        return await self._between.command(self.name, "look_at_rehearsal", does)

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        await self._between.command(self.name, "end_rehearsal", lambda: self._real.end_rehearsal(rehearsal))

    async def clear_leftovers(self) -> None:
        await self._between.command(self.name, "clear_leftovers", self._real.clear_leftovers)

    async def probe_tcp(self, address: str) -> bool:
        return await self._real.probe_tcp(address)

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)

    def now(self) -> float:
        return self._real.now()
