"""Holds the receivers of a running watch: what is news for them goes into the spool, and a task each sends it.

The loop calls it after each pass and each reading of the specs, and never waits for a receiver.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from reconciler.model.diagnostics import Diagnostic, Kind, unforeseen
from reconciler.model.fleet import Receiver
from reconciler.notify.delivery import Delivery, Fared
from reconciler.notify.documents import wants
from reconciler.notify.events import Event, Facts, Told, of_drift, of_pass, of_specs
from reconciler.notify.spool import Spool, SpoolError

LAST_SECONDS: Final = 5.0
"""How long the last events may take when watch ends; what is not taken by then is sent by the next one."""

_AFTER_UNFORESEEN_SECONDS: Final = 60.0

_Judge = Callable[[Told, Facts], tuple[Told, list[Event]]]


class Notifications:
    """The receivers of one state directory. `tell` is called with all problems whenever they have changed."""

    def __init__(
        self,
        state_dir: Path,
        now: Callable[[], float],
        tell: Callable[[Sequence[Diagnostic]], None],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._spool = Spool(state_dir)
        self._now = now
        self._tell = tell
        self._pause = pause
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told: Told | None = None  # None: not read yet
        self._receivers: tuple[Receiver, ...] | None = None  # None: nobody said who they are yet
        self._adding = asyncio.Lock()
        self._runs = False
        self._own: Diagnostic | None = None  # what is wrong with the spool
        self.page: str | None = None

    @property
    def problems(self) -> tuple[Diagnostic, ...]:
        found = (one.problem for one in self._deliveries.values())
        return tuple(one for one in (self._own, *found) if one is not None)

    def fared(self) -> dict[str, Fared]:
        """Return how each receiver fares, by name. It may be called from any thread."""
        waiting: dict[str, int] = {}
        with suppress(SpoolError):
            waiting = self._spool.waiting() if self._deliveries else {}
        return {
            one.name: replace(one.fared, waiting=waiting.get(key, 0)) for key, one in dict(self._deliveries).items()
        }

    async def specs_taken(self, receivers: tuple[Receiver, ...] | None, root: Path, facts: Facts | None) -> None:
        """Go on with the receivers of these specs, or with those before (None: nobody knows); tell of the specs."""
        async with self._adding:
            await self._have(receivers, root)
            if facts is not None:
                await self._add(of_specs, facts)

    async def passed(self, facts: Facts) -> None:
        """Tell of what a pass came to."""
        async with self._adding:
            await self._add(of_pass, facts)

    async def found(self, facts: Facts) -> None:
        """Tell of what a pass found, before it acts on that."""
        async with self._adding:
            await self._add(of_drift, facts)

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """Send while the context lasts; at its end, what those that answer can still take."""
        self._runs = True
        self._attend()
        try:
            yield
        finally:
            self._runs = False
            for one in self._deliveries.values():
                one.end()
            calm = [self._tasks[key] for key, one in self._deliveries.items() if one.problem is None]
            if calm:
                await asyncio.wait(calm, timeout=LAST_SECONDS)
            await _cancelled(self._tasks.values())

    async def send_all(self) -> None:
        """Send what waits to each receiver that takes it, for some seconds at most."""
        tasks = [asyncio.create_task(one.send_all()) for one in self._deliveries.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_SECONDS)
            await _cancelled(tasks)

    async def _have(self, receivers: tuple[Receiver, ...] | None, root: Path) -> None:
        """Keep these receivers, and what waits for them."""
        try:
            if receivers is None and self._receivers is None and self._spool.exists():
                receivers = tuple((await asyncio.to_thread(self._spool.receivers)).values())
            if receivers is not None and receivers != self._receivers:
                keyed = _keyed(receivers)
                if keyed or self._spool.exists():
                    await asyncio.to_thread(self._spool.keep, keyed)
                self._receivers = receivers
                await self._renew(keyed)
        except SpoolError as error:
            self._spool_fails(error)
        for one in self._deliveries.values():
            one.root, one.page = root, self.page

    async def _renew(self, keyed: dict[str, Receiver]) -> None:
        names = _names(keyed)
        for key in self._deliveries.keys() - keyed.keys():
            del self._deliveries[key]
            if key in self._tasks:
                await _cancelled([self._tasks.pop(key)])
        for key, receiver in keyed.items():
            if key in self._deliveries:
                self._deliveries[key].receiver, self._deliveries[key].name = receiver, names[key]
            else:
                self._deliveries[key] = Delivery(
                    key, names[key], receiver, self._spool, self._now, self._changed, self._pause
                )
        self._changed()
        self._attend()

    def _attend(self) -> None:
        for key, one in self._deliveries.items():
            if self._runs and key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._keep_sending(one))

    async def _keep_sending(self, delivery: Delivery) -> None:
        """Send on, also after an error that nobody foresaw."""
        while True:
            try:
                return await delivery.run()
            except Exception as error:  # noqa: BLE001 -- one receiver must not cost the others
                delivery.problem = unforeseen(f"{delivery.name} was told", error)
                self._changed()
            await self._pause(_AFTER_UNFORESEEN_SECONDS)

    async def _add(self, judge: _Judge, facts: Facts) -> None:
        """Put what is news into the spool, and wake whoever sends it."""
        if not self._deliveries:
            return
        try:
            if self._told is None:
                self._told = await asyncio.to_thread(self._spool.told)
            told, events = await asyncio.to_thread(judge, self._told, facts)
            for one in self._deliveries.values():
                one.lasting = _lasting(told, facts, one.receiver)
            if told == self._told and not events:
                return
            if self._own is not None and self._receivers is not None:  # the file may be another one by now
                await asyncio.to_thread(self._spool.keep, _keyed(self._receivers))
            chosen = {
                key: [event for event in events if wants(one.receiver, event)] for key, one in self._deliveries.items()
            }
            dropped = await asyncio.to_thread(self._spool.add, told, chosen)
        except SpoolError as error:
            self._spool_fails(error)
            return
        self._told, self._own, was = told, None, self._own
        for key, one in self._deliveries.items():
            one.dropped(dropped.get(key, 0))
            if chosen[key]:
                one.wake()
        if was is not None:
            self._changed()

    def _spool_fails(self, error: SpoolError) -> None:
        hint = "look whether the disk of the state directory is full"
        self._own = Diagnostic(
            kind=Kind.WORLD, summary="notifications cannot be kept", detail=str(error), hint=hint, transient=True
        )
        self._changed()

    def _changed(self) -> None:
        self._tell(self.problems)


def _lasting(told: Told, facts: Facts, receiver: Receiver) -> tuple[Event, ...]:
    """Return the alerts that last, as Alertmanager is reminded of them."""
    if receiver.format != "alertmanager":
        return ()
    wrong = {**(told.failed if "failed" in receiver.events else {})}
    wrong |= told.stalled if "stalled" in receiver.events else {}
    return tuple(
        Event(
            event="stalled",
            summary=f"{address} is not as specified.",
            at=facts.at,
            fleet=facts.fleet,
            address=address,
            detail=wrong[address],
        )
        for address in sorted(wrong)
        if "/" in address
    )


def _keyed(receivers: Sequence[Receiver]) -> dict[str, Receiver]:
    """Return receivers by what their events are kept under: the same after a change of what they are told, or how."""
    found: dict[str, Receiver] = {}
    for receiver in receivers:
        about = f"{receiver.format} {receiver.url} {receiver.url_file}"
        copies = 0
        while (key := hashlib.sha256(f"{about} {copies}".encode(errors="replace")).hexdigest()[:16]) in found:
            copies += 1
        found[key] = receiver
    return found


def _names(keyed: dict[str, Receiver]) -> dict[str, str]:
    """Name receivers for people: by where they are, without a path, which may be a secret."""
    names: dict[str, str] = {}
    for key, receiver in keyed.items():
        name = f"{receiver.format} {_place(receiver)}"
        copies = sum(other == name or other.startswith(f"{name} #") for other in names.values())
        names[key] = f"{name} #{copies + 1}" if copies else name
    return names


def _place(receiver: Receiver) -> str:
    if receiver.url is None:
        return receiver.url_file or ""
    parts = urlsplit(receiver.url)
    return f"{parts.scheme}://{parts.netloc}"


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
