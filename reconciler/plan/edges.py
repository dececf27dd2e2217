"""Finds what each step waits for apart from scarce things: the step before it, depends_on, what changes hands.

`order` adds waiting for memory, max_unavailable and waves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import pairwise

from reconciler.model.claims import Key, claims_of, live_claims, without
from reconciler.model.host import Host
from reconciler.plan.chains import Chain
from reconciler.plan.step_claims import released_by, taken_by
from reconciler.plan.steps import AwaitReady, Shutdown, Start
from reconciler.records import dataclass
from reconciler.specs.secrets import concealed_text

Node = tuple[int, int]
"""A step before it has a name: (index of its chain, index within the chain)."""


@dataclass(slots=True)
class Edges:
    """Holds which node needs which, and in words why a chain waits."""

    needs: dict[Node, dict[Node, None]] = field(default_factory=lambda: defaultdict(dict))
    waits_for: dict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, later: Node, earlier: Node, why: str | None = None) -> None:
        self.needs[later][earlier] = None
        if why is not None:
            self.waits_for[later[0]][why] = None


def edges_between(chains: Sequence[Chain], hosts: Mapping[str, Host]) -> Edges:
    """Return all that steps need of each other, without scarce things."""
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
    """Let a domain start after those it depends on are ready, and stop before they do.

    A domain may have several chains. The one in the wave of the other domain counts: there it goes down for it.
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
    """Let what changes hands be given up before it is taken: a disk, a mac or a uuid.

    >>> from tests.worlds import change_of, desired, disk, domain, guest, host, plan
    >>> old, new = domain("old", disks=(disk("/srv/data.img"),)), domain("new")
    >>> made = plan(host(guest(old), guest(new)), desired(domain("old"), domain("new", disks=old.disks)))
    >>> [f"{step.step.kind} {step.address}" for step in made.steps if step.step.kind in ("shutdown", "attach_disk")]
    ['shutdown alpha/old', 'attach_disk alpha/new']
    >>> change_of(made, "new").waits_for
    ('alpha/old to let go of /srv/data.img',)
    """
    given: dict[tuple[Key, bool], list[Node]] = defaultdict(list)
    for index, chain in enumerate(chains):
        host, guest, target = hosts[chain.change.host], chain.change.guest, chain.change.target
        for position, link in enumerate(chain.links):
            if released := released_by(host, guest, link.step):
                for claim in without(released, claims_of(host, target)).values():
                    given[claim.key, claim.reads_only].append((index, position))
    for index, chain in enumerate(chains if given else ()):
        host, guest = hosts[chain.change.host], chain.change.guest
        for position, link in enumerate(chain.links):
            taken = taken_by(host, link.step)
            for claim in without(taken, live_claims(host, guest)).values() if taken else ():
                for reads_only in (False,) if claim.reads_only else (False, True):
                    for node in given.get((claim.key, reads_only), ()):
                        if chains[node[0]].change.address != chain.change.address:
                            why = f"{chains[node[0]].change.address} to let go of {concealed_text(claim.value)}"
                            edges.add((index, position), node, why)
