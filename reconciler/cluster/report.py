"""What there is to tell of a cluster (who is there, who has which host, what is reserved), and the ways out."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from reconciler.cluster import counting
from reconciler.cluster.etcd import Delete, Etcd
from reconciler.cluster.fleet_key import change_fleet, fleet_of
from reconciler.cluster.keys import FACTS_A_PAGE, FACTS_BYTES, Claim, Facts, Fleet, Member, Names, Reserved, read
from reconciler.cluster.sharing import Wanted
from reconciler.fence import SILENT_LEASES, Alone, Line
from reconciler.model.diagnostics import refused, world_error
from reconciler.records import dataclass

_MUCH = 0.5  # of the quota
_COMPACT = "--auto-compaction-mode=periodic --auto-compaction-retention=1h, and etcdctl defrag now and then"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    members: dict[str, Member]
    claims: dict[str, Claim | None]
    facts: dict[str, Facts]
    fleet: Fleet
    cluster_id: str
    has_room: bool
    used: float | None = None  # of the quota of etcd

    def document(self, hosts: frozenset[str]) -> dict[str, Any]:
        """Return all of it for programs. Times are Unix seconds."""
        return {
            "format": 1,
            "cluster": self.cluster_id,
            "specs": self.fleet.specs or None,
            "takes_new_keys": self.has_room,
            "quota_used": self.used,
            "controllers": [
                {
                    "who": one.who,
                    "name": one.name,
                    "version": one.version,
                    "specs": one.specs or None,
                    "lags": one.lags,
                    "cannot_reach": sorted(one.cannot_reach),
                }
                for one in sorted(self.members.values(), key=lambda one: one.who)
            ],
            "hosts": {
                host: {
                    "controller": claim.who if claim is not None else None,
                    "since": claim.since if claim is not None else None,
                    "token": facts.token if facts is not None else None,
                    "told_at": facts.at if facts is not None else None,
                    "problem": facts.problem or None if facts is not None else None,
                    "stuck": list(facts.stuck) if facts is not None else [],
                    "domains": {name: list(words) for name, words in facts.domains.items()}
                    if facts is not None
                    else {},
                }
                for host in sorted({*hosts, *self.claims, *self.facts})
                for claim, facts in [(self.claims.get(host), self.facts.get(host))]
            },
            "reserved": {
                address: {"controller": one.who, "since": one.since}
                for address, one in sorted(self.fleet.reserved.items())
            },
            "given_up": sorted(self.fleet.given_up),
            "counted": {action: sorted(addresses) for action, addresses in sorted(self.fleet.counted.items())},
        }

    def text(self, hosts: frozenset[str], now: float) -> str:
        """Return all of it for people."""
        lines = [
            f"{one.who}  {one.version}  {'lags: begins nothing' if one.lags else 'is there'}"
            + (f"  cannot reach {', '.join(sorted(one.cannot_reach))}" if one.cannot_reach else "")
            for one in sorted(self.members.values(), key=lambda one: one.who)
        ] or ["No controller is there."]
        lines.append("")
        for host in sorted({*hosts, *self.claims}):
            claim, facts = self.claims.get(host), self.facts.get(host)
            token = f"  token {facts.token}" if facts is not None else ""
            who = f"{claim.who}  for {_age(now - claim.since)}{token}" if claim is not None else "nobody acts on it"
            lines.append(f"{host}  {who}")
            if facts is not None:
                lines += [f"  cannot be reached: {facts.problem}"] if facts.problem else []
                lines += [f"  Stalled: a command does not end and cannot be killed: {one}" for one in facts.stuck]
        if self.fleet.reserved:
            lines += ["", "Places of max_unavailable that are taken:"]
            lines += [
                f"{address}  by {one.who}  for {_age(now - one.since)}"
                for address, one in sorted(self.fleet.reserved.items())
            ]
        if self.fleet.given_up:
            lines += ["", f"Given up until they answer again: {', '.join(sorted(self.fleet.given_up))}."]
        if self.fleet.specs:
            lines += ["", f"All go by {self.fleet.specs[:12]}."]
        if self.has_room and self.used is not None and self.used >= _MUCH:
            lines += ["", f"etcd has used {self.used:.0%} of its quota; give it {_COMPACT}"]
        if not self.has_room:
            lines += [
                "",
                "etcd takes no new keys, since its quota is reached: controllers keep their hosts, and nobody can take "
                "one over. To mend it: etcdctl compact, etcdctl defrag, etcdctl alarm disarm",
            ]
        return "\n".join(lines) + "\n"


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


async def report(etcd: Etcd, fleet: str) -> Report:
    names = Names(fleet)
    members = await etcd.list(names.members)
    claims = await etcd.list(names.claims)
    facts = await etcd.list(names.facts_of_all, page=FACTS_A_PAGE)
    found = {one.key.removeprefix(names.members): read(Member, one.value) for one in members.entries}
    known = {one.key.removeprefix(names.facts_of_all): read(Facts, one.value, FACTS_BYTES) for one in facts.entries}
    return Report(
        members={session: one for session, one in found.items() if one is not None},
        claims={one.key.removeprefix(names.claims): read(Claim, one.value) for one in claims.entries},
        facts={host: one for host, one in known.items() if one is not None},
        fleet=fleet_of(await etcd.get(names.fleet), names),
        cluster_id=etcd.cluster_id,
        has_room=await etcd.has_room(),
        used=await etcd.used(),
    )


async def forget(etcd: Etcd, fleet: str, host: str) -> int:
    """Give back all places that domains of a host have, and drop what is known of it. Returns how many places."""
    names, places = Names(fleet), 0

    def without(before: Fleet) -> Fleet:
        nonlocal places
        after = counting.without_host(before, host)
        places = len(before.reserved) - len(after.reserved)
        return after

    _written(await change_fleet(etcd, names, without, (Delete(names.facts(host)),)))
    return places


async def accept(etcd: Etcd, fleet: str, specs: str, heads: Collection[str] = ()) -> str:
    """Have all go by specs that a controller has, or is about to have (`heads`). Returns their whole name.

    They are named by their first digits.
    """
    found = {one.specs for one in (await report(etcd, fleet)).members.values() if one.specs} | set(heads)
    chosen = [one for one in found if len(specs) >= 7 and one.startswith(specs)]
    if len(chosen) != 1:
        listed = ", ".join(sorted(one[:12] for one in found)) or "none"
        raise refused("no such specs", f"The controllers that are there have {listed}, and not {specs}.")
    _written(await change_fleet(etcd, Names(fleet), lambda before: counting.with_specs(before, chosen[0])))
    return chosen[0]


def _written(fleet: Fleet | str) -> None:
    if isinstance(fleet, str):
        raise world_error("not written", f"{fleet[0].upper()}{fleet[1:]}.", transient=True)


class Leaving:
    """Takes the line off a host that leaves its cluster."""

    lease_seconds: float | None = None

    def __init__(self, etcd: Etcd, fleet: str, line: Line) -> None:
        self._etcd, self._fleet, self._own = etcd, fleet, line

    async def line_for(self, host: str, seen: Line, silent_seconds: float | None) -> Line:
        patience = SILENT_LEASES * seen.lease_seconds
        if seen.cluster and silent_seconds is not None and silent_seconds < patience:
            raise refused(
                "a controller acts on the host",
                f"{seen.who} spoke to {host} {silent_seconds:.0f} s ago.",
                f"end that controller, and wait for {patience:.0f} s",
                host,
            )
        entry = await self._etcd.get(Names(self._fleet).claim(host))
        if entry is not None:
            claim = read(Claim, entry.value)
            who = claim.who if claim is not None else "somebody"
            raise refused("a controller has the host", f"In etcd, {who} has {host}.", "end that controller first", host)
        line = self._own
        return Line(number=seen.number + 1, session=line.session, who=line.who)

    def took(self, host: str, line: Line) -> None:
        """Do nothing: that is all that was wanted."""


class Reserving(Alone):
    """One run of `apply` on hosts of a cluster: what it takes down there is reserved as a controller would."""

    def __init__(self, etcd: Etcd, fleet: str, tell: Callable[[str], None], wanted: Mapping[str, Wanted]) -> None:
        super().__init__(tell)
        self._etcd, self._names, self._wanted = etcd, Names(fleet), wanted

    async def line_for(self, host: str, seen: Line, silent_seconds: float | None) -> Line:
        line = await super().line_for(host, seen, silent_seconds)
        wanted = self._wanted.get(host)
        if seen.cluster and wanted is not None:
            await self._reserve(host, wanted, line)
        return line

    async def _reserve(self, host: str, wanted: Wanted, line: Line) -> None:
        by = Reserved(session=line.session, who=line.who, since=time.time())
        after = await change_fleet(self._etcd, self._names, lambda fleet: counting.reserve(fleet, wanted, by))
        if isinstance(after, str):
            raise refused("places are taken", f"Nothing is begun on {host}: {after}.", None, host)
