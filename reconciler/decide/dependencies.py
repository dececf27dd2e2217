"""What depends_on asks of changes: who goes down with whom, and what may not stop or start at all. Called by `plan`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from reconciler.decide.changes import Action, Change
from reconciler.model.claims import claims_of, live_claims, without
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Host, Owner, Power


def close_dependencies(changes: list[Change], desired: Desired, hosts: Mapping[str, Host]) -> list[Change]:
    """Draw in or block what depends_on asks for, until nothing changes any more.

    A restart of a domain takes the running ones that depend on it down as well; a stop or destroy under them, and a
    start on top of one that cannot run, are blocked.
    """
    by_address = {change.address: change for change in changes}
    dependents = _dependents(by_address)
    while True:
        updates: dict[str, Change] = {}
        for change in by_address.values():
            updates |= _dependency_updates(change, by_address, dependents, desired)
        if not updates:
            break
        by_address |= updates
    by_host: dict[str, list[Change]] = defaultdict(list)
    for change in by_address.values():
        by_host[change.host].append(change)
    groups = {name: restart_groups(members, hosts[name]) for name, members in by_host.items()}
    return [_check_group(change, groups, desired) for change in by_address.values()]


def _dependents(by_address: Mapping[str, Change]) -> dict[str, list[str]]:
    """Address -> addresses that depend on it."""
    found: dict[str, list[str]] = {}
    for change in by_address.values():
        for name in _depends_on(change):
            found.setdefault(address_of(change.host, name), []).append(change.address)
    return found


def _depends_on(change: Change) -> tuple[str, ...]:
    definition = change.target or (change.guest.definition if change.guest is not None else None)
    return definition.depends_on if definition is not None else ()


def _dependency_updates(
    change: Change, by_address: Mapping[str, Change], dependents: Mapping[str, list[str]], desired: Desired
) -> dict[str, Change]:
    goes_up = change.action in (Action.CREATE, Action.START, Action.RESTART)
    if goes_up and change.target is not None and change.target.state == "running":
        for name in change.target.depends_on:
            base = by_address.get(address_of(change.host, name))
            if base is not None and not _will_run(base):
                stopped = base.target is not None and base.target.state == "stopped"
                why = 'its spec says state = "stopped"' if stopped else base.reason
                return {change.address: block(change, f"it depends on {name}, which does not run: {why}")}
    if change.action not in (Action.RESTART, Action.STOP, Action.DESTROY):
        return {}
    for address in dependents.get(change.address, ()):
        other = by_address[address]
        guest = other.guest
        runs = guest is not None and guest.owner is Owner.OURS and guest.exists
        stays_up = runs and not _goes_down(other)
        if not stays_up:
            continue
        if change.action is not Action.RESTART:
            return {change.address: block(change, f"{other.domain} depends on it and runs")}
        bounced = _bounce(other, change)
        if bounced is None:
            return {
                change.address: block(change, f"{other.domain} depends on it and may not restart: {_why_not(other)}")
            }
        return {address: bounced}
    return {}


def _will_run(change: Change) -> bool:
    if change.action in (Action.CREATE, Action.START, Action.RESTART):
        return change.target is None or change.target.state == "running"
    guest = change.guest
    if guest is None or not guest.exists or change.action in (Action.STOP, Action.DESTROY):
        return False
    return guest.power is Power.RUNNING or change.action is Action.UPDATE  # which lets a paused one run on


def _goes_down(change: Change) -> bool:
    return change.action in (Action.RESTART, Action.STOP, Action.DESTROY)


def _bounce(change: Change, cause: Change) -> Change | None:
    """The same domain going down and up because what it depends on restarts; None when it may not be touched."""
    guest = change.guest
    if guest is None or guest.owner is not Owner.OURS or change.target is None or change.action is Action.BLOCKED:
        return None
    if not change.target.policy.reconcile:
        return None
    reason = f"{cause.domain}, which it depends on, restarts"
    if change.action is not Action.NO_OP:
        reason = f"{change.reason}; {reason}"
    return replace(change, action=Action.RESTART, reason=reason, downtime_seconds=None)


def _why_not(change: Change) -> str:
    held = change.target is not None and not change.target.policy.reconcile
    return "its spec says reconcile = false" if held else change.reason


def _check_group(change: Change, groups: Mapping[str, list[list[str]]], desired: Desired) -> Change:
    """Domains that go down together must all be within max_unavailable."""
    if not change.restarts:
        return change
    group = next(group for group in groups[change.host] if change.domain in group)
    limit = desired.hosts[change.host].settings.max_unavailable
    if len(group) <= limit:
        return change
    names = ", ".join(group)
    blocked = block(change, f"{names} go down together, {len(group)} domains, and max_unavailable is {limit}")
    return replace(blocked, hint=f"set max_unavailable = {len(group)} in {change.host}/host.toml")


def block(change: Change, reason: str) -> Change:
    return replace(change, action=Action.BLOCKED, blocked=reason, reason=reason, downtime_seconds=0)


def restart_groups(changes: Sequence[Change], host: Host) -> list[list[str]]:
    """Names of one host's domains that restart, grouped by those that are down together.

    One of them depends on the other, or they swap something that no two domains may have at once.
    """
    restarting = {change.domain: change for change in changes if change.restarts}
    group_of = {name: [name] for name in restarting}
    swaps = _swaps(restarting, host)
    for name, change in restarting.items():
        depends_on = change.target.depends_on if change.target else ()
        for other in (*depends_on, *sorted(swaps.get(name, ()))):
            if other in group_of and group_of[other] is not group_of[name]:
                merged = sorted({*group_of[name], *group_of[other]})
                for member in merged:
                    group_of[member] = merged
    return [group for name, group in sorted(group_of.items()) if group[0] == name]


def _swaps(restarting: Mapping[str, Change], host: Host) -> dict[str, set[str]]:
    """Who gets a disk or a mac from whom, of those who get and give them in a circle."""
    has = {name: live_claims(host, change.guest) for name, change in restarting.items()}
    wants = {name: claims_of(host, change.target) for name, change in restarting.items()}
    giver = {key: name for name in restarting for key in without(has[name], wants[name])}
    gets = {
        name: {giver[key] for key in without(wants[name], has[name]) if key in giver} - {name} for name in restarting
    }
    takers: dict[str, set[str]] = {name: set() for name in _stuck(gets)}
    for name in takers:
        for other in gets[name] & takers.keys():
            takers[other].add(name)
    circling = _stuck(takers)
    return {name: gets[name] & circling for name in circling}


def _stuck(needs: Mapping[str, set[str]]) -> set[str]:
    """Those that come at no turn when each has to wait for what it needs."""
    order = TopologicalSorter(needs)
    with suppress(CycleError):  # it can be followed up to the circle
        order.prepare()
    stuck = set(needs)
    while ready := order.get_ready():
        stuck.difference_update(ready)
        order.done(*ready)
    return stuck
