"""One controller among several: it is there by a lease, claims hosts by transactions, and takes their lines.

Called by `watch --cluster` through `Sharing`, and by the executors through `Fencing`. Neither the lease nor a clock is
trusted for safety: a host itself refuses whoever has not its line (`fence`). They only end work early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from reconciler.cluster import counting
from reconciler.cluster.dividing import Seen, preference, wishes
from reconciler.cluster.etcd import Condition, Delete, Entry, Etcd, Put
from reconciler.cluster.fleet_key import TRIES, read_fleet, write_fleet
from reconciler.cluster.keys import Claim, Facts, Fleet, Member, Names, Reserved, read
from reconciler.cluster.naming import own_name
from reconciler.cluster.sharing import Wanted
from reconciler.decide.changes import Action
from reconciler.fence import SILENT_LEASES, Fencing, Line, new_session, whoami
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, refused, unforeseen
from reconciler.model.fleet import Desired

_TURNS_A_LEASE = 3
_MARGIN = 0.8  # of a lease, by our own clock, for which an answered keepalive proves it


def boot_time() -> float:
    """Return seconds that go on while the machine is suspended, where the system knows them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


class Controller:
    """Shares a fleet's hosts with others, once the specs have told the fleet's name. `say` takes news for the log."""

    def __init__(
        self,
        etcd: Etcd,
        lease_seconds: int,
        *,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.fencing: Fencing = self
        self.lease_seconds: float | None = lease_seconds
        self.busy_seconds: float | None = max(1.0, lease_seconds / _TURNS_A_LEASE)
        self.counts = True
        self.woken: Callable[[str], None] = lambda _: None
        self.newer: Callable[[str, str], bool] | None = None  # None: there is no git
        self.fetch: Callable[[], None] = lambda: None
        self.session = ""
        self.name = self.who = whoami()
        self._etcd, self._lease_length = etcd, lease_seconds
        self._say, self._clock = say, clock
        self._names: Names | None = None  # until the specs tell the fleet's name
        self._hosts: frozenset[str] = frozenset()
        self._lease = 0
        self._proven_at: float | None = None  # when the keepalive was sent that was answered last
        self._specs = ""
        self._claims: dict[str, Claim | None] = {}
        self._written: dict[str, int] = {}  # of the claims
        self._members: dict[str, Member] = {}
        self._preferred: dict[str, tuple[str, float]] = {}  # host of ours -> who should have it, and since when
        self._free_since: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._working: set[str] = set()
        self._new_places: dict[str, frozenset[str]] = {}  # host -> what its last apply has reserved
        self._numbers: dict[str, tuple[str, int]] = {}  # host -> the session and number of the line that we took
        self._unreached: set[str] = set()
        self._fleet: Fleet | None = None
        self._not_agreed: str | None = "it has not asked etcd yet"
        self._fetched_for = ""
        self._told_member: Member | None = None
        self._told_facts: dict[str, str] = {}
        self._said: set[str] = set()  # since all went well
        self._poked = asyncio.Event()

    @asynccontextmanager
    async def shared(
        self,
        state_dir: Path,
        woken: Callable[[str], None],
        fetch: Callable[[], None],
        newer: Callable[[str, str], bool] | None,
    ) -> AsyncIterator[None]:
        """Share the hosts during the block. At its end they are left to the others; steps must have ended by then.

        `woken` is called with a host that came to be ours, or is no more; `fetch` when others have newer specs;
        `newer` tells whether one commit goes on from another.
        """
        self.woken, self.fetch, self.newer = woken, fetch, newer
        with own_name(state_dir) as name:
            self.name, self.who = name, f"{name}:{whoami()}"
            running = asyncio.create_task(self.run())
            try:
                yield
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await self.leave()
                self._etcd.close()

    def go_by(self, desired: Desired) -> None:
        specs = (desired.commit or "") if self.newer is not None else desired.tree_digest
        if self._names is None and desired.fleet:
            self._names = Names(desired.fleet)
        if self._names is not None and desired.fleet and Names(desired.fleet).prefix != self._names.prefix:
            specs = ""  # of another fleet: nothing is begun until watch is started again
            self._tell("the name of the fleet has changed, so nothing is begun until watch is started again")
        self._hosts = frozenset(desired.hosts)
        if specs != self._specs:
            self._specs, self._not_agreed = specs, "its specs were not compared with those of the others yet"
        self._poked.set()

    async def run(self) -> None:
        """Keep the lease, and tend the claims, until cancelled. What goes wrong is told once, and tried again."""
        while True:
            self._poked.clear()
            try:
                if self._names is not None:
                    await self.turn()
                    self._said.clear()
            except ReconcilerError as error:
                self._tell(error.diagnostics[0].detail)
                self._wake_if_lost()
            except Exception as error:  # noqa: BLE001 -- what goes wrong in one turn must not end the others
                self._tell(unforeseen("the cluster was tended", error).detail)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._poked.wait(), self._lease_length / _TURNS_A_LEASE)

    async def leave(self) -> None:
        """Give all hosts to the others at once. Steps must have ended."""
        lease, self._lease, self._proven_at = self._lease, 0, None
        if lease:
            try:
                await self._etcd.revoke(lease)
            except ReconcilerError as error:
                self._say(f"the hosts are free when the lease has run out: {error.diagnostics[0].detail}")

    @property
    def _keys(self) -> Names:
        assert self._names is not None  # nothing asks before the specs were read
        return self._names

    async def turn(self) -> None:
        """Keep the lease, look who is there, and claim or leave hosts."""
        await self._keep_lease()
        await self._look()
        await self._agree()
        await self._tell_member()
        await self._tend_claims()

    async def _keep_lease(self) -> None:
        sent = self._clock()
        if self._lease and await self._etcd.keep_alive(self._lease) > 0:
            self._proven_at = sent
            return
        if self._lease:
            self._say("its lease has run out, so its hosts are anybody's; it begins anew")
        self._lease = await self._etcd.grant(self._lease_length)
        self._proven_at = sent
        self.session, self._told_member = new_session(), None  # what was claimed before is not ours any more

    async def _look(self) -> None:
        members = await self._etcd.list(self._keys.members)
        claims = await self._etcd.list(self._keys.claims)
        found = {one.key.removeprefix(self._keys.members): read(Member, one.value) for one in members.entries}
        known = {session: member for session, member in found.items() if member is not None}
        now = self._clock()
        self._members = known
        before = self._mine()
        self._claims = {str(self._keys.host_of(one.key)): read(Claim, one.value) for one in claims.entries}
        self._written = {str(self._keys.host_of(one.key)): one.written for one in claims.entries}
        self._free_since = {host: self._free_since.get(host, now) for host in self._hosts if host not in self._claims}
        for host in before ^ self._mine():
            self.woken(host)
        for host, claim in self._claims.items():
            if claim is None and host in self._hosts:
                self._tell(
                    f"the key {self._keys.claim(host)} is not understood, so nobody acts on {host}; if no newer "
                    f"version wrote it: etcdctl del {self._keys.claim(host)}"
                )

    def _mine(self) -> set[str]:
        return {host for host, claim in self._claims.items() if claim is not None and claim.session == self.session}

    async def _agree(self) -> None:
        """Find the specs that all go by; move on to ours where they follow, or where all have them."""
        if not self._specs:
            self._not_agreed = "it has no specs yet"
            return
        for _ in range(TRIES):
            entry, fleet = await read_fleet(self._etcd, self._keys)
            others = {one.specs for session, one in self._members.items() if session != self.session and one.specs}
            self._fleet = fleet
            if fleet.specs == self._specs:
                self._agreed(None)
                return
            if self.newer is not None:
                follows = not fleet.specs or await asyncio.to_thread(self.newer, fleet.specs, self._specs)
                why = f"the others go by {fleet.specs[:12]}, and it has {self._specs[:12]}, which does not follow it"
            else:
                follows = not others - {self._specs}
                why = (
                    f"the trees of specs differ: the fleet goes by {fleet.specs[:12]}, this one is {self._specs[:12]}; "
                    f"make them the same, or: reconciler accept {self._specs[:12]} --cluster {self._etcd.endpoints[0]}"
                )
            if not follows:
                if self._fetched_for != fleet.specs:
                    self._fetched_for = fleet.specs
                    self.fetch()
                self._agreed(why)
                return
            if await self._write(entry, counting.with_specs(fleet, self._specs)):
                self._agreed(None)
                return

    def _agreed(self, problem: str | None) -> None:
        before, self._not_agreed = self._not_agreed, problem
        if (before is None) != (problem is None):
            if problem is not None:
                self._say(f"nothing is begun: {problem}")
            for host in self._mine():
                self.woken(host)

    async def _tell_member(self) -> None:
        """Write who we are, where that has changed."""
        member = Member(
            session=self.session,
            name=self.name,
            who=self.who,
            version=version("reconciler"),
            specs=self._specs,
            cannot_reach=frozenset(self._unreached & self._hosts),
            lags=self._not_agreed is not None,
        )
        if member != self._told_member:
            await self._etcd.commit([], [Put(self._keys.member(self.session), member.model_dump_json(), self._lease)])
            self._told_member = member
        self._members = {**self._members, self.session: member}

    async def _tend_claims(self) -> None:
        now = self._clock()
        firsts = {host: preference(self._members, host)[0] for host in self._mine()}
        self._preferred = {
            host: before if (before := self._preferred.get(host)) is not None and before[0] == first else (first, now)
            for host, first in firsts.items()
        }
        seen = Seen(
            session=self.session,
            members=self._members,
            claims=self._claims,
            preferred_seconds={host: now - since for host, (_, since) in self._preferred.items()},
            free_seconds={host: now - since for host, since in self._free_since.items()},
        )
        wanted = wishes(seen, self._hosts, self._lease_length)
        for host in wanted.claims:
            await self._claim(host)
        self._leaving = set(wanted.gives_up)  # nothing more is begun there
        for host in wanted.gives_up:
            if host not in self._working:
                await self._give_up(host)
        for host in self._mine() - self._hosts:
            if host not in self._working:
                await self._give_up(host)

    async def _claim(self, host: str) -> None:
        claim = Claim(session=self.session, who=self.who, since=time.time())
        key = self._keys.claim(host)
        done = await self._etcd.commit(
            [Condition(key=key, written=0)], [Put(key, claim.model_dump_json(), self._lease)]
        )
        entry = await self._etcd.get(key)
        found = read(Claim, entry.value) if entry is not None else None
        if entry is not None:
            self._claims[host], self._written[host] = found, entry.written
        if found is not None and found.session == self.session:  # also where the answer to a first try was lost
            self._free_since.pop(host, None)
            self._say(f"{host} is ours")
            self.woken(host)
        elif done:
            self._say(f"{host} was ours for a moment")

    async def _give_up(self, host: str) -> None:
        key = self._keys.claim(host)
        await self._etcd.commit([Condition(key=key, written=self._written[host])], [Delete(key)])
        self._claims.pop(host, None)
        self._free_since[host] = self._clock()
        self._say(f"{host} is left to another controller")

    def _is_there(self) -> bool:
        """Return whether our lease is proven by our own clock."""
        return self._proven_at is not None and self._clock() - self._proven_at < self._lease_length * _MARGIN

    def _wake_if_lost(self) -> None:
        if not self._is_there():
            for host in self._mine():
                self.woken(host)

    def _tell(self, text: str) -> None:
        """Say what goes wrong once, until all has gone well."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    # What follows is the Sharing.

    def why_not(self, host: str) -> str | None:
        claim = self._claims.get(host)
        if not self._is_there():
            return "etcd has not confirmed for a while that this controller is there"
        if claim is None or claim.session != self.session:
            return f"{claim.who} acts on {host}" if claim is not None else f"nobody has claimed {host} yet"
        if self._not_agreed is not None:
            return self._not_agreed
        return f"{host} is about to go to another controller" if host in self._leaving else None

    def counted(self) -> Mapping[Action, frozenset[str]]:
        fleet = self._fleet or Fleet()
        return {action: counting.counted(fleet, action) for action in (Action.DESTROY, Action.RESTART)}

    def reserved(self) -> frozenset[str]:
        return frozenset((self._fleet or Fleet()).reserved)

    async def reserve(self, host: str, wanted: Wanted) -> Diagnostic | None:
        by = Reserved(session=self.session, who=self.who, since=time.time())
        self._working.add(host)
        try:
            for _ in range(TRIES):
                entry, fleet = await read_fleet(self._etcd, self._keys)
                self._fleet = fleet
                why = self.why_not(host)
                after = counting.reserve(fleet, wanted, by) if why is None else why
                if fleet.specs != self._specs:
                    after = "the fleet goes by other specs meanwhile"
                if isinstance(after, str):
                    return _held(host, after)
                if await self._write(entry, after):
                    self._new_places[host] = frozenset(after.reserved) - frozenset(fleet.reserved)
                    return None
            return _held(host, "the controllers count at the same time again and again")
        except ReconcilerError as error:
            return _held(host, error.diagnostics[0].detail.rstrip("."))

    async def ended(self, host: str, unbegun: Mapping[Action, frozenset[str]]) -> None:
        self._working.discard(host)
        if any(unbegun.values()):
            await self._give_back(
                self._new_places.get(host, frozenset()) & unbegun.get(Action.RESTART, frozenset()), unbegun
            )

    def looked(self, host: str, *, reached: bool) -> None:
        if reached:
            self._unreached.discard(host)
        else:
            self._unreached.add(host)

    async def judged(self, host: str, domains: Mapping[str, tuple[str, str]], ready: Collection[str]) -> None:
        """Tell the others, and give back the places of those that are ready, by a controller that the host obeys."""
        if self.why_not(host) is not None or not self.is_taken(host):
            return
        if held := self.reserved() & set(ready):
            await self._give_back(held, {})
        facts = Facts(
            who=self.who, specs=self._specs, token=self._numbers[host][1], domains={**domains}
        )  # no time is part of it, so that it is written when it changes only
        text = facts.model_dump_json()
        if text != self._told_facts.get(host):
            key = self._keys.facts(host)
            told = facts.model_copy(update={"at": time.time()}).model_dump_json()
            try:
                await self._etcd.commit([], [Put(key, told)])
                self._told_facts[host] = text
            except ReconcilerError as error:
                self._tell(error.diagnostics[0].detail)

    def is_taken(self, host: str) -> bool:
        return self._numbers.get(host, ("", 0))[0] == self.session

    async def _give_back(self, ready: Collection[str], unbegun: Mapping[Action, frozenset[str]]) -> None:
        """Give back what was counted. Where that fails it stays counted, which holds others and harms nobody."""
        try:
            for _ in range(TRIES):
                entry, fleet = await read_fleet(self._etcd, self._keys)
                after = counting.give_back(fleet, ready, unbegun)
                if after == fleet or await self._write(entry, after):
                    self._fleet = after
                    return
        except ReconcilerError as error:
            self._tell(error.diagnostics[0].detail)

    async def _write(self, entry: Entry | None, fleet: Fleet) -> bool:
        done = await write_fleet(self._etcd, self._keys, entry, fleet)
        if done:
            self._fleet = fleet
        return done

    # What follows is the Fencing.

    async def line_for(self, host: str, seen: Line, silent_seconds: float | None) -> Line:
        why = self.why_not(host)
        if why is not None:
            raise ReconcilerError(_held(host, why))
        cluster = self._etcd.cluster_id
        if seen.session == self.session:
            return seen
        patience = SILENT_LEASES * seen.lease_seconds
        if seen.cluster not in ("", cluster) and silent_seconds is not None and silent_seconds < patience:
            raise refused(
                "another etcd divides the host",
                f"{seen.who} acted on {host} {silent_seconds:.0f} s ago, for the etcd with the id {seen.cluster}; "
                f"this controller is in that with the id {cluster}.",
                f"name one etcd to all controllers; where it was replaced, this ends by itself in {patience:.0f} s",
                host,
            )
        entry = await self._etcd.get(self._keys.claim(host))  # whoever reads this has the last word of etcd
        claim = read(Claim, entry.value) if entry is not None else None
        why = self.why_not(host)
        if claim is None or claim.session != self.session or why is not None:
            raise ReconcilerError(_held(host, why or f"{claim.who if claim else 'nobody'} has it in etcd"))
        number = max(seen.number, self._numbers.get(host, ("", 0))[1]) + 1
        lease = self._lease_length
        return Line(number=number, session=self.session, who=self.who, cluster=cluster, lease_seconds=lease)

    def took(self, host: str, line: Line) -> None:
        self._numbers[host] = (line.session, line.number)


def _held(host: str, why: str) -> Diagnostic:
    return Diagnostic(
        kind=Kind.REFUSED,
        summary="nothing is begun on the host",
        detail=f"Nothing is begun on {host}: {why}.",
        address=host,
        transient=True,
    )
