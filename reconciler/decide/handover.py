"""What other domains still have when a change would begin: a disk, a mac or a uuid that they keep.

Called by `plan` with all changes of the fleet. A disk, a mac or a uuid counts by what runs and what config files say,
not only by specs: a domain that stays as it is keeps them whatever its spec asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.decide.changes import Change
from reconciler.model.claims import Register, claims_of, live_claims, without
from reconciler.model.domain import address_of
from reconciler.model.host import Host, Owner


def held_claims(changes: Sequence[Change], hosts: Mapping[str, Host]) -> dict[str, str]:
    """The changes that would give a domain what another keeps, by address, each with whose it is."""
    takers = [change for change in changes if change.acts and change.target is not None]
    if not takers:
        return {}
    kept, keepers = _Kept(hosts), {change.address: change for change in changes}
    for change in changes:
        kept.add(change)
    found = {}
    for change in takers:
        host, guest = hosts[change.host], change.guest
        written = claims_of(host, guest.config) if guest is not None else {}
        for claim in without(claims_of(host, change.target), live_claims(host, guest)).values():
            holder = kept.live.in_the_way(change.address, claim)
            if holder is None and claim.key not in written:
                holder = kept.written.in_the_way(change.address, claim)
            if holder is not None:
                whose = _keeper(holder, keepers.get(holder), change)
                found[change.address] = f"{claim.value} is still {claim.what} of {whose}"
                break
    return found


class _Kept:
    """What domains have when the plan is done: what they run with, and what only config files say of them.

    Both are there from the beginning for domains that are not ours.
    """

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.live, self.written, self._hosts = Register(), Register(), hosts
        for host in hosts.values():
            for guest in host.guests.values():
                if guest.owner is not Owner.OURS:
                    self.live.add(address_of(host.name, guest.name), live_claims(host, guest))
                    self.written.add(address_of(host.name, guest.name), claims_of(host, guest.config))

    def add(self, change: Change) -> None:
        """What a domain of ours keeps: what its change leads to, else what it has."""
        host, guest = self._hosts[change.host], change.guest
        if change.acts and not change.parked:
            self.live.add(change.address, claims_of(host, change.target))
        elif guest is not None and guest.owner is Owner.OURS:
            self.live.add(change.address, live_claims(host, guest))
            self.written.add(change.address, claims_of(host, guest.config))


def _keeper(address: str, keeper: Change | None, change: Change) -> str:
    """Who keeps what a change would take, as people name it there, and why."""
    host, name = address.split("/", 1)
    shown = name if host == change.host else address
    if keeper is None or (keeper.guest is not None and keeper.guest.owner is not Owner.OURS):
        return f"{shown}, which is not ours"
    return f"{shown}, which keeps it: {keeper.reason}"
