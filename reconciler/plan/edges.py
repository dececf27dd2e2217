"""What each step has to wait for whatever else is scarce: the step before it, depends_on, what changes hands.

Memory, max_unavailable and waves come on top of that, in `order`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from reconciler.model.claims import Key, claims_of, live_claims, without
from reconciler.model.host import Host
from reconciler.plan.chains import Chain
from reconciler.plan.step_claims import released_by, taken_by
from reconciler.plan.steps import AwaitReady, Shutdown, Start

Node = tuple[int, int]
"""A step before it has a name: (index of its chain, index within the chain)."""


@dataclass(slots=True)
class Edges:
    """Which node needs which, and why a chain waits, in words."""

    needs: dict[Node, dict[Node, None]] = field(default_factory=lambda: defaultdict(dict))
    waits_for: dict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, later: Node, earlier: Node, why: str | None = None) -> None:
        self.needs[later][earlier] = None
        if why is not None:
            self.waits_for[later[0]][why] = None


def edges_between(chains: Sequence[Chain], hosts: Mapping[str, Host]) -> Edges:
    """All that steps need of each other, without what is scarce."""
    edges = Edges()
    parts: dict[str, list[int]] = defaultdict(list)  # address -> its chains, in their order
    for index, chain in enumerate(chains):
        for position in range(1, len(chain.links)):
            edges.add((index, position), (index, position - 1))
        parts[chain.change.address].append(index)
    for indices in parts.values():
        for before, after in pairwise(indices):
            if chains[before].links and chains[after].links:
                edges.add((after, 0), (before, len(chains[before].links) - 1))
    _add_claims(chains, hosts, edges)
    _add_dependencies(chains, parts, edges)
    return edges


def _add_dependencies(chains: Sequence[Chain], parts: Mapping[str, Sequence[int]], edges: Edges) -> None:
    """A domain starts after those it depends on are ready, and stops before they do.

    Of a domain with several chains the one counts that belongs to the wave of the other: it goes down there for it.
    """
    for index, chain in enumerate(chains):
        up, down = chain.first(Start), chain.first(Shutdown)
        for name in chain.depends_on:
            for other in parts.get(f"{chain.change.host}/{name}", ()):
                base = chains[other]
                together = chain.wave == base.wave or len(parts[chain.change.address]) == 1
                ready, base_down = base.first(AwaitReady), base.first(Shutdown)
                if up is not None and ready is not None and (together or base.wave < chain.wave):
                    edges.add((index, up), (other, ready), f"{base.change.address} to be ready")
                if down is not None and base_down is not None and together:
                    edges.add((other, base_down), (index, down), f"{chain.change.address} to be down")


def _add_claims(chains: Sequence[Chain], hosts: Mapping[str, Host], edges: Edges) -> None:
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
                        if chains[node[0]].change.address != chain.change.address:
                            why = f"{chains[node[0]].change.address} to let go of {claim.value}"
                            edges.add((index, position), node, why)
