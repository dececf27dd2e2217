"""The line of a dom0 and its second lock: which session may act, and what of its commands is still under way.

Called by `execute` and `connection`. A command that changes the host runs while this lock is held by a shell there, and
only while the line is exactly ours. That shell lets go when the command has ended, whatever becomes of ssh and of us:
signals that end others do not end it, and what the command prints goes to files first. So whoever takes the line has it
when nothing of anybody else's goes on there. No wait is ever made under this lock.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.dom0.layout import dom0_of
from reconciler.fence import TRIES, Fencing, Line, still_under_way, taken_over
from reconciler.model.diagnostics import world_error
from reconciler.model.fleet import HostSettings
from reconciler.records import dataclass

if TYPE_CHECKING:
    from reconciler.dom0.connection import Connection, Result
    from reconciler.dom0.shell import Dom0Shell

PATIENCE_SECONDS = 15  # for commands that are under way, before the line is taken
STAYS = "its time is over, and it cannot be killed"
"""What is noted of a command that waits in the kernel for what does not come, such as a disk."""

_LATE_SECONDS = 35  # how much longer than the bound of a command its answer is waited for
_FENCED = 66

# Where shells have no setsid, the command still gets a group of its own, so that it can be killed without this shell.
# Where they can make none either, it is killed with all that descends from it, and what of that is an orphan in the
# group of this shell; all are stopped before, so that none begins another one meanwhile.
# The watcher ends what goes on too long or, where `grows` is named, what has not made that grow for `quiet` seconds.
# Nobody may hide from flock what `exec` opened, hence its copies; see the other lock.
_RUN = """
tell() { printf '%s %s\\n' "$boundary" "$1" >&2; exit $fenced; }
begin() {
    group=-
    if command -v setsid >/dev/null; then
        setsid sh -c "$command" <&3 >"$said.out" 2>"$said.err" 7>&- 8>&- &
    else
        apart=''
        if (set -m) 2>/dev/null; then set -m; apart=yes; else group=''; fi
        sh -c "$command" <&3 >"$said.out" 2>"$said.err" 7>&- 8>&- &
        [ -z "$apart" ] || set +m
    fi
    child=$!
    group=$group$child # dash knows no `--` before it
}
family() {
    ps -A -o pid= -o ppid= -o pgid= | awk -v shell="$$" -v family=" $* " '
        function is_of_it(pid) { return index(family, " " pid " ") > 0 }
        { parent[$1] = $2; group[$1] = $3 }
        END {
            for (pid = shell; pid in parent && pid > 1; pid = parent[pid]) above[pid] = 1
            for (pid in parent) {
                orphan = group[pid] == group[shell] && group[parent[pid]] != group[shell] && !(pid in above)
                if (!is_of_it(pid) && (is_of_it(parent[pid]) || orphan)) print pid
            }
        }'
}
kill_all() {
    case $group in -*) kill -KILL "$group" || kill -KILL "$child"; return ;; esac
    all=$child
    while
        kill -STOP $all
        more=$(family $all)
        [ "$more" ]
    do
        all=$(echo $all $more)
    done
    kill -KILL $all
}
end_late() {
    (
        trap 'kill "$!"; exit' TERM
        left=$bound still=0 before=''
        while [ -e "$said" ] && [ "$left" -gt 0 ] && [ "$still" -lt "$quiet" ]; do
            sleep "$tick" &
            wait "$!"
            kill -0 "$group" || kill -0 "$child" || exit # it has ended; another process may get its number
            left=$((left - tick))
            now=$(if [ "$grows" ]; then ls -lns -- "$grows" 2>/dev/null; fi)
            if [ "$grows" ] && [ "$now" = "$before" ]; then still=$((still + tick)); else still=0 before=$now; fi
        done
        [ -e "$said" ] || exit # a shell can lose the signal that tells it to end
        : >"$said.late"
        kill_all
        sleep 2
        if [ -e "$said" ] && kill -0 "$group"; then echo "$stays" >>"$lock.under-way/${said##*/}"; fi
    ) 8>&- >/dev/null 2>&1 </dev/null &
    watcher=$!
}
command -v flock >/dev/null || tell missing
trap : HUP PIPE TERM
said=$(mktemp "${TMPDIR:-/tmp}/reconciler.XXXXXX") || tell full
exec 3<&0 7>>"$lock.gate" 8>>"$lock"
flock -x 9 9>&7 && flock -s 9 9>&8 || tell unlocked
exec 7>&-
is=$(if [ -e "$line_file" ]; then cat -- "$line_file"; fi; echo .)
if [ "$is" != "$line$nl." ]; then rm -f -- "$said"; tell "$is"; fi
mkdir -p -- "$lock.under-way"
printf '%s, since %s\\n' "$what" "$(date -u '+%Y-%m-%d %H:%M:%S UTC')" >"$lock.under-way/${said##*/}"
touch -- "$line_file" # it has been spoken to
begin
end_late
while :; do
    wait "$child"
    status=$?
    [ "$status" -gt 128 ] && kill -0 "$child" 2>/dev/null || break
done
if [ -e "$said.late" ]; then
    while kill -0 "$group" 2>/dev/null; do sleep 1; done # what cannot be killed keeps the host
    status=137
fi
rm -f -- "$lock.under-way/${said##*/}" "$said"
exec 8>&-
kill "$watcher" 2>/dev/null
trap '' PIPE
cat -- "$said.out" 2>/dev/null
cat -- "$said.err" >&2 2>/dev/null
if [ -e "$said.late" ]; then printf '%s late\n' "$boundary" >&2; fi
rm -f -- "$said.out" "$said.err" "$said.late"
exit "$status"
"""

# Of a command that is noted here without its shell nothing is under way any more: then the lock can be had. It is asked
# for in a shell of its own, since one that cannot open a file ends.
_UNDER_WAY = """
look_at_commands() {
    case $system in NetBSD) steps_lock=$lock_of_netbsd ;; *) steps_lock=$lock_elsewhere ;; esac
    (
        for file in "$steps_lock.under-way"/*; do [ -e "$file" ] || exit; break; done
        exec 8>>"$steps_lock"
        flock -x -n 9 9>&8 && exit
        for file in "$steps_lock.under-way"/*; do
            if grep -q "$stays" "$file"; then echo "stays $(sed 1q "$file")"; else echo "goes on $(sed 1q "$file")"; fi
        done
    ) 2>/dev/null
    close commands 0
}
"""

# The number of seconds since anybody was here is by the clock of the host: that of the line's file against a new one.
_READ = """
if [ -e "$line_file" ]; then
    new="${line_file%/*}/.now.reconciler-$token"
    : >"$new"
    if [ "$system" = NetBSD ]; then format='-f %m'; else format='-c %Y'; fi
    echo "spoken $(($(stat $format -- "$new") - $(stat $format -- "$line_file")))"
    rm -f -- "$new"
    cat -- "$line_file"
fi
"""

_TAKE = """
exec 7>>"$lock.gate" 8>>"$lock"
flock -x 9 9>&7
tries=0
until flock -x -n 9 9>&8; do
    tries=$((tries + 1))
    if [ "$tries" -gt "$patience" ]; then echo busy; cat -- "$lock.under-way"/* 2>/dev/null || :; exit 0; fi
    sleep 1
done
if [ "$mine" ] && [ "$mine" != "$(sed 1q "$lock_path")" ]; then echo lost; exit 0; fi
is=$(if [ -e "$line_file" ]; then cat -- "$line_file"; fi; echo .)
if [ "$is" != "$seen." ]; then echo moved; exit 0; fi
rm -f -- "$lock.under-way"/* # of commands whose shell was killed
if [ "$seen" != "$new" ]; then
    mkdir -p -- "${line_file%/*}"
    trap 'rm -f -- "$unfinished"' EXIT
    umask 022
    printf %s "$new" >"$unfinished"
    persist "$unfinished"
    mv -f -- "$unfinished" "$line_file"
    persist "${line_file%/*}"
else
    touch -- "$line_file"
fi
echo taken
"""


@dataclass(frozen=True, slots=True)
class Fence:
    """What every command on a host has to show: the line that is ours, and where line and lock are kept there."""

    host: str
    line: Line
    line_path: str
    lock_path: str

    async def run(
        self,
        connection: Connection,
        text: str,
        *,
        what: str,
        input: Iterable[bytes] | None,
        bound_seconds: float,
        grows: str = "",
        quiet_seconds: int = 60,
    ) -> Result:
        """Run a script that changes the host. Raises ReconcilerError (moved) where the host is not ours any more.

        After `bound_seconds` it is killed there. With `grows` that happens sooner, where this file does not.
        """
        bound, boundary = max(1, round(bound_seconds)), f"fence-{secrets.token_hex(8)}"
        given = {
            "command": text,
            "what": what,
            "line": self.line.text.removesuffix("\n"),
            "line_file": self.line_path,
            "lock": self.lock_path,
            "bound": str(bound),
            "tick": str(min(5, bound)),
            "quiet": str(quiet_seconds),
            "grows": grows,
            "boundary": boundary,
            "fenced": str(_FENCED),
            "nl": "\n",
            "stays": STAYS,
        }
        script = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items()) + _RUN
        result = await connection.script(script, input=input, timeout_seconds=bound + _LATE_SECONDS, lasts=True)
        return self._judged(result, boundary, what)

    def _judged(self, result: Result, boundary: str, what: str) -> Result:
        """Take our own words out of the answer. Raises where the command was not begun, or did not end in time."""
        mark, words = f"{boundary} ".encode(), None
        if mark in result.stderr:
            before, _, rest = result.stderr.rpartition(mark)
            words, result = rest.decode(errors="replace"), replace(result, stderr=before)
        if words is None or words.strip() == "late":
            return result
        if words.strip() in _NOT_BEGUN:
            raise world_error(
                "step not begun",
                f"{what}: {_NOT_BEGUN[words.strip()]} on {self.host}.",
                None,
                self.host,
                transient=True,
            )
        raise taken_over(self.host, self.host, words.rstrip("\n").removesuffix("."))


_NOT_BEGUN = {
    "missing": "there is no `flock` command",
    "full": "no temporary file could be made",
    "unlocked": "the lock of steps could not be had",
}


def look_at_commands(settings: HostSettings) -> str:
    """Return sh for the script that observes a host: a function that makes a section, which `read_commands` reads."""
    netbsd, linux = (shlex.quote(dom0_of(system, settings).steps_lock_path) for system in ("NetBSD", "Linux"))
    return f"lock_of_netbsd={netbsd} lock_elsewhere={linux} stays={shlex.quote(STAYS)}\n{_UNDER_WAY}"


def read_commands(lines: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the commands that are under way on a host, whoever sent them, and those of them that stay.

    >>> read_commands(["goes on xl create web, since 12:00", "stays xl create db, since 11:00"])
    (('xl create web, since 12:00', 'xl create db, since 11:00'), ('xl create db, since 11:00',))
    """
    told = [line.removeprefix("goes on ").removeprefix("stays ") for line in lines]
    return tuple(told), tuple(one for one, line in zip(told, lines, strict=True) if line.startswith("stays "))


async def take(shell: Dom0Shell, fencing: Fencing, lock_line: str) -> Fence:
    """Make the line of a host ours, once nothing of anybody else's is under way there.

    The lock of an apply must be held; `lock_line` is what its file says then. Raises ReconcilerError (refused) where
    the host is another's, or a command goes on there.
    """
    dom0, moved = shell.dom0, "Somebody else took it again and again"
    for _ in range(TRIES):
        text, silent = await _read(shell)
        seen = Line.parse(text)
        wanted = await fencing.line_for(shell.host, seen, silent)
        given = {
            "seen": text,
            "new": wanted.text,
            "mine": lock_line,
            "lock_path": dom0.lock_path,
            "line_file": dom0.line_path,
            "lock": dom0.steps_lock_path,
            "patience": str(PATIENCE_SECONDS),
            "unfinished": f"{dom0.line_path}.reconciler-{secrets.token_hex(4)}",
        }
        answer, _, rest = (await shell.act("", "taking the host failed", _TAKE, given)).partition("\n")
        if answer == "taken":
            fencing.took(shell.host, wanted)
            return Fence(shell.host, wanted, dom0.line_path, dom0.steps_lock_path)
        if answer == "busy":
            raise still_under_way(shell.host, rest)
        if answer == "lost":
            raise taken_over(shell.host, shell.host, text)
    raise world_error("host not taken", f"{moved}: {shell.host}.", None, shell.host, transient=True)


async def _read(shell: Dom0Shell) -> tuple[str, float | None]:
    given = {"line_file": shell.dom0.line_path, "token": secrets.token_hex(4)}
    answer = await shell.act("", "reading the line of the host failed", _READ, given, looks=True)
    if not answer:
        return "", None
    spoken, _, text = answer.partition("\n")
    return text, max(0.0, float(spoken.removeprefix("spoken ")))
