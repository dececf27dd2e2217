"""Proves a plan: it is replayed on the observed state before it is shown or applied.

A plan that over-commits memory, touches what is not ours, stops a domain under another that depends on it, takes more
domains down than allowed, gives a live domain a disk, mac or uuid that another has, or does not arrive at the desired
state is a bug of ours: it is reported, never shown as a plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from reconciler.decide.changes import Action, Change, Consent, Fleet
from reconciler.decide.decide import decide_host
from reconciler.decide.dependencies import depends_on
from reconciler.decide.windows import Shut
from reconciler.model.claims import Register, claims_of, live_claims, without
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.model.memory import capacity_kib, promised_kib, used_kib
from reconciler.plan.meaning import Replay, guest_after
from reconciler.plan.plan import Plan
from reconciler.plan.renames import as_renamed
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    AwaitReady,
    DetachVif,
    PlannedStep,
    Rehearse,
    RehearseEnd,
    SetMedium,
    Shutdown,
    Start,
    WayBack,
    WriteConfig,
    domain_of,
    is_paused_for,
    takes_down,
)

_NOTHING = (Action.NO_OP, Action.BLOCKED)
_NOT_UP = (Power.ABSENT, Power.SAVED, Power.CRASHED, Power.SHUTDOWN)


class PlanError(ReconcilerError):
    """Reports that a plan broke a rule when it was replayed. It is never the user's fault."""

    def __init__(self, rule: str, address: str) -> None:
        super().__init__(
            Diagnostic(
                kind=Kind.WORLD,
                summary="internal error: the plan does not prove itself",
                detail=f"{address}: {rule}. Nothing was shown or done.",
                hint="please report this, with the spec tree and the output of `reconciler status --json`",
                address=address,
            )
        )


def verify(plan: Plan, hosts: Mapping[str, Host], desired: Desired) -> None:
    """Replay the plan step by step. Raises PlanError at the first broken rule."""
    hosts = as_renamed(hosts, desired)
    changes = {change.address: change for change in plan.changes}
    _check_waves(plan, changes)
    live = _live(hosts) if plan.steps else Register()
    down = set[str]()
    of_hosts: dict[str, list[Change]] = defaultdict(list)
    for change in plan.changes:
        of_hosts[change.host].append(change)
    replays = {name: _HostReplay(host, desired, changes, of_hosts[name], live, down) for name, host in hosts.items()}
    ways_back = {way.after[0]: way for way in plan.ways_back if way.after}
    done: set[str] = set()
    for planned in plan.steps:
        if not done.issuperset(planned.needs):
            raise PlanError(f"step {planned.id} comes before a step that it needs", planned.address)
        done.add(planned.id)
        replays[planned.host].apply(planned)
        if planned.id in ways_back:
            replays[planned.host].check_way_back(ways_back[planned.id])
    fleet = _fleet_at_the_end(desired)
    for name, replay in replays.items():
        _check_end(replay.host(), desired, of_hosts[name], fleet)


def _check_waves(plan: Plan, changes: Mapping[str, Change]) -> None:
    """Check that no change comes before its wave, and no wave before a lower one.

    A domain goes on an outing only if one that it depends on goes down.
    """
    reached: int | None = None
    downs = {(step.address, step.wave) for step in plan.steps if isinstance(step.step, Shutdown)}
    for planned in plan.steps:
        change = changes.get(planned.address)
        if reached is not None and planned.wave < reached:
            raise PlanError(f"step {planned.id} of wave {planned.wave} comes after wave {reached}", planned.address)
        reached = planned.wave
        if change is None:
            continue
        if not planned.outing and planned.wave < change.wave and change.own not in (Action.STOP, Action.DESTROY):
            raise PlanError(f"step {planned.id} comes before its wave {change.wave}", planned.address)
        bases = [(address_of(change.host, name), planned.wave) for name in depends_on(change)]
        if planned.outing and isinstance(planned.step, Shutdown) and not downs.intersection(bases):
            rule = f"step {planned.id} takes it down though nothing that it depends on goes down"
            raise PlanError(rule, planned.address)


def _live(hosts: Mapping[str, Host]) -> Register:
    """Register the claims that live domains have at the start, whosever they are."""
    live = Register()
    for host in hosts.values():
        for guest in host.guests.values():
            live.add(address_of(host.name, guest.name), live_claims(host, guest))
    return live


class _HostReplay:
    """Replays the steps of one host. `live` has the claims of live domains on all hosts, `down` what is down there."""

    def __init__(
        self,
        host: Host,
        desired: Desired,
        changes: Mapping[str, Change],
        own: Sequence[Change],
        live: Register,
        down: set[str],
    ) -> None:
        self._observed = host
        self._live = live
        settings = desired.hosts[host.name].settings
        self._name = host.name
        self._replay = Replay(host)
        self._changes = changes
        self._used_kib = used_kib(host)
        self._capacity_kib = capacity_kib(host, settings.keep_free_kib)
        self._max_unavailable = settings.max_unavailable
        self._down: set[str] = set()
        self._fleet_max, self._down_anywhere = desired.max_unavailable, down
        self._dependents = _dependents(own)
        self._bases: dict[str, list[str]] = {}
        for base, names in self._dependents.items():
            for name in names:
                self._bases.setdefault(name, []).append(base)

    def host(self) -> Host:
        return self._replay.host()

    def apply(self, planned: PlannedStep) -> None:
        name = planned.address.split("/", 1)[1]
        change = self._changes.get(planned.address)
        if change is None or not change.acts:
            raise PlanError(f"step {planned.id} works on a domain that is not to be changed", planned.address)
        self._check_ownership(planned, name)
        self._check_plug(planned, change.target)
        if isinstance(planned.step, Rehearse | RehearseEnd):
            self._check_rehearsal(planned, planned.step, change)
            return
        before, free_kib = self._replay.guests.get(name), self._replay.free_kib
        try:
            self._replay.apply(planned.step)
        except ValueError as error:
            raise PlanError(f"step {planned.id} is impossible: {error}", planned.address) from error
        after = self._replay.guests.get(name)
        self._check_memory(planned, free_kib - self._replay.free_kib)
        self._check_availability(planned, before, change)
        if isinstance(planned.step, Start | Shutdown | AttachDisk | SetMedium | AttachVif | DetachVif):
            self._check_claims(planned, before, after)

    def _check_rehearsal(self, planned: PlannedStep, step: Rehearse | RehearseEnd, change: Change) -> None:
        """Check that a throwaway shares nothing with any domain but what both only read, and that it has its memory.

        The disks of its own domain are in it only as what its snapshots are made of.
        """
        try:
            self._replay.apply(step)
        except ValueError as error:
            raise PlanError(f"step {planned.id} is impossible: {error}", planned.address) from error
        begins, address = isinstance(step, Rehearse), address_of(self._name, step.rehearsal.name)
        self._check_memory(planned, step.needed_kib if begins else -step.needed_kib)
        for one in (step.rehearsal, step.control):
            claims = claims_of(self._observed, one.definition)
            for claim in claims.values() if begins else ():
                other = self._live.in_the_way(address, claim)
                if other is not None:
                    rule = f"step {planned.id} would give a throwaway {claim.value}, which is {claim.what} of {other}"
                    raise PlanError(rule, planned.address)
            (self._live.add if begins else self._live.remove)(address, claims)
        guest = self._replay.guests.get(change.domain)
        if guest is None or guest.power is not Power.RUNNING or guest.running is None:
            raise PlanError(f"step {planned.id} rehearses a restart of what does not run", planned.address)
        if isinstance(step, Rehearse) and takes_down(step):
            self._goes_down(planned, change.domain)
        elif isinstance(step, RehearseEnd) and is_paused_for(step):
            self._down.discard(change.domain)
            self._down_anywhere.discard(planned.address)

    def check_way_back(self, way: WayBack) -> None:
        """Check the way back at the moment when the new definition has just been started.

        It must fit into memory and lead to the proven definition.
        """
        name = way.address.split("/", 1)[1]
        guest, used_kib = self._replay.guests.get(name), self._used_kib
        proven = guest.config if guest is not None else None
        target = self._changes[way.address].target
        held_kib = promised_kib(guest) if guest else 0
        for planned in way.steps:
            self._check_plug(planned, target)
            try:
                guest = guest_after(guest, planned.step)
            except ValueError as error:
                raise PlanError(f"step {planned.id} of a way back is impossible: {error}", way.address) from error
            before_kib, held_kib = held_kib, promised_kib(guest) if guest else 0
            used_kib += held_kib - before_kib
            if isinstance(planned.step, Start) and used_kib > self._capacity_kib:
                raise PlanError(f"step {planned.id} of a way back would not fit into memory", way.address)
        comes_back = any(isinstance(planned.step, Start) for planned in way.steps)
        if comes_back and (guest is None or guest.running != proven):
            raise PlanError("its way back does not lead to the proven definition", way.address)

    def _check_plug(self, planned: PlannedStep, target: Domain | None) -> None:
        """Check that a guest has its time to shut down, and that its plug is pulled only if that was asked for."""
        step, guest = planned.step, self._replay.guests.get(domain_of(planned.step))
        if not isinstance(step, Shutdown):
            return
        asked = [target, *((guest.config, guest.running) if guest is not None else ())]
        known = [definition for definition in asked if definition is not None]
        if step.timeout_seconds < min((one.shutdown_timeout_seconds for one in known), default=0):
            raise PlanError(f"step {planned.id} gives it less time to shut down than was asked for", planned.address)
        if step.on_timeout == "destroy" and not any(one.on_shutdown_timeout == "destroy" for one in known):
            raise PlanError(f"step {planned.id} would pull its plug, which nobody asked for", planned.address)

    def _check_ownership(self, planned: PlannedStep, name: str) -> None:
        guest = self._replay.guests.get(name)
        if guest is not None and guest.newer is not None:
            raise PlanError(f"step {planned.id} would change what a newer version manages", planned.address)
        adopts = isinstance(planned.step, WriteConfig) and planned.step.adopt
        if guest is None or guest.owner is Owner.OURS or adopts:
            return
        if self._changes[planned.address].action is not Action.ADOPT:
            raise PlanError(f"step {planned.id} would change a domain that is not ours", planned.address)

    def _check_claims(self, planned: PlannedStep, before: Guest | None, after: Guest | None) -> None:
        """Check that no domain gets a claim that another has.

        A claim that two domains had from the beginning is no doing of the plan.
        """
        has, at_first = live_claims(self._observed, after), self._observed.guests.get(domain_of(planned.step))
        self._live.remove(planned.address, live_claims(self._observed, before))
        for claim in without(has, live_claims(self._observed, at_first)).values():
            other = self._live.in_the_way(planned.address, claim)
            if other is not None:
                rule = f"step {planned.id} comes while {claim.value} is still {claim.what} of {other}"
                raise PlanError(rule, planned.address)
        self._live.add(planned.address, has)

    def _check_memory(self, planned: PlannedStep, delta_kib: int) -> None:
        if delta_kib != planned.delta_kib:
            raise PlanError(
                f"step {planned.id} changes promised memory by {delta_kib} KiB, not {planned.delta_kib}",
                planned.address,
            )
        self._used_kib += delta_kib
        if delta_kib > 0 and self._used_kib > self._capacity_kib:
            raise PlanError(
                f"after step {planned.id} {self._used_kib} KiB are promised of {self._capacity_kib}", planned.address
            )

    def _check_availability(self, planned: PlannedStep, before: Guest | None, change: Change) -> None:
        name = change.domain
        match planned.step:
            case Shutdown() if before is not None and before.power in (Power.RUNNING, Power.PAUSED):
                up = [
                    other
                    for other in self._dependents.get(name, ())
                    if (guest := self._replay.guests.get(other)) is not None and guest.power not in _NOT_UP
                ]
                if up:
                    raise PlanError(
                        f"step {planned.id} stops it while {up[0]}, which depends on it, runs", planned.address
                    )
                if change.restarts:
                    self._goes_down(planned, name)
            case AwaitReady():
                self._down.discard(name)
                self._down_anywhere.discard(planned.address)
            case Start():
                for base in self._bases.get(name, ()):
                    guest, before_all = self._replay.guests.get(base), self._observed.guests.get(base)
                    if planned.outing and (before_all is None or not before_all.exists):
                        continue  # it ran without that one, and comes back as it was
                    if guest is None or not guest.exists or base in self._down:
                        raise PlanError(f"step {planned.id} starts it before {base} is ready", planned.address)
            case _:
                pass

    def _goes_down(self, planned: PlannedStep, name: str) -> None:
        self._down.add(name)
        self._down_anywhere.add(planned.address)
        if self._fleet_max is not None and len(self._down_anywhere) > self._fleet_max:
            rule = f"step {planned.id} takes {len(self._down_anywhere)} domains of the fleet down at once"
            raise PlanError(rule, planned.address)
        if len(self._down) > self._max_unavailable:
            raise PlanError(f"step {planned.id} takes {len(self._down)} domains down at once", planned.address)


def _dependents(changes: Sequence[Change]) -> dict[str, list[str]]:
    """Map each name to our domains that depend on it, by what they will be, else by what the host keeps."""
    found: dict[str, list[str]] = {}
    for change in changes:
        guest = change.guest
        if guest is not None and guest.owner is not Owner.OURS:
            continue
        definition = change.target or (guest.definition if guest is not None else None)
        for base in definition.depends_on if definition is not None else ():
            found.setdefault(base, []).append(change.domain)
    return found


def _fleet_at_the_end(desired: Desired) -> Fleet:
    return Fleet(
        name=desired.fleet,
        declared={domain: owner for owner, part in desired.hosts.items() for domain in part.domains},
        managed={},
        postponed=desired.postponed,
        prune=desired.prune,
        left_alone=desired.left_alone,
        kept=desired.kept,
        shut=Shut.of(desired),
        doubts=desired.doubts,
    )


def _check_end(host: Host, desired: Desired, changes: Sequence[Change], fleet: Fleet) -> None:
    """Check that deciding anew on the replayed host finds nothing to do for what the plan set out to change."""
    part, acting = desired.hosts[host.name], [change for change in changes if change.acts]
    # the others come back as they were
    wanted = {change.domain: change for change in acting if not change.parked and change.own not in _NOTHING}
    if not wanted:
        return
    for change in decide_host(host, part.settings, part.domains, desired.frozen, fleet, Consent()):
        planned = wanted.get(change.domain)  # of what is blocked, a live part may be for the next plan, or was for this
        in_part = change.quarantined is not None or (planned is not None and planned.blocked is not None)
        held_back = change.blocked is not None and in_part
        waits = change.domain in wanted and change.action is Action.RESTART and wanted[change.domain].pending
        if change.domain not in wanted or change.action is Action.NO_OP or held_back or waits:
            continue
        if wanted[change.domain].action is not Action.ADOPT:  # what an adopted domain lacks waits for the next plan
            raise PlanError(f"the plan ends with it still to {change.action.value}: {change.reason}", change.address)
    for domain in sorted(name for name, change in wanted.items() if change.own is Action.DESTROY):
        if domain in host.guests and host.guests[domain].owner is Owner.OURS:
            raise PlanError("the plan ends with it still there", address_of(host.name, domain))
