"""One controller among several: it is there by a lease, claims hosts by transactions, and takes their lines.

Called by `watch --cluster` through `Sharing`, and by the executors through `Fencing`. Neither the lease nor a clock is
trusted for safety: a host itself refuses whoever has not its line (`fence`). They only end work early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from reconciler.cluster import counting
from reconciler.cluster.agreeing import Agreeing, Asked
from reconciler.cluster.clock import boot_time
from reconciler.cluster.dividing import Seen, preference, wishes
from reconciler.cluster.etcd import Condition, Delete, Etcd, Put
from reconciler.cluster.facts import AllFacts, facts_of
from reconciler.cluster.fleet_key import change_fleet, read_fleet
from reconciler.cluster.giving_up import GivenUp
from reconciler.cluster.keys import Claim, Fleet, Member, Names, Reserved, read
from reconciler.cluster.naming import own_name
from reconciler.cluster.refusing import held, no_claim, refuse_other_etcd
from reconciler.cluster.sharing import Known, Told, Wanted
from reconciler.decide.changes import Action
from reconciler.fence import Fencing, Line, new_session, whoami
from reconciler.model.diagnostics import Diagnostic, ReconcilerError, unforeseen
from reconciler.model.fleet import Desired

_TURNS_A_LEASE = 3
_VERSION = version("reconciler")
_MARGIN = 0.8  # of a lease, by our own clock, for which an answered keepalive proves it


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
        self._facts: AllFacts | None = None
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
        self._made: str | None = None  # the key of the fleet, as etcd had it last
        self._is_anew = False  # whether all hosts are to be looked at again
        self._agreeing = Agreeing(clock)
        self._given_up = GivenUp()
        self._not_agreed: str | None = "it has not asked etcd yet"
        self._told_member: Member | None = None
        self._said: set[str] = set()  # what is wrong and was said, as of the last turn that came to its end
        self._wrong: set[str] = set()  # what was found to be wrong since then
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
        self._given_up.state_dir = state_dir
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

    def given_up(self) -> frozenset[str]:
        return (self._fleet or Fleet()).given_up

    def go_by(self, desired: Desired) -> None:
        specs = (desired.commit or "") if self.newer is not None else desired.tree_digest
        if self._names is None and desired.fleet:
            self._names = Names(desired.fleet)
            self._facts = AllFacts(self._etcd, self._names)
        if self._names is not None and desired.fleet and Names(desired.fleet).prefix != self._names.prefix:
            specs = ""  # of another fleet: nothing is begun until watch is started again
            self._tell("the name of the fleet has changed, so nothing is begun until watch is started again")
        self._hosts = frozenset(desired.hosts)
        if specs != self._specs:
            self._specs, self._not_agreed = specs, "its specs were not compared with those of the others yet"
        self._poked.set()

    def fetched(self, *, problem: bool) -> None:
        self._agreeing.fetched(problem=problem)
        self._poked.set()

    async def run(self) -> None:
        """Keep the lease, and tend the claims, until cancelled. What goes wrong is told once, and tried again."""
        while True:
            self._poked.clear()
            try:
                if self._names is not None:
                    await self.turn()
                    self._said, self._wrong = self._wrong, set()
            except ReconcilerError as error:
                self._tell(error.diagnostics[0].detail)
                for host in () if self._is_there() else self._mine():
                    self.woken(host)
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
        await self._share_facts()

    async def _keep_lease(self) -> None:
        sent = self._clock()
        if self._lease and await self._etcd.keep_alive(self._lease) > 0:
            self._proven_at = sent
            return
        if self._lease:
            self._say("its lease has run out, so its hosts are anybody's; it begins anew")
            self._begin_anew()
        self._lease = await self._etcd.grant(self._lease_length)
        self._proven_at = sent
        self.session, self._told_member = new_session(), None  # what was claimed before is not ours any more

    def _begin_anew(self) -> None:
        """Go by nothing that was seen before: etcd may have lost what was taken since, and what it told."""
        assert self._facts is not None
        self._facts.begin_anew()
        self._is_anew = True

    async def _look(self) -> None:
        members = await self._etcd.list(self._keys.members)
        claims = await self._etcd.list(self._keys.claims)
        found = {one.key.removeprefix(self._keys.members): read(Member, one.value) for one in members.entries}
        self._members = {session: member for session, member in found.items() if member is not None}
        now, before = self._clock(), self._mine()
        self._claims = {  # a claim that goes with no lease was written by hand
            str(self._keys.host_of(one.key)): read(Claim, one.value) if one.lease else None for one in claims.entries
        }
        self._written = {str(self._keys.host_of(one.key)): one.written for one in claims.entries}
        self._free_since = {host: self._free_since.get(host, now) for host in self._hosts if host not in self._claims}
        for host in before ^ self._mine():
            self.woken(host)
        for host, claim in self._claims.items():
            if claim is None and host in self._hosts:
                self._tell(no_claim(host, self._keys.claim(host)))

    def _mine(self) -> set[str]:
        return {host for host, claim in self._claims.items() if claim is not None and claim.session == self.session}

    async def _agree(self) -> None:
        """Find the specs that all go by; move on to ours where they follow, or where all have them."""
        assert self._facts is not None
        if not self._specs:
            self._agreed("it has no specs yet")
            return
        entry, fleet = await read_fleet(self._etcd, self._keys)
        made = fleet.made if entry is not None else None
        if self._made not in (None, made):
            self._begin_anew()
        self._fleet, self._made = fleet, made
        await self._given_up.heed(fleet.given_up, self._hosts)
        if not fleet.specs and self.newer is not None:
            self._agreeing.marks_of(await self._facts.seen(self._keys.of))
        asked = Asked(
            specs=self._specs,
            fleet=fleet.specs,
            others=[one for session, one in self._members.items() if session != self.session],
            strangers={*self._claims, *self._facts.hosts()} - self._hosts,
            unseen=self._facts.untold(self._hosts | self._mine(), self._mine()),
            endpoint=self._etcd.endpoints[0],
            lease_seconds=self._lease_length,
        )
        answer = await self._agreeing.ask(asked, self.newer)
        if answer.writes and answer.why is None:
            after = await change_fleet(self._etcd, self._keys, lambda now: counting.moved_on(now, fleet, self._specs))
            if isinstance(after, str):
                self._agreed(after)
                return
            self._fleet = after
        if answer.fetches:
            self.fetch()
        self._agreed(answer.why)

    def _agreed(self, problem: str | None) -> None:
        before, self._not_agreed = self._not_agreed, problem
        if problem is not None:
            self._tell(f"nothing is begun: {problem}")
        if (before is None) != (problem is None):
            for host in self._mine():
                self.woken(host)

    async def _tell_member(self) -> None:
        member = Member(
            session=self.session,
            name=self.name,
            who=self.who,
            version=_VERSION,
            specs=self._specs,
            cannot_reach=frozenset(self._unreached & self._hosts),
            lags=self._not_agreed is not None or self._agreeing.lags,
            fetches=self._agreeing.fetches,
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
        for host in sorted((self._leaving | (self._mine() - self._hosts)) - self._working):
            await self._give_up(host)

    async def _claim(self, host: str) -> None:
        key, claim = self._keys.claim(host), Claim(session=self.session, who=self.who, since=time.time())
        put = Put(key, claim.model_dump_json(), self._lease)
        done = await self._etcd.commit([Condition(key=key, written=0)], [put])
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

    def _tell(self, text: str) -> None:
        """Say what is wrong once, as long as it is."""
        self._wrong.add(text)
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    # What follows is the Sharing.

    @property
    def era(self) -> int:
        return self._facts.era if self._facts is not None else 0

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

    def reserved(self) -> Mapping[str, Reserved]:
        return (self._fleet or Fleet()).reserved

    async def reserve(self, host: str, wanted: Wanted) -> Diagnostic | None:
        by = Reserved(session=self.session, who=self.who, since=time.time())
        before = frozenset[str]()

        def reserved(fleet: Fleet) -> Fleet | str:
            nonlocal before
            self._fleet, before = fleet, frozenset(fleet.reserved)
            if (why := self.why_not(host)) is not None:
                return why
            if fleet.specs != self._agreeing.goes_by:
                return "the fleet goes by other specs meanwhile"
            return counting.reserve(fleet, wanted, by)

        self._working.add(host)
        try:
            after = await change_fleet(self._etcd, self._keys, reserved)
        except ReconcilerError as error:
            after = error.diagnostics[0].detail.rstrip(".")
        if isinstance(after, str):
            return held(host, after)
        earlier = self._new_places.get(host, frozenset()) if wanted.is_more else frozenset()
        self._fleet, self._new_places[host] = after, earlier | (frozenset(after.reserved) - before)
        return None

    async def ended(self, host: str, unbegun: Mapping[Action, frozenset[str]]) -> None:
        self._working.discard(host)
        if any(unbegun.values()):
            unused = self._new_places.get(host, frozenset()) & unbegun.get(Action.RESTART, frozenset())
            await self._give_back({one: place for one, place in self.reserved().items() if one in unused}, unbegun)

    def looked(self, host: str, *, reached: bool) -> None:
        self._unreached = self._unreached - {host} if reached else self._unreached | {host}

    async def told(self, host: str) -> Told | None:
        claim = self._claims.get(host)
        if claim is None or claim.session == self.session or self._facts is None:
            return None
        return await self._facts.told(host, self._keys.of, is_unreached=host in self._unreached)

    async def tell(self, host: str, known: Known) -> None:
        claim = self._claims.get(host)
        if self._facts is None or claim is None or claim.session != self.session or not self._is_there():
            return
        token = self._numbers[host][1] if self.is_taken(host) else 0
        facts = facts_of(known, self.who, _VERSION, self._specs, token)
        try:
            await self._facts.tell(host, self._written[host], facts, known)
            self._agreeing.marks(host, known.host)
            if self._not_agreed is not None:
                self._poked.set()
            if known.host is not None and host in self.given_up():
                await self._change(lambda fleet: counting.with_host(fleet, host))
        except ReconcilerError as error:
            self._tell(error.diagnostics[0].detail)

    async def give_back(self, host: str, places: Mapping[str, Reserved]) -> None:
        if self.why_not(host) is None and self.is_taken(host):  # by a controller that the host obeys
            await self._give_back(places, {})

    def is_taken(self, host: str) -> bool:
        return self._numbers.get(host, ("", 0))[0] == self.session

    async def _give_back(self, places: Mapping[str, Reserved], unbegun: Mapping[Action, frozenset[str]]) -> None:
        """Give back what was counted. Where that fails it stays counted, which holds others and harms nobody."""
        try:
            await self._change(lambda fleet: counting.give_back(fleet, places, unbegun))
        except ReconcilerError as error:
            self._tell(error.diagnostics[0].detail)

    async def _change(self, change: Callable[[Fleet], Fleet]) -> None:
        after = await change_fleet(self._etcd, self._keys, change)
        self._fleet = after if isinstance(after, Fleet) else self._fleet

    async def _share_facts(self) -> None:
        """Read what the others tell of their hosts, and tell anew what etcd has lost of ours."""
        assert self._facts is not None
        mine = self._mine()
        changed = await self._facts.renew() - mine
        for host in self._hosts if self._is_anew else changed:
            self.woken(host)
        self._is_anew = False
        await self._facts.tell_again({host: self._written[host] for host in mine & self._hosts})

    # What follows is the Fencing.

    async def line_for(self, host: str, seen: Line, silent_seconds: float | None) -> Line:
        why = self.why_not(host)
        if why is not None:
            raise ReconcilerError(held(host, why))
        cluster, lease = self._etcd.cluster_id, self._lease_length
        if seen.session == self.session:
            return seen
        refuse_other_etcd(host, seen, cluster, silent_seconds)
        entry = await self._etcd.get(self._keys.claim(host))  # whoever reads this has the last word of etcd
        claim = read(Claim, entry.value) if entry is not None else None
        why = self.why_not(host)
        if claim is None or claim.session != self.session or why is not None:
            raise ReconcilerError(held(host, why or f"{claim.who if claim else 'nobody'} has it in etcd"))
        number = max(seen.number, self._numbers.get(host, ("", 0))[1]) + 1
        return Line(number=number, session=self.session, who=self.who, cluster=cluster, lease_seconds=lease)

    def took(self, host: str, line: Line) -> None:
        self._numbers[host] = (line.session, line.number)
