"""What a pass over one host tells the cluster, and asks of it, in the cluster's words. Called by `watch.passes`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.cluster.sharing import Known, Sharing, Wanted
from reconciler.decide.changes import Action, Change
from reconciler.inspect.observed import Observed
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.domain import address_of
from reconciler.model.fleet import Brake
from reconciler.model.host import Host, Power
from reconciler.person import this_process
from reconciler.plan.parts import rehearsed_together, restarts_of
from reconciler.plan.places import FleetLimit, is_on_its_way
from reconciler.plan.plan import Plan
from reconciler.plan.refusals import Used
from reconciler.records import dataclass

if TYPE_CHECKING:
    from reconciler.cluster.keys import Reserved  # and with it pydantic, which few commands need

_WORDS = 200  # letters of a reason that the others are told
_COUNTED = (Action.DESTROY, Action.RESTART)


@dataclass(frozen=True, slots=True)
class Beyond:
    """What the specs bound over the whole fleet: the brake, and the places as a plan saw them."""

    brake: Brake
    limit: FleetLimit | None


def used_by_all(sharing: Sharing, used: Used) -> Used:
    """Return what the brake has counted here and by the other controllers."""
    others = sharing.counted()
    if not any(others.values()):
        return used
    return replace(used, addresses={action: used.of(action) | others.get(action, frozenset()) for action in _COUNTED})


async def reserve(
    sharing: Sharing, host: str | None, plan: Plan, counted: Iterable[Change], known: Used, beyond: Beyond
) -> Diagnostic | None:
    """Count over the fleet what a plan for one host is about to do. Returns why it must not begin, if so.

    Restarts are counted where the brake has a bound for them: each is an address in a key that is written whole.
    """
    if host is None:
        return None
    new = Used().and_of(counted)
    braked = _COUNTED if beyond.brake.max_restart is not None else (Action.DESTROY,)
    wanted = Wanted(
        restarts=restarts_of(plan) - rehearsed_together(plan).keys(),
        counted={action: new.of(action) for action in braked if new.of(action)},
        known={action: known.of(action) for action in braked},
        limit=beyond.limit,
    )
    held = await sharing.reserve(host, wanted)
    if held is not None:
        await sharing.ended(host, {})
    return held


async def ended(sharing: Sharing, host: str | None, unbegun: Iterable[Change] = ()) -> None:
    """Tell that an apply has ended, and what of it has not begun."""
    if host is None:
        return
    left = Used().and_of(unbegun)
    await sharing.ended(host, {action: left.of(action) for action in _COUNTED if left.of(action)})


async def judged(
    sharing: Sharing,
    name: str,
    observed: Observed,
    problems: Iterable[Diagnostic],
    domains: Mapping[str, tuple[Condition, str]],
    places: Mapping[str, Reserved],
) -> bool:
    """Tell the others of a host of ours that was looked at just now; give back places that are needed no more.

    `places` are those that were reserved before that look began. Returns whether some of them can be judged soon: when
    a command has ended that somebody, who may be gone, has begun on the host.
    """
    seen = observed.hosts.get(name)
    host = replace(seen.host, locked=None, under_way=()) if seen is not None else None
    hosts = {name: replace(seen, host=host)} if seen is not None and host is not None else {}
    known = Known(
        observed=replace(observed, hosts=hosts),
        host=host,
        domains={address: (condition.value, reason[:_WORDS]) for address, (condition, reason) in domains.items()},
        problem="" if host is not None else next((one.detail for one in problems if one.address == name), "no answer"),
    )
    await sharing.tell(name, known)
    locked = seen.host.locked if seen is not None else None
    if seen is None or host is None or (locked is not None and locked.by != this_process()):
        return False  # steps of another may be under way
    back = {
        address: one
        for address, one in places.items()
        if address.startswith(f"{name}/") and _is_back(address, host, domains)
    }
    if seen.host.under_way:
        return has_places(places, name)
    if back:
        await sharing.give_back(name, back)
    return False


def has_places(places: Mapping[str, Reserved], host: str) -> bool:
    """Return whether a domain of a host has a place."""
    return any(address.startswith(f"{host}/") for address in places)


def _is_back(address: str, host: Host, domains: Mapping[str, tuple[Condition, str]]) -> bool:
    """Return whether a domain needs its place no more: it is as specified, gone, or runs as it did before."""
    condition = domains[address][0] if address in domains else None
    if condition is Condition.READY:
        return True
    guest = next((one for one in host.guests.values() if address_of(host.name, one.name) == address), None)
    if guest is None:
        return condition is None  # neither there nor to be there
    connected = guest.devices is None or guest.devices.connected is not False
    return guest.power is Power.RUNNING and connected and not is_on_its_way(guest)
