"""By which specs all controllers of a fleet go, as one of them sees it. What it decides is written by the controller.

With git the accepted commit moves on to one that follows it, and to no other. Where etcd has lost it, it is named by
one whose fetch has succeeded since, where no host has a mark of a commit that follows it: that one was accepted
before. Without git the digest of the tree stands for the commit, and moves on once all have the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field

from reconciler.cluster.keys import Member
from reconciler.model.host import Host, Owner
from reconciler.records import dataclass

_LISTED = 5

Newer = Callable[[str, str], bool]
"""Whether one commit goes on from another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known: our specs, those of the fleet ("" where etcd names none), and who else is there.

    `strangers` are hosts that etcd has and our specs have not, `unseen` those that were not looked at yet.
    """

    specs: str
    fleet: str
    others: Sequence[Member] = ()
    strangers: Collection[str] = ()
    unseen: Collection[str] = ()
    endpoint: str = ""
    lease_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether nothing is begun, and `why`. With `writes` ours become those of all; `fetches`: newer ones are due."""

    why: str | None = None
    writes: bool = False
    fetches: bool = False


@dataclass(slots=True)
class Agreeing:
    """What one controller remembers of it. Times are seconds by `clock`."""

    clock: Callable[[], float]
    fetches: bool = True  # the last try to have newer specs went well
    lags: bool = False
    goes_by: str = ""  # the specs of the fleet under which something is begun here
    _fetched_at: float | None = None
    _empty_since: float | None = None
    _alone_since: float | None = None  # since when nobody can have the specs of the fleet
    _fetched_for: str | None = None
    _marks: dict[str, frozenset[str]] = field(default_factory=dict)  # host -> commits

    def fetched(self, *, problem: bool) -> None:
        self.fetches = not problem
        if not problem:
            self._fetched_at = self.clock()

    def marks(self, host: str, seen: Host | None) -> None:
        """Note for which commits the config files of a host were written."""
        guests = seen.guests.values() if seen is not None else ()
        self._marks[host] = frozenset(one.commit for one in guests if one.owner is Owner.OURS and one.commit)

    def marks_of(self, hosts: Mapping[str, Host]) -> None:
        """Note those of all hosts, also of other controllers: after the accepted commit was lost, they tell of it."""
        for host, seen in hosts.items():
            self.marks(host, seen)

    async def ask(self, asked: Asked, newer: Newer | None) -> Answer:
        """Decide. `newer` is None where there is no git."""
        if asked.fleet:
            self._empty_since = None
            if self._fetched_for == "":
                self._fetched_for = None
        if asked.fleet == asked.specs:
            self.lags, self._alone_since = False, None
            return self._agreed(asked.specs)
        if newer is None:
            differ = {one.specs for one in asked.others if one.specs} - {asked.specs}
            self.lags = bool(differ)
            if differ:
                return Answer(why=_differ(asked), fetches=self._is_to_fetch(asked.fleet))
            return self._agreed(asked.specs, writes=True)
        if not asked.fleet:
            why = await self._why_not_first(asked, newer)
            return Answer(why=why, fetches=self._is_to_fetch("")) if why else self._agreed(asked.specs, writes=True)
        if await asyncio.to_thread(newer, asked.fleet, asked.specs):
            self.lags, self._alone_since = False, None
            return self._agreed(asked.specs, writes=True)
        self.lags = True
        if self._nobody_can(asked):
            return self._agreed(asked.fleet)
        return Answer(why=_behind(asked, fetches=self.fetches), fetches=self._is_to_fetch(asked.fleet))

    def _agreed(self, specs: str, *, writes: bool = False) -> Answer:
        self.goes_by = specs
        return Answer(writes=writes)

    def _is_to_fetch(self, specs: str) -> bool:
        """Return whether newer specs are to be asked for: once for each that the others go by."""
        before, self._fetched_for = self._fetched_for, specs
        return before != specs

    async def _why_not_first(self, asked: Asked, newer: Newer) -> str | None:
        """Return why the first specs in an empty etcd are not ours to name."""
        if self._empty_since is None:
            self._empty_since = self.clock()
        if self._fetched_at is None or self._fetched_at < self._empty_since:
            return "etcd names no commit, and the branch was not fetched since; it is fetched now"
        if asked.unseen:
            return f"etcd names no commit, and {min(asked.unseen)} was not looked at yet"
        for host, commits in sorted(self._marks.items()):
            for commit in sorted(commits - {asked.specs}):
                if await asyncio.to_thread(newer, asked.specs, commit):
                    return (
                        f"etcd names no commit, and {host} has marks of {commit[:12]}, which goes on from "
                        f"{asked.specs[:12]}, so the branch was rewound; push it again, or: "
                        f"reconciler accept {asked.specs[:12]} --cluster {asked.endpoint}"
                    )
        return None

    def _nobody_can(self, asked: Asked) -> bool:
        """Return whether for a lease nobody could have the specs of the fleet: then each goes on with its own."""
        if self.fetches or any(one.specs == asked.fleet or one.fetches for one in asked.others):
            self._alone_since = None
            return False
        if self._alone_since is None:
            self._alone_since = self.clock()
        return self.clock() - self._alone_since >= asked.lease_seconds


def _differ(asked: Asked) -> str:
    return (
        f"the trees of specs differ: the fleet goes by {asked.fleet[:12] or 'none yet'}, this one is "
        f"{asked.specs[:12]}{_strangers(asked)}; make them the same, or: reconciler accept {asked.specs[:12]} "
        f"--cluster {asked.endpoint}"
    )


def _behind(asked: Asked, *, fetches: bool) -> str:
    why = "which does not follow it" if fetches else "and cannot fetch"
    return f"the others go by {asked.fleet[:12]}, and it has {asked.specs[:12]}, {why}{_strangers(asked)}"


def _strangers(asked: Asked) -> str:
    """Tell of hosts that only etcd has: they may be those of another fleet."""
    if not asked.strangers:
        return ""
    listed = ", ".join(sorted(asked.strangers)[:_LISTED])
    return (
        f" (etcd has hosts that these specs have not: {listed}; if a fleet of the same name is there, give one of "
        "them another `fleet`)"
    )
