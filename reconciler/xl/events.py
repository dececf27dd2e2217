"""What a Xen host tells by itself: that some domain crashed, shut down or is gone. Called by `observe`.

xenstore tells it to whoever watches @releaseDomain, as a line without a word about which domain it was. So it is only a
reason to look. The process over there ends when its stdin closes: with us, however we end, and with the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from reconciler.dom0.connection import Connection
from reconciler.model.diagnostics import ReconcilerError

_LONG_SECONDS = 300.0  # a connection that lasted so long was a good one
_CHUNK_BYTES = 64 * 1024

# Only its stdin tells a process behind sshd of our end: without a terminal there is no SIGHUP, and what has nothing to
# say meets no broken pipe. (sh gives commands in the background no stdin, so this one is handed down as 3.)
_WATCH = """
exec 3<&0
xenstore-watch @releaseDomain </dev/null 2>/dev/null 3<&- &
watcher=$!
{ cat; kill "$watcher"; } <&3 >/dev/null 2>&1 &
reader=$!
exec 3<&-
wait "$watcher"
kill "$reader" 2>/dev/null
"""


class _LostError(Exception):
    """The connection, or the watch, ended soon after it began, or could not begin at all."""


async def listen(connection: Connection, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Call `heard` at each event, over all lost connections, until cancelled; returns where nothing can be heard.

    Waits longer after each connection in a row that is lost soon.
    """
    from reconciler.xl.retry import LOST_CONNECTION

    listener = _Listener(connection, heard)
    while await LOST_CONNECTION(_LostError, listener.listen):
        continue
    tell(f"there is no xenstore-watch on {connection.host}, so what ends there is seen at the interval only")


class _Listener:
    """Hears one host. What happened while it was deaf nobody heard, so each later beginning counts as an event."""

    def __init__(self, connection: Connection, heard: Callable[[], None]) -> None:
        self._connection = connection
        self._heard = heard
        self._was_deaf = False

    async def listen(self) -> bool:
        """Until the connection ends; True: it lasted long. False: here nothing can be heard. Else raises _LostError."""
        clock = asyncio.get_running_loop().time
        began = clock()
        with suppress(ReconcilerError, OSError):  # the passes tell that a host does not answer
            if not await self._can_be_heard():
                return False
            await self._listen_once()
        self._was_deaf = True
        if clock() - began <= _LONG_SECONDS:
            raise _LostError
        return True

    async def _can_be_heard(self) -> bool:
        """Asked by a command of its own, which waits its turn to open the connection that all share."""
        return (await self._connection.script("command -v xenstore-watch")).exit_code == 0

    async def _listen_once(self) -> None:
        """Until the connection, or the watch, ends. The first line only says that the watch is set."""
        async with self._connection.process(_WATCH) as process:
            assert process.stdout
            lines = 0
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                lines += chunk.count(b"\n")
                if lines > 1 or self._was_deaf:
                    self._heard()
