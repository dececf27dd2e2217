"""Runs xl's commands for the executor: list what there is, and act on one domain.

A domain is acted on by its domid, which is looked up by name *and* UUID just before: xl takes a name made of digits for
a domid, and a name may have changed hands. Exit codes are not believed; callers look again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reconciler.dom0.connection import Connection, Result
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import address_of
from reconciler.model.host import Power
from reconciler.texts.listing import Info, Row, XlOutputError, parse_info, parse_list_long, parse_whole_list
from reconciler.waiting import Clock, MachineClock

_Parsed = TypeVar("_Parsed")
_PLACE = re.compile(r"^libxl: (?:error|warning): \S+:\d+:\w+: (?:Domain \d+:)?")
_REASON_LINES = 4  # of what xl says that is told
_XL_SECONDS = 90  # `xl shutdown` waits up to 60 s for a guest that does not answer

# xl leaves a process behind for each domain, which carries out what on_reboot and on_crash ask for. While there is one,
# a domain that is not listed is only between two lives. It is named by what made the domain: us, a person or xendomains
# (by a link of ours, NNN-NAME, or from a saved image), or by a migration, which tells nothing but its log.
# Defines a function for sh, about the domain `$name`.
COMES_BACK = """
comes_back() {
    found=$(ps -A -ww -o pid= -o args= | awk -v name="$name" '
        $2 !~ /(^|\\/)xl$/ { next }
        / migrate-receive( |$)/ { print $1; next }
        / (create|restore) / {
            count = split($NF, part, "/")
            file = part[count]
            folder = part[count - 1]
            if (folder == "auto") sub(/^[0-9]+-/, "", file)
            if (file == name || file == name ".cfg" || (file == "candidate.cfg" && folder == name)) print "it"
        }')
    for each in $found; do
        if [ "$each" = it ]; then return 0; fi
        case $(readlink "/proc/$each/fd/1" 2>/dev/null) in
        */xl-"$name".log | */xl-"$name"--incoming.log) return 0 ;;
        esac
    done
    return 1
}
"""


class _FailedError(Exception):
    """Reports that an xl command which changes nothing has failed."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.exit_code)
        self.result = result


@dataclass(frozen=True, slots=True)
class Xl:
    """Runs xl on one host. `clock` is what is waited by there."""

    connection: Connection
    clock: Clock = field(default_factory=MachineClock)

    @property
    def host(self) -> str:
        return self.connection.host

    async def run(self, *arguments: str, timeout_seconds: float = _XL_SECONDS) -> Result:
        return await self.connection.run(["xl", *arguments], timeout_seconds=timeout_seconds)

    async def rows(self) -> tuple[Row, ...]:
        """List all domains of the host, dom0 included."""
        result = await self._read("list", "-v")
        return self._understood(lambda: parse_whole_list(result.text))

    async def info(self) -> Info:
        result = await self._read("info")
        return self._understood(lambda: parse_info(result.text))

    async def configs(self, domid: int | None = None) -> dict[int, dict[str, Any]]:
        """Return what domains run with, by domid. A domain that xl cannot read is missing from it."""
        result = await self._read("list", "-l", *([] if domid is None else [str(domid)]))
        return self._understood(lambda: dict(parse_list_long(result.text)))

    async def find(self, name: str, uuid: str) -> Row | None:
        """Find the domain of this name and UUID. Raises when another one has the name."""
        rows = await self.rows()
        found = next((row for row in rows if row.uuid == uuid and row.name == name), None)
        if found is None and any(row.name == name for row in rows):
            raise self.name_taken(name)
        return found

    async def comes_back(self, name: str) -> bool:
        """Return whether a domain that is not listed will be created again by the process that xl left for it."""
        return (await self.connection.script(f"name={shlex.quote(name)}\n{COMES_BACK}comes_back")).exit_code == 0

    async def live(self, name: str, uuid: str) -> Row:
        """Find the running domain of this name and UUID. Raises when it does not run."""
        row = await self.find(name, uuid)
        if row is None or row.power not in (Power.RUNNING, Power.PAUSED):
            state = "is not there" if row is None else f"is {row.power}"
            raise self.failed(name, "domain does not run", f"{name} {state}, so it cannot be changed while it runs.")
        return row

    def failed(
        self, domain: str, summary: str, detail: str, hint: str | None = None, *, passing: bool = False
    ) -> ReconcilerError:
        """Make the error of a command. It is `passing` when the host may have mended the cause by the next try."""
        return world_error(summary, detail, hint, address_of(self.host, domain), transient=passing, later=passing)

    def name_taken(self, domain: str) -> ReconcilerError:
        return self.failed(
            domain,
            "name is taken",
            f"Another domain, with another UUID, has the name {domain} on {self.host}; it is left alone.",
            f"Look at `xl list -v` there; to take it over: reconciler apply --adopt {address_of(self.host, domain)}",
        )

    async def _read(self, *arguments: str) -> Result:
        """Run a command that changes nothing, up to three times, since xl itself crashes now and then."""
        from reconciler.xl.retry import CRASHED_COMMAND

        try:
            return await CRASHED_COMMAND(_FailedError, self._read_once, *arguments)
        except _FailedError as failed:
            command, why = shlex.join(["xl", *arguments]), reason_of(failed.result)
            raise world_error("xl fails", f"`{command}` failed on {self.host}: {why}", None, self.host) from None

    async def _read_once(self, *arguments: str) -> Result:
        result = await self.run(*arguments)
        if result.exit_code != 0:
            raise _FailedError(result)
        return result

    def _understood(self, parse: Callable[[], _Parsed]) -> _Parsed:
        try:
            return parse()
        except XlOutputError as error:
            raise world_error("xl is not understood", f"{self.host}: {error}", None, self.host) from error


def reason_of(result: Result) -> str:
    """Return why a command failed, in at most four lines of what it printed.

    libxl names the cause first and then its effects, so the first lines are kept, and the very last one.
    """
    said: list[str] = []
    for line in (_PLACE.sub("", line).strip() for line in result.errors.splitlines()):
        if line and line not in said and not line.startswith("Parsing config"):
            said.append(line)
    if len(said) > _REASON_LINES:
        said = [*said[: _REASON_LINES - 1], "…", said[-1]]
    return " / ".join(said) or f"it gave no reason (exit {result.exit_code})."


def also_said(result: Result | None) -> str:
    """Return the reason of a failed command as a further sentence; "" when it did not fail, or was not run."""
    return "" if result is None or result.exit_code == 0 else f" xl says: {reason_of(result)}"
