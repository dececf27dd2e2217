"""Finds what other domains still have when a change would begin: a disk, a mac or a uuid that they keep.

Called by `together` with all changes of the fleet. Claims count by what runs and what config files say, not only by
specs: a domain that stays as it is keeps its claims whatever its spec asks for.

>>> from tests.worlds import change_of, desired, disk, domain, guest, host, plan
>>> from reconciler.model.domain import Policy
>>> old, new = domain("old", disks=(disk("/srv/data.img"),)), domain("new")
>>> wanted = desired(domain("old", policy=Policy(reconcile=False)), domain("new", disks=old.disks))
>>> change_of(plan(host(guest(old), guest(new)), wanted), "new").blocked.split(":")[0]
'/srv/data.img is still a disk of old, which keeps it'
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from reconciler.decide.changes import Change
from reconciler.decide.dependencies import depends_on, wave_of
from reconciler.decide.safety_rules import Block
from reconciler.model.claims import Claim, Key, Register, Unseen, claims_of, live_claims, without
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Host, Owner
from reconciler.specs.secrets import concealed_text

_WAIT_FOR = "wait until that host answers, or give it up if it is lost: reconciler forget {}"


def held_claims(changes: Sequence[Change], hosts: Mapping[str, Host], unseen: Unseen) -> dict[str, Block]:
    """Map each change that would take what another domain keeps, or may have, to a sentence about whose it is."""
    takers = [change for change in changes if change.acts and not change.notes and change.target is not None]
    if not takers:
        return {}
    kept, keepers = _Kept(hosts, unseen), {change.address: change for change in changes}
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
            if holder is not None and holder in unseen.claims:
                found[change.address] = _last_seen(holder, claim)
                break
            if holder is not None:
                whose = _keeper(holder, keepers.get(holder), change)
                found[change.address] = Block(f"{concealed_text(claim.value)} is still {claim.what} of {whose}", None)
                break
            if unseen.untold and claim.counts_over_fleet and claim.key not in written:
                found[change.address] = _untold(unseen.untold[0], claim)
                break
    return found


class _Kept:
    """The claims of domains when the plan is done: by what they run with, and by what only config files say.

    Those of domains that are not ours, and of those on hosts that do not answer, are in it from the beginning.
    """

    def __init__(self, hosts: Mapping[str, Host], unseen: Unseen) -> None:
        self.live, self.written, self._hosts = Register(), Register(), hosts
        for address, claims in unseen.claims.items():
            self.live.add(address, claims)
        for host in hosts.values():
            for guest in host.guests.values():
                if guest.owner is not Owner.OURS:
                    self.live.add(address_of(host.name, guest.name), live_claims(host, guest))
                    self.written.add(address_of(host.name, guest.name), claims_of(host, guest.config))

    def add(self, change: Change) -> None:
        """Add what a domain of ours keeps: what its change leads to, else what it has."""
        host, guest = self._hosts[change.host], change.guest
        if change.acts and not change.parked and not change.notes:
            self.live.add(change.address, claims_of(host, change.target))
        elif guest is not None and guest.owner is Owner.OURS:
            self.live.add(change.address, live_claims(host, guest))
            self.written.add(change.address, claims_of(host, guest.config))


def _keeper(address: str, keeper: Change | None, change: Change) -> str:
    """Name the domain that keeps what a change would take, with the reason why it does."""
    host, name = address.split("/", 1)
    shown = name if host == change.host else address
    if keeper is None or (keeper.guest is not None and keeper.guest.owner is not Owner.OURS):
        return f"{shown}, which is not ours"
    return f"{shown}, which keeps it: {keeper.reason}"


def _last_seen(address: str, claim: Claim) -> Block:
    host, _, _ = address.partition("/")
    reason = f"{claim.value} was {claim.what} of {address} when {host} was last seen, which cannot be observed now"
    return Block(reason, _WAIT_FOR.format(host))


def _untold(host: str, claim: Claim) -> Block:
    reason = f"{claim.value} may be {claim.what} of a domain on {host}, which cannot be observed now"
    return Block(f"{reason}, and what was last seen there cannot be read any more", _WAIT_FOR.format(host))


def waves_of(changes: Sequence[Change], desired: Desired, hosts: Mapping[str, Host]) -> dict[str, int]:
    """Return for each change the wave in which it can be done.

    That is the wave of its spec, or a later one if it has to wait: for a domain that gives it a disk, a mac or a uuid,
    or for one that it depends on. Say `a` of wave 0 is to get the disk of `b` of wave 1: then a is in wave 1 too.
    """
    waves = {change.address: wave_of(change, desired) for change in changes}
    followers: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        for name in depends_on(change):
            followers[address_of(change.host, name)].append(change.address)
    acting = [change for change in changes if change.acts]
    givers: dict[Key, list[str]] = defaultdict(list)
    for change in acting:
        host = hosts[change.host]
        for key in without(live_claims(host, change.guest), claims_of(host, change.target)):
            givers[key].append(change.address)
    for change in acting if givers else ():
        host = hosts[change.host]
        for key in without(claims_of(host, change.target), live_claims(host, change.guest)):
            for giver in givers.get(key, ()):
                followers[giver].append(change.address)
    todo = sorted(waves, key=waves.__getitem__)
    while todo:
        at = todo.pop()
        for follower in followers.get(at, ()):
            if waves[follower] < waves.get(at, waves[follower]):
                waves[follower] = waves[at]
                todo.append(follower)
    return waves
