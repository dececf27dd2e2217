"""Carries out steps on a host whose toolstack is xl, or xm in its own dialect.

Called by `apply` through the Executor protocol. The work is in other modules: staged images in `images`, disks in
`disks`, the files of xl and xendomains in `config_files`, starting in `starting`, shutting down in `ending`, changes of
running domains in `live_changes`.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import assert_never

from reconciler.dom0 import config_files, disks, holds, images
from reconciler.dom0.connection import Connection
from reconciler.dom0.lock import HostLock, break_lock
from reconciler.dom0.sending.fence import take
from reconciler.dom0.shell import Dom0Shell, open_shell
from reconciler.fence import Alone, Fencing
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Hold, LockHolder, Look
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
    names_of,
)
from reconciler.toolstack import RehearsalLook
from reconciler.waiting import Clock, MachineClock
from reconciler.xl import ending, live_changes, remnants, starting
from reconciler.xl.commands import Xl
from reconciler.xl.dialect import XL, Dialect
from reconciler.xl.look import PROBE_SECONDS, PROBE_TCP, look_script, read_look
from reconciler.xl.rehearse import Rehearsals


class XlExecutor:
    """Changes one host, one step at a time or several at once."""

    def __init__(
        self,
        settings: HostSettings,
        fleet: str,
        commit: str | None,
        spec_root: Path,
        *,
        connection: Connection | None = None,
        clock: Clock | None = None,
        dialect: Dialect = XL,
        fencing: Fencing | None = None,
    ) -> None:
        self.name = settings.name
        self.connection = connection or Connection(settings.name, settings.connect)
        self._settings = settings
        self._fleet = fleet
        self._commit = commit
        self._spec_root = spec_root
        self._clock = clock or MachineClock()
        self._dialect = dialect
        self._xl = Xl(self.connection, self._clock, dialect)
        self._rehearsals = Rehearsals(self._xl)
        self._fencing = fencing or Alone()
        self._lock = HostLock(self._fencing.lease_seconds)
        self._opened: Dom0Shell | None = None
        self._opening = asyncio.Lock()

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        shell = await self._shell()
        report = _news_only(report)
        await self._lock.ensure(shell, report)
        if unless_held:
            for name in names_of(step):
                await holds.refuse_held(shell, name)
        token = secrets.token_hex(4)  # unfinished files of two runs never meet
        match step:
            case StageImage():
                await images.stage(shell, step, self._spec_root, token, report)
            case SweepImages():
                await images.sweep(shell, step)
            case CreateDisk():
                await disks.create(shell, step, token, report)
            case GrowDisk():
                if said := await disks.grow(shell, step):
                    report(said)
            case DeleteDisk():
                await disks.delete(shell, step)
            case WriteConfig():
                await config_files.write(shell, step, self._fleet, self._commit, token, self._dialect.words)
            case Rename():
                await config_files.begin_rename(shell, step, self._fleet, self._commit, token, self._dialect.words)
                await live_changes.rename(self._xl, step)
                if said := await config_files.end_rename(shell, step, self._fleet, token):
                    report(said)
            case PromoteConfig():
                await config_files.promote(shell, step, self._fleet, token)
            case RemoveConfig():
                await config_files.remove(shell, step, self._fleet)
            case SetAutostart():
                if said := await config_files.set_autostart(shell, step, token):
                    report(said)
            case SetQuarantine():
                await config_files.set_quarantine(shell, step, token)
            case Start():
                await self._start(shell, step, report)
            case Shutdown():
                await ending.shut_down(self._xl, step, self.look, report)
            case Unpause():
                await remnants.unpause(self._xl, step)
            case SetMemory():
                await live_changes.set_memory(self._xl, step, report)
            case SetVcpus():
                await live_changes.set_vcpus(self._xl, step, report)
            case SetScheduler():
                await live_changes.set_scheduler(self._xl, step)
            case AttachVif():
                await live_changes.attach_vif(self._xl, shell, step)
            case DetachVif():
                await live_changes.detach_vif(self._xl, step)
            case AttachDisk():
                await live_changes.attach_disk(self._xl, shell, step)
            case SetMedium():
                await live_changes.set_medium(self._xl, shell, step)
            case RehearseEnd():
                await self.end_rehearsal(step.rehearsal)
            case _:
                assert_never(step)

    async def hold(self, domain: str, *, seconds: float | None, by: str, reason: str) -> Hold:
        shell, token = await self._shell(), secrets.token_hex(4)
        return await holds.keep(shell, domain, seconds=seconds, by=by, reason=reason, token=token)

    async def unhold(self, domain: str) -> bool:
        return await holds.lift(await self._shell(), domain)

    async def look(self, domain: str) -> Look:
        """Look at a domain in one round trip.

        This tells its row, the states of its devices, and the end of its console's log since its last start.
        """
        mark = (await self._shell()).dom0.console_mark_path(domain)
        result = await self.connection.script(look_script(self._dialect, domain, mark))
        return read_look(self._dialect, self.name, domain, result)

    async def begin_rehearsal(
        self, rehearsal: Rehearsal, report: Callable[[str], None], *, unless_held: bool = False
    ) -> float:
        shell = await self._shell()
        await self._lock.ensure(shell, report)
        if unless_held:
            await holds.refuse_held(shell, rehearsal.of)
        return await self._rehearsals.begin(shell, rehearsal, _news_only(report))

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook:
        return await self._rehearsals.look(await self._shell(), rehearsal)

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        shell = await self._shell()
        await self._lock.ensure(shell, lambda _: None)
        await self._rehearsals.end(shell, rehearsal)

    async def clear_leftovers(self) -> None:
        shell = await self._shell()
        await self._lock.ensure(shell, lambda _: None)
        await self._rehearsals.clear(shell)

    async def probe_tcp(self, address: str) -> bool:
        """Return whether "address:port" accepts a connection, tried from the dom0 itself."""
        host, _, port = address.rpartition(":")
        given = f"host={shlex.quote(host.strip('[]'))} port={shlex.quote(port)}\n"
        result = await self.connection.script(given + PROBE_TCP, timeout_seconds=PROBE_SECONDS * 3)
        return result.exit_code == 0

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def now(self) -> float:
        return self._clock.now()

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        shell = await self._shell()
        async with self._lock.hold(shell):
            self.connection.fence = await take(shell, self._fencing, self._lock.line)
            try:
                yield
            finally:
                self.connection.fence = None

    async def unlock(self) -> LockHolder | None:
        return await break_lock(await self._shell())

    async def close(self) -> None:
        await self.connection.close()

    async def _shell(self) -> Dom0Shell:
        async with self._opening:
            if self._opened is None:
                self._opened = await open_shell(self.connection, self._settings, self._dialect.dom0_scripts)
            return self._opened

    async def _start(self, shell: Dom0Shell, step: Start, report: Callable[[str], None]) -> None:
        name = step.definition.name
        file = shell.dom0.candidate_path(name) if step.candidate else shell.dom0.config_path(name)
        await starting.start(self._xl, step, file, shell.dom0.console_mark_path(name), report)


def _news_only(report: Callable[[str], None]) -> Callable[[str], None]:
    """Pass on each text once: a wait says every second what it waits for."""
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            report(text)

    return tell
