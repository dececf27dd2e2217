"""Finds the processes that xl leaves behind, one for each domain, which act on its on_poweroff, on_reboot and on_crash.

Called by the observer of xl hosts. After `xl create` such a process is called `xl create FILE`, after a restore or a
migration `xl restore FILE` or `xl migrate-receive`. The log that it writes to bears the domain's name in each case.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from reconciler.expressions import expression
from reconciler.records import dataclass

_LOG = expression(r"xl-(?P<name>.+?)(?:--incoming)?\.log(?:\.[0-9]+)?(?: \(deleted\))?")
_MAKES = frozenset(("create", "restore", "migrate-receive"))
_FILE = expression(r"(?:[0-9]{1,3}-)?(?P<name>.+?)(?:\.cfg)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemons:
    """The names of domains that have such a process now, that had one by their logs, and that one makes just now."""

    serving: frozenset[str]
    logged: frozenset[str]
    making: frozenset[str] = frozenset()
    locked: bool = False  # xl holds its own lock: it makes a domain, and nobody can tell which
    untold: bool = False  # there may be a process of xl for a domain that nobody can tell

    def serve(self, name: str | None, *, is_at_rest: bool) -> bool | None:
        """Return whether the domain of this name has its process; None when nobody can tell.

        A domain that is `is_at_rest` has shut down and waits for its process, so without one it has none. For any other
        domain without one, only its log tells that there was one.
        """
        if name is None:
            return None
        if name in self.serving:
            return True
        return False if is_at_rest or name in self.logged else None

    def make(self, name: str | None) -> bool:
        """Return whether a domain of this name that is half made is seen to be in the making."""
        return self.locked or name in self.making

    def may_bring_back(self, name: str) -> bool:
        """Return whether a domain of this name that is not listed may be between two lives, or about to be made."""
        return self.untold or self.make(name) or name in self.serving


def read_daemons(lines: Iterable[str]) -> Daemons:
    """Read lines `process PID ARGUMENTS` and `writes PID FILE` of running processes, and `log LOG` of logs.

    There may be `locked`, and `unseen` where nobody can tell which processes there are.

    A process that does not write to the log of a domain is no daemon yet. One that does serves its domain, and makes it
    anew when the guest reboots. Where nobody can tell what it writes to, it may be either.

    >>> found = read_daemons(["process 7 /usr/sbin/xl create /etc/xen/web.cfg", "log /var/log/xen/xl-db.log"])
    >>> [found.serve(name, is_at_rest=False) for name in ("web", "db", "mail")]
    [True, False, None]
    >>> found.make("web"), read_daemons(["process 7 xl create /etc/xen/web.cfg", "writes 7 /dev/null"]).make("web")
    (False, True)
    """
    serving: set[str] = set()
    logged: set[str] = set()
    making: set[str] = set()
    named: dict[str, set[str]] = {}
    anybodys: set[str] = set()  # processes that no log tells the domain of
    locked = untold = False
    for what, _, rest in (line.partition(" ") for line in lines):
        pid, _, told = rest.partition(" ")
        match what:
            case "process":
                serving |= (names := _named(told.split()))
                named[pid] = names
                if _MAKES & set(told.split()[1:3]):
                    anybodys.add(pid)
            case "writes" if log := _LOG.fullmatch(posixpath.basename(told)):
                serving.add(log["name"])
                making.add(log["name"])
                anybodys.discard(pid)
            case "writes":
                making |= named.get(pid, set())
            case "log" if log := _LOG.fullmatch(posixpath.basename(rest)):
                logged.add(log["name"])
            case "locked":
                locked = True
            case "unseen":
                untold = True
    return Daemons(
        serving=frozenset(serving),
        logged=frozenset(logged),
        making=frozenset(making),
        locked=locked,
        untold=untold or bool(anybodys),
    )


def _named(arguments: list[str]) -> set[str]:
    """Return the names that the domain of a process can have, by the file that the process was given."""
    if not {"create", "restore"} & set(arguments[1:3]):
        return set()
    folder, base = posixpath.split(arguments[-1])
    file = _FILE.fullmatch(base)
    if base == "candidate.cfg":
        return {posixpath.basename(folder)}
    return {base, file["name"]} if file is not None else set()
