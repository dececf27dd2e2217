"""Sends one receiver its events, the oldest first, and each until it was taken. Called by `notifications`.

After a failure it waits, for a second at first and for five minutes at last, and tries the same event again; what
comes after that one waits too. An event that the receiver refuses as such, five times, is given up, or all later ones
would wait for ever. Nothing here holds up a pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.fleet import Receiver
from reconciler.notify.credentials import CredentialError, read_secret, read_token, read_url
from reconciler.notify.documents import Message, Sending, alerts, message
from reconciler.notify.events import Event
from reconciler.notify.post import Answer, NoAnswerError, post
from reconciler.notify.spool import MOST_WAITING, Queued, Spool, SpoolError
from reconciler.records import dataclass
from reconciler.show.escape import plain
from reconciler.specs.secrets import SENSITIVE

FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 300.0
RESEND_SECONDS: Final = 60.0
"""After that Alertmanager is sent again what lasts: it forgets alerts that it does not hear of, or when it restarts."""

_TRIES_OF_THE_REFUSED: Final = 5
_OVERFLOWS: Final = f"More than {MOST_WAITING} events wait for it, so the oldest are given up."
_SAID_MAX: Final = 200  # characters of what a receiver says
_PART: Final = 8  # characters of a secret that are not to be said
_REFUSED: Final = frozenset({400, 409, 413, 415, 422})  # this document, and not whoever sends it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fared:
    """How a receiver fares, for monitoring. It counts from the start of this process."""

    waiting: int = 0  # events
    delivered: int = 0
    failed: int = 0  # tries
    dropped: int = 0  # events that were given up
    last_delivery: float | None = None  # Unix seconds


class Delivery:
    """The sending to one receiver. `lasting` gives the alerts that last; `changed` is called when `problem` has."""

    def __init__(
        self,
        key: str,
        name: str,
        receiver: Receiver,
        spool: Spool,
        now: Callable[[], float],
        changed: Callable[[], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.receiver = receiver
        self.fared = Fared()
        self.problem: Diagnostic | None = None
        self.root = Path()
        self.page: str | None = None
        self.lasting: tuple[Event, ...] = ()
        self._key = key
        self._spool = spool
        self._now = now
        self._changed = changed
        self._pause = pause
        self._news = asyncio.Event()
        self._tries = 0
        self._ends = False
        self._overflows = False  # events are given up, and none was delivered since

    def wake(self) -> None:
        """Have it look into the spool."""
        self._news.set()

    def dropped(self, count: int) -> None:
        """Note that events were given up, since too many waited."""
        self._lost(count)
        self._overflows = self._overflows or count > 0
        if self._overflows and self.problem is not None and _OVERFLOWS not in self.problem.detail:
            self._says(self.problem.detail, self.problem.hint)

    def _lost(self, count: int) -> None:
        self.fared = replace(self.fared, dropped=self.fared.dropped + count)

    def end(self) -> None:
        """Have `run` end as soon as what waits was sent, or cannot be."""
        self._ends = True
        self._news.set()

    async def run(self) -> None:
        """Send until `end` is called."""
        while True:
            self._news.clear()
            wait_seconds = await self.send_all()
            if self._ends:
                return
            if wait_seconds is None:
                wait_seconds = await self._wait_for_news()
            if wait_seconds is not None:
                await self._pause(wait_seconds)

    async def send_all(self) -> float | None:
        """Send until nothing waits (None), or something fails: then the seconds to wait before the next try."""
        while True:
            try:
                queued = await asyncio.to_thread(self._spool.first, self._key)
                if queued is None:
                    return None
                wait_seconds = await self._post(partial(message, self.receiver, queued.event), queued)
                if wait_seconds is not None:
                    return wait_seconds
                await asyncio.to_thread(self._spool.sent, self._key, queued)
            except SpoolError as error:
                return self._fails(str(error), "look whether the disk of the state directory is full")

    async def _wait_for_news(self) -> float | None:
        """Wait until something is to be sent. Alertmanager is reminded meanwhile of what lasts."""
        reminded = self.receiver.format == "alertmanager" and bool(self.lasting)
        try:
            async with asyncio.timeout(RESEND_SECONDS if reminded else None):
                await self._news.wait()
        except TimeoutError:
            return await self._post(partial(alerts, self.lasting), None)
        return None

    async def _post(self, write: Callable[[Sending], Message], queued: Queued | None) -> float | None:
        """Send once. Returns None when that is done with, else the seconds to wait before the next try."""
        try:
            sending = await asyncio.to_thread(self._sending, queued)
        except CredentialError as error:
            return self._fails(str(error), error.hint)
        try:
            answer = await post(write(sending))
        except NoAnswerError as error:
            return self._fails(f"{self._who} was not told: {error}.", "look whether it runs and can be reached")
        return self._judge(answer, queued, _Unsaid(self.receiver, sending))

    def _judge(self, answer: Answer, queued: Queued | None, unsaid: _Unsaid) -> float | None:
        if 200 <= answer.status < 300 or _is_already_so(self.receiver, answer):
            self._succeeds()
            return None
        if answer.status in _REFUSED and self._tries + 1 >= _TRIES_OF_THE_REFUSED and queued is not None:
            self._lost(1)
            self._tries = 0
            self._says(
                f"{self._who} answers {answer.status} to an event ({queued.event.event}), which is given up."
                f"{unsaid.quoted(answer)}",
                "look into its log",
            )
            return None
        if 300 <= answer.status < 400:
            where = f" to {unsaid.told(answer.location)}" if answer.location else ""
            return self._fails(
                f"{self._who} answers {answer.status}, and sends elsewhere{where}; nobody is followed.",
                "write the URL that it names into reconciler.toml",
            )
        hint = "look into its log"
        if answer.status in (401, 403, 404):
            hint = "look whether the URL and what is in its secret_file or token_file are right"
        return self._fails(f"{self._who} answers {answer.status}.{unsaid.quoted(answer)}", hint, answer.retry_after)

    @property
    def _who(self) -> str:
        return f"The receiver {self.name}"

    def _sending(self, queued: Queued | None) -> Sending:
        receiver, root = self.receiver, self.root
        return Sending(
            url=receiver.url if receiver.url is not None else read_url(receiver.url_file or "", root),
            secret=read_secret(receiver.secret_file, root) if receiver.secret_file is not None else b"",
            token=read_token(receiver.token_file, root) if receiver.token_file is not None else "",
            page=self.page,
            id=queued.id if queued is not None else "",
            number=queued.number if queued is not None else 0,
            dropped=queued.dropped if queued is not None else 0,
        )

    def _succeeds(self) -> None:
        self._tries, self._overflows = 0, False
        self.fared = replace(self.fared, delivered=self.fared.delivered + 1, last_delivery=self._now())
        if self.problem is not None:
            self.problem = None
            self._changed()

    def _fails(self, detail: str, hint: str, at_least_seconds: float | None = None) -> float:
        self.fared = replace(self.fared, failed=self.fared.failed + 1)
        self._says(detail, hint)
        wait_seconds = min(FIRST_WAIT_SECONDS * 2.0**self._tries, LONGEST_WAIT_SECONDS)
        self._tries = min(self._tries + 1, 20)
        return max(wait_seconds, at_least_seconds or 0.0)

    def _says(self, detail: str, hint: str | None) -> None:
        detail = f"{detail} {_OVERFLOWS}" if self._overflows else detail
        problem = Diagnostic(
            kind=Kind.WORLD, summary="a receiver is not told", detail=detail, hint=hint, transient=True
        )
        if problem != self.problem:
            self.problem = problem
            self._changed()


def _is_already_so(receiver: Receiver, answer: Answer) -> bool:
    """Return whether GitLab refuses a status that the commit has already."""
    return receiver.format == "gitlab" and answer.status == 400 and "Cannot transition status" in answer.text


class _Unsaid:
    """What must not be said of an answer: a receiver may give back what it was sent."""

    def __init__(self, receiver: Receiver, sending: Sending) -> None:
        secrets = [sending.token, sending.secret.decode("utf-8", "replace")]
        secrets += [sending.url] if receiver.url is None else []
        self._parts = {
            secret[at : at + _PART] for secret in secrets for at in range(max(1, len(secret) - _PART + 1)) if secret
        }

    def told(self, text: str) -> str:
        said = plain(" ".join(text.split())[:_SAID_MAX])
        return SENSITIVE if any(part in text or part in said for part in self._parts) else said

    def quoted(self, answer: Answer) -> str:
        said = self.told(answer.text)
        return f" It says: {said}" if said else ""
