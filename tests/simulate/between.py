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
from reconciler.dom0.connection import Result
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
from tests.simulate.dom0 import FULL, Dom0Laws, Scripts, doing
from tests.simulate.laws import Laws
from tests.simulate.script import Incident
from tests.simulate.turns import KILLED

T = TypeVar("T")
FAULTS = ("before", "after", "hang", "late", "crash", "odd", "kill", "stop", "other")
OF_SCRIPTS = ("garbage", "half", "cut", "full")  # only scripts meet these; `cut/7` ends one before its 7th command
OTHERS = ("other-controller", "takeover")  # run another one meanwhile; with the latter we were stopped for long
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
    laws: Laws | Dom0Laws
    by_hand: Deed
    scripts: Scripts | None = None  # where the host is a dom0
    state_dir: Path = Path()
    another: Callable[[str], None] = lambda verb: None  # is another controller, for one command
    lost: set[str] = field(default_factory=set)  # hosts whose lock another one took over while we were stopped
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
        if self.scripts is not None:
            self.scripts.stand()
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

    async def command(self, host: str, does: str, call: Callable[[int], Awaitable[T]], address: str = "") -> T:
        """Give a host one command: `call` does it, up to its nth part where that is not 0."""
        self.counts[host] += 1
        number, faults = self.counts[host], list[str]()
        for one in self.incidents:
            if (one.host, one.number) == (host, number):
                if one.what.partition("/")[0] in (*FAULTS, *OF_SCRIPTS):
                    faults.append(one.what)
                elif one.what.partition("/")[0] in OTHERS:
                    self._let_another_run(host, one.what)
                else:
                    self.by_hand(host, one.what)
                    self.laws.by_hand = True
                    self.tell("hand", host=host, deed=one.what)
        fault, _, cut = (faults[0] if faults else "").partition("/")
        self.tell("command", host=host, number=number, does=does, address=address, fault=fault)
        if fault == "stop":
            signal.raise_signal(signal.SIGTERM)
        await self._fail(host, fault, before=True)
        result = await call(FULL if fault == "full" else int(cut or 0))
        await self._fail(host, fault, before=False)
        return _mangled(result, fault)

    def _let_another_run(self, host: str, what: str) -> None:
        """Stand still while another controller runs; with `takeover` for so long that it may take over a lock."""
        kind, _, verb = what.partition("/")
        lock = self.state_dir / "hosts" / host / "apply.lock"
        if kind == "takeover" and host in self.locked and lock.exists():
            os.utime(lock, (0, 0))
            self.lost.add(host)
        self.tell("hand", host=host, deed=what)
        if (other := os.fork()) == 0:
            try:
                asyncio._set_running_loop(None)
                self.another(verb)
            finally:
                os._exit(3)
        os.waitpid(other, 0)

    async def step(self, host: str, step: HostStep, call: Callable[[int], Awaitable[None]]) -> None:
        """Carry out a step, and judge what it has done. On a dom0 each of its scripts is a command."""
        self._judge_before(host, step)
        if self.scripts is None:
            await self.command(host, step.kind, call, f"{host}/{domain_of(step)}")
        else:
            doing.set((step.kind, f"{host}/{domain_of(step)}"))
            await call(0)
        if host in self.lost:
            self.broken("lock", f"{step.kind} of {host}/{domain_of(step)} after another controller took the lock over")
        self.laws.after(host, step)

    def _judge_before(self, host: str, step: HostStep) -> None:
        address = f"{host}/{domain_of(step)}"
        self.judge_lock(host, f"{step.kind} of {address}")
        if host not in self.observed:
            self.broken("unseen host", f"{step.kind} of {address} on a host that did not answer")
        if step not in self.planned[address]:
            self.broken("only what was planned", f"{step.kind} of {address} is in no plan: {step}")
        self.laws.before(host, step)

    def judge_lock(self, host: str, what: str) -> None:
        if host not in self.locked:
            self.broken("lock", f"{what} without the lock of its host")

    async def _fail(self, host: str, fault: str, *, before: bool) -> None:
        match fault, before:
            case "before", True:
                raise _no_answer(host)
            case "after" | "cut", False:
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


def _mangled(result: T, fault: str) -> T:
    """Return what a host answers that answers for another domain, or with nonsense."""
    match result, fault:
        case Look(), "other":
            return replace(result, uuid="ffffffff-0000-4000-8000-000000000000")
        case Result(), "half":
            return replace(result, stdout=result.stdout[: len(result.stdout) // 2])
        case Result(), "garbage":
            return replace(result, stdout=b"\xff\x00%s" % result.stdout[::-1])
        case _:
            return result


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
        if self._between.scripts is None:
            host = await self._between.command(self.name, "observe", lambda _: self._real.observe(question))
        else:
            doing.set(("observe", ""))
            host = await self._real.observe(question)
        self._between.observed.add(self.name)
        return host

    async def examine(self, question: Question) -> Examination:
        return await self._real.examine(question)

    async def events(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Tell nothing: each pass looks anyway."""

    async def close(self) -> None:
        await self._real.close()


class WatchedExecutor:
    """Changes a host through `Between`."""

    def __init__(self, between: Between, real: HostExecutor, name: str) -> None:
        self.name = name
        self._between, self._real = between, real

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        await self._between.step(self.name, step, lambda _: self._real.execute(step, report, unless_held=unless_held))

    async def look(self, domain: str) -> Look:
        if self._between.scripts is None:
            return await self._between.command(self.name, "look", lambda _: self._real.look(domain))
        doing.set(("look", f"{self.name}/{domain}"))
        return await self._real.look(domain)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        scripts = self._between.scripts
        async with self._real.lock() if scripts is None else scripts.lock():
            self._between.tell("locked", host=self.name)
            self._between.lost.discard(self.name)
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
        self._between.judge_lock(self.name, f"the rehearsal of {rehearsal.of}")
        return await self._give("begin_rehearsal", does, rehearsal)

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
        return await self._give("look_at_rehearsal", lambda: self._real.look_at_rehearsal(rehearsal), rehearsal)

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        await self._give("end_rehearsal", lambda: self._real.end_rehearsal(rehearsal))

    async def clear_leftovers(self) -> None:
        await self._give("clear_leftovers", self._real.clear_leftovers)

    async def _give(self, does: str, call: Callable[[], Awaitable[T]], amid: Rehearsal | None = None) -> T:
        """Give a command as a whole; to a dom0 its scripts are given one by one."""
        if self._between.scripts is None:
            laws = self._between.laws
            try:
                return await self._between.command(self.name, does, lambda _: call())
            finally:
                if amid is not None and isinstance(laws, Laws):
                    laws.amid_rehearsal(self.name, amid)
        doing.set((does, ""))
        return await call()

    async def probe_tcp(self, address: str) -> bool:
        return await self._real.probe_tcp(address)

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)

    def now(self) -> float:
        return self._real.now()
