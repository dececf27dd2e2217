"""Who claims which host, and who gives one up, decided on what etcd says. Pure.

The claim says whose a host is, the hash only whose it should be. Nothing moves before the same other controller has
been the preferred one for a lease, so one that comes and goes moves nothing. A controller that cannot reach a host, or
does not have the accepted commit, is passed over, as long as there is another one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field

from reconciler.cluster.hashing import in_order
from reconciler.cluster.keys import Claim, Member
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one controller (`session`) knows. `claims` holds None for a claim that is not understood.

    `preferred_seconds` is how long the controller that is preferred for a host now has been so, `free_seconds` how long
    each host without a claim has had none.
    """

    session: str
    members: Mapping[str, Member] = field(default_factory=dict)  # by session
    claims: Mapping[str, Claim | None] = field(default_factory=dict)  # by host
    preferred_seconds: Mapping[str, float] = field(default_factory=dict)
    free_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    claims: tuple[str, ...] = ()
    gives_up: tuple[str, ...] = ()


def wishes(seen: Seen, hosts: Collection[str], lease_seconds: float) -> Wishes:
    """Return the hosts to claim now, and those to leave to another one at their next safe point."""
    claims, gives_up = [], []
    for host in sorted(hosts):
        order = preference(seen.members, host)
        if seen.session not in order:
            order.append(seen.session)
        if host not in seen.claims:
            # whoever is preferred has a lease to claim it, then the next one
            patience = order.index(seen.session) * lease_seconds
            if seen.free_seconds.get(host, 0.0) >= patience:
                claims.append(host)
            continue
        claim = seen.claims[host]
        is_mine = claim is not None and claim.session == seen.session
        if is_mine and order[0] != seen.session and seen.preferred_seconds.get(host, 0.0) >= lease_seconds:
            gives_up.append(host)
    return Wishes(claims=tuple(claims), gives_up=tuple(gives_up))


def preference(members: Mapping[str, Member], host: str) -> list[str]:
    """Return the sessions in the order in which they should have a host; all, where none is able to act on it."""
    able = {session for session, one in members.items() if host not in one.cannot_reach and not one.lags}
    chosen = able or set(members)
    names = {f"{members[session].name}\0{session}": session for session in chosen}
    by_name = {name: name.partition("\0")[0] for name in names}
    order = in_order(host, set(by_name.values()))
    return [names[one] for name in order for one in sorted(names) if by_name[one] == name]
