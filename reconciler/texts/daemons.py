"""Finds the processes that xl leaves behind, one for each domain, which act on its on_poweroff, on_reboot and on_crash.

Called by the observer of xl hosts. After `xl create` such a process is called `xl create FILE`, after a restore or a
migration `xl restore FILE` or `xl migrate-receive`. The log that it writes to bears the domain's name in each case.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

_LOG = re.compile(r"xl-(?P<name>.+?)(?:--incoming)?\.log(?:\.[0-9]+)?(?: \(deleted\))?")
_FILE = re.compile(r"(?:[0-9]{1,3}-)?(?P<name>.+?)(?:\.cfg)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemons:
    """The names of domains that have such a process now, and of those that had one by their logs."""

    serving: frozenset[str]
    logged: frozenset[str]

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


def read_daemons(lines: Iterable[str]) -> Daemons:
    """Read lines `process ARGUMENTS` and `writes LOG` of running processes, and `log LOG` of the logs.

    >>> found = read_daemons(["process /usr/sbin/xl create /etc/xen/web.cfg", "log /var/log/xen/xl-db.log"])
    >>> [found.serve(name, is_at_rest=False) for name in ("web", "db", "mail")]
    [True, False, None]
    """
    serving: set[str] = set()
    logged: set[str] = set()
    for line in lines:
        what, _, rest = line.partition(" ")
        if what == "process":
            serving |= _named(rest.split())
        elif log := _LOG.fullmatch(posixpath.basename(rest)):
            (serving if what == "writes" else logged).add(log["name"])
    return Daemons(serving=frozenset(serving), logged=frozenset(logged))


def _named(arguments: list[str]) -> set[str]:
    """Return the names that the domain of a process can have, by the file that the process was given."""
    if not {"create", "restore"} & set(arguments[1:3]):
        return set()
    folder, base = posixpath.split(arguments[-1])
    file = _FILE.fullmatch(base)
    if base == "candidate.cfg":
        return {posixpath.basename(folder)}
    return {base, file["name"]} if file is not None else set()
