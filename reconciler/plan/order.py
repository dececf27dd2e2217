"""The order of steps: what each chain has to wait for, so that every moment between start and end is allowed.

On one host, all that lowers promised memory goes before what raises it, as far as the raise needs it; so if the start
fits and the end fits, every moment between fits, in any interleaving that the edges allow. Called by `plan`.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from reconciler.decide.dependencies import restart_groups
from reconciler.model.claims import Key, claims_of, live_claims, without
from reconciler.model.host import Host
from reconciler.plan.chains import Chain
from reconciler.plan.step_claims import released_by, taken_by
from reconciler.plan.steps import AwaitReady, PlannedStep, Shutdown, Start, Step

Node = tuple[int, int]
"""A step before it has a name: (index of its chain, index within the chain)."""

_EXPECTED_SECONDS: Mapping[str, float] = {
    "start": 10,
    "await_ready": 15,
    "shutdown": 15,
    "set_memory": 5,
    "create_disk": 5,
}
_OTHER_SECONDS = 1.0


def expected_seconds(step: Step) -> float:
    """A rough guess, only good for beginning the longest work first."""
    return _EXPECTED_SECONDS.get(step.kind, _OTHER_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a host has left: capacity less what is promised (KiB), and how many domains may be down for a restart."""

    free_kib: int
    max_unavailable: int


@dataclass(slots=True)
class Edges:
    """Which node needs which, and why a chain waits, in words."""

    needs: dict[Node, set[Node]] = field(default_factory=lambda: defaultdict(set))
    waits_for: dict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, later: Node, earlier: Node, why: str) -> None:
        self.needs[later].add(earlier)
        self.waits_for[later[0]][why] = None


class OrderError(Exception):
    """No order satisfies all constraints; carries the addresses that wait for each other in a circle."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        super().__init__(" → ".join(addresses))
        self.addresses = addresses


def order_chains(
    chains: Sequence[Chain], hosts: Mapping[str, Host], rooms: Mapping[str, Room]
) -> tuple[tuple[PlannedStep, ...], Mapping[str, tuple[str, ...]]]:
    """All steps of all chains in one order that is safe, and what each address waits for.

    Raises OrderError when memory, depends_on, waves and what changes hands ask for a circle.
    """
    edges = Edges()
    by_host: dict[str, list[int]] = defaultdict(list)
    for index, chain in enumerate(chains):
        by_host[chain.change.host].append(index)
        for position in range(1, len(chain.links)):
            edges.needs[index, position].add((index, position - 1))
    _order_claims(chains, hosts, edges)
    for host_name, members in sorted(by_host.items()):
        _order_dependencies(chains, members, edges)
        _order_memory(chains, members, rooms[host_name], edges)
        _order_restarts(chains, members, hosts[host_name], rooms[host_name], edges)
    _order_waves(chains, edges)
    waits = {chains[index].change.address: tuple(why) for index, why in edges.waits_for.items()}
    return _linearize(chains, edges), waits


def _order_dependencies(chains: Sequence[Chain], members: Sequence[int], edges: Edges) -> None:
    """A domain starts after those it depends on are ready, and stops before they do."""
    by_name = {chains[index].change.domain: index for index in members}
    for index in members:
        chain = chains[index]
        definition = chain.change.target or (chain.change.guest.definition if chain.change.guest else None)
        for name in definition.depends_on if definition else ():
            other = by_name.get(name)
            if other is None:
                continue
            up, ready = chain.first(Start), chains[other].first(AwaitReady)
            if up is not None and ready is not None:
                edges.add((index, up), (other, ready), f"{chains[other].change.address} to be ready")
            down, other_down = chain.first(Shutdown), chains[other].first(Shutdown)
            if down is not None and other_down is not None:
                edges.add((other, other_down), (index, down), f"{chain.change.address} to be down")


def _order_claims(chains: Sequence[Chain], hosts: Mapping[str, Host], edges: Edges) -> None:
    """What one domain gives up (a disk, a mac, a uuid), another has only after that."""
    given: dict[tuple[Key, bool], list[Node]] = defaultdict(list)
    for index, chain in enumerate(chains):
        host, guest, target = hosts[chain.change.host], chain.change.guest, chain.change.target
        for position, link in enumerate(chain.links):
            for claim in without(released_by(host, guest, link.step), claims_of(host, target)).values():
                given[claim.key, claim.reads_only].append((index, position))
    for index, chain in enumerate(chains if given else ()):
        host, guest = hosts[chain.change.host], chain.change.guest
        for position, link in enumerate(chain.links):
            for claim in without(taken_by(host, link.step), live_claims(host, guest)).values():
                for reads_only in (False,) if claim.reads_only else (False, True):
                    for node in given.get((claim.key, reads_only), ()):
                        if node[0] != index:
                            why = f"{chains[node[0]].change.address} to let go of {claim.value}"
                            edges.add((index, position), node, why)


def _order_memory(chains: Sequence[Chain], members: Sequence[int], room: Room, edges: Edges) -> None:
    """What raises promised memory waits for just as many fallers as it takes to fit.

    The fallers a riser waits for include those of all risers before it, so whichever subset has begun, the sum fits.
    """
    fallers = [index for index in members if chains[index].memory_kib < 0]
    risers = [index for index in members if chains[index].memory_kib > 0]
    fallers.sort(key=lambda index: (chains[index].wave, chains[index].change.restarts, chains[index].memory_kib))
    risers.sort(key=lambda index: (chains[index].wave, chains[index].memory_kib, chains[index].change.address))
    free, waited = room.free_kib, 0
    for index in risers:
        gate = chains[index].memory_gate if not chains[index].change.restarts else chains[index].first(Shutdown)
        assert gate is not None
        free -= chains[index].memory_kib
        while free < 0 and waited < len(fallers):
            free -= chains[fallers[waited]].memory_kib
            waited += 1
        for faller in fallers[:waited]:
            done = chains[faller].memory_done
            assert done is not None
            edges.add((index, gate), (faller, done), f"memory of {chains[faller].change.address}")


def _order_restarts(chains: Sequence[Chain], members: Sequence[int], host: Host, room: Room, edges: Edges) -> None:
    """At most `max_unavailable` domains are down for a restart: that many slots, each held by one domain at a time.

    Domains that go down together (one depends on the other, or they swap something) take their slots together. First
    those of an update that was cut short: they are down, or run what nobody has seen get ready.
    """
    groups = restart_groups([chains[index].change for index in members], host)
    position = {chains[index].change.domain: index for index in members}
    ordered = sorted(
        ([position[name] for name in group] for group in groups),
        key=lambda group: (
            max(chains[index].wave for index in group),
            sum(chains[index].memory_kib for index in group) > 0,
            min(chains[index].change.address for index in group),
        ),
    )
    cut_short = [
        index for index in members if chains[index].change.resumes and chains[index].first(AwaitReady) is not None
    ]
    slots: list[int | None] = [*[None] * (room.max_unavailable - len(cut_short)), *cut_short]
    for group in _givers_first(ordered, edges):
        surplus = len(slots) - room.max_unavailable
        for holder in {holder for holder in slots[: surplus + len(group)] if holder is not None}:
            if _waits_for(holder, group, chains, edges):
                continue
            ready = _last_ready(chains[holder])
            for index in group:
                down = chains[index].first(Shutdown)
                assert down is not None
                why = f"{chains[holder].change.address} to be ready (max_unavailable = {room.max_unavailable})"
                edges.add((index, down), (holder, ready), why)
        slots = [*slots[surplus + len(group) :], *group]


def _waits_for(index: int, group: list[int], chains: Sequence[Chain], edges: Edges) -> bool:
    """Whether a chain that is under way needs one of these, for memory or what it depends on: then they go first."""
    nodes = ((index, position) for position in range(len(chains[index].links)))
    return any(before[0] in group for node in nodes for before in edges.needs.get(node, ()))


def _givers_first(groups: list[list[int]], edges: Edges) -> list[list[int]]:
    """The groups in their order, but each after those that it waits for anyway: say, for a disk that they give up."""
    group_of = {index: at for at, group in enumerate(groups) for index in group}
    needs: dict[int, set[int]] = defaultdict(set)
    for later, before in edges.needs.items():
        if later[0] in group_of:
            needs[group_of[later[0]]] |= {group_of[node[0]] for node in before if node[0] in group_of}
    waits = TopologicalSorter({at: needs[at] - {at} for at in range(len(groups))})
    try:
        waits.prepare()
    except CycleError:  # no order of them is right: `_linearize` says why
        return groups
    ordered, heap = [], list(waits.get_ready())
    heapq.heapify(heap)
    while heap:
        at = heapq.heappop(heap)
        ordered.append(groups[at])
        waits.done(at)
        for free in waits.get_ready():
            heapq.heappush(heap, free)
    return ordered


def _last_ready(chain: Chain) -> int:
    ready = chain.first(AwaitReady)
    assert ready is not None
    return ready


def _ready_or_last(chain: Chain) -> int:
    """Index of the step after which a domain counts as done: when it is ready, else when nothing is left to do."""
    ready = chain.first(AwaitReady)
    return len(chain.links) - 1 if ready is None else ready


def _order_waves(chains: Sequence[Chain], edges: Edges) -> None:
    """All domains of a wave are done before any change of the next wave begins."""
    waves: dict[int, list[int]] = defaultdict(list)
    for index, chain in enumerate(chains):
        if chain.links:
            waves[chain.wave].append(index)
    implied = {  # done, since another domain of its wave waits for it already
        earlier[0]
        for later, before in edges.needs.items()
        for earlier in before
        if earlier[0] != later[0]
        and chains[earlier[0]].wave == chains[later[0]].wave
        and earlier[1] >= _ready_or_last(chains[earlier[0]])
    }
    for before, after in zip(sorted(waves), sorted(waves)[1:], strict=False):
        last = [(index, len(chains[index].links) - 1) for index in waves[before] if index not in implied]
        for index in waves[after]:
            for node in last:
                edges.add((index, 0), node, f"wave {before}")


def _linearize(chains: Sequence[Chain], edges: Edges) -> tuple[PlannedStep, ...]:
    """One deterministic order along the edges. A domain that went down is brought up before anything else begins."""
    waiting = {node: len(edges.needs.get(node, ())) for node in _nodes(chains)}
    followers: dict[Node, list[Node]] = defaultdict(list)
    for node, earlier in edges.needs.items():
        for before in earlier:
            followers[before].append(node)
    heap = [(_rank(chains, node), node) for node, count in waiting.items() if count == 0]
    heapq.heapify(heap)
    names: dict[Node, str] = {}
    ordered: list[PlannedStep] = []
    current: Node | None = None
    while heap or current is not None:
        node = current if current is not None else heapq.heappop(heap)[1]
        current = None
        names[node] = f"s{len(ordered) + 1}"
        ordered.append(_planned(chains, node, edges, names))
        for follower in sorted(followers[node]):
            waiting[follower] -= 1
            if waiting[follower]:
                continue
            if follower == (node[0], node[1] + 1):
                current = follower
            else:
                heapq.heappush(heap, (_rank(chains, follower), follower))
    if len(ordered) < len(waiting):
        raise OrderError(_circle(chains, edges, set(waiting) - set(names)))
    return tuple(ordered)


def _nodes(chains: Sequence[Chain]) -> list[Node]:
    return [(index, position) for index, chain in enumerate(chains) for position in range(len(chain.links))]


def _rank(chains: Sequence[Chain], node: Node) -> tuple[int, int, float, str]:
    """Lower waves, then what frees memory, then the longest work, then by name."""
    chain = chains[node[0]]
    length = sum(expected_seconds(link.step) for link in chain.links[node[1] :])
    sign = (chain.memory_kib > 0) - (chain.memory_kib < 0)
    return (chain.wave, sign, -length, chain.change.address)


def _planned(chains: Sequence[Chain], node: Node, edges: Edges, names: Mapping[Node, str]) -> PlannedStep:
    chain = chains[node[0]]
    link = chain.links[node[1]]
    needs = sorted((names[before] for before in edges.needs.get(node, ())), key=lambda name: int(name[1:]))
    return PlannedStep(
        id=names[node],
        host=chain.change.host,
        step=link.step,
        needs=tuple(needs),
        memory_kib=link.memory_kib,
        wave=chain.wave,
    )


def _circle(chains: Sequence[Chain], edges: Edges, left: set[Node]) -> tuple[str, ...]:
    graph = {node: [before for before in edges.needs.get(node, ()) if before in left] for node in sorted(left)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        nodes: list[Node] = error.args[1]
        addresses = [chains[node[0]].change.address for node in nodes]
        return tuple(address for at, address in enumerate(addresses) if at == 0 or address != addresses[at - 1])
    raise AssertionError("steps are left without a circle")
