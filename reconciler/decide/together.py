"""Decides what the changes of all domains do to each other: depends_on, what changes hands, waves. Called by `plan`.

Holding one change back may hold back others, so all is decided again until nothing more is held. Nothing that is held
is let go again, so this comes to an end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.decide.changes import Action, Change, Consent, block
from reconciler.decide.dependencies import close_dependencies
from reconciler.decide.handover import held_claims, waves_of
from reconciler.decide.waves import held_by_waves
from reconciler.model.fleet import Desired
from reconciler.model.host import Host


def decide_together(
    changes: Sequence[Change],
    desired: Desired,
    hosts: Mapping[str, Host],
    consent: Consent,
    elsewhere: Collection[str] = (),
    forbidden: Mapping[str, str] | None = None,
) -> list[Change]:
    """Return the changes of the whole fleet, each as what of it can be done beside all others.

    `forbidden` says of domains why they may not go down for another's restart; `elsewhere` are names that hosts hold.
    """
    kept_up = dict(forbidden or {})
    while True:
        closed = close_dependencies(changes, desired, waves_of(changes, desired, hosts), kept_up)
        by_address = {change.address: change for change in closed}
        taken = held_claims(closed, hosts)
        kept_up |= {address: why for address, why in taken.items() if only_goes_along(by_address[address])}
        waiting = held_by_waves(changes, closed, desired, hosts, consent, elsewhere)
        if not taken and not waiting:
            return closed
        changes = [
            block(change, taken[change.address])
            if change.address in taken and not only_goes_along(by_address[change.address])
            else waiting.get(change.address, change)
            for change in changes
        ]


def only_goes_along(change: Change) -> bool:
    """Return whether a domain only goes down with another. It has no own change to block, but may be kept up."""
    return change.own in (Action.NO_OP, Action.BLOCKED)
