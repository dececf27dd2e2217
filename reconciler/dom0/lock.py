"""Locks a host so that one apply at a time changes it. The lock is on the dom0, so it counts for every controller.

Used by `execute`. A shell on the host holds the lock as long as it hears from us. It lets go when its stdin closes
(we ended or were killed) and when nothing was heard for a while (the network vanished). No other process inherits it:
xl, whose daemons live as long as their domains, runs from other shells. It answers each beat of ours: only one that was
answered a moment ago proves that the lock is still there, since a network that vanished is noticed late.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from time import monotonic, time

from reconciler.dom0.shell import Dom0Shell
from reconciler.leaving import kill_group
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, refused, world_error
from reconciler.waiting import MachineClock, NotYet, wait_until

HEARTBEAT_SECONDS = 5
SILENCE_SECONDS = 30
HEARD_SECONDS = 10  # an answer proves the lock for so long after its beat: well within what the holder bears in silence
REGAIN_SECONDS = 120  # how long a lost lock is asked for again: ssh needs some 40 s to see that a network is gone
_ANSWER_SECONDS = 60
_WHERE_FLOCK_IS = {
    "debian": "Debian: `apt install util-linux`; BusyBox has it as an applet.",
    "netbsd": "NetBSD before 6.1 has none: upgrade the dom0.",
}

# The file is opened for appending, which creates it and leaves it as it is: whoever comes second has to read it.
# Only a holder that is told to end empties it. So one that comes again (`mine` is what it found there when it had the
# lock) sees whether anybody else was here meanwhile. The watcher takes its `sleep` along when it is ended. Some shells,
# NetBSD's too, hide from commands what `exec` opened, so flock gets a copy; and NetBSD's flock has to be told of -x.
_HOLD = f"""
command -v flock >/dev/null || {{ echo missing; exit; }}
if ! (: >>"$path") 2>/dev/null; then echo unusable; exit; fi
exec 8>>"$path"
if ! flock -x -n 9 9>&8; then echo held; cat -- "$path"; exit; fi
if [ "$mine" ] && [ "$mine" != "$(cat -- "$path")" ]; then echo changed; cat -- "$path"; exit; fi
[ "$mine" ] || printf '%s, since %s\\n' "$who" "$(date -u '+%Y-%m-%d %H:%M:%S UTC')" >"$path"
echo locked; cat -- "$path"
holder=$(exec sh -c 'echo $PPID')
watch() {{
    (trap 'kill "$!"; exit' TERM; sleep {SILENCE_SECONDS} & wait "$!"; kill "$holder") 8>&- >/dev/null 2>&1 </dev/null &
    watcher=$!
}}
watch
while read -r word && [ "$word" != end ]; do
    kill "$watcher" 2>/dev/null
    wait "$watcher" 2>/dev/null
    watch
    echo heard
done
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null # with it goes what it may have of the lock
[ "$word" != end ] || : >"$path"
"""


class HostLock:
    """The lock of one host. When its connection breaks off, the next step takes it again before it begins."""

    def __init__(self) -> None:
        self._holders: AsyncExitStack | None = None  # while it is meant to be held
        self._holder: asyncio.subprocess.Process | None = None
        self._heart: _Heart | None = None
        self._line = ""  # what the file says while we have the lock
        self._lost_since: float | None = None
        self._regaining = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, shell: Dom0Shell) -> AsyncIterator[None]:
        """Hold the lock during the block. Raises ReconcilerError (refused) when someone else holds it."""
        async with AsyncExitStack() as holders:
            await self._take(shell, holders)
            self._holders = holders
            try:
                yield
            finally:
                self._holders = None

    async def ensure(self, shell: Dom0Shell, report: Callable[[str], None]) -> None:
        """Make sure before a step that we hold the lock. A lost lock is taken again, unless somebody else had it since.

        Raises ReconcilerError when it cannot be had: someone else may be at work, so nothing more is begun.
        """
        async with self._regaining:
            if self._holders is None or self._holder is None or self._heart is None:
                return
            if self._holder.returncode is None:
                if await self._heart.is_heard():
                    return
                kill_group(self._holder.pid)  # it may still hold the lock, and lets go of it at the end of its input
            report(f"the lock of {shell.host} was lost with its connection, and is taken again")
            if self._lost_since is None:
                self._lost_since = monotonic()
            left = REGAIN_SECONDS - (monotonic() - self._lost_since)
            taken = partial(self._try_again, shell, self._holders)
            await wait_until(taken, clock=MachineClock(), seconds=left, poll_seconds=HEARTBEAT_SECONDS)
            self._lost_since = None

    async def _try_again(self, shell: Dom0Shell, holders: AsyncExitStack) -> NotYet | None:
        """Take the lock again. What keeps us from it may go away, like our own old holder, unless it is refused."""
        try:
            await self._take(shell, holders)
        except ReconcilerError as error:
            problem = error.diagnostics[0]
            if problem.kind is Kind.REFUSED:
                raise _lost(shell.host, problem) from error
            return NotYet(too_late=partial(_lost, shell.host, problem))
        return None

    async def _take(self, shell: Dom0Shell, holders: AsyncExitStack) -> None:
        given = {"path": shell.dom0.lock_path, "who": _who(), "mine": self._line}
        assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
        asked = _moment()
        holder = await holders.enter_async_context(shell.connection.process(assignments + _HOLD))
        self._line = await _await_lock(shell, holder, self._line)
        self._holder, self._heart = holder, _Heart(holder, asked)
        holders.push_async_callback(_let_go, holder, self._heart)


async def _let_go(holder: asyncio.subprocess.Process, heart: _Heart) -> None:
    heart.stop()
    assert holder.stdin
    with suppress(ConnectionError, TimeoutError):  # it may be gone with its network; then it lets go by itself
        holder.stdin.write(b"end\n")
        holder.stdin.close()
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            await holder.wait()


async def _await_lock(shell: Dom0Shell, holder: asyncio.subprocess.Process, mine: str) -> str:
    """Wait for the holder's answer, and return the line about us that the lock's file has from now on.

    `mine` is the line it had when we held the lock before.
    """
    assert holder.stdout
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = (await holder.stdout.readline()).decode().strip()
            if answer == "locked":
                return (await holder.stdout.readline()).decode(errors="replace").strip()
            who = (await holder.stdout.read()).decode(errors="replace").strip() or "someone who is just beginning"
    except TimeoutError:
        answer = who = ""
    path = shell.dom0.lock_path
    if answer == "held" and who != mine:
        raise refused(
            "host is locked",
            f"{shell.host} is being changed by {who}.",
            f"Wait until that is done. The lock ({path}) frees itself {SILENCE_SECONDS} s after its holder is gone.",
            shell.host,
        )
    if answer == "changed":
        raise refused("host was locked", f"Somebody else had the lock of {shell.host} meanwhile.", None, shell.host)
    why = {
        "held": "the connection that broke off still holds it there",
        "missing": "there is no `flock` command there",
        "unusable": f"{path} cannot be written",
    }
    hint = _WHERE_FLOCK_IS[shell.dom0.flavour] if answer == "missing" else None
    raise world_error(
        "lock not taken", f"{shell.host} could not be locked: {why.get(answer, 'it gave no answer')}.", hint, shell.host
    )


def _lost(host: str, problem: Diagnostic) -> ReconcilerError:
    return world_error(
        "lock lost",
        f"The connection that held the lock of {host} broke off, so nothing more is begun there. {problem.detail}",
        "Run the command again: it looks at the host first and goes on from there.",
        host,
        transient=True,
    )


class _Heart:
    """Beats for a holder, and hears its answers."""

    def __init__(self, holder: asyncio.subprocess.Process, asked: _Moment) -> None:
        self._holder = holder
        self._answered = asked  # when that was sent which the last answer is to
        self._unanswered: deque[_Moment] = deque()
        self._heard = asyncio.Event()
        self._tasks = [asyncio.create_task(self._beat_on()), asyncio.create_task(self._listen())]

    async def is_heard(self) -> bool:
        """Return whether the holder proves that it has the lock, if need be by a beat of its own, within seconds."""
        if _seconds_since(self._answered) < HEARD_SECONDS:
            return True
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS):
                await self._beat()
                while _seconds_since(self._answered) >= HEARD_SECONDS:
                    self._heard.clear()
                    await self._heard.wait()
                return True
        return False

    async def _beat(self) -> None:
        assert self._holder.stdin
        self._unanswered.append(_moment())
        self._holder.stdin.write(b"\n")
        await self._holder.stdin.drain()

    async def _beat_on(self) -> None:
        with suppress(ConnectionError):  # `ensure` sees that the holder is gone
            while True:
                await self._beat()
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _listen(self) -> None:
        assert self._holder.stdout
        while await self._holder.stdout.readline():
            self._answered = self._unanswered.popleft()
            self._heard.set()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


_Moment = tuple[float, float]


def _moment() -> _Moment:
    return monotonic(), time()


def _seconds_since(moment: _Moment) -> float:
    """Return how long ago that was, by the clock that says more: one of them may stand still while we are suspended."""
    return max(monotonic() - moment[0], time() - moment[1])


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
