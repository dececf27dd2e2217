"""Tells pages what changes while they are open: one look at the view for all of them, as server-sent events.

A page that comes gets everything, and from then on what differs. One that does not take what it is told is let go, and
gets everything when it comes again. Called by `app`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from contextvars import Context
from typing import Final, Protocol, TypeVar

from reconciler.model.diagnostics import unforeseen
from reconciler.watch.view import WatchView
from reconciler.web.live import Document, changes_between, live_document

MOST_READERS: Final = 200

_LOOK_SECONDS: Final = 1.0
_LOOK_SHARE: Final = 5  # looks take a fifth of the time at most
_BEAT_SECONDS: Final = 10.0  # so that a page notices that it is cut off
_MOST_WAITING: Final = 100  # events that a page has not taken yet

Events = asyncio.Queue[bytes | None]
"""What a reader is told; None: it is let go."""

_Made = TypeVar("_Made")


class Aside(Protocol):
    """Runs what takes long on another thread."""

    async def make(self, what: Callable[[], _Made]) -> _Made: ...


class Feed:
    """One stream of events for any number of readers."""

    def __init__(self, view: WatchView, aside: Aside, now: Callable[[], float] = time.time) -> None:
        self._view = view
        self._aside = aside
        self._now = now
        self._new: set[Events] = set()  # have nothing yet
        self._readers: set[Events] = set()
        self._comes = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._shown: Document | None = None
        self._revision = -1

    @property
    def is_full(self) -> bool:
        return len(self._readers) + len(self._new) >= MOST_READERS

    def join(self) -> Events:
        """Take part from now on, until `leave`."""
        events: Events = asyncio.Queue(_MOST_WAITING)
        self._new.add(events)
        self._comes.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="page", context=Context())
        return events

    def leave(self, events: Events) -> None:
        self._new.discard(events)
        self._readers.discard(events)

    def close(self) -> None:
        """End all streams."""
        if self._looking is not None:
            self._looking.cancel()
        for events in (*self._readers, *self._new):
            _end(events)

    async def _look(self) -> None:
        """Look, and tell, for as long as anybody reads."""
        told_at = time.monotonic()
        while self._readers or self._new:
            self._comes.clear()
            began = time.monotonic()
            try:
                if (news := await self._news()) is not None:
                    self._tell(self._readers, news)
                if self._new:
                    await self._welcome()
            except Exception as error:  # noqa: BLE001 -- the next look may well succeed, and the pages wait for it
                self._view.problem(unforeseen("the pages were told what changed", error))
            if began - told_at >= _BEAT_SECONDS:
                told_at = began
                self._tell(self._readers, self._beat())
            took = time.monotonic() - began
            with suppress(TimeoutError):
                async with asyncio.timeout(max(_LOOK_SECONDS, took * _LOOK_SHARE)):
                    await self._comes.wait()

    async def _news(self) -> bytes | None:
        """Look at the view, if anything in it changed. Returns what differs, as an event."""
        revision = self._view.revision()
        if revision == self._revision and self._shown is not None:
            return None
        before, now = self._shown, await self._aside.make(lambda: live_document(self._view, self._now()))
        self._shown, self._revision = now, revision
        if before is None or not self._readers:
            return None
        changed = await self._aside.make(lambda: changes_between(before, now))
        return await self._aside.make(lambda: _event("change", changed)) if changed else None

    async def _welcome(self) -> None:
        """Tell everything to those that have come."""
        shown, coming = self._shown, set(self._new)
        assert shown is not None
        everything = await self._aside.make(lambda: _event("all", shown))
        coming &= self._new  # some may have gone again
        self._new -= coming
        self._readers |= coming
        self._tell(coming, everything)
        self._tell(coming, self._beat())

    def _beat(self) -> bytes:
        """Say what time it is here, and whether the loop turns."""
        return _event("beat", {"now": self._now(), "healthy": self._view.is_healthy()})

    def _tell(self, readers: set[Events], event: bytes) -> None:
        for events in list(readers):
            try:
                events.put_nowait(event)
            except asyncio.QueueFull:
                self._readers.discard(events)
                _end(events)


async def told(events: Events) -> AsyncIterator[bytes]:
    """Yield everything, then what changes, for as long as the reader keeps up."""
    while (event := await events.get()) is not None:
        yield event


def _end(events: Events) -> None:
    while not events.empty():
        events.get_nowait()
    events.put_nowait(None)


def _event(name: str, document: Document) -> bytes:
    return f"event: {name}\ndata: {_in_json(document)}\n\n".encode()


def _in_json(document: Document) -> str:
    """Write a document entry by entry: in one call, 10,000 domains would let no other thread get on for 0.1 s."""

    def of_part(part: object) -> str:
        if not isinstance(part, dict):
            return json.dumps(part, ensure_ascii=False)
        entries = (f"{json.dumps(key)}: {json.dumps(entry, ensure_ascii=False)}" for key, entry in part.items())
        return f"{{{', '.join(entries)}}}"

    return f"{{{', '.join(f'{json.dumps(name)}: {of_part(part)}' for name, part in document.items())}}}"
