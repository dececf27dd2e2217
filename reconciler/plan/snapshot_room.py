"""Lets rehearsals wait for each other where their snapshots do not fit at once. Called by `order`."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from reconciler.decide.rehearsals import room_for_snapshots, room_needed
from reconciler.model.disks import grows_in, growth_bytes
from reconciler.model.host import Host
from reconciler.plan.chains import Chain
from reconciler.plan.edges import Edges, Node
from reconciler.plan.steps import CreateDisk, GrowDisk, Rehearse, RehearseEnd


def share_room(chains: Sequence[Chain], order: Sequence[Node], hosts: Mapping[str, Host], edges: Edges) -> None:
    """Let a rehearsal wait for those before it in line to end, until its snapshots fit beside those of the others.

    Each fits alone, or it would not be there: the room is what no disk takes that is made or grown meanwhile.
    """
    snapped = {name for name, host in hosts.items() if host.snapshots}
    if not snapped:
        return
    grown: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for chain in (one for one in chains if one.change.host in snapped):
        host = hosts[chain.change.host]
        disks = (link.step.disk for link in chain.links if isinstance(link.step, CreateDisk | GrowDisk))
        for disk in disks:
            if (name := grows_in(disk)) is not None:
                grown[host.name][name] += growth_bytes(host, disk)
    free = {name: room_for_snapshots(hosts[name], grown[name]) for name in snapped}
    held: dict[tuple[str, str], deque[tuple[Node, int]]] = defaultdict(deque)
    for index, position in order:
        step, change = chains[index].links[position].step, chains[index].change
        if not isinstance(step, Rehearse):
            continue
        end = next(at for at, link in enumerate(chains[index].links) if isinstance(link.step, RehearseEnd))
        new, old = room_needed(step.rehearsal.clones), room_needed(step.control.clones)
        for room, needed in ((room, max(new.get(room, 0), old.get(room, 0))) for room in {**new, **old}):
            others = held[change.host, room]
            while others and sum(kept for _, kept in others) + needed > free[change.host][room]:
                before = others.popleft()[0]
                why = f"room for the snapshots of {chains[before[0]].change.address}'s rehearsal"
                edges.add((index, position), before, why)
            others.append(((index, end), needed))
