"""The processes that xl leaves behind, one for each domain, which act on its on_poweroff, on_reboot and on_crash.

Called by the observer of xl hosts. After `xl create` such a process is called `xl create FILE`, after a restore or a
migration `xl restore FILE` or `xl migrate-receive`; the log that it writes to bears the domain's name in each case.
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
    """Names of the domains that a process serves, and of those for which there was one."""

    serving: frozenset[str]
    logged: frozenset[str]

    def serve(self, name: str | None, *, is_at_rest: bool) -> bool | None:
        """Whether a process serves the domain of this name; None: nobody can tell.

        `is_at_rest`: it ended and waits for its process, which is there or is not; else only a log tells of one.
        """
        if name is None:
            return None
        if name in self.serving:
            return True
        return False if is_at_rest or name in self.logged else None


def read_daemons(lines: Iterable[str]) -> Daemons:
    """From lines `process ARGUMENTS`, `writes LOG` of the processes that are there, and `log LOG` of the logs."""
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
    """The domain in whose name a process was started, by the file that it was given."""
    if not {"create", "restore"} & set(arguments[1:3]):
        return set()
    folder, base = posixpath.split(arguments[-1])
    file = _FILE.fullmatch(base)
    if base == "candidate.cfg":
        return {posixpath.basename(folder)}
    return {base, file["name"]} if file is not None else set()
