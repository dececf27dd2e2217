"""Asks a dom0 which processes of xl there are, and whether xl is making a domain: an sh function for other scripts.

Used by `observe` for all domains and by `remnants` for one. What it prints is read by `texts.daemons`.
"""

from __future__ import annotations

import shlex

XL_LOCKS = ("/var/lock/xl", "/run/lock/xl", "/var/run/xen/xl", "/var/lib/xl")
"""Where xl keeps its own lock, which differs by system.

With autoballoon it is held while xl makes room for a domain and makes it (before Xen 4.13 always); else never.
"""

# NetBSD's ps cuts lines off at 79 columns unless told -ww, which BusyBox's does not know, and POSIX neither.
EVERY_PROCESS = """
every_process() { ps -A -ww "$@" 2>/dev/null || ps -A "$@"; }
"""

# xl locks by fcntl, which Linux keeps apart from flock: there its list of locks tells, and where both are one, flock.
# A process that makes a domain writes to where its caller wants; once it is a daemon, to the log of its domain.
_FUNCTIONS = r"""
xl_lock_is_held() {
    for lock in $locks; do
        [ -e "$lock" ] || continue
        if [ -r /proc/locks ]; then
            at=$(stat -L -c '%d %i' "$lock" | awk '{
                printf "%02x:%02x:%s", int($1 / 256) % 4096, $1 % 256 + int($1 / 1048576) * 256, $2 }')
            if grep -q " $at " /proc/locks; then return 0; fi
        elif command -v flock >/dev/null; then
            flock -n -s "$lock" true || return 0
        fi
    done
    return 1
}

# Prints `process PID ARGUMENTS` and `writes PID FILE` for each process of xl, `locked`, and `unseen` without ps. Fails
# as ps does.
xl_processes() {
    if xl_lock_is_held; then echo locked; fi
    command -v ps >/dev/null || { echo unseen; return 0; }
    processes=$(every_process -o pid= -o args=) || return
    processes=$(printf '%s\n' "$processes" | awk '
        { pid = "-"; rest = $0; sub(/^[ \t]+/, "", rest) }
        $1 ~ /^[0-9]+$/ { pid = $1; sub(/^[0-9]+[ \t]+/, "", rest) }
        rest ~ /^([^ ]*\/)?xl( |$)/ { print "process", pid, rest }')
    printf '%s\n' "$processes"
    set --
    for pid in $(printf '%s\n' "$processes" | awk '$2 ~ /^[0-9]+$/ { print $2 }'); do
        [ ! -e "/proc/$pid/comm" ] || set -- "$@" "/proc/$pid/comm"
    done
    [ $# -eq 0 ] || set -- $(grep -lsx -e xl -- "$@" | sed 's/comm$/fd\/1/')
    [ $# -eq 0 ] || ls -ld -- "$@" 2>/dev/null | sed -n 's/^.* \/proc\/\([0-9]*\)\/fd\/1 -> /writes \1 /p'
}
"""


def functions() -> str:
    """Return the text to put before a script that calls `xl_processes`."""
    return f"locks={shlex.quote(' '.join(XL_LOCKS))}\n{EVERY_PROCESS}{_FUNCTIONS}"
