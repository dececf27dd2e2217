"""One apply a host: a lock on the dom0 itself, so that it counts for whoever runs this, from whichever machine.

Used by `execute`. A shell on the host holds the lock as long as it hears from us. It lets go when its stdin closes
(we ended or were killed) and when nothing was heard for a while (the network vanished). No other process inherits it:
xl, whose daemons live as long as their domains, runs from other shells.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import refused, world_error

HEARTBEAT_SECONDS = 5
SILENCE_SECONDS = 30
_ANSWER_SECONDS = 60

# The file is opened for appending, which creates it and leaves it as it is: whoever comes second has to read it.
_HOLD = f"""
command -v flock >/dev/null || {{ echo missing; exit; }}
if ! (: >>"$path") 2>/dev/null; then echo unusable; exit; fi
exec 9>>"$path"
if ! flock -n 9; then echo held; cat -- "$path"; exit; fi
printf '%s, since %s\\n' "$who" "$(date -u '+%Y-%m-%d %H:%M:%S UTC')" >"$path"
echo locked
holder=$(exec sh -c 'echo $PPID')
watch() {{ (sleep {SILENCE_SECONDS}; kill "$holder") 9>&- >/dev/null 2>&1 </dev/null & watcher=$!; }}
watch
while read -r _; do
    kill "$watcher" 2>/dev/null
    wait "$watcher" 2>/dev/null
    watch
done
kill "$watcher" 2>/dev/null
: >"$path"
"""


class HostLock:
    """Held or not. `check` tells a step that is about to begin that the lock was lost meanwhile."""

    def __init__(self) -> None:
        self._holder: asyncio.subprocess.Process | None = None

    def check(self, host: str) -> None:
        """Raise when the lock was taken and its holder is gone: someone else may have it by now."""
        if self._holder is not None and self._holder.returncode is not None:
            raise world_error(
                "lock lost",
                f"The connection that held the lock of {host} broke off, so nothing more is begun there.",
                "Run the command again: it looks at the host first and goes on from there.",
                host,
                transient=True,
            )

    @asynccontextmanager
    async def hold(self, shell: Dom0Shell) -> AsyncIterator[None]:
        """Take the lock for the length of the block; raises ReconcilerError (refused) when someone else has it."""
        given = f"path={shlex.quote(shell.dom0.lock_path)} who={shlex.quote(_who())}\n"
        async with shell.connection.process(given + _HOLD) as holder:
            await _await_lock(shell, holder)
            self._holder = holder
            heart = asyncio.create_task(_beat(holder))
            try:
                yield
            finally:
                self._holder = None
                heart.cancel()
                assert holder.stdin
                holder.stdin.close()
                with suppress(TimeoutError):  # it may be gone with its network; then it lets go by itself
                    await asyncio.wait_for(holder.wait(), HEARTBEAT_SECONDS)


async def _await_lock(shell: Dom0Shell, holder: asyncio.subprocess.Process) -> None:
    assert holder.stdout
    try:
        answer = (await asyncio.wait_for(holder.stdout.readline(), _ANSWER_SECONDS)).decode().strip()
    except TimeoutError:
        answer = ""
    if answer == "locked":
        return
    path = shell.dom0.lock_path
    if answer == "held":
        who = (await holder.stdout.read()).decode(errors="replace").strip() or "someone who is just beginning"
        raise refused(
            "host is locked",
            f"{shell.host} is being changed by {who}.",
            f"Wait until that is done. The lock ({path}) frees itself {SILENCE_SECONDS} s after its holder is gone.",
            shell.host,
        )
    why = {"missing": "there is no `flock` command there", "unusable": f"{path} cannot be written"}
    raise world_error(
        "lock not taken", f"{shell.host} could not be locked: {why.get(answer, 'it gave no answer')}.", None, shell.host
    )


async def _beat(holder: asyncio.subprocess.Process) -> None:
    assert holder.stdin
    with suppress(ConnectionError):  # `check` reports it
        while True:
            holder.stdin.write(b"\n")
            await holder.stdin.drain()
            await asyncio.sleep(HEARTBEAT_SECONDS)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
