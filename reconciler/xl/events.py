"""Listens to a Xen host, which tells by itself when a domain crashed, shut down or is gone. Called by `observe`.

xenstore tells this to whoever watches @releaseDomain, as a line that does not name the domain. So an event is only a
reason to look. The process on the host ends when its stdin closes: with us, however we end, and with the connection.
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
    """Reports that a connection or a watch ended soon after it began, or could not begin at all."""


async def listen(connection: Connection, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Call `heard` at each event until cancelled, and reconnect when a connection is lost.

    After each connection in a row that is lost soon, the wait is longer. Returns where nothing can be heard.
    """
    from reconciler.xl.retry import LOST_CONNECTION

    listener = _Listener(connection, heard)
    while await LOST_CONNECTION(_LostError, listener.listen):
        continue
    tell(f"there is no xenstore-watch on {connection.host}, so what ends there is seen at the interval only")


class _Listener:
    """Listens to one host.

    Nobody heard what happened between two connections, so each later connection begins with an event.
    """

    def __init__(self, connection: Connection, heard: Callable[[], None]) -> None:
        self._connection = connection
        self._heard = heard
        self._was_deaf = False

    async def listen(self) -> bool:
        """Listen until the connection ends. Returns False where nothing can be heard, True after a long connection.

        Raises _LostError when it was lost soon.
        """
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
        """Return whether the host has xenstore-watch. This waits its turn to open the shared connection."""
        return (await self._connection.script("command -v xenstore-watch")).exit_code == 0

    async def _listen_once(self) -> None:
        """Call `heard` for each line until the connection ends. The first line only says that the watch is set."""
        async with self._connection.process(_WATCH) as process:
            assert process.stdout
            lines = 0
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                lines += chunk.count(b"\n")
                if lines > 1 or self._was_deaf:
                    self._heard()
