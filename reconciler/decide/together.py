"""Decides what the changes of all domains do to each other: depends_on, what changes hands, waves. Called by `plan`.

Holding one change back may hold back others, so all is decided again until nothing more is held. Nothing that is held
is let go again, so this comes to an end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from reconciler.decide.changes import DEFERRED, HELD_UNTIL, Action, Change, Consent, blocked_by
from reconciler.decide.dependencies import close_dependencies
from reconciler.decide.handover import held_claims, waves_of
from reconciler.decide.holds import HELD_BY_HAND
from reconciler.decide.waves import WAITS_FOR, held_by_waves, with_waves
from reconciler.decide.windows import WINDOW
from reconciler.model.claims import Unseen
from reconciler.model.fleet import Desired
from reconciler.model.host import Host

_BEFORE_THE_BRAKE = (HELD_UNTIL, HELD_BY_HAND)
_AFTER_THE_BRAKE = (DEFERRED, WINDOW, *WAITS_FOR)
"""How what a change waits for begins, in the order in which rules are judged."""


def decide_together(
    changes: Sequence[Change],
    desired: Desired,
    hosts: Mapping[str, Host],
    consent: Consent,
    elsewhere: Collection[str] = (),
    forbidden: Mapping[str, str] | None = None,
    unseen: Unseen | None = None,
) -> list[Change]:
    """Return the changes of the whole fleet, each as what of it can be done beside all others.

    `forbidden` says of domains why they may not go down for another's restart; `elsewhere` are names that hosts hold;
    `unseen` is what was last seen on those that do not answer.
    """
    kept_up = dict(forbidden or {})
    while True:
        closed = close_dependencies(changes, desired, waves_of(changes, desired, hosts), kept_up)
        by_address = {change.address: change for change in closed}
        taken = held_claims(closed, hosts, unseen or Unseen())
        kept_up |= {address: why.reason for address, why in taken.items() if only_goes_along(by_address[address])}
        waiting = held_by_waves(changes, closed, desired, hosts, consent, elsewhere)
        if not taken and not waiting:
            return with_waves(closed, desired, hosts, consent, elsewhere)
        changes = [
            blocked_by(change, taken[change.address])
            if change.address in taken and not only_goes_along(by_address[change.address])
            else waiting.get(change.address, change)
            for change in changes
        ]


def only_goes_along(change: Change) -> bool:
    """Return whether a domain only goes down with another. It has no own change to block, but may be kept up."""
    return change.own in (Action.NO_OP, Action.BLOCKED)


def in_order_of_rules(waits_for: Iterable[str]) -> tuple[str, ...]:
    """Return all that a change waits for, in the order in which the rules that hold it are judged."""
    rules = (*_BEFORE_THE_BRAKE, *_AFTER_THE_BRAKE)
    return tuple(sorted(dict.fromkeys(waits_for), key=lambda one: _place(one, rules)))


def _place(what: str, rules: tuple[str, ...]) -> int:
    return next((place for place, rule in enumerate(rules) if what.startswith(rule)), len(rules))


def is_held_after_brake(change: Change) -> bool:
    """Return whether only rules hold a change that are judged after the brake, which holds it too then."""
    if change.would is None or change.blocked is not None or change.parked:
        return False
    before = (what.startswith(_BEFORE_THE_BRAKE) for what in change.waits_for)
    return not any(before) and any(what.startswith(_AFTER_THE_BRAKE) for what in change.waits_for)
