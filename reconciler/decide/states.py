"""Says what the state of a domain of ours allows: whether anything may be begun with it.

Called by `decide` before specs and files are compared. A domain that lives in another way than by running as itself is
never absent: nothing is started in its place, and none of its disks is deleted or given away.

For example: `web` was saved with the dom0, and its image waits in /var/lib/xen/save/web. `xl list` does not show it. A
fresh start would lose what the image holds, so `web` is blocked, with the command that restores it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import assert_never

from reconciler.decide.changes import Action, Change, Consent, make_blocked, make_change
from reconciler.decide.safety_rules import Block
from reconciler.model.copies import replace
from reconciler.model.domain import address_of
from reconciler.model.host import NAMELESS, Guest, Host, Owner, Power

_STARTING = Block(
    "xl is making it just now, on behalf of whoever began that", "run the command again when that has ended: xl list"
)


def held_by_state(host: Host, guest: Guest, consent: Consent) -> Change | None:
    """Return the change of a domain whose state overrides the specs; None when its state allows all."""
    address = address_of(host.name, guest.name)
    match guest.power:
        case Power.RUNNING | Power.SHUTDOWN | Power.UNFINISHED:
            return _under_another_name(host, guest)
        case Power.ABSENT:
            return None
        case Power.PAUSED:
            renamed = _under_another_name(host, guest)
            return renamed or (None if address in consent.restart | consent.unpause else _paused(host, guest))
        case Power.CRASHED:
            keeps = _keeps_its_crash(guest) and address not in consent.restart
            return _under_another_name(host, guest) or (_preserved(host, guest) if keeps else None)
        case Power.STARTING:
            return make_blocked(host, guest.name, _STARTING, guest)
        case Power.REBOOTING:
            return _waits(host, guest, None) if guest.served is not False else _under_another_name(host, guest)
        case Power.SUSPENDED:
            return _waits(host, guest, "see which `xl save` or `xl migrate` runs on the host: ps -A -o args=")
        case Power.DYING:
            hint = "if it does not end, something in the dom0 holds its memory, often a disk's backend: xl list -v"
            return _waits(host, guest, hint)
        case Power.MIGRATING:
            return make_blocked(host, guest.name, _migrating(guest), guest)
        case Power.SAVED:
            return make_blocked(host, guest.name, _saved(guest), guest)
        case _:
            assert_never(guest.power)


def found_twice(hosts: Mapping[str, Host]) -> dict[str, str]:
    """Map each address to another one with the same uuid, by what runs or is ours.

    On one host only what runs counts: of two config files, one is what a rename leaves.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, host in sorted(hosts.items()):
        for guest in host.guests.values():
            ours = guest.config or guest.candidate if guest.owner is Owner.OURS else None
            for uuid in {guest.uuid if guest.exists else "", ours.uuid if ours is not None else ""} - {""}:
                found[uuid].append((name, guest.name))
    twice: dict[str, str] = {}
    for places in found.values():
        for host_name, domain in places if len(places) > 1 else ():
            here = hosts[host_name].guests
            other = next(
                (
                    place
                    for place in places
                    if place[0] != host_name or (place[1] != domain and here[place[1]].exists and here[domain].exists)
                ),
                None,
            )
            if other is not None:
                twice[address_of(host_name, domain)] = address_of(*other)
    return twice


def on_two_hosts(host: Host, guest: Guest | None, name: str, other: str) -> Change:
    """Block a domain whose UUID another one has too, mostly on another host: nobody knows which one is the real one."""
    elsewhere = not other.startswith(f"{host.name}/")
    block = Block(
        f"its uuid is also that of {other}, and one domain cannot be {'on two hosts' if elsewhere else 'there twice'}",
        f"see where its guest really runs (`xl list -v`{' on both hosts' if elsewhere else ''}), and clear away the "
        "other one by hand",
    )
    return make_blocked(host, name, block, guest)


def _under_another_name(host: Host, guest: Guest) -> Change | None:
    if guest.listed_as is None:
        return None
    lost = guest.listed_as == NAMELESS
    reason = "it has no name on the host any more" if lost else f"it is called {guest.listed_as} on the host"
    which = guest.domid if guest.domid is not None else guest.listed_as
    block = Block(f"{reason}, and nothing is done with it under another name", f"xl rename {which} {guest.name}")
    return make_blocked(host, guest.name, block, guest)


def _paused(host: Host, guest: Guest) -> Change:
    hint = f"xl unpause {guest.name} on the host, or: reconciler apply --restart {address_of(host.name, guest.name)}"
    return _waits(host, guest, hint)


def _keeps_its_crash(guest: Guest) -> bool:
    definition = guest.running or guest.config
    return definition is not None and definition.on_crash == "preserve"


def _preserved(host: Host, guest: Guest) -> Change:
    which = guest.domid if guest.domid is not None else guest.name
    again = f"reconciler apply --restart {address_of(host.name, guest.name)}"
    block = Block(
        'it crashed, and on_crash = "preserve" keeps it for its dump',
        f"take the dump on the host (xl dump-core {which} FILE), then: {again}",
    )
    return make_blocked(host, guest.name, block, guest)


def _migrating(guest: Guest) -> Block:
    which = guest.domid if guest.domid is not None else guest.listed_as
    return Block(
        f"a migration of it by hand is under way or was cut short: it is listed as {guest.listed_as}",
        "wait until that `xl migrate` has ended; when none runs on either host, and its guest runs on the other one,"
        f" clear this away: xl destroy {which}",
    )


def _saved(guest: Guest) -> Block:
    return Block(
        f"it was saved: its image {guest.saved_image} waits to be restored, and a fresh start would lose what it holds",
        f"xl restore {guest.saved_image} on the host, and remove the image then",
    )


def _waits(host: Host, guest: Guest, hint: str | None) -> Change:
    """Do nothing but wait until the state ends."""
    reason = f"it is {guest.power}, which is no state to act on"
    waits_for = (f"{guest.power} to end",)
    change = make_change(host, guest.name, Action.NO_OP, reason, guest=guest, waits_for=waits_for)
    return replace(change, hint=hint)
