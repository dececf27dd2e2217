"""Locks a host so that one apply at a time changes it. The lock is on the dom0, so it counts for every controller.

Used by `execute`. A shell on the host holds the lock as long as it hears from us. It lets go when its stdin closes
(we ended or were killed) and when nothing was heard for a while (the network vanished). No other process inherits it:
xl, whose daemons live as long as their domains, runs from other shells. It answers each beat of ours: only one that was
answered a moment ago proves that the lock is still there, since a network that vanished is noticed late. Each beat also
writes the file of the lock, so that others see who has it, and whether that one still speaks.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from time import monotonic, time

from reconciler.decide.holds import QUIET_SECONDS, lock_speaks
from reconciler.dom0.layout import dom0_of
from reconciler.dom0.shell import Dom0Shell
from reconciler.expressions import expression
from reconciler.leaving import kill_group
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, refused, world_error
from reconciler.model.fleet import HostSettings
from reconciler.model.host import LockHolder
from reconciler.person import this_process
from reconciler.waiting import MachineClock, NotYet, wait_until

HEARTBEAT_SECONDS = 5
SILENCE_SECONDS = 30
HEARD_SECONDS = 10  # an answer proves the lock for so long after its beat: well within what the holder bears in silence
REGAIN_SECONDS = 120  # how long a lost lock is asked for again: ssh needs some 40 s to see that a network is gone
_ANSWER_SECONDS = 60
_SECONDS = expression(r"-?[0-9]{1,15}")
_WHERE_FLOCK_IS = {
    "debian": "Debian: `apt install util-linux`; BusyBox has it as an applet.",
    "netbsd": "NetBSD before 6.1 has none: upgrade the dom0.",
}

# The file is opened for appending, which creates it and leaves it as it is: whoever comes second has to read it.
# Only a holder that is told to end empties it. So one that comes again (`mine` is what it found there when it had the
# lock) sees whether anybody else was here meanwhile. The watcher takes its `sleep` along when it is ended. Some shells,
# NetBSD's too, hide from commands what `exec` opened, so flock gets a copy; and NetBSD's flock has to be told of -x.
# A beat writes over what is there, in lines as long as before: nobody is to find the file empty meanwhile.
# On a host of a cluster the silence that is borne is a lease, which the line of the host tells.
_HOLD = """
command -v flock >/dev/null || { echo missing; exit; }
if ! (: >>"$path") 2>/dev/null; then echo unusable; exit; fi
exec 8>>"$path"
if ! flock -x -n 9 9>&8; then echo held; sed 1q "$path"; exit; fi
if [ "$mine" ] && [ "$mine" != "$(sed 1q "$path")" ]; then echo changed; sed 1q "$path"; exit; fi
if [ -z "$silence" ]; then
    cluster=- lease=''
    if [ -e "$line_file" ]; then read -r number session by cluster lease <"$line_file" || :; fi
    case $cluster,$lease in -,* | *, | *,0* | *,*[!0-9]*) silence=$longest ;; *) silence=$lease ;; esac
fi
[ "$mine" ] || mine="$who, since $(date -u '+%Y-%m-%d %H:%M:%S UTC')"
holder=$(exec sh -c 'echo $PPID')
watch() {
    (trap 'kill "$!"; exit' TERM; sleep "$silence" & wait "$!"; kill "$holder") 8>&- >/dev/null 2>&1 </dev/null &
    watcher=$!
}
told() { printf '%s\\n%s\\n%-9s\\n' "$mine" "$holder" "$watcher"; }
watch; told >"$path"
echo locked; printf '%s\\n%s\\n' "$mine" "$silence"
while read -r word && [ "$word" != end ]; do
    kill "$watcher" 2>/dev/null
    wait "$watcher" 2>/dev/null
    watch; told 1<>"$path"
    echo heard
done
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null # with it goes what it may have of the lock
[ "$word" != end ] || : >"$path"
"""

# Prints nothing where nobody has the lock whose file is $1; else for how many seconds its holder was silent, and its
# line. The file names the process, which may be gone without a word.
_HOLDER_OF = """
holder_of() {
    [ -s "$1" ] || return 0
    pid=$(sed -n 2p "$1")
    case $pid in '' | *[!0-9]*) return 0 ;; esac
    kill -0 "$pid" 2>/dev/null || return 0
    if [ "$(uname -s)" = NetBSD ]; then
        heard=$(stat -f %m -- "$1")
    else
        [ "$(stat -L -c %d:%i -- "$1")" = "$(stat -L -c %d:%i -- "/proc/$pid/fd/8" 2>/dev/null)" ] || return 0
        heard=$(stat -c %Y -- "$1")
    fi
    echo $(($(date +%s) - heard))
    sed 1q "$1"
}
"""

# Ends the holder, whose shell may have been stopped. The controller that it served sees that its lock is gone.
_BREAK = f"""
command -v flock >/dev/null || {{ echo missing; exit; }}
if ! (: >>"$path") 2>/dev/null; then echo unusable; exit; fi
exec 8>>"$path"
take() {{ flock -x -n 9 9>&8 && : >"$path"; }}
if take; then echo free; exit; fi
told=$(holder_of "$path")
[ "$told" ] || {{ echo unknown; exit; }}
pid=$(sed -n 2p "$path") watcher=$(sed -n '3s/ *$//p' "$path") # in some shells the watcher, too, has a copy of the lock
ending() {{
    for signal in TERM KILL; do
        kill -s "$signal" "$pid" && kill -s CONT "$pid"
        kill -s "$signal" "$watcher" && kill -s CONT "$watcher"
        for try in 1 2 3 4 5 6 7 8 9 10; do
            if take; then echo ended; return; fi
            sleep 0.2 2>/dev/null || sleep 1
        done
    done
    echo stays
}}
if [ "${{told%%[!0-9]*}}" -lt {QUIET_SECONDS} ]; then echo speaks; else ending 2>/dev/null; fi
printf '%s\n' "$told"
"""


def look_at_lock(settings: HostSettings) -> str:
    """Return sh for the end of the script that observes a host: a section with what `read_holder` reads."""
    paths = {system: shlex.quote(dom0_of(system, settings).lock_path) for system in ("NetBSD", "Linux")}
    return f"""{_HOLDER_OF}
case $system in NetBSD) lock={paths["NetBSD"]} ;; *) lock={paths["Linux"]} ;; esac
holder_of "$lock"
close lock 0
"""


def read_holder(lines: Sequence[str]) -> LockHolder | None:
    """Read what `holder_of` printed. A process that is just beginning to hold the lock says nothing yet."""
    if len(lines) != 2 or not _SECONDS.fullmatch(lines[0]):
        return None
    by, _, since = lines[1].partition(", since ")
    return LockHolder(by=by, since=since, silent_seconds=max(0.0, float(lines[0])))


async def break_lock(shell: Dom0Shell) -> LockHolder | None:
    """End the lock of a holder that says nothing any more, and return who that was; None where nobody had it.

    Raises ReconcilerError (refused) while its holder speaks.
    """
    path = shell.dom0.lock_path
    result = await shell.connection.script(f"path={shlex.quote(path)}\n{_HOLDER_OF}{_BREAK}")
    answer, *told = result.text.splitlines() or [""]
    holder = read_holder(told)
    if answer == "speaks" and holder is not None:
        raise lock_speaks(shell.host, holder)
    if answer in ("free", "ended"):
        return holder
    why = {
        "missing": "there is no `flock` command there",
        "unusable": f"{path} cannot be written",
        "unknown": f"a process holds it of which {path} says nothing",
        "stays": "the process that holds it does not end",
    }
    hint = _WHERE_FLOCK_IS[shell.dom0.flavour] if answer == "missing" else f"on {shell.host}: fuser -v {path}"
    raise world_error(
        "lock not ended",
        f"The lock of {shell.host} could not be ended: {why.get(answer, 'there was no answer')}.",
        hint,
        shell.host,
    )


class HostLock:
    """The lock of one host. When its connection breaks off, the next step takes it again before it begins."""

    def __init__(self, silence_seconds: float | None = None) -> None:
        """With `silence_seconds` None the host tells: a lease of its cluster or, where it has none, 30 s."""
        self._silence = str(max(1, round(silence_seconds))) if silence_seconds is not None else ""
        self._holders: AsyncExitStack | None = None  # while it is meant to be held
        self._holder: asyncio.subprocess.Process | None = None
        self._heart: _Heart | None = None
        self._line = ""  # what the file says while we have the lock
        self._lost_since: float | None = None
        self._regaining = asyncio.Lock()

    @property
    def line(self) -> str:
        """Return what the lock's file says of us while we have the lock."""
        return self._line

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
        given = {
            "path": shell.dom0.lock_path,
            "line_file": shell.dom0.line_path,
            "who": this_process(),
            "mine": self._line,
            "silence": self._silence,
            "longest": str(SILENCE_SECONDS),
        }
        assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
        asked = _moment()
        holder = await holders.enter_async_context(shell.connection.process(assignments + _HOLD))
        self._line, silence_seconds = await _await_lock(shell, holder, self._line)
        self._holder, self._heart = holder, _Heart(holder, asked, silence_seconds)
        holders.push_async_callback(_let_go, holder, self._heart)


async def _let_go(holder: asyncio.subprocess.Process, heart: _Heart) -> None:
    heart.stop()
    assert holder.stdin
    with suppress(ConnectionError, TimeoutError):  # it may be gone with its network; then it lets go by itself
        holder.stdin.write(b"end\n")
        holder.stdin.close()
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            await holder.wait()


async def _await_lock(shell: Dom0Shell, holder: asyncio.subprocess.Process, mine: str) -> tuple[str, float]:
    """Wait for the holder's answer. Returns the line about us that the lock's file has from now on, and for how many
    seconds it bears our silence.

    `mine` is the line it had when we held the lock before.
    """
    assert holder.stdout
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = (await holder.stdout.readline()).decode().strip()
            if answer == "locked":
                line = (await holder.stdout.readline()).decode(errors="replace").strip()
                return line, float((await holder.stdout.readline()).decode())
            who = (await holder.stdout.read()).decode(errors="replace").strip() or "someone who is just beginning"
    except TimeoutError:
        answer = who = ""
    path = shell.dom0.lock_path
    if answer == "held" and who != mine:
        raise refused(
            "host is locked",
            f"{shell.host} is being changed by {who}.",
            f"wait until that is done; the lock frees itself {SILENCE_SECONDS} s after its holder is gone, and after "
            f"{QUIET_SECONDS} s it can be ended: reconciler unlock {shell.host}",
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

    def __init__(self, holder: asyncio.subprocess.Process, asked: _Moment, silence_seconds: float) -> None:
        self._holder = holder
        self._beat_seconds = min(HEARTBEAT_SECONDS, silence_seconds / 3)
        self._heard_seconds = min(HEARD_SECONDS, silence_seconds / 2)
        self._answered = asked  # when that was sent which the last answer is to
        self._unanswered: deque[_Moment] = deque()
        self._heard = asyncio.Event()
        self._tasks = [asyncio.create_task(self._beat_on()), asyncio.create_task(self._listen())]

    async def is_heard(self) -> bool:
        """Return whether the holder proves that it has the lock, if need be by a beat of its own, within seconds."""
        if _seconds_since(self._answered) < self._heard_seconds:
            return True
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS):
                await self._beat()
                while _seconds_since(self._answered) >= self._heard_seconds:
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
                await asyncio.sleep(self._beat_seconds)

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
