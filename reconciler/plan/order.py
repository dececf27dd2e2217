"""Orders steps: it finds what each chain has to wait for, so that every moment between start and end is allowed.

The steps are laid in one line, each unit as soon as what it needs is done and scarce things are there: memory that
others give back, one of `max_unavailable` places, all lower waves ready. A step is made to wait only for steps before
it in that line, so there is never a circle. When no order brings about a change, it is refused with the numbers.

For example, two domains of one host restart and max_unavailable is 1, so `b` waits until `a` is ready again:

>>> from tests.worlds import MIB, NEW, desired, domain, guest, host, kernel, plan
>>> world = host(guest(domain("a")), guest(domain("b")))
>>> made = plan(world, desired(*(domain(name, kernel=kernel(name, NEW)) for name in ("a", "b"))))
>>> [f"{step.step.kind} {step.address}" for step in made.steps if step.step.kind in ("shutdown", "await_ready")]
['shutdown alpha/a', 'await_ready alpha/a', 'shutdown alpha/b', 'await_ready alpha/b']

And here `b` can only grow into the memory that `a` gives back:

>>> world = host(guest(domain("a", memory_kib=512 * MIB)), guest(domain("b")), free_mib=10)
>>> made = plan(world, desired(domain("a"), domain("b", memory_kib=512 * MIB)))
>>> [step.address for step in made.steps if step.step.kind == "set_memory"], made.changes[1].waits_for
(['alpha/a', 'alpha/b'], ('memory of alpha/a',))
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import accumulate

from reconciler.model.host import Host
from reconciler.plan.chains import Chain
from reconciler.plan.edges import Edges, Node, edges_between
from reconciler.plan.places import (
    FLEET,
    LISTED_NAMES,
    FleetLimit,
    OrderError,
    Places,
    Refusal,
    check_any_left,
    check_unavailable,
    scopes,
)
from reconciler.plan.snapshot_room import share_room
from reconciler.plan.steps import AwaitReady, PlannedStep, Rehearse, RehearseEnd, Shutdown, Step, takes_down
from reconciler.plan.units import Unit, units_of
from reconciler.records import dataclass

_EXPECTED_SECONDS: Mapping[str, float] = {
    "start": 10,
    "await_ready": 15,
    "shutdown": 15,
    "set_memory": 5,
    "create_disk": 5,
    "rehearse": 30,
}
_OTHER_SECONDS = 1.0


def expected_seconds(step: Step) -> float:
    """Guess roughly how long a step takes. The guess only serves to begin the longest work first."""
    return _EXPECTED_SECONDS.get(step.kind, _OTHER_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The room that a host has left: capacity less promised memory (KiB), and how many domains may be down at once."""

    free_kib: int
    max_unavailable: int


def order_chains(
    chains: Sequence[Chain], hosts: Mapping[str, Host], rooms: Mapping[str, Room], fleet: FleetLimit | None = None
) -> tuple[tuple[PlannedStep, ...], Mapping[str, tuple[str, ...]]]:
    """Return the steps of all chains in one safe order, and what each address waits for.

    `fleet` says how many domains of all hosts together may be down at once; None: as many as the hosts allow.

    Raises OrderError when something is too scarce: memory on the way, or max_unavailable for domains that go down
    together.
    """
    edges = edges_between(chains, hosts)
    units = units_of(chains, edges.needs)
    limits = {host: room.max_unavailable for host, room in rooms.items()}
    if fleet is not None:
        check_any_left(fleet, chains)
        limits[FLEET] = fleet.left
    check_unavailable(units, chains, limits)
    line = _Line(chains, units, edges, rooms, limits)
    line.lay()
    share_room(chains, line.order, hosts, edges)
    steps = _planned(chains, line.order, edges, line.waves)
    waits: dict[str, dict[str, None]] = defaultdict(dict)
    for index, reasons in edges.waits_for.items():
        waits[chains[index].change.address] |= reasons
    return steps, {address: tuple(reasons) for address, reasons in waits.items()}


@dataclass(slots=True)
class _Bank:
    """The memory of one host that domains can grow into: what is free, then what steps give back, in their order.

    Each KiB is given out once. So whatever has begun, and in whatever order, all of it fits.
    """

    free_kib: int
    given: deque[tuple[Node, int]] = field(default_factory=deque)
    debt: list[Node] = field(default_factory=list)  # steps that give back what is promised beyond capacity
    available_kib: int = 0

    def __post_init__(self) -> None:
        self.available_kib = self.free_kib

    def pay_in(self, node: Node, kib: int) -> None:
        self.available_kib += kib
        if self.free_kib < 0:
            self.debt.append(node)
            used = min(kib, -self.free_kib)
            self.free_kib, kib = self.free_kib + used, kib - used
        if kib:
            self.given.append((node, kib))

    def draw(self, kib: int) -> list[Node]:
        """Take this much, and return the steps that have to be done before it is there."""
        self.available_kib -= kib
        waits = list(self.debt)
        used = min(kib, max(0, self.free_kib))
        self.free_kib, kib = self.free_kib - used, kib - used
        while kib:
            node, amount = self.given.popleft()
            waits.append(node)
            if amount > kib:
                self.given.appendleft((node, amount - kib))
            kib -= min(kib, amount)
        return waits


_Rank = tuple[bool, bool, int, float, str, int]


class _Line:
    """Lays the steps in one line, unit by unit."""

    def __init__(
        self,
        chains: Sequence[Chain],
        units: Sequence[Unit],
        edges: Edges,
        rooms: Mapping[str, Room],
        limits: Mapping[str, int],
    ) -> None:
        self.order: list[Node] = []
        self.waves: dict[Node, int] = {}
        self._chains, self._units, self._edges, self._limits = chains, units, edges, limits
        self._unit_of = {node: at for at, unit in enumerate(units) for node in unit.nodes}
        self._left = [len(unit.needs) for unit in units]
        self._followers: list[list[int]] = [[] for _ in units]
        for at, unit in enumerate(units):
            for before in unit.needs:
                self._followers[before].append(at)
        self._banks = {host: _Bank(free_kib=room.free_kib) for host, room in rooms.items()}
        self._places = {scope: Places(limit=limit) for scope, limit in limits.items()}
        # unit -> chains that need memory from a place in them on, and how much
        self._gates: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self._gifts: dict[Node, int] = {}  # node -> memory that has been given back after it
        self._resumed: dict[Node, int] = {}  # node -> chain that gets ready there, and frees its place
        for index, chain in enumerate(chains):
            self._note_scarce(index, chain)
        self._ranks = self._ranked()

    def _note_scarce(self, index: int, chain: Chain) -> None:
        for position, link in enumerate(chain.links):
            if isinstance(link.step, Rehearse):
                self._gates[self._unit_of[index, position]].append((index, position, link.delta_kib))
            elif isinstance(link.step, RehearseEnd):
                self._gifts[index, position] = -link.delta_kib
        if chain.delta_kib > 0:
            gate = chain.first(Shutdown) if chain.change.restarts else chain.memory_gate
            assert gate is not None
            self._gates[self._unit_of[index, gate]].append((index, gate, chain.delta_kib))
        elif chain.delta_kib < 0:
            done = chain.memory_done
            assert done is not None
            self._gifts[index, done] = -chain.delta_kib
        ready = chain.first(AwaitReady)
        if chain.change.resumes and ready is not None and not chain.outing:
            for places in self._places_of(chain):
                places.busy.add(index)
            self._resumed[index, ready] = index

    def _places_of(self, chain: Chain) -> Iterator[Places]:
        return (self._places[scope] for scope in scopes(chain, self._limits))

    def _ranked(self) -> list[_Rank]:
        """Rank the units, for when nothing else decides: resumed updates, then what frees memory, then the longest.

        What is rehearsed goes last: it needs its place when that is ready, and others need none for so long.
        """
        ranks = []
        deltas = [chain.delta_kib for chain in self._chains]
        lengths = [_seconds_left(chain) for chain in self._chains]
        for at, unit in enumerate(self._units):
            index, position = unit.nodes[0]
            chain = self._chains[index]
            delta = sum(deltas[one] for one in {node[0] for node in unit.nodes})
            sign = (delta > 0) - (delta < 0)
            resumes, late = chain.change.resumes, chain.waits_for_rehearsal
            ranks.append((not resumes, late, sign, -lengths[index][position], chain.change.address, at))
        return ranks

    def lay(self) -> None:
        """Lay wave by wave. Raises OrderError when the rest of a wave waits for what is not there."""
        waves: dict[int, list[int]] = defaultdict(list)
        for at, unit in enumerate(self._units):
            waves[unit.wave].append(at)
        before: int | None = None
        for wave in sorted(waves):
            self._lay_wave(wave, waves[wave])
            for index in (
                {node[0] for at in waves[wave] for node in self._units[at].nodes} if before is not None else ()
            ):
                self._edges.waits_for[index][f"wave {before}"] = None
            before = wave

    def _lay_wave(self, wave: int, members: Sequence[int]) -> None:
        for places in self._places.values():
            places.had.clear()  # who went down in a lower wave is ready, or this one does not begin
        ready = [self._ranks[at] for at in members if self._left[at] == 0]
        heapq.heapify(ready)
        short: list[int] = []  # units that wait for memory or a place
        left = len(members)
        while left:
            if not ready:
                self._relax(short, wave)
            at: int | None = heapq.heappop(ready)[-1] if ready else short.pop(0)
            while at is not None:
                if self._is_short(at):
                    short.append(at)
                    break
                freed = self._lay_unit(at)
                left -= 1
                at = self._release(at, wave, ready)
                if freed:
                    for one in short:
                        heapq.heappush(ready, self._ranks[one])
                    short.clear()

    def _release(self, at: int, wave: int, ready: list[_Rank]) -> int | None:
        """Offer the units that can go now. Returns the one that goes on with the same domain, if any.

        That one goes at once, so that its domain is not left half done.
        """
        last = self._units[at].nodes[-1][0]
        following: int | None = None
        for follower in self._followers[at]:
            self._left[follower] -= 1
            if self._left[follower] or self._units[follower].wave != wave:
                continue
            if following is None and self._units[follower].nodes[0][0] == last:
                following = follower
            else:
                heapq.heappush(ready, self._ranks[follower])
        return following

    def _is_short(self, at: int) -> bool:
        """Return whether a unit still lacks memory or a place."""
        goes_down = self._goes_down(at)
        if at not in self._gates and not goes_down:
            return False
        wanted: Counter[str] = Counter()
        for index, _, kib in self._gates.get(at, ()):
            wanted[self._chains[index].change.host] += kib
        places = Counter(scope for index in goes_down for scope in scopes(self._chains[index], self._limits))
        return any(kib > self._banks[host].available_kib for host, kib in wanted.items()) or any(
            count > self._places[scope].free() for scope, count in places.items()
        )

    def _goes_down(self, at: int) -> list[int]:
        """Return the chains of a unit that take a running domain down for a restart."""
        nodes = self._units[at].nodes
        return [
            index
            for index, position in nodes
            if self._chains[index].change.restarts and takes_down(self._chains[index].links[position].step)
        ]

    def _relax(self, short: Sequence[int], wave: int) -> None:
        """Make progress when no unit can go.

        A resumed update holds a place until it is ready. If others wait for its place, and it for them, they go first.
        Otherwise memory is short, and OrderError is raised.
        """
        assert short, "the units that are left need each other"
        starved = [at for at in short if self._lacks_memory(at)]
        if len(starved) < len(short):
            for places in self._places.values():
                places.busy.clear()
            return
        raise OrderError(
            {
                self._chains[index].change.address: self._memory_refusal(index, position, kib, wave)
                for at in starved
                for index, position, kib in self._gates[at]
            }
        )

    def _lacks_memory(self, at: int) -> bool:
        wanted: Counter[str] = Counter()
        for index, _, kib in self._gates.get(at, ()):
            wanted[self._chains[index].change.host] += kib
        return any(kib > self._banks[host].available_kib for host, kib in wanted.items())

    def _memory_refusal(self, index: int, position: int, kib: int, wave: int) -> Refusal:
        chain = self._chains[index]
        free = max(0, self._banks[chain.change.host].available_kib) // 1024
        if isinstance(chain.links[position].step, Rehearse):
            reason = f"its rehearsal needs {kib // 1024} MiB of memory, and {free} MiB are free when its turn comes"
            hint = "give it less by memory under [rehearsal] of host.toml, or make room"
            return Refusal(reason=reason, hint=hint, of_rehearsal=True)
        return Refusal(
            reason=f"it needs {kib // 1024} MiB more and {free} MiB are free when its turn comes "
            f"(wave {wave}): what others give back is only there after it",
            hint="give it more room: lower the memory of another domain first, or put it into a later wave",
        )

    def _lay_unit(self, at: int) -> bool:
        """Lay the steps of a unit, and return whether that freed memory or a place."""
        nodes = _inside(self._units[at], self._edges, self._chains)
        downs = [node for node in nodes if self._takes_down(node)]
        if downs:
            self._bind(nodes, downs)
        for index, gate, kib in self._gates.get(at, ()):
            for node in self._banks[self._chains[index].change.host].draw(kib):
                why = f"memory of {self._chains[node[0]].change.address}"
                self._edges.add(downs[0] if downs else (index, gate), node, why)
        freed = False
        for node in nodes:
            self.order.append(node)
            self.waves[node] = self._units[at].wave
            if node in self._gifts:
                self._banks[self._chains[node[0]].change.host].pay_in(node, self._gifts[node])
                freed = True
            if node in self._resumed:
                for places in self._places_of(self._chains[node[0]]):
                    places.busy.discard(self._resumed[node])
                    places.had.append(node)
                freed = True
        return freed

    def _takes_down(self, node: Node) -> bool:
        chain = self._chains[node[0]]
        return chain.change.restarts and takes_down(chain.links[node[1]].step)

    def _bind(self, nodes: Sequence[Node], downs: Sequence[Node]) -> None:
        """Have the first shutdown of a unit wait for all that the unit waits for, and for its places.

        The other shutdowns wait for the first. So none of its domains goes down before all of them can come back.
        """
        first, inside = downs[0], set(nodes)
        for node in nodes:
            for before in list(self._edges.needs.get(node, ())):
                if before not in inside and node != first:
                    self._edges.add(first, before)
        for node in downs[1:]:
            self._edges.add(node, first)
        taken: dict[str, list[Node]] = defaultdict(list)
        for node in downs:
            for scope in scopes(self._chains[node[0]], self._limits):
                taken[scope].append((node[0], self._up_again(node)))
        for scope, takers in taken.items():
            places = self._places[scope]
            surplus = len(places.had) + len(takers) - places.limit
            for _ in range(max(0, surplus)):
                holder = places.had.popleft()
                if holder is None:
                    continue
                if holder[0] == first[0]:  # its own rehearsal
                    self._edges.add(first, holder)
                    continue
                whose = "" if scope != FLEET else " of the fleet"
                why = f"{self._chains[holder[0]].change.address} to be ready (max_unavailable{whose} = {places.limit})"
                self._edges.add(first, holder, why)
            places.had.extend(takers)

    def _up_again(self, node: Node) -> int:
        """Return the step of its chain after which a domain that goes down here does not count as down any more."""
        chain = self._chains[node[0]]
        kind = RehearseEnd if isinstance(chain.links[node[1]].step, Rehearse) else AwaitReady
        up = chain.first(kind)
        assert up is not None
        return up


def _seconds_left(chain: Chain) -> list[float]:
    """Return how long it is expected to take from each step of a chain to its end."""
    left = accumulate(expected_seconds(link.step) for link in reversed(chain.links))
    return list(left)[::-1]


def _inside(unit: Unit, edges: Edges, chains: Sequence[Chain]) -> list[Node]:
    """Order the steps of one unit. Raises OrderError where they need each other in a circle."""
    if len(unit.nodes) == 1 or len({node[0] for node in unit.nodes}) == 1:
        return unit.nodes
    members = set(unit.nodes)
    waiting = {node: sum(before in members for before in edges.needs.get(node, ())) for node in unit.nodes}
    followers: dict[Node, list[Node]] = defaultdict(list)
    for node in unit.nodes:
        for before in edges.needs.get(node, ()):
            if before in members:
                followers[before].append(node)
    ready = [node for node in unit.nodes if waiting[node] == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        node = heapq.heappop(ready)
        ordered.append(node)
        for follower in followers[node]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, follower)
    if len(ordered) < len(unit.nodes):
        raise OrderError(_no_order(sorted({chains[node[0]].change.address for node in members - set(ordered)})))
    return ordered


def _no_order(addresses: Sequence[str]) -> dict[str, Refusal]:
    names = ", ".join(addresses[:LISTED_NAMES])
    reason = f"what changes hands between {names} can be handed over in no order"
    return dict.fromkeys(addresses, Refusal(reason=reason, hint="hand it over in two commits, one after the other"))


def _planned(
    chains: Sequence[Chain], order: Sequence[Node], edges: Edges, waves: Mapping[Node, int]
) -> tuple[PlannedStep, ...]:
    number = {node: at for at, node in enumerate(order, start=1)}
    return tuple(
        PlannedStep(
            id=f"s{at}",
            host=chains[node[0]].change.host,
            step=chains[node[0]].links[node[1]].step,
            needs=tuple(f"s{before}" for before in sorted(number[one] for one in edges.needs.get(node, ()))),
            delta_kib=chains[node[0]].links[node[1]].delta_kib,
            wave=waves[node],
            outing=chains[node[0]].outing,
        )
        for node, at in number.items()
    )
