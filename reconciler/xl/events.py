"""What a Xen host tells by itself: that some domain crashed, shut down or is gone. Called by `observe`.

xenstore tells it to whoever watches @releaseDomain, as a line without a word about which domain it was. So it is only a
reason to look. The process over there ends when its stdin closes: with us, however we end, and with the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler.dom0.connection import Connection
from reconciler.model.diagnostics import ReconcilerError

_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 300.0
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


async def listen(connection: Connection, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Call `heard` at each event, over all lost connections, until cancelled; returns where nothing can be heard."""
    clock = asyncio.get_running_loop().time
    wait_seconds = _FIRST_WAIT_SECONDS
    was_deaf = False
    while True:
        began = clock()
        try:
            if not await _can_be_heard(connection):
                tell(
                    f"there is no xenstore-watch on {connection.host}, so what ends there is seen at the interval only"
                )
                return
            await _listen_once(connection, heard, was_deaf=was_deaf)
        except (ReconcilerError, OSError):  # the passes tell that a host does not answer
            pass
        was_deaf = True
        if clock() - began > _LONGEST_WAIT_SECONDS:
            wait_seconds = _FIRST_WAIT_SECONDS
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)


async def _can_be_heard(connection: Connection) -> bool:
    """Asked by a command of its own, which waits its turn to open the connection that all share."""
    return (await connection.script("command -v xenstore-watch")).exit_code == 0


async def _listen_once(connection: Connection, heard: Callable[[], None], *, was_deaf: bool) -> None:
    """Until the connection, or the watch, ends. The first line only says that the watch is set."""
    async with connection.process(_WATCH) as process:
        assert process.stdout
        lines = 0
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            lines += chunk.count(b"\n")
            if lines > 1 or was_deaf:  # what happened meanwhile nobody heard
                heard()
