"""Groups steps into units: domains that are down at the same time, because one needs the other down.

From a shutdown to the proof that the domain is ready again, a restart is one block. Blocks that need each other in a
circle are one unit: a restart and those that depend on it, or two domains that swap a disk. A unit begins when all that
it needs from outside is done, so no domain is ever down and waits for one that has to go down first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from reconciler.plan.chains import Chain
from reconciler.plan.edges import Node
from reconciler.plan.steps import AwaitReady, Shutdown
from reconciler.records import dataclass


@dataclass(slots=True)
class Unit:
    """Steps that go together, in the order of their chains. `wave` is the wave in which they can go."""

    nodes: list[Node]
    wave: int = 0
    needs: set[int] = field(default_factory=set)  # other units, by index


def units_of(chains: Sequence[Chain], needs: Mapping[Node, Mapping[Node, None]]) -> list[Unit]:
    """Return all steps in units, each unit after those that it needs.

    A unit may need something from a later wave: a domain of wave 0 gets a disk from one of wave 1. Then the unit goes
    in that later wave too.
    """
    blocks = _blocks(chains)
    block_of = {node: at for at, nodes in enumerate(blocks) for node in nodes}
    graph: list[set[int]] = [set() for _ in blocks]
    for node, earlier in needs.items():
        graph[block_of[node]].update(block_of[before] for before in earlier)
        graph[block_of[node]].discard(block_of[node])
    units: list[Unit] = []
    unit_of: dict[int, int] = {}
    for members in _components(graph):
        together = (node for at in members for node in blocks[at])
        unit = Unit(nodes=sorted(together) if len(members) > 1 else blocks[members[0]])
        unit_of |= dict.fromkeys(members, len(units))
        unit.needs = {unit_of[before] for at in members for before in graph[at]} - {len(units)}
        waves = {chains[node[0]].wave for node in unit.nodes} | {units[before].wave for before in unit.needs}
        unit.wave = max(waves)
        units.append(unit)
    return units


def _blocks(chains: Sequence[Chain]) -> list[list[Node]]:
    blocks = []
    for index, chain in enumerate(chains):
        down, ready = chain.first(Shutdown), chain.first(AwaitReady)
        bound = range(down, ready + 1) if chain.change.restarts and down is not None and ready is not None else range(0)
        if bound:
            blocks.append([(index, position) for position in bound])
        blocks += [[(index, position)] for position in range(len(chain.links)) if position not in bound]
    return blocks


def _components(graph: Sequence[set[int]]) -> Iterator[list[int]]:
    """Yield the strongly connected components, each after all that it needs (Tarjan's algorithm, without recursion).

    >>> [sorted(members) for members in _components([{1}, {2}, {1}, set()])]
    [[1, 2], [0], [3]]
    """
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in range(len(graph)):
        if root in order:
            continue
        work = [(root, iter(sorted(graph[root])))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            at, rest = work[-1]
            for before in rest:
                if before not in order:
                    order[before] = low[before] = len(order)
                    stack.append(before)
                    on_stack.add(before)
                    work.append((before, iter(sorted(graph[before]))))
                    break
                if before in on_stack:
                    low[at] = min(low[at], order[before])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == order[at]:
                    yield _popped(stack, on_stack, at)


def _popped(stack: list[int], on_stack: set[int], last: int) -> list[int]:
    members: list[int] = []
    while not members or members[-1] != last:
        members.append(stack.pop())
    on_stack.difference_update(members)
    return members
