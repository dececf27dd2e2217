"""Refuses changes that go too far together: by the brake, or since their memory does not fit.

Called by `plan`. Rules about one domain's change are in `decide`; `order` refuses what has no order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace

from reconciler.decide.changes import Action, Change, Consent
from reconciler.decide.together import is_held_after_brake
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host, Owner
from reconciler.plan.chains import Chain
from reconciler.plan.order import Room
from reconciler.plan.places import Refusal
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """Says what the brake holds: so many changes of this action, where fewer are allowed."""

    action: Action
    counted: int
    allowed: int


HELD_BY_BRAKE = "held by the brake"

_COUNTED = (Action.DESTROY, Action.RESTART)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the brake has counted for these specs before this run: who was to be destroyed or restarted, by address.

    `watch` counts for each accepted commit, so that a commit cannot destroy a little in each of many passes. A domain
    counts once, however often it is tried. With `unknown` nobody can tell, for that reason.
    """

    addresses: Mapping[Action, frozenset[str]] = field(default_factory=dict)
    unknown: Diagnostic | None = None

    def of(self, action: Action) -> frozenset[str]:
        return self.addresses.get(action, frozenset())

    def and_of(self, changes: Iterable[Change]) -> Used:
        """Return what is used once these changes have begun."""
        more: dict[Action, set[str]] = {action: set(self.of(action)) for action in _COUNTED}
        for change in changes:
            if change.action in _COUNTED:
                more[change.action].add(change.address)
        return replace(self, addresses={action: frozenset(addresses) for action, addresses in more.items()})

    def without(self, changes: Iterable[Change]) -> Used:
        """Return what is used after all if these changes have not begun."""
        less = {(change.action, change.address) for change in changes}
        kept = {
            action: frozenset(address for address in self.of(action) if (action, address) not in less)
            for action in _COUNTED
        }
        return replace(self, addresses=kept)


def brake(
    changes: Sequence[Change],
    desired: Desired,
    hosts: Mapping[str, Host],
    consent: Consent,
    used: Used | None = None,
) -> tuple[list[Diagnostic], dict[str, Refusal], list[Brake]]:
    """Refuse a run that destroys or restarts more than the brake allows, with what is `used` of that already.

    All changes of the hosts that have a part in it are refused, also what other rules hold that are judged later. Those
    are not counted, since this run would not do them.
    """
    used = used or Used()
    names = {address_of(name, guest.name) for name, host in hosts.items() for guest in _ours(host)}
    ours = len(names | used.of(Action.DESTROY))  # a share is of what there was before the first of them went
    problems, braked, brakes = [], set[str](), []
    for action, limit, allowed in (
        (Action.DESTROY, _limit(desired.brake.max_destroy, ours), consent.allow_destroy),
        (Action.RESTART, _limit(desired.brake.max_restart, ours), consent.allow_restart),
    ):
        before = used.of(action)
        counted = [change for change in changes if change.action is action and change.address not in before]
        if limit is None or not counted:
            continue
        most = max(limit, allowed or 0)
        if used.unknown is None and len(before) + len(counted) <= most:
            continue
        braked |= {change.host for change in counted}
        brakes.append(Brake(action=action, counted=len(counted), allowed=max(0, most - len(before))))
        addresses = [change.address for change in counted]
        if used.unknown is not None:
            problems.append(used.unknown)
            continue
        after = f", after {len(before)} for the same specs," if before else ""
        more = f", --allow-{action.value} {allowed}" if allowed is not None else ""
        problems.append(
            Diagnostic(
                kind=Kind.REFUSED,
                summary=f"the brake holds: {len(addresses)} to {action.value}",
                detail=f"This run would {action.value} {len(addresses)} of {ours} domains{after} "
                f"and [brake] allows {limit}{more}: {', '.join(addresses)}",
                hint=f"if that is meant: reconciler apply --allow-{action.value} {len(addresses)}",
            )
        )
    stopped = [change for change in changes if change.acts or is_held_after_brake(change)]
    refused = [change.address for change in stopped if change.host in braked]
    return problems, dict.fromkeys(refused, Refusal(reason=HELD_BY_BRAKE)), brakes


def _ours(host: Host) -> Iterator[Guest]:
    return (guest for guest in host.guests.values() if guest.owner is Owner.OURS)


def _limit(limit: int | float | None, ours: int) -> int | None:
    """Return a count as it is. A share of our domains is rounded down, but a share above 0 gives at least 1.

    >>> _limit(0.2, 3), _limit(0.2, 50), _limit(0.0, 50), _limit(0, 50)
    (1, 10, 0, 0)
    """
    if isinstance(limit, float):
        return max(1, int(limit * ours)) if limit > 0 else 0
    return limit


def told_as_refused(change: Change) -> Diagnostic:
    """Tell of a blocked change as a diagnostic: its own hint, and what holds it."""
    return Diagnostic(
        kind=Kind.REFUSED,
        summary=f"{change.address} is blocked",
        detail=change.blocked or change.reason,
        hint=change.hint,
        address=change.address,
    )


def misfits(chains: Sequence[Chain], rooms: Mapping[str, Room]) -> tuple[list[Diagnostic], dict[str, Refusal]]:
    """Find the hosts on which the end of the plan does not fit into memory, and the addresses refused for that."""
    members: dict[str, list[Chain]] = defaultdict(list)
    for chain in chains:
        members[chain.change.host].append(chain)
    found = {host: _misfit(host, members[host], rooms[host]) for host in sorted(members)}
    refused = [chain.change for chain in chains if found[chain.change.host] is not None]
    reason = "the domains of its host do not fit into its memory"
    problems = [problem for problem in found.values() if problem is not None]
    return problems, {change.address: Refusal(reason=reason) for change in refused}


def _misfit(host: str, members: Sequence[Chain], room: Room) -> Diagnostic | None:
    """Name the smallest set of domains that do not fit together; None when the end fits."""
    free_at_end = room.free_kib - sum(chain.delta_kib for chain in members)
    risers = sorted((chain for chain in members if chain.delta_kib > 0), key=lambda c: (-c.delta_kib, c.change.address))
    if free_at_end >= 0 or not risers:
        return None
    room_for_risers = free_at_end + sum(chain.delta_kib for chain in risers)
    chosen, total = [], 0
    for chain in risers:
        chosen.append(chain)
        total += chain.delta_kib
        if total > room_for_risers:
            break
    wanted = ", ".join(f"{chain.change.address} {chain.delta_kib // 1024} MiB more" for chain in chosen)
    said, spec = "These do not fit together", "one of these specs"
    if len(chosen) == 1:
        said, spec = "This does not fit", "its spec"
    return Diagnostic(
        kind=Kind.REFUSED,
        summary=f"{host} has not enough memory",
        detail=f"{said}: {wanted}. Room for growth is {max(0, room_for_risers) // 1024} MiB, "
        f"{(total - room_for_risers + 1023) // 1024} MiB too little (overhead and keep_free counted).",
        hint=f"lower memory in {spec}, or stop or move a domain",
        address=host,
    )
