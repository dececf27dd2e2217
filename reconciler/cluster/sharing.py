"""What a pass asks of the cluster, if there is one: may a host be acted on, and so many of its domains go down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from reconciler.decide.changes import Action
from reconciler.fence import Alone, Fencing
from reconciler.inspect.observed import Observed
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.fleet import Desired
from reconciler.model.host import Host
from reconciler.plan.places import FleetLimit
from reconciler.records import dataclass

if TYPE_CHECKING:
    from reconciler.cluster.keys import Reserved  # and with it pydantic, which few commands need


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an apply on one host is about to do that is counted over the fleet.

    `known` is what its plan knew to be counted; `limit` the fleet's places as the plan saw them.
    """

    restarts: frozenset[str] = frozenset()
    counted: Mapping[Action, frozenset[str]] = field(default_factory=dict)
    known: Mapping[Action, frozenset[str]] = field(default_factory=dict)
    limit: FleetLimit | None = None
    is_more: bool = False  # than what the apply that is under way there has reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a pass has seen of a host that is ours, for the others. With `host` None it was not reached (`problem`)."""

    observed: Observed
    host: Host | None
    domains: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # address -> condition, reason
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the controller that has a host tells of it. With `seen` None it does not reach it (`problem`)."""

    who: str
    at: float
    seen: Observed | None
    domains: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    problem: str = ""
    is_unreached: bool = False  # from here, when it was last tried
    era: int = 0  # in which it was read


class Sharing(Protocol):
    fencing: Fencing
    busy_seconds: float | None
    """When to try again where a host is locked, or was taken; None: as without a cluster."""
    counts: bool
    """Whether what goes down has to be reserved before."""

    @property
    def era(self) -> int:
        """Return how often etcd may have been emptied: what was seen before does not tell what may be down now."""

    def given_up(self) -> frozenset[str]:
        """Return the hosts that a person gave up, from wherever, and that have not answered since."""

    def go_by(self, desired: Desired) -> None:
        """Tell which specs are in force here."""

    def why_not(self, host: str) -> str | None:
        """Return why nothing is to be begun on a host; None where that may be."""

    def counted(self) -> Mapping[Action, frozenset[str]]:
        """Return what the brake has counted over the fleet for the specs in force."""

    def reserved(self) -> Mapping[str, Reserved]:
        """Return the domains that have a place of the fleet's max_unavailable, and since when."""

    async def reserve(self, host: str, wanted: Wanted) -> Diagnostic | None:
        """Count what is about to begin, all or nothing. Returns why it must not begin, if so."""

    async def ended(self, host: str, unbegun: Mapping[Action, frozenset[str]]) -> None:
        """Tell that what was reserved has ended, and give back what was counted and never begun."""

    def looked(self, host: str, *, reached: bool) -> None:
        """Tell whether a host answered."""

    def fetched(self, *, problem: bool) -> None:
        """Tell that the specs were asked for, and whether that failed."""

    async def told(self, host: str) -> Told | None:
        """Return what another controller, which has a host, tells of it; None where it is for us to look at."""

    async def tell(self, host: str, known: Known) -> None:
        """Tell the others what was seen of a host that is ours."""

    async def give_back(self, host: str, places: Mapping[str, Reserved]) -> None:
        """Give back these places, where they are still the same, and the host is ours."""

    def is_taken(self, host: str) -> bool:
        """Return whether the host itself knows that it is ours."""


class Unshared:
    """One controller that has the fleet for itself."""

    busy_seconds: float | None = None
    counts = False
    era = 0

    def __init__(self) -> None:
        self.fencing: Fencing = Alone()

    def given_up(self) -> frozenset[str]:
        return frozenset()  # the state directory tells

    def go_by(self, desired: Desired) -> None:
        """Do nothing, since nobody else has any."""

    def why_not(self, host: str) -> str | None:
        return None

    def counted(self) -> Mapping[Action, frozenset[str]]:
        return {}

    def reserved(self) -> Mapping[str, Reserved]:
        return {}

    async def reserve(self, host: str, wanted: Wanted) -> Diagnostic | None:
        return None

    async def ended(self, host: str, unbegun: Mapping[Action, frozenset[str]]) -> None:
        """Do nothing, since nobody else counts."""

    def looked(self, host: str, *, reached: bool) -> None:
        """Do nothing, since nobody else could take the host."""

    def fetched(self, *, problem: bool) -> None:
        """Do nothing, since nobody else waits for it."""

    async def told(self, host: str) -> Told | None:
        return None

    async def tell(self, host: str, known: Known) -> None:
        """Do nothing, since nobody else asks."""

    async def give_back(self, host: str, places: Mapping[str, Reserved]) -> None:
        """Do nothing, since none is ever taken."""

    def is_taken(self, host: str) -> bool:
        return True
