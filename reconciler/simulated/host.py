"""A simulated host shows and does what a real one would, and is kept in a folder. `toolstack = "simulated"` chooses it.

As for a real host, `plan` gets an observer and `apply` an executor. `plan.meaning` says what a step means for a guest;
here that is stored, takes time, and fails as on a real host.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import assert_never

from reconciler.decide.holds import begun_meanwhile, render_hold
from reconciler.doctor.facts import Examination
from reconciler.fence import Alone, Fencing, Line
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import WHOLE_HOST, Hold, Host, LockHolder, Power
from reconciler.model.rehearsal import Rehearsal
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    CreateDisk,
    DeleteDisk,
    DetachVif,
    GrowDisk,
    HostStep,
    PromoteConfig,
    RehearseEnd,
    RemoveConfig,
    Rename,
    SetAutostart,
    SetMedium,
    SetMemory,
    SetQuarantine,
    SetScheduler,
    SetVcpus,
    Shutdown,
    StageImage,
    Start,
    SweepImages,
    Unpause,
    WriteConfig,
    domain_of,
    names_of,
)
from reconciler.simulated import rehearsals
from reconciler.simulated.clock import VirtualClock
from reconciler.simulated.domains import DomainSteps
from reconciler.simulated.draft import Draft, changing
from reconciler.simulated.examine import facts_of
from reconciler.simulated.files import change_files
from reconciler.simulated.guest import actual_kib, brought_up_to, console, devices_connected, is_up
from reconciler.simulated.journal import Mark, has_ip
from reconciler.simulated.line import check, take_host
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store, StoredHost
from reconciler.simulated.view import HostPaths, View
from reconciler.toolstack import Look, Question, RehearsalLook

_SLOW_FAULT_SECONDS = 30.0
_ONE_AT_A_TIME = Lock()  # looks are nothing but work, which Python does in one thread: by turns, it only takes longer


class SimulatedObserver:
    """Reads a simulated host and cannot change it. (Each attempt to read uses up an `unreachable` fault.)"""

    def __init__(self, settings: HostSettings, fleet: str, state_dir: Path) -> None:
        self.name = settings.name
        self._settings = settings
        self._fleet = fleet
        self._store = Store(state_dir, settings.name)
        self._last: tuple[Mark, float, Question, Host] | None = None  # as stored, at this time, asked this
        self._looking = Lock()  # a look that nobody waits for any more goes on in its thread

    async def observe(self, question: Question) -> Host:
        host, _ = await self._look(question)
        return host

    async def examine(self, question: Question) -> Examination:
        host, stored = await self._look(question)
        return Examination(host=host, facts=facts_of(self._settings, self._store, stored))

    async def _look(self, question: Question) -> tuple[Host, StoredHost]:
        await asyncio.sleep(self._settings.simulated.latency_seconds)
        return await asyncio.to_thread(self._observe, question)  # it takes long where there is much

    def _observe(self, question: Question) -> tuple[Host, StoredHost]:
        if self._store.take_fault("unreachable"):
            raise _unreachable(self.name)
        with self._looking, self._store.held_still(), _ONE_AT_A_TIME:
            now, stored = self._store.read_clock(), self._store.read()
            view = View(self._settings, self._fleet, self._store, stored, now)
            seen = self._as_before(view, now, question)
        return replace(seen, locked=SimulatedLock(self._store).holder()), stored

    def _as_before(self, view: View, now: float, question: Question) -> Host:
        """Return the host as the last look saw it, where nothing was stored since and its clock stood still."""
        mark = self._store.mark
        if self._last is not None and self._last[:2] == (mark, now) and self._last[2] is question:
            seen = replace(self._last[3], holds=view.holds())
        else:
            seen = view.host(question)
        self._last = mark, now, question, seen
        return seen

    async def events(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Return at once: a simulated host tells nothing by itself and is looked at in each interval."""

    async def close(self) -> None:
        """Do nothing, since nothing is held open."""


class SimulatedExecutor:
    """Changes a simulated host, one step at a time or several at once."""

    def __init__(
        self,
        settings: HostSettings,
        fleet: str,
        commit: str | None,
        spec_root: Path,
        state_dir: Path,
        fencing: Fencing | None = None,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._fleet = fleet
        self._paths = HostPaths(settings)
        self._commit = commit
        self._spec_root = spec_root
        self._store = Store(state_dir, settings.name)
        self._fencing = fencing or Alone()
        self._lock = SimulatedLock(self._store, self._fencing.lease_seconds)
        self._clock = VirtualClock(self._store)
        self._line: Line | None = None  # while we have the lock of an apply
        self._domains = DomainSteps(change=self._change, clock=self._clock)

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        async with self._lock.hold():
            self._line = await take_host(self._store, self._fencing, self._lock)
            try:
                await asyncio.to_thread(self._store.tidy)  # the steps then read what changed
                yield
            finally:
                self._line = None

    async def unlock(self) -> LockHolder | None:
        await self._reach()
        return self._lock.unlock()

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        faulty = await self._reach()
        self._lock.ensure()
        if unless_held:
            self._refuse_held(*names_of(step))
        if faulty and self._store.take_fault("slow"):
            report(f"{self.name} answers slowly")
            await self.sleep(_SLOW_FAULT_SECONDS)
        await self._carry_out(step, report)
        if faulty and self._store.take_fault("lost-reply"):
            raise _lost_reply(address_of(self.name, domain_of(step)))

    async def hold(self, domain: str, *, seconds: float | None, by: str, reason: str) -> Hold:
        await self._reach()
        now = self._store.wall_clock()
        hold = Hold(begins=now, ends=None if seconds is None else now + seconds, by=by, reason=reason)
        with self._change() as draft:
            self._store.put(draft.stored, draft.paths.hold(domain), render_hold(hold).encode())
        return hold

    async def unhold(self, domain: str) -> bool:
        await self._reach()
        with self._change() as draft:
            return draft.stored.files.pop(draft.paths.hold(domain), None) is not None

    def _refuse_held(self, *domains: str) -> None:
        stored, names = self._store.read(), (*domains, WHOLE_HOST)
        if not any(self._paths.hold(name) in stored.files for name in names):
            return
        with self._store.held_still():
            view = View(self._settings, self._fleet, self._store, self._store.read(), self.now())
            found = {name: view.hold(name) for name in names}
        for name, hold in found.items():
            if hold is not None:
                raise begun_meanwhile(self.name, domains[0], hold, name)

    async def look(self, domain: str) -> Look:
        await self._reach()
        now = self.now()
        host = self._store.read()
        stored, host_boot = host.instances.get(domain), f"boot {host.boots}"
        if stored is None:
            return Look(power=Power.ABSENT, host_boot=host_boot)
        instance = brought_up_to(stored, now)
        if not instance.exists:
            return Look(power=Power.ABSENT, host_boot=host_boot, console=console(instance, now))
        return Look(
            host_boot=host_boot,
            power=instance.power,
            uuid=instance.definition.uuid,
            boot=instance.boot_id,
            devices_connected=devices_connected(instance, now),
            actual_kib=actual_kib(instance, now),
            console=console(instance, now),
        )

    async def begin_rehearsal(
        self, rehearsal: Rehearsal, report: Callable[[str], None], *, unless_held: bool = False
    ) -> float:
        await self._reach()
        self._lock.ensure()
        if unless_held:
            self._refuse_held(rehearsal.of)
        with self._change() as draft:
            rehearsals.begin(draft, rehearsal)
        if rehearsal.pause_seconds:
            report(f"{rehearsal.of} is paused for its snapshots")
            await self.sleep(rehearsal.pause_seconds)
        return rehearsal.pause_seconds

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
        look = await self.look(rehearsal.name)
        with changing(self._settings, self._fleet, self._store) as draft:
            return RehearsalLook(look=look, trouble=rehearsals.trouble_of(draft, rehearsal))

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        with self._change() as draft:
            rehearsals.end(draft, rehearsal.uuid)

    async def clear_leftovers(self) -> None:
        with self._change() as draft:
            rehearsals.clear_all(draft)

    async def probe_tcp(self, address: str) -> bool:
        """Return whether an address answers: the `ip` of a guest while it is up, any other one always."""
        await self._reach()
        ip, now = address.rpartition(":")[0], self.now()
        instances = self._store.read().instances
        named = [brought_up_to(instances[name], now) for name in instances.about(has_ip(ip))]
        return not named or any(is_up(instance, now) for instance in named)

    async def _reach(self) -> bool:
        """Reach the host, as every command has to: this takes its latency, and may fail.

        Returns whether some fault is to come.
        """
        latency_seconds = self._settings.simulated.latency_seconds
        if latency_seconds:
            await asyncio.sleep(latency_seconds)
            await self.sleep(latency_seconds)
        faulty = self._store.has_faults()
        if faulty and self._store.take_fault("unreachable"):
            raise _unreachable(self.name)
        return faulty

    @contextmanager
    def _change(self) -> Iterator[Draft]:
        with changing(self._settings, self._fleet, self._store) as draft:
            if self._line is not None:
                check(self._store, self._line)
            yield draft

    async def _carry_out(self, step: HostStep, report: Callable[[str], None]) -> None:
        match step:
            case StageImage() | SweepImages() | CreateDisk() | GrowDisk() | DeleteDisk():
                with self._change() as draft:
                    change_files(draft, step, commit=self._commit, spec_root=self._spec_root)
            case WriteConfig() | Rename() | PromoteConfig() | RemoveConfig() | SetAutostart() | SetQuarantine():
                with self._change() as draft:
                    change_files(draft, step, commit=self._commit, spec_root=self._spec_root)
            case Start():
                await self._domains.start(step, report)
            case Shutdown():
                await self._domains.shut_down(step, report)
            case SetMemory():
                await self._domains.set_memory(step, report)
            case Unpause():
                self._domains.unpause(step)
            case SetVcpus() | SetScheduler() | AttachVif() | DetachVif() | AttachDisk() | SetMedium():
                self._domains.change_live(step)
            case RehearseEnd():
                await self.end_rehearsal(step.rehearsal)
            case _:
                assert_never(step)


def _unreachable(host: str) -> ReconcilerError:
    return world_error(
        "host unreachable",
        f"The simulated host {host} does not answer.",
        "The fault was asked for; it ends by itself, or at once with: "
        f"reconciler sim {host} fault unreachable --times 0",
        host,
        transient=True,
    )


def _lost_reply(address: str) -> ReconcilerError:
    return world_error(
        "reply lost",
        "The host did not answer; the command may have taken effect.",
        "Run the command again: it looks at the host first and goes on from there.",
        address,
        transient=True,
    )
