"""Runs small sh scripts that change something on a dom0, and that say in a sentence why they could not.

Used by everything that carries out steps (`images`, `disks`, `config_files`, …). Values from specs reach a script only
as quoted assignments at its head.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from reconciler.dom0.connection import Connection
from reconciler.dom0.layout import Dom0, dom0_of
from reconciler.dom0.toolstack_sh import XL_SH
from reconciler.model.diagnostics import ReconcilerError, refused, world_error
from reconciler.model.domain import address_of
from reconciler.model.fleet import HostSettings
from reconciler.records import dataclass

_FAILED, _REFUSED = 64, 65
_SENT_QUIET_SECONDS = 60  # for which what is sent may not grow
_COPIED_QUIET_SECONDS = 900  # for which what is copied there may not, since it has to get onto the disk, too

_PRELUDE = f"""
set -eu
nl='
'
system=$(uname -s)

# A sentence, and what can be done about it.
fail() {{ printf 'problem: %s\\nhint: %s\\n' "$1" "${{2:-}}" >&2; exit {_FAILED}; }}
refuse() {{ printf 'problem: %s\\nhint: %s\\n' "$1" "${{2:-}}" >&2; exit {_REFUSED}; }}

# Until this returns, a power cut may lose the file. (NetBSD's sync knows no files and takes all.)
persist() {{ sync -- "$@" 2>/dev/null || sync; }}

size_of() {{ if [ "$system" = NetBSD ]; then stat -L -f %z -- "$1"; else stat -L -c %s -- "$1"; fi; }}

sha256_of() {{
    if [ "$system" = NetBSD ]; then cksum -a sha256 <"$1"; else sha256sum <"$1"; fi | cut -c1-64
}}

# Names one thing whatever its path: a device by its number, a file by its inode. Nothing for what is not there.
identity_of() {{
    if [ "$system" = NetBSD ]; then
        if [ -b "$1" ]; then stat -L -f 'device %r' -- "$1"; else stat -L -f 'inode %d:%i' -- "$1"; fi
    else
        if [ -b "$1" ]; then stat -L -c 'device %t:%T' -- "$1"; else stat -L -c 'inode %d:%i' -- "$1"; fi
    fi 2>/dev/null || :
}}
"""


# Puts secrets into config files of ours, and tells which changed since. Only here a secret is read: by awk, from its
# file, so that it is in no argument, and goes only into the config file, which root alone can read. The lines are those
# of `specs.secret_files`; `read_value` returns "" where there is nothing to read.
_AWK = r"""
function read_value(key, path,    line, at, letter, out) {
    line = ""
    if ((getline line < path) <= 0) line = ""
    close(path)
    sub(/\r$/, "", line)
    if (line == "") return ""
    for (at = 1; at <= length(line); at++) {
        letter = substr(line, at, 1)
        out = out (letter == "\\" || letter == "\"" ? "\\" : "") letter
    }
    return key " = \"" out "\""
}
function read_comment() {
    key = $3
    path = substr($0, length("# reconciler-secret: ") + length(key) + 2)
    before = sub(/ \(as it was before\)$/, "", path)
}
"""

SECRET_LINES_SH = rf"""
secret_awk='{_AWK}'

# Puts the values behind the comments of the config file FROM. What is to stay as it was is taken from the file OLD.
fill_secrets() {{ # FROM OLD
    grep -q '^# reconciler-secret: ' "$1" || return 0
    missing=$(sed -n -e 's/ (as it was before)$//' -e 's/^# reconciler-secret: [a-z]* \(\/.*\)$/\1/p' "$1" |
        while IFS= read -r secret; do [ -f "$secret" ] && [ -s "$secret" ] || printf '%s\n' "$secret"; done)
    [ -z "$missing" ] ||
        fail "${{missing%%"$nl"*}}, which holds a password, is not there or is empty." "Put it there, in one line."
    if [ -f "$2" ]; then old=$2; else old=/dev/null; fi
    awk -v old="$old" "$secret_awk"'
        BEGIN {{
            while ((getline line < old) > 0) {{
                if (last != "" && index(line, last " = ") == 1) held[last] = line
                last = ""
                if (line ~ /^# reconciler-secret: /) {{ split(line, part, " "); last = part[3] }}
            }}
        }}
        function put() {{ if (wanted != "") print wanted; wanted = "" }}
        wanted != "" && index($0, key " = ") == 1 {{ wanted = "" }}
        {{ put() }}
        /^# reconciler-secret: / {{
            read_comment()
            print "# reconciler-secret: " key " " path
            wanted = (before && key in held) ? held[key] : read_value(key, path)
            if (wanted == "") exit 1
            next
        }}
        {{ print }}
        END {{ put() }}' "$1" >"$1.filled" ||
        fail "A password that $target needs is empty." "Put it into the first line of its file."
    mv -f -- "$1.filled" "$1"
}}

# Prints a key, a blank and the path for each value that is no longer the one in its file, of these config files. Called
# in a subshell.
changed_secrets() {{
    [ $# -gt 0 ] || return 0
    set -f
    IFS='
'
    set -- $(grep -l '^# reconciler-secret: ' -- "$@" 2>/dev/null)
    for file do
        awk "$secret_awk"'
            function compare(line) {{ if (wanted != "" && line != wanted) print key, FILENAME; wanted = "" }}
            {{ compare($0) }}
            /^# reconciler-secret: / {{ read_comment(); wanted = read_value(key, path) }}
            END {{ compare("") }}' "$file"
    done
}}
"""


@dataclass(frozen=True, slots=True)
class Dom0Shell:
    """Runs the scripts of one executor. An error bears the address of the domain that the script was for."""

    connection: Connection
    settings: HostSettings
    dom0: Dom0
    toolstack_sh: str = XL_SH

    @property
    def host(self) -> str:
        return self.settings.name

    def whole(self, script: str, given: Mapping[str, str]) -> str:
        """Return a script as `act` runs it, with all that it needs."""
        return f"{assigned(given)}{_PRELUDE}{self.toolstack_sh}{script}"

    async def act(
        self,
        domain: str,
        summary: str,
        script: str,
        given: Mapping[str, str],
        *,
        input: Iterable[bytes] | None = None,
        timeout_seconds: float = 120,
        looks: bool = False,
    ) -> str:
        """Run a script, and return what it printed, byte for byte (surrogateescape).

        Unless it only `looks`, it changes the host, and runs only while that is ours.

        Raises ReconcilerError with `summary` when it fails.
        """
        text = self.whole(script, given)
        if looks:
            result = await self.connection.script(text, input=input, timeout_seconds=timeout_seconds)
        else:
            result = await self.connection.change(
                text,
                what=f"{address_of(self.host, domain) if domain else self.host}: {summary.removesuffix(' failed')}",
                input=input,
                timeout_seconds=timeout_seconds,
                grows=given.get("unfinished", ""),
                quiet_seconds=_SENT_QUIET_SECONDS if input is not None else _COPIED_QUIET_SECONDS,
            )
        if result.exit_code == 0:
            return result.stdout.decode(errors="surrogateescape")
        raise failure(address_of(self.host, domain), summary, result.exit_code, result.errors)


def assigned(given: Mapping[str, str]) -> str:
    """Write the head of a script that gives it these values, quoted."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())


def failure(address: str, summary: str, exit_code: int, errors: str) -> ReconcilerError:
    """Make the error of a script or an xl command that failed, in its own words if it gave any."""
    said = dict(line.partition(": ")[::2] for line in errors.splitlines() if line.startswith(("problem: ", "hint: ")))
    if exit_code == _REFUSED and "problem" in said:
        return refused(summary, said["problem"], said.get("hint") or None, address)
    if exit_code == _FAILED and "problem" in said:
        return world_error(summary, said["problem"], said.get("hint") or None, address)
    last = "\n".join(errors.splitlines()[-5:])
    return world_error(summary, f"The command failed (exit {exit_code}): {last or 'it gave no reason.'}", None, address)


async def open_shell(connection: Connection, settings: HostSettings, toolstack_sh: str = XL_SH) -> Dom0Shell:
    """Ask the host which system its dom0 is, and return a shell that knows. `toolstack_sh` asks its toolstack."""
    result = await connection.run(["uname", "-s"])
    return Dom0Shell(connection, settings, dom0_of(result.text.strip(), settings), toolstack_sh)
