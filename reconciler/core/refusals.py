"""What refuses the run of a whole host, or of the fleet, before it begins: the brake, and memory that does not fit.

Called by `plan`. What stands against one domain's change is in `policy` and `holders`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.core.chains import Chain
from reconciler.core.changes import Action, Change, Consent
from reconciler.core.dependencies import block
from reconciler.core.diagnostics import Diagnostic, Kind
from reconciler.core.order import Room
from reconciler.core.state import Desired, Host, Owner


def brake(
    changes: list[Change], desired: Desired, hosts: Mapping[str, Host], consent: Consent
) -> tuple[list[Change], list[Diagnostic]]:
    """Refuse the whole run when it would destroy or restart more than the brake allows."""
    ours = sum(guest.owner is Owner.OURS for host in hosts.values() for guest in host.guests.values())
    problems = []
    for action, limit, allowed in (
        (Action.DESTROY, _limit(desired.brake.max_destroy, ours), consent.allow_destroy),
        (Action.RESTART, _limit(desired.brake.max_restart, ours), consent.allow_restart),
    ):
        addresses = [change.address for change in changes if change.action is action]
        if limit is None or len(addresses) <= max(limit, allowed or 0):
            continue
        problems.append(
            Diagnostic(
                kind=Kind.REFUSED,
                summary=f"the brake holds: {len(addresses)} to {action.value}",
                detail=f"This run would {action.value} {len(addresses)} of {ours} domains and [brake] allows {limit}: "
                + ", ".join(addresses),
                hint=f"if that is meant: --allow-{action.value} {len(addresses)}",
            )
        )
    if problems:
        changes = [refuse(change, "the brake holds this run", set(hosts)) for change in changes]
    return changes, problems


def _limit(limit: int | float | None, ours: int) -> int | None:
    """A count as it is; a share of our domains rounded down, but at least 1."""
    if isinstance(limit, float):
        return max(1, int(limit * ours))
    return limit


def misfit(host: str, chains: Sequence[Chain], room: Room) -> Diagnostic | None:
    """None when the end fits; else a refusal that names the smallest set of domains that do not fit together."""
    members = [chain for chain in chains if chain.change.host == host]
    free_at_end = room.free_kib - sum(chain.memory_kib for chain in members)
    risers = sorted(
        (chain for chain in members if chain.memory_kib > 0), key=lambda c: (-c.memory_kib, c.change.address)
    )
    if free_at_end >= 0 or not risers:
        return None
    room_for_risers = free_at_end + sum(chain.memory_kib for chain in risers)
    chosen, total = [], 0
    for chain in risers:
        chosen.append(chain)
        total += chain.memory_kib
        if total > room_for_risers:
            break
    wanted = ", ".join(f"{chain.change.address} {chain.memory_kib // 1024} MiB more" for chain in chosen)
    return Diagnostic(
        kind=Kind.REFUSED,
        summary=f"{host} has not enough memory",
        detail=f"These do not fit together: {wanted}. Room for growth is {max(0, room_for_risers) // 1024} MiB, "
        f"{(total - room_for_risers + 1023) // 1024} MiB too little (overhead and keep_free counted).",
        hint="lower memory in one of these specs, or stop or move a domain",
        address=host,
    )


def refuse(change: Change, reason: str, hosts: set[str]) -> Change:
    return block(change, reason) if change.acts and change.host in hosts else change
