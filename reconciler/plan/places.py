"""Places for domains that are down for a restart: `max_unavailable` of hosts and of the fleet. Called by `order`."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field

from reconciler.decide.changes import Change
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host, Owner
from reconciler.plan.chains import Chain
from reconciler.plan.edges import Node
from reconciler.plan.steps import PlannedStep, Shutdown
from reconciler.plan.units import Unit
from reconciler.records import dataclass

LISTED_NAMES = 10
FLEET = ""
"""Where limits of hosts stand by their names: the limit of all hosts together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The reason why a change is refused together with others, and what the user can do."""

    reason: str
    hint: str | None = None
    of_rehearsal: bool = False  # what cannot be had is its rehearsal, and not the change itself


class OrderError(Exception):
    """Reports that no order brings all of this about. `refused` says for each address in the way why."""

    def __init__(self, refused: Mapping[str, Refusal]) -> None:
        super().__init__(", ".join(refused))
        self.refused = dict(refused)


def check_any_left(fleet: FleetLimit, chains: Iterable[Chain]) -> None:
    """Refuse all restarts where the fleet has no place left. What is on its way has one already."""
    restarts = {chain.change.address for chain in chains if chain.change.restarts and not chain.change.resumes}
    if not fleet.left and restarts:
        raise OrderError(dict.fromkeys(sorted(restarts), fleet.refusal()))


def check_unavailable(units: Iterable[Unit], chains: Sequence[Chain], limits: Mapping[str, int]) -> None:
    """Refuse domains that go down together in greater number than max_unavailable allows."""
    refused: dict[str, Refusal] = {}
    for unit in units:
        indices = {node[0] for node in unit.nodes if len(unit.nodes) > 1 and chains[node[0]].change.restarts}
        down: dict[str, list[int]] = defaultdict(list)
        for index in sorted(indices):
            for scope in scopes(chains[index], limits):
                down[scope].append(index)
        for scope, members in down.items():
            if len({chains[index].change.address for index in members}) > limits[scope]:
                refused |= _too_many(scope, [chains[index] for index in members], limits[scope])
    if refused:
        raise OrderError(refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLimit:
    """The `max_unavailable` of the fleet, and what of it is taken already: what is down, and what nobody can see."""

    limit: int
    taken: tuple[tuple[str, int], ...] = ()  # an address or a host, and how many places it has

    @property
    def left(self) -> int:
        return max(0, self.limit - sum(count for _, count in self.taken))

    def left_beside(self, addresses: Collection[str]) -> int:
        """Return how many places are left besides those of these addresses; below 0 where there are too few.

        What is taken already counts once: that of a host which nobody can see may be that of a domain there.

        >>> FleetLimit(limit=3, taken=(("beta", 1), ("alpha/web", 1))).left_beside({"beta/web", "alpha/web"})
        1
        """
        of_host = Counter(address.partition("/")[0] for address in addresses)
        down = (max(0, count - of_host[name]) for name, count in self.taken if name not in addresses)
        return self.limit - len(addresses) - sum(down)

    def refusal(self) -> Refusal:
        """Return why no restart may begin at all."""
        first, count = self.taken[0]
        others = f" and {len(self.taken) - 1} more" if len(self.taken) > 1 else ""
        return Refusal(
            reason=f"max_unavailable of the fleet is {self.limit}, and so many are down, or may be: "
            f"{first} ({count}){others}",
            hint="wait until that is ready, or answers; a host that is lost for good: "
            f"reconciler forget {first.partition('/')[0]}",
        )


def fleet_limit(desired: Desired, hosts: Mapping[str, Host], changes: Iterable[Change]) -> FleetLimit | None:
    """Return how many may go down over all hosts. A host that was not observed counts with all that it may use.

    One that was given up counts no more.
    """
    if desired.max_unavailable is None:
        return None
    silent = (
        (name, min(part.settings.max_unavailable, len(part.domains)))
        for name, part in sorted(desired.hosts.items())
        if name not in hosts and name not in desired.forgotten and part.domains
    )
    idle = {change.address for change in changes if not change.acts}
    down = (
        (address_of(host.name, guest.name), 1)
        for host in hosts.values()
        for guest in host.guests.values()
        if guest.owner is Owner.OURS and address_of(host.name, guest.name) in idle and is_on_its_way(guest)
    )
    return FleetLimit(limit=desired.max_unavailable, taken=(*silent, *down))


def is_on_its_way(guest: Guest) -> bool:
    """Return whether a restart of a domain has begun and it is not known to be ready."""
    return guest.unproven or (guest.candidate is not None and not guest.exists)


def scopes(chain: Chain, limits: Mapping[str, int]) -> tuple[str, ...]:
    """Name those of whose places a domain takes one when it goes down: its host, and the fleet if that has a limit."""
    return (chain.change.host, FLEET) if FLEET in limits else (chain.change.host,)


def _too_many(scope: str, members: Sequence[Chain], limit: int) -> dict[str, Refusal]:
    """Choose which changes to refuse when too many domains go down together.

    Of several restarts that take others down, all but the first are refused; the first may fit alone.
    """
    names = sorted({chain.change.domain if scope != FLEET else chain.change.address for chain in members})
    listed = ", ".join(names[:LISTED_NAMES]) + (f" and {len(names) - LISTED_NAMES} more" * (len(names) > LISTED_NAMES))
    refusal = Refusal(
        reason=f"{listed} go down together, {len(names)} domains, and max_unavailable is {limit}",
        hint=f"set max_unavailable = {len(names)} in {f'{scope}/host.toml' if scope != FLEET else 'reconciler.toml'}",
    )
    needed = {name for chain in members for name in chain.depends_on}
    own = [chain.change for chain in members if not chain.outing]
    bases = [change for change in own if change.domain in needed]
    chosen = bases[1:] if len(bases) > 1 else bases or own
    return {change.address: refusal for change in chosen}


@dataclass(slots=True)
class Places:
    """The places of one host, or of the fleet, for domains that are down for a restart; who had each of them last."""

    limit: int
    had: deque[Node | None] = field(default_factory=deque)  # the steps after which they are free again
    busy: set[int] = field(default_factory=set)  # chains of updates that were cut short, and are not ready again

    def free(self) -> int:
        return self.limit - len(self.busy)


def most_down_at_once(steps: Sequence[PlannedStep], changes: Sequence[Change], desired: Desired) -> int:
    """Return how many domains may be down for a restart at the same moment.

    No two waves overlap, and within one a host lets at most max_unavailable go down, so nothing has to be replayed.
    """
    restarting = {change.address for change in changes if change.restarts}
    down: dict[int, Counter[str]] = defaultdict(Counter)  # wave -> host -> restarts
    for step in steps:
        if step.address in restarting and isinstance(step.step, Shutdown):
            down[step.wave][step.host] += 1
    waves = (
        sum(min(count, desired.hosts[host].settings.max_unavailable) for host, count in hosts.items())
        for hosts in down.values()
    )
    most = max(waves, default=0)
    return most if desired.max_unavailable is None else min(most, desired.max_unavailable)
