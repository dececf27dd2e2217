"""What is counted over the whole fleet, on the one value of the key `fleet`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.cluster.keys import Fleet, Reserved
from reconciler.cluster.sharing import Wanted
from reconciler.decide.changes import Action
from reconciler.plan.places import FleetLimit

_LISTED = 5


def reserve(fleet: Fleet, wanted: Wanted, by: Reserved) -> Fleet | str:
    """Return the fleet with all that is wanted counted; or why it cannot be, in a sentence.

    >>> from reconciler.plan.places import FleetLimit
    >>> one = Wanted(restarts=frozenset({"alpha/web"}), limit=FleetLimit(limit=1))
    >>> fleet = reserve(Fleet(), one, Reserved(who="me"))
    >>> sorted(fleet.reserved), reserve(fleet, one, Reserved(who="me")) == fleet
    (['alpha/web'], True)
    >>> reserve(fleet, Wanted(restarts=frozenset({"beta/web"}), limit=FleetLimit(limit=1)), Reserved(who="you"))
    'max_unavailable of the fleet is 1, and so many are down, or may be: alpha/web'
    """
    for action, known in wanted.known.items():
        if more := counted(fleet, action) - known:
            return f"another controller counted {min(more)} for the brake meanwhile"
    reserved = dict(fleet.reserved)
    if wanted.limit is not None:
        if problem := _too_many(reserved, wanted.restarts, wanted.limit):
            return problem
        reserved |= {address: by for address in wanted.restarts if address not in reserved}
    counts = {action.value: counted(fleet, action) | more for action, more in wanted.counted.items()}
    return fleet.model_copy(update={"reserved": reserved, "counted": {**fleet.counted, **counts}})


def _too_many(reserved: Mapping[str, Reserved], restarts: Collection[str], limit: FleetLimit) -> str | None:
    """Return why so many cannot go down. Whoever is down without a place counts as the plan saw it."""
    others = sorted(set(reserved) - set(restarts))
    if not restarts or limit.left_beside({*reserved, *restarts}) >= 0:
        return None
    named = [*others, *(name for name, _ in limit.taken if name not in reserved and name not in restarts)]
    if not named:
        named = sorted(restarts)
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    return (
        f"max_unavailable of the fleet is {limit.limit}, and so many are down, or may be: "
        f"{', '.join(named[:_LISTED])}{more}"
    )


def give_back(fleet: Fleet, places: Mapping[str, Reserved], unbegun: Mapping[Action, frozenset[str]]) -> Fleet:
    """Return the fleet without these places, where they are the same, and less what was counted and did not begin."""
    reserved = {address: one for address, one in fleet.reserved.items() if places.get(address) != one}
    counts = {action.value: counted(fleet, action) - less for action, less in unbegun.items()}
    return fleet.model_copy(update={"reserved": reserved, "counted": {**fleet.counted, **counts}})


def with_specs(fleet: Fleet, specs: str) -> Fleet:
    """Return the fleet going by other specs, for which the brake begins anew. Places stay taken."""
    return fleet.model_copy(update={"specs": specs, "counted": {}})


def moved_on(now: Fleet, before: Fleet, specs: str) -> Fleet | str:
    """Return the fleet going by other specs, unless somebody had it go by others than before meanwhile."""
    if now.specs == specs:
        return now
    return with_specs(now, specs) if now.specs == before.specs else "another controller moved on meanwhile"


def without_host(fleet: Fleet, host: str) -> Fleet:
    """Return the fleet without the places of a host's domains, as it is given up until it answers."""
    reserved = {address: one for address, one in fleet.reserved.items() if not address.startswith(f"{host}/")}
    return fleet.model_copy(update={"reserved": reserved, "given_up": fleet.given_up | {host}})


def with_host(fleet: Fleet, host: str) -> Fleet:
    """Return the fleet with a host that has answered."""
    return fleet.model_copy(update={"given_up": fleet.given_up - {host}})


def counted(fleet: Fleet, action: Action) -> frozenset[str]:
    return fleet.counted.get(action.value, frozenset())
