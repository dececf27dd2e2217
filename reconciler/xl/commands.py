"""Runs the commands of xl, or of xm, for the executor: list what there is, and act on one domain.

A domain is acted on by its domid, which is looked up by name *and* UUID just before: xl takes a name made of digits for
a domid, and a name may have changed hands. Exit codes are not believed; callers look again.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import field, replace
from typing import Any, TypeVar

from reconciler.dom0.connection import Connection, Result
from reconciler.dom0.shell import assigned
from reconciler.expressions import expression
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import address_of
from reconciler.model.host import Power
from reconciler.records import dataclass
from reconciler.specs.secrets import concealed_text
from reconciler.texts.listing import Info, Row, XlOutputError, parse_info
from reconciler.waiting import Clock, MachineClock
from reconciler.xl.dialect import XL, Dialect

_Parsed = TypeVar("_Parsed")
_PLACE = expression(r"^libxl: (?:error|warning): \S+:\d+:\w+: (?:Domain \d+:)?")
_ASIDE = expression(r"(?i)(?:warning|(?:libxl|xc|xl): (?:warning|notice|info|progress|detail|debug|verbose))\b")
_REASON_LINES = 4  # of what xl says that is told
_ASK_SECONDS = 10
_KILLED = 137
_LINE_SHOWN, _OUTPUT_READ = 500, 10_000
_XL_SECONDS = 90  # `xl shutdown` waits up to 60 s for a guest that does not answer
_LISTED = "---listed---"
_LOOKS_THERE = 5  # in one script, 0.2 s apart

# Waits for the end of a domain where that is seen at once: what is asked again and again is xenstore, which costs next
# to nothing beside a list. Prints the list, and behind a mark whether a domain that is not in it comes back by itself.
_UNTIL_GONE = f"""
is_gone() {{
    list=$("$tool" list $listing) || exit
    back=''
    case $list in *"$uuid"*) return 1 ;; esac
    if comes_back; then back=yes; fi
    [ -z "$back" ]
}}
while :; do
    if [ "$looks" -le 0 ] || ! xenstore-read "/local/domain/$domid/name" >/dev/null 2>&1; then
        if is_gone || [ "$looks" -le 0 ]; then break; fi
    fi
    looks=$((looks - 1))
    sleep 0.2 2>/dev/null || sleep 1
done
printf '%s\n{_LISTED}%s\n' "$list" "$back"
"""


class _FailedError(Exception):
    """Reports that an xl command which changes nothing has failed."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.exit_code)
        self.result = result


@dataclass(frozen=True, slots=True)
class Xl:
    """Runs xl, or what the dialect says, on one host. `clock` is what is waited by there."""

    connection: Connection
    clock: Clock = field(default_factory=MachineClock)
    dialect: Dialect = XL

    @property
    def host(self) -> str:
        return self.connection.host

    @property
    def tool(self) -> str:
        """Return the name of the command."""
        return self.dialect.tool

    @property
    def list_command(self) -> str:
        """Return the command by which a person sees all domains with their UUIDs."""
        return shlex.join([self.tool, "list", *self.dialect.listing])

    def log_of(self, name: str) -> str:
        """Return the path of the log that tells why a domain did not start."""
        return self.dialect.log.format(name=name)

    async def run(self, *arguments: str, timeout_seconds: float = _XL_SECONDS) -> Result:
        return await self.connection.run([self.tool, *arguments], timeout_seconds=timeout_seconds)

    async def change(self, *arguments: str, timeout_seconds: float = _XL_SECONDS) -> Result:
        """Run a command that changes the host, only while that is ours."""
        text = shlex.join([self.tool, *arguments])
        return await self.connection.change(text, what=text, timeout_seconds=timeout_seconds)

    async def ask(self, *arguments: str) -> Result:
        """Run a command that asks a guest for something, and then waits for its answer.

        No wait keeps others from the host: where it is to go on only while that is ours, the command is killed after
        some seconds. It has asked by then, and what the guest does is seen by looking.
        """
        if self.connection.fence is None:
            return await self.run(*arguments)
        result = await self.change(*arguments, timeout_seconds=_ASK_SECONDS)
        return replace(result, exit_code=0) if result.exit_code == _KILLED else result

    async def rows(self) -> tuple[Row, ...]:
        """List all domains of the host, dom0 included."""
        result = await self._read("list", *self.dialect.listing)
        return self._understood(lambda: self.dialect.rows(result.text))

    async def rows_at_end(self, name: str, uuid: str, domid: int | None) -> tuple[tuple[Row, ...], bool]:
        """List all domains, and tell whether this one, which is not among them, will be created again by itself.

        With a `domid` this waits there for up to a second until that one is gone.
        """
        given = {"tool": self.tool, "listing": shlex.join(self.dialect.listing), "name": name, "uuid": uuid}
        given |= {"domid": str(domid or 0), "looks": str(0 if domid is None else _LOOKS_THERE)}
        result = await self._read(
            "list", *self.dialect.listing, script=assigned(given) + self.dialect.scripts + _UNTIL_GONE
        )
        listed, _, back = result.text.rpartition(_LISTED)
        return self._understood(lambda: self.dialect.rows(listed)), back.strip() != ""

    async def info(self) -> Info:
        result = await self._read("info")
        return self._understood(lambda: parse_info(result.text))

    async def configs(self, domid: int | None = None) -> dict[int, dict[str, Any]]:
        """Return what domains run with, by domid. A domain that xl cannot read is missing from it."""
        result = await self._read("list", *self.dialect.long, *([] if domid is None else [str(domid)]))
        return self._understood(lambda: dict(self.dialect.configs(result.text)))

    async def find(self, name: str, uuid: str, listed: tuple[Row, ...] | None = None) -> Row | None:
        """Find the domain of this name and UUID, among those `listed` if they are given.

        Raises when another one has the name.
        """
        rows = await self.rows() if listed is None else listed
        found = next((row for row in rows if row.uuid == uuid and row.name == name), None)
        if found is None and any(row.name == name for row in rows):
            raise self.name_taken(name)
        return found

    async def comes_back(self, name: str) -> bool:
        """Return whether a domain that is not listed will be created again by the process that xl left for it."""
        return (
            await self.connection.script(f"name={shlex.quote(name)}\n{self.dialect.scripts}comes_back")
        ).exit_code == 0

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
            f"Look at `{self.list_command}` there; to take it over: "
            f"reconciler apply --adopt {address_of(self.host, domain)}",
        )

    async def _read(self, *arguments: str, script: str | None = None) -> Result:
        """Run a command that changes nothing, up to three times, since xl itself crashes now and then.

        What is run is the `script` around it, if there is one.
        """
        from reconciler.xl.retry import CRASHED_COMMAND

        try:
            return await CRASHED_COMMAND(_FailedError, self._read_once, script or shlex.join([self.tool, *arguments]))
        except _FailedError as failed:
            command, why = shlex.join([self.tool, *arguments]), reason_of(failed.result)
            raise world_error(
                f"{self.tool} fails", f"`{command}` failed on {self.host}: {why}", None, self.host
            ) from None

    async def _read_once(self, script: str) -> Result:
        result = await self.connection.script(script, timeout_seconds=_XL_SECONDS)
        if result.exit_code != 0:
            raise _FailedError(result)
        return result

    def _understood(self, parse: Callable[[], _Parsed]) -> _Parsed:
        try:
            return parse()
        except XlOutputError as error:
            raise not_understood(self.host, self.tool, error) from error


def not_understood(host: str, tool: str, error: XlOutputError) -> ReconcilerError:
    """Make the error for output that cannot be read."""
    hint = error.hint or "Please report this, with the output."
    return world_error(f"{tool} is not understood", f"{host}: {error}", hint, host)


def toolstack_missing(host: str, tool: str) -> ReconcilerError:
    """Make the error for a host without the command."""
    other = {
        "xl": "Debian: `apt install xen-utils`, then boot Xen.",
        "xm": 'xm went with Xen 4.5: write toolstack = "xl" if there is an `xl`.',
    }
    return world_error(
        f"{tool} is missing",
        f"There is no `{tool}` command on {host}, so it is no Xen dom0 with the {tool} toolstack.",
        f'{other[tool]} For trying things out: toolstack = "simulated".',
        host,
    )


def toolstack_fails(host: str, tool: str, status: int, errors: str) -> ReconcilerError:
    """Make the error for a host whose toolstack does not even list the domains."""
    said = errors.rpartition("\n")[2]
    hints = {
        "xl": "Does Xen run there? Look at `xl info` and /proc/xen/capabilities.",
        "xm": "Does xend run there? Look at `xm info` and /var/log/xen/xend.log.",
    }
    return world_error(
        f"{tool} fails", f"{tool} failed on {host} (exit {status}): {said or 'it gave no reason'}", hints[tool], host
    )


def refused_to_run(host: str, tool: str) -> ReconcilerError:
    """Make the error for a user who is not root. xl needs root, since it talks to the hypervisor itself."""
    return world_error(
        f"no right to run {tool}",
        f"The user that reconciler runs as on {host} is not root, so it has no right to run {tool}.",
        'Use connect = "ssh://root@NAME" in host.toml or, on the dom0 itself, run reconciler as root.',
        host,
    )


def reason_of(result: Result) -> str:
    """Return why a command failed, in at most four lines of what it printed.

    libxl names the cause first and then its effects, so the first lines are kept, and the very last one. What was
    printed as output counts where nothing was as an error.
    """
    lines = _words_in(result.errors) or _words_in(result.stdout[:_OUTPUT_READ].decode(errors="replace"))
    said = list(dict.fromkeys(lines))
    if len(said) > _REASON_LINES:
        said = [*said[: _REASON_LINES - 1], "…", lines[-1]]
    return " / ".join(said) or f"it gave no reason (exit {result.exit_code})."


def _words_in(text: str) -> list[str]:
    """Return what a command said, without places; its warnings and notes only where it said nothing else."""
    said = [line for line in text.splitlines() if line.strip() and not line.startswith("Parsing config")]
    told = [line for line in said if not _ASIDE.match(line)] or said
    return [concealed_text(_PLACE.sub("", line).strip())[:_LINE_SHOWN] for line in told]


def also_said(tool: str, result: Result | None) -> str:
    """Return the reason of a failed command as a further sentence; "" when it did not fail, or was not run."""
    return "" if result is None or result.exit_code == 0 else f" {tool} says: {reason_of(result)}"
