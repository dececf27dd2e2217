"""The line by which a host remembers who may act on it: a number that only grows, and a name that nobody else has.

It is kept on the host's own disk (on that of a simulated host, too). Whoever has the lock of an apply raises the number
and writes its own name there; each command that changes the host runs only while the line is exactly that. So one that
was stopped, cut off or late is refused by the host itself, whatever clocks or etcd say. `dom0` and `simulated` keep the
line; `reconcile` and the controllers of a cluster say, as a `Fencing`, whose it may become. Pure but for the names of
sessions.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, refused
from reconciler.person import person
from reconciler.records import dataclass

_PARTS = 5
_NO_CLUSTER = "-"
SILENT_LEASES = 3
"""For how many leases somebody has done nothing on a host before one that he did not leave it to may take it."""

TRIES = 3
"""How often the line is asked for anew where somebody else has written to it meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The line of a host, as a value. `cluster` names the etcd whose controllers divide the hosts; "" where none does.

    >>> Line.parse("7 3f09a1 eve@example c0ffee 10\\n")
    Line(number=7, session='3f09a1', who='eve@example', cluster='c0ffee', lease_seconds=10)
    >>> Line.parse("7 3f09a1 eve@example - 0\\n").text
    '7 3f09a1 eve@example - 0\\n'
    >>> Line.parse(""), Line.parse("12 torn").number, Line.parse("nonsense").number
    (Line(number=0, session='', who='', cluster='', lease_seconds=0), 12, 0)
    """

    number: int = 0
    session: str = ""
    who: str = ""
    cluster: str = ""
    lease_seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Line:
        """Read a line. One that is torn, or was written by hand, is nobody's; its number counts where it has one."""
        words = text.split()
        number = int(words[0]) if words and words[0].isascii() and words[0].isdigit() and len(words[0]) < 19 else 0
        whole = text.endswith("\n") and text.count("\n") == 1 and len(words) == _PARTS
        if not whole or not (words[4].isascii() and words[4].isdigit()):
            return cls(number=number)
        cluster = "" if words[3] == _NO_CLUSTER else words[3]
        line = cls(number=number, session=words[1], who=words[2], cluster=cluster, lease_seconds=int(words[4][:9]))
        return line if line.text == text else cls(number=number)

    @property
    def text(self) -> str:
        """Return what the host keeps: "" where nobody has ever acted there."""
        if not self.session:
            return ""
        return f"{self.number} {self.session} {self.who} {self.cluster or _NO_CLUSTER} {self.lease_seconds}\n"


class Fencing(Protocol):
    """Says who acts on hosts, and on which of them."""

    lease_seconds: float | None
    """How long an apply may be silent before its lock is taken for lost; None: as the line of the host tells."""

    async def line_for(self, host: str, seen: Line, silent_seconds: float | None) -> Line:
        """Return the line that is to stand where `seen` does; `seen` itself where that is ours already.

        `silent_seconds` is how long whoever wrote `seen` has done nothing there, by the host's clock; None where that
        is not known. Raises ReconcilerError (refused) where the host is not ours to take.
        """

    def took(self, host: str, line: Line) -> None:
        """Tell that this line stands there now, and that nothing of anybody else's is under way."""


class Alone:
    """Acts without a cluster: a run of `apply`, or a `watch` that shares its fleet with no other.

    With `tell`, a host that belongs to a cluster is taken all the same (an apply is for emergencies, too), and that is
    told; without, it is refused. `counted` are restarts, by host, that a cluster would count over the fleet.
    """

    lease_seconds: float | None = None

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        *,
        who: str | None = None,
        counted: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._session = new_session()
        self._counted = counted or {}
        self._who = who if who is not None else whoami()
        self._tell = tell

    async def line_for(self, host: str, seen: Line, silent_seconds: float | None) -> Line:
        if seen.session == self._session:
            return seen
        if seen.cluster and self._tell is None:
            raise refused(
                "the host belongs to a cluster",
                f"{host} is divided among the controllers of an etcd (cluster {seen.cluster}); {seen.who} acted on it "
                f"last, with token {seen.number}.",
                f"name that etcd with --cluster or RECONCILER_CLUSTER; if {host} has left it for good: "
                f"reconciler unlock {host} --cluster ENDPOINT",
                host,
            )
        if seen.cluster and self._counted.get(host):
            restarts = self._counted[host]
            raise refused(
                "restarts are counted in a cluster",
                f"The max_unavailable of the fleet counts the restart of {', '.join(restarts[:5])}, and {seen.who} and "
                f"its peers count it in the etcd of cluster {seen.cluster}.",
                f"let them do it, or run this again with --allow-restart {sum(map(len, self._counted.values()))}",
                host,
            )
        if seen.cluster and self._tell is not None:
            self._tell(f"{host} is taken from {seen.who} (token {seen.number}) until this is done")
        return replace(seen, number=seen.number + 1, session=self._session, who=self._who)

    def took(self, host: str, line: Line) -> None:
        """Do nothing: the next apply reads the line again."""


def new_session() -> str:
    """Return a name that nobody else has."""
    return secrets.token_hex(8)


def whoami() -> str:
    """Return who we are, for people, in one word."""
    return "".join(f"{person()}:{os.getpid()}".split())


def taken_over(address: str, host: str, text: str) -> ReconcilerError:
    """Make the error of a command that the host has refused, since its line is no longer ours. Nothing was done."""
    line = Line.parse(text)
    now = f"{line.who} acts on it now (token {line.number})" if line.session else "its line is gone or torn"
    return ReconcilerError(
        Diagnostic(
            kind=Kind.REFUSED,
            summary="another one acts on the host",
            detail=f"{host} has refused the step: {now}. Nothing was done.",
            hint="run `reconciler plan` again to see what is left to do",
            address=address,
            moved=True,
        )
    )


def still_under_way(host: str, commands: str) -> ReconcilerError:
    """Make the error for a host on which a command goes on whose sender may be gone."""
    listed = "; ".join(line for line in commands.splitlines() if line.strip()) or "nobody knows which"
    return refused(
        "a command is still under way",
        f"On {host} a command that changes it has not ended yet: {listed}.",
        "Wait until it has ended, or look there what it waits for, then run this again.",
        host,
    )
