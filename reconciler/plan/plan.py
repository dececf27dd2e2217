"""Makes the plan: the changes, the ordered steps that carry them out, and the memory ledger.

`build_plan` is the whole pipeline: decide each domain, decide them together, brake, chain, order. It is pure, and the
same input gives the same bytes. `verify` replays the result before anybody sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from reconciler.decide.changes import FROZEN, Action, Change, Consent, Fleet, block
from reconciler.decide.decide import decide_host
from reconciler.decide.rehearsals import without_rehearsal
from reconciler.decide.states import found_twice
from reconciler.decide.together import decide_together, in_order_of_rules, is_held_after_brake, only_goes_along
from reconciler.decide.unusable import going_on
from reconciler.decide.windows import Shut, kept_up_by_windows, next_opening
from reconciler.model.claims import Register, Unseen, claims_of, live_claims, without
from reconciler.model.copies import replace
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.disks import named_disks
from reconciler.model.domain import address_of, all_fields, canonical_json
from reconciler.model.fleet import Desired, Window
from reconciler.model.host import Host, Owner
from reconciler.model.memory import capacity_kib, used_kib
from reconciler.plan.chains import Chain, chains_of, way_back_of
from reconciler.plan.order import Room, order_chains
from reconciler.plan.places import OrderError, Refusal, fleet_limit, most_down_at_once
from reconciler.plan.refusals import Brake, Used, brake, misfits, told_as_refused
from reconciler.plan.rehearsing import after_rehearsals
from reconciler.plan.renames import as_renamed, heirs, keepers, old_names, with_rename_hints
from reconciler.plan.stale import adopted_by, base_of
from reconciler.plan.steps import AwaitReady, PlannedStep, SetQuarantine, Start, WayBack
from reconciler.records import dataclass

_IN_ONE_TEXT = 50  # steps


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSummary:
    """The memory of a host at the start of a plan (KiB); all 0 when it could not be observed."""

    observed: bool
    memory_kib: int = 0
    capacity_kib: int = 0
    used_kib: int = 0
    stuck: tuple[str, ...] = ()  # commands that keep the host, since they do not end


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """The memory promised on a host after a step, and the memory there is (KiB)."""

    host: str
    step: str
    used_kib: int
    capacity_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that apply will do, and nothing else."""

    commit: str | None
    hosts: Mapping[str, HostSummary]
    changes: tuple[Change, ...]
    steps: tuple[PlannedStep, ...]
    ledger: tuple[LedgerEntry, ...]
    unmanaged: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...]
    base: Mapping[str, Mapping[str, str]]  # host -> what was observed there, see `stale`
    tree_digest: str = ""
    ways_back: tuple[WayBack, ...] = ()  # the way back of each start that has not proven itself yet
    undecided: tuple[Change, ...] = ()  # no-ops of domains that only specs speak of: nobody could decide about them
    brakes: tuple[Brake, ...] = ()
    windows: tuple[Window, ...] = ()  # judged again when its changes begin; none where they are ignored
    ignore_holds: bool = False  # by whoever asked for it; else each step looks whether its domain is held
    leftovers: tuple[str, ...] = ()  # hosts with what an earlier run left of a rehearsal, which apply takes down
    most_down_at_once: int = 0  # domains down for a restart at the same moment, in any order that apply may take

    @property
    def acts(self) -> bool:
        return bool(self.steps or self.leftovers)

    def next_opening(self, at: datetime) -> float | None:
        """Return when the first window opens that something waits for, in Unix seconds; None: nothing does."""
        waiting = ((one.address, one.would) for one in self.changes if one.awaits_window and one.would is not None)
        return next_opening(waiting, self.windows, at) if self.windows else None

    @property
    def digest(self) -> str:
        """Return the sha256 over what was observed, what is asked for and what will be done."""
        digest = hashlib.sha256()
        for part in self._canonical():
            # file names on a host are bytes, and those that are no UTF-8 are surrogates here
            digest.update(part.encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _canonical(self) -> Iterator[str]:
        """Yield all of it as one JSON text, some steps each: a large plan at once would let no other thread run."""
        base = {host: dict(base) for host, base in self.base.items()}
        yield f'{{"base":{canonical_json(base)},"commit":{canonical_json(self.commit)},"steps":['
        steps = (*self.steps, *(step for way in self.ways_back for step in way.steps))
        for place in range(0, len(steps), _IN_ONE_TEXT):
            said = [[step.id, step.host, step.step, step.needs] for step in steps[place : place + _IN_ONE_TEXT]]
            yield ("," if place else "") + canonical_json(said, all_fields)[1:-1]
        yield f'],"tree":{canonical_json(self.tree_digest)}}}'


def build_plan(
    desired: Desired,
    hosts: Mapping[str, Host],
    consent: Consent,
    *,
    targets: frozenset[str] = frozenset(),
    unseen: Unseen | None = None,
    downtime: Mapping[str, float] | None = None,
    used: Used | None = None,
    diagnostics: Sequence[Diagnostic] = (),
) -> Plan:
    """Decide what happens to every domain and in which order.

    `hosts` are those that could be observed; `targets`, if any, are the only addresses that are changed;
    `unseen` is what was last seen on hosts that could not be observed; `downtime` is how many seconds restarts of
    an address took before, where that is known; `used` is what the brake counted before this run.
    """
    problems, observed = list(diagnostics), hosts
    hosts = as_renamed(observed, desired)
    unseen = unseen or Unseen()
    changes = _decide(desired, hosts, consent, unseen)
    if targets:
        changes = [
            change if {change.address, change.host} & targets else _parked(change, desired) for change in changes
        ]
    rooms = _rooms(desired, hosts)
    elsewhere = {guest.name for host in hosts.values() for guest in host.guests.values() if guest.owner is Owner.OURS}
    elsewhere |= set(unseen.names)
    world = _World(
        desired=desired,
        hosts=hosts,
        rooms=rooms,
        consent=consent,
        elsewhere=elsewhere,
        unseen=unseen,
        used=used or Used(),
    )
    ordered = _order(with_rename_hints(changes), world)
    changes, steps, waits = ordered.changes, ordered.steps, ordered.waits
    problems += ordered.problems
    changes = [change for change in changes if change.acts or not change.parked]
    undecided = _undecided(desired, {change.address for change in changes}, hosts, targets)
    places = {
        problem.address: f"{problem.source.path}:{problem.source.line}:{problem.source.column}"
        for problem in reversed(diagnostics)
        if problem.source is not None and problem.address is not None
    }
    changes = [
        going_on(change, desired.unusable[change.address], hosts[change.host])
        if change.address in desired.unusable
        else _placed(change, places, desired)
        for change in changes
    ]
    changes = [_with_outlook(change, waits.get(change.address, ()), downtime or {}) for change in changes]
    problems += [told_as_refused(change) for change in changes if change.blocked is not None]
    summaries, adopted = _summaries(desired, hosts), adopted_by(changes)
    return Plan(
        commit=desired.commit,
        hosts=summaries,
        changes=tuple(sorted(changes, key=lambda change: change.address)),
        steps=steps,
        ways_back=(*after_rehearsals(steps, changes), *_ways_back(steps, changes, hosts)),
        ledger=ledger_of(steps, summaries),
        unmanaged=_unmanaged(desired, hosts),
        diagnostics=tuple(problems),
        base={name: base_of(host, adopted.get(name, ())) for name, host in sorted(observed.items())},
        tree_digest=desired.tree_digest,
        undecided=tuple(_placed(change, places, desired) for change in undecided),
        leftovers=tuple(sorted(name for name, host in observed.items() if host.leftovers and host.locked is None)),
        most_down_at_once=most_down_at_once(steps, changes, desired),
        brakes=tuple(ordered.brakes),
        windows=desired.windows if desired.at is not None else (),
        ignore_holds=consent.ignore_holds,
    )


def _undecided(
    desired: Desired, decided: set[str], hosts: Mapping[str, Host], targets: frozenset[str]
) -> tuple[Change, ...]:
    """List declared domains without a change, since their file has errors or their host did not answer."""
    reasons = {
        address_of(name, domain): (f"{name} could not be observed", f"{name} to answer")
        for name, part in desired.hosts.items()
        if name not in hosts
        for domain in part.domains
    }
    reasons |= {
        address: (f"{address.partition('/')[0]} has errors in its host.toml", "a host.toml without errors")
        for address in desired.on_frozen_hosts
    }
    frozen = {address for address in desired.frozen if "/" in address}
    reasons |= dict.fromkeys(frozen, (FROZEN, "a spec file without errors"))
    return tuple(
        Change(host=host, domain=domain, action=Action.NO_OP, reason=reason, waits_for=(waits_for,))
        for address, (reason, waits_for) in sorted(reasons.items())
        for host, domain in [address.split("/", 1)]
        if address not in decided and (not targets or {address, host} & targets)
    )


def _placed(change: Change, places: Mapping[str, str], desired: Desired) -> Change:
    """Tell of a frozen domain where the error is, if it is in its own file or in that of the tree."""
    place = places.get(change.address)
    if change.reason == FROZEN and place is None and desired.is_frozen_by_tree:
        reason = "reconciler.toml has errors, so it is left alone"
        return replace(change, reason=reason, waits_for=("a reconciler.toml without errors",))
    if change.reason != FROZEN or place is None:
        return change
    return replace(change, reason=f"its spec file has errors ({place}), so it is left alone")


def _parked(change: Change, desired: Desired) -> Change:
    """Return a change that nobody asked for as parked.

    Its domain stays as it is, or goes down and up with what it depends on.
    """
    guest, wanted = change.guest, desired.hosts[change.host].domains.get(change.domain)
    kept = guest.config if guest is not None and guest.owner is Owner.OURS and guest.exists else None
    return Change(
        host=change.host,
        domain=change.domain,
        action=Action.NO_OP,
        reason="not selected",
        guest=guest,
        target=kept if kept is None or wanted is None else replace(kept, policy=wanted.policy),
        parked=True,
        hold=change.hold,
        quarantined=change.quarantined,
        would=change.whole,
    )


def _ways_back(
    steps: Sequence[PlannedStep], changes: Sequence[Change], hosts: Mapping[str, Host]
) -> tuple[WayBack, ...]:
    """Return the way back of every change that starts what is not proven.

    It leads only down if another domain may have taken by then what the old definition needs.
    """
    heirs = Register()
    for change in changes if steps else ():
        if change.acts:
            host = hosts[change.host]
            heirs.add(change.address, without(claims_of(host, change.target), live_claims(host, change.guest)))
    critical: dict[str, list[PlannedStep]] = {}
    for step in steps:
        if isinstance(step.step, Start | AwaitReady):
            critical.setdefault(step.address, []).append(step)
    found = []
    for change in changes:
        after = critical.get(change.address, [])
        links = way_back_of(change, may_return=_may_return(change, hosts, heirs)) if after else ()
        if links:
            planned = tuple(
                PlannedStep(
                    id=f"{after[0].id}.f{number}",
                    host=change.host,
                    step=link.step,
                    needs=(f"{after[0].id}.f{number - 1}",) if number > 1 else (),
                    delta_kib=link.delta_kib,
                    wave=after[0].wave,
                )
                for number, link in enumerate(links, start=1)
            )
            gives_up = any(isinstance(link.step, SetQuarantine) for link in links)
            own = [step.id for step in after if not step.outing]
            failing = tuple(own) if gives_up else ()  # else it only goes down with another
            found.append(WayBack(address=change.address, after=failing, steps=planned))
    return tuple(found)


def _may_return(change: Change, hosts: Mapping[str, Host], heirs: Register) -> bool:
    old = change.guest.config if change.guest is not None else None
    claims = claims_of(hosts[change.host], old).values()
    return not any(heirs.in_the_way(change.address, claim) for claim in claims)


def _with_outlook(change: Change, waits: tuple[str, ...], downtime: Mapping[str, float]) -> Change:
    """Add to a change what it waits for and the down time to expect."""
    seconds = downtime.get(change.address) if change.restarts else change.downtime_seconds
    if seconds is not None and change.outings:
        seconds *= len(change.outings) + (change.own is Action.RESTART)
    waits_for = in_order_of_rules((*change.waits_for, *waits))
    if waits_for == change.waits_for and seconds == change.downtime_seconds:
        return change
    return replace(change, waits_for=waits_for, downtime_seconds=seconds)


def _decide(desired: Desired, hosts: Mapping[str, Host], consent: Consent, unseen: Unseen) -> list[Change]:
    managed: dict[str, tuple[str, ...]] = {}
    for host in hosts.values():
        for guest in host.guests.values():
            if guest.owner is Owner.OURS:
                managed[guest.name] = (*managed.get(guest.name, ()), host.name)
    fleet = Fleet(
        name=desired.fleet,
        declared={name: host for host, part in desired.hosts.items() for name in part.domains},
        heirs=heirs(desired),
        keepers=keepers(hosts),
        renamed_from=old_names(desired),
        managed=managed,
        unseen=unseen,
        postponed=desired.postponed,
        twice=found_twice(hosts),
        prune=desired.prune,
        left_alone=desired.left_alone,
        kept=desired.kept,
        doubts=desired.doubts,
        any_specs=any(part.domains for part in desired.hosts.values()) or bool(desired.frozen),
        shut=Shut.of(desired),
    )
    changes: list[Change] = []
    for name, host in sorted(hosts.items()):
        part = desired.hosts[name]
        changes += decide_host(host, part.settings, part.domains, desired.frozen, fleet, consent)
    return changes


def _chains(changes: Sequence[Change], desired: Desired, hosts: Mapping[str, Host]) -> list[Chain]:
    destroying = {change.host for change in changes if change.action is Action.DESTROY}
    named = {name: named_disks(hosts[name], desired.hosts[name].domains.values()) for name in destroying}
    return [
        chain
        for change in changes
        if change.acts
        for chain in chains_of(change, hosts[change.host], named.get(change.host, {}))
    ]


def _rooms(desired: Desired, hosts: Mapping[str, Host]) -> dict[str, Room]:
    rooms = {}
    for name, host in hosts.items():
        settings = desired.hosts[name].settings
        free = capacity_kib(host, settings.keep_free_kib) - used_kib(host)
        rooms[name] = Room(free_kib=free, max_unavailable=settings.max_unavailable)
    return rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """All that the order depends on besides the changes themselves."""

    desired: Desired
    hosts: Mapping[str, Host]
    rooms: Mapping[str, Room]
    consent: Consent
    elsewhere: Collection[str]  # names that some host holds, or held when it was last seen
    unseen: Unseen
    used: Used


@dataclass(frozen=True, slots=True)
class _Ordered:
    """The changes that can be done together, their steps in order, and what was refused."""

    changes: list[Change]
    steps: tuple[PlannedStep, ...]
    waits: Mapping[str, tuple[str, ...]]
    problems: list[Diagnostic]
    brakes: list[Brake]


def _order(decided: list[Change], world: _World) -> _Ordered:
    """Order the steps of all changes that can be done. What cannot be done together is refused, the rest ordered anew.

    `decided` are the changes before other domains do anything to them: what is refused changes what they do.
    """
    refused: dict[str, Refusal] = {}
    kept_up = kept_up_by_windows((change.address for change in decided), world.desired)
    problems: list[Diagnostic] = []
    brakes: list[Brake] = []
    while True:
        rest = [_refused(change, refused.get(change.address)) for change in decided]
        changes = decide_together(
            rest, world.desired, world.hosts, world.consent, world.elsewhere, kept_up, world.unseen
        )
        found, reasons, held = brake(changes, world.desired, world.hosts, world.consent, world.used)
        brakes += held
        if not found:
            chains = _chains(changes, world.desired, world.hosts)
            found, reasons = misfits(chains, world.rooms)
        if not found:
            try:
                fleet = fleet_limit(world.desired, world.hosts, changes)
                return _Ordered(changes, *order_chains(chains, world.hosts, world.rooms, fleet), problems, brakes)
            except OrderError as error:
                reasons = {address: why for address, why in error.refused.items() if not why.of_rehearsal}
                unrehearsed = {address: why for address, why in error.refused.items() if why.of_rehearsal}
                decided = [_unrehearsed(change, unrehearsed.get(change.address), world) for change in decided]
        problems += found
        along = {one.address for one in changes if only_goes_along(one) and not (held and is_held_after_brake(one))}
        kept_up |= {address: refusal.reason for address, refusal in reasons.items() if address in along}
        refused |= {address: refusal for address, refusal in reasons.items() if address not in along}


def _refused(change: Change, refusal: Refusal | None) -> Change:
    return change if refusal is None else replace(block(change, refusal.reason), hint=refusal.hint or change.hint)


def _unrehearsed(change: Change, refusal: Refusal | None, world: _World) -> Change:
    if refusal is None:
        return change
    return without_rehearsal(world.hosts[change.host], change, refusal.reason, refusal.hint)


def _summaries(desired: Desired, hosts: Mapping[str, Host]) -> dict[str, HostSummary]:
    summaries = {}
    for name, part in sorted(desired.hosts.items()):
        host = hosts.get(name)
        if host is None:
            summaries[name] = HostSummary(observed=False)
            continue
        capacity = capacity_kib(host, part.settings.keep_free_kib)
        summaries[name] = HostSummary(
            observed=True, memory_kib=host.total_kib, capacity_kib=capacity, used_kib=used_kib(host), stuck=host.stuck
        )
    return summaries


def ledger_of(steps: Iterable[PlannedStep], hosts: Mapping[str, HostSummary]) -> tuple[LedgerEntry, ...]:
    """Return the memory promised after each step."""
    used, entries = {name: summary.used_kib for name, summary in hosts.items()}, []
    for step in steps:
        used[step.host] += step.delta_kib
        capacity = hosts[step.host].capacity_kib
        entries.append(LedgerEntry(host=step.host, step=step.id, used_kib=used[step.host], capacity_kib=capacity))
    return tuple(entries)


def _unmanaged(desired: Desired, hosts: Mapping[str, Host]) -> tuple[str, ...]:
    return tuple(
        address_of(host.name, guest.name)
        for _, host in sorted(hosts.items())
        for guest in sorted(host.guests.values(), key=lambda guest: guest.name)
        if guest.owner is not Owner.OURS
    )
