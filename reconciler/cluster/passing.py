"""What a pass over one host tells the cluster, and asks of it, in the cluster's words. Called by `watch.passes`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.cluster.sharing import Sharing, Wanted
from reconciler.decide.changes import Action, Change
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.domain import address_of
from reconciler.model.host import Host
from reconciler.plan.parts import restarts_of
from reconciler.plan.places import FleetLimit, is_on_its_way
from reconciler.plan.plan import Plan
from reconciler.plan.refusals import Used

_COUNTED = (Action.DESTROY, Action.RESTART)


def used_by_all(sharing: Sharing, used: Used) -> Used:
    """Return what the brake has counted here and by the other controllers."""
    others = sharing.counted()
    if not any(others.values()):
        return used
    return replace(used, addresses={action: used.of(action) | others.get(action, frozenset()) for action in _COUNTED})


async def reserve(
    sharing: Sharing, host: str | None, plan: Plan, counted: Iterable[Change], known: Used, limit: FleetLimit | None
) -> Diagnostic | None:
    """Count over the fleet what a plan for one host is about to do. Returns why it must not begin, if so."""
    if host is None:
        return None
    new = Used().and_of(counted)
    wanted = Wanted(
        restarts=restarts_of(plan),
        counted={action: new.of(action) for action in _COUNTED if new.of(action)},
        known={action: known.of(action) for action in _COUNTED},
        limit=limit,
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


async def judged(sharing: Sharing, name: str, host: Host | None, domains: Mapping[str, tuple[Condition, str]]) -> None:
    """Tell how the domains of a host are that was looked at just now."""
    if host is None:
        return
    reserved = {address for address in sharing.reserved() if address.startswith(f"{name}/")}
    told = {address: (condition.value, reason[:200]) for address, (condition, reason) in domains.items()}
    await sharing.judged(name, told, sorted(one for one in reserved if _is_back(one, host, domains)))


def _is_back(address: str, host: Host, domains: Mapping[str, tuple[Condition, str]]) -> bool:
    """Return whether a domain needs its place no more: it is as specified, gone, or runs as it did before."""
    condition = domains[address][0] if address in domains else None
    if condition is Condition.READY:
        return True
    guest = next((one for one in host.guests.values() if address_of(host.name, one.name) == address), None)
    if guest is None:
        return condition is None  # neither there nor to be there
    return condition is not Condition.RECONCILING and guest.exists and not is_on_its_way(guest)
