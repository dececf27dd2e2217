"""What of a plan over the whole fleet each host may do by itself now. Called by `fleet`, for `watch`.

The plan was made over the last known state of all hosts and proven, as for one run over all of them. A part is closed
under what its steps need, so it is as safe as the whole. What waits for a step on another host is left out, with the
reason; so is what another wave holds. `apply` does the same in one run, by the order of its steps.

>>> from tests.worlds import NEW, desired, domain, guest, host, kernel
>>> from reconciler.decide.changes import Consent
>>> from reconciler.model.domain import Policy
>>> from reconciler.model.fleet import DesiredHost, HostSettings
>>> from reconciler.plan.plan import build_plan
>>> canary, web = domain("canary", policy=Policy(wave=-1)), domain("web")
>>> hosts = {"alpha": host(guest(canary)), "beta": host(guest(web), name="beta")}
>>> new = [domain(one.name, kernel=kernel(one.name, NEW), policy=one.policy) for one in (canary, web)]
>>> beta = DesiredHost(settings=HostSettings(name="beta", toolstack="simulated"), domains={"web": new[1]})
>>> wanted = desired(hosts={**desired(new[0]).hosts, "beta": beta})
>>> parts = parts_of(build_plan(wanted, hosts, Consent()))
>>> [step.address for step in parts["alpha"].steps if step.step.kind == "shutdown"], parts["beta"].steps
(['alpha/canary'], ())
>>> parts["beta"].changes[0].reason
'wave -1 is not through: alpha/canary is still to get ready'
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace

from reconciler.decide.changes import Action, Change
from reconciler.model.diagnostics import Diagnostic
from reconciler.plan.plan import Plan, ledger_of
from reconciler.plan.refusals import HELD_BY_BRAKE
from reconciler.plan.steps import AwaitReady, PlannedStep, Rehearse, Shutdown, Start, is_paused_for
from reconciler.records import dataclass

_BEGINS_ANEW = (Action.CREATE, Action.RESTART)  # what a wave holds; a repair or a live change waits for no other host


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    reason: str
    waits_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What goes on beside a plan that its parts have to heed.

    `failing` maps hosts to a domain of theirs whose restart has just failed: as in one run, no other one begins after
    that, until a look tells what it means for the others. `unseen` are hosts that nobody has looked at yet, and may
    have as much that counts for the brake as any: until then, nothing begins of the actions that are `braked`.
    """

    failing: Mapping[str, str] = field(default_factory=dict)
    unseen: Collection[str] = ()
    braked: Collection[Action] = (Action.DESTROY,)


def parts_of(plan: Plan, beside: Beside | None = None) -> dict[str, Plan]:
    """Split a plan by host."""
    beside = beside or Beside()
    steps: dict[str, list[PlannedStep]] = defaultdict(list)
    for step in plan.steps:
        steps[step.host].append(step)
    changes: dict[str, list[Change]] = defaultdict(list)
    for change in plan.changes:
        changes[change.host].append(change)
    waves = sorted((wave, address) for one in steps.values() for wave, address in _lowest_to_come(one))
    addresses = {step.id: step.address for step in plan.steps}
    told = _told_by_host(plan.diagnostics)
    parts = {}
    for name in plan.hosts:
        lower = next((one for one in waves if not one[1].startswith(f"{name}/")), None)
        failed = next((address for host, address in sorted(beside.failing.items()) if host != name), None)
        unseen = next((host for host in sorted(beside.unseen) if host != name), None)
        held = _held(changes[name], lower, failed)
        if unseen is not None:
            held |= {one.address: (None, _unseen(unseen)) for one in changes[name] if one.action in beside.braked}
        restarts = {change.address for change in changes[name] if change.restarts}
        kept, waits = _kept(steps[name], held, restarts, addresses)
        parts[name] = _part(plan, name, changes[name], kept, waits, told.get(name, ()))
    return parts


def restarts_of(part: Plan) -> frozenset[str]:
    """Return the domains that a part takes down for a restart."""
    restarts = {change.address for change in part.changes if change.restarts}
    return frozenset(
        step.address for step in part.steps if step.address in restarts and isinstance(step.step, Shutdown)
    )


def rehearsed_together(part: Plan) -> dict[str, frozenset[str]]:
    """Map each domain whose restart waits for a rehearsal to all that go down with it, whose places it then takes.

    Where one is paused for its rehearsal it is down by that already, so all have their places before.
    """
    restarts = restarts_of(part)
    downs = {step.id: step for step in part.steps if step.address in restarts and isinstance(step.step, Shutdown)}
    groups = {address: {address} for address in restarts}
    for step in downs.values():
        for need in downs.keys() & set(step.needs):  # who is down before it, for it
            together = groups[step.address] | groups[downs[need].address]
            groups |= dict.fromkeys(together, together)
    before = {step.address: is_paused_for(step.step) for step in part.steps if isinstance(step.step, Rehearse)}
    late = {name: group for name, group in groups.items() if group & before.keys()}
    return {name: frozenset(group) for name, group in late.items() if not any(before.get(one) for one in group)}


def within(part: Plan, places: int, taken: Sequence[str]) -> Plan:
    """Return a part of one host with so many restarts at most, as others have been `taken` down on other hosts."""
    (name,) = part.hosts
    down = restarts_of(part)
    late = list(dict.fromkeys(step.address for step in part.steps if step.address in down))[places:]
    if not late:
        return part
    why = f"max_unavailable of the fleet leaves no place for it, while {taken[0]} is down or about to be"
    held: _Held = dict.fromkeys(late, (None, _Wait(reason=why, waits_for=f"host: {taken[0]}")))
    addresses = {step.id: step.address for step in part.steps}
    restarts = {change.address for change in part.changes if change.restarts}
    kept, waits = _kept(part.steps, held, restarts, addresses)
    return _part(part, name, part.changes, kept, waits, part.diagnostics)


def _lowest_to_come(steps: Iterable[PlannedStep]) -> list[tuple[int, str]]:
    """Return the lowest wave of a host in which a domain is still to get ready, with its address."""
    coming = ((step.wave, step.address) for step in steps if isinstance(step.step, Start | AwaitReady))
    lowest = min(coming, default=None)
    return [] if lowest is None else [lowest]


_Held = dict[str, tuple[int | None, _Wait]]
"""The addresses that something elsewhere holds -> the wave after which it does (None: in all), and why."""


def _held(changes: Iterable[Change], lower: tuple[int, str] | None, failed: str | None) -> _Held:
    held: _Held = {}
    for change in changes:
        if failed is not None and change.restarts:
            why = f"no restart begins, since that of {failed} failed just now"
            held[change.address] = None, _Wait(reason=why, waits_for=f"host: {failed}")
        elif lower is not None and change.action in _BEGINS_ANEW:
            why = f"wave {lower[0]} is not through: {lower[1]} is still to get ready"
            held[change.address] = lower[0], _Wait(reason=why, waits_for=f"wave: {lower[1]}")
    return held


def _unseen(host: str) -> _Wait:
    return _Wait(reason=f"the brake counts over all hosts, and {host} was not looked at yet", waits_for=f"host: {host}")


def _kept(
    steps: Sequence[PlannedStep],
    held: _Held,
    restarts: set[str],
    addresses: Mapping[str, str],
) -> tuple[list[PlannedStep], dict[str, _Wait]]:
    """Return the steps of a host that need nothing which is not done here, and why each other domain waits."""
    torn: dict[str, _Wait] = {}
    while True:
        kept: dict[str, PlannedStep] = {}
        waits = dict(torn)
        for step in steps:
            after, why = held.get(step.address, (None, None))
            missing = next((need for need in step.needs if need not in kept), None)
            if why is not None and (after is None or step.wave > after):
                waits[step.address] = why
            elif missing is not None:
                other = addresses[missing]
                wait = waits.get(other) or _Wait(reason=f"it waits for {other}", waits_for=f"host: {other}")
                waits.setdefault(step.address, wait)
            elif step.address not in torn:
                kept[step.id] = step
        more = _torn(steps, kept, restarts) - torn.keys()
        if not more:
            return list(kept.values()), waits
        torn |= {address: waits[address] for address in more}


def _torn(steps: Iterable[PlannedStep], kept: Mapping[str, PlannedStep], restarts: set[str]) -> set[str]:
    """Return the domains that would go down without coming back."""
    down = {(step.address, step.wave) for step in kept.values() if isinstance(step.step, Shutdown)}
    left = {(step.address, step.wave) for step in steps if step.id not in kept and not isinstance(step.step, Shutdown)}
    return {address for address, _ in down & left if address in restarts}


def _part(
    plan: Plan,
    name: str,
    changes: Sequence[Change],
    kept: Sequence[PlannedStep],
    waits: Mapping[str, _Wait],
    told: Sequence[Diagnostic],
) -> Plan:
    working = {step.address for step in kept}
    ids = {step.id for step in kept}
    shown = tuple(
        _waiting(change, waits[change.address]) if change.address in waits and change.address not in working else change
        for change in changes
    )
    braked = any(change.blocked == HELD_BY_BRAKE for change in changes)
    general = tuple(one for one in plan.diagnostics if one.address is None and one.source is None) if braked else ()
    general = tuple(one for one in general if one not in told)
    restarting = {change.address for change in shown if change.restarts}
    return replace(
        plan,
        hosts={name: plan.hosts[name]},
        changes=shown,
        steps=tuple(kept),
        ledger=ledger_of(kept, {name: plan.hosts[name]}),
        unmanaged=tuple(address for address in plan.unmanaged if address.startswith(f"{name}/")),
        diagnostics=(*general, *told),
        base={name: plan.base[name]} if name in plan.base else {},
        ways_back=tuple(way for way in plan.ways_back if way.address in working and ids.issuperset(way.after)),
        undecided=tuple(change for change in plan.undecided if change.host == name),
        leftovers=tuple(host for host in plan.leftovers if host == name),
        brakes=plan.brakes if braked else (),
        most_down_at_once=min(plan.most_down_at_once, len(restarting)),
    )


def _waiting(change: Change, wait: _Wait) -> Change:
    return replace(
        change,
        action=Action.NO_OP,
        reason=wait.reason,
        waits_for=(wait.waits_for,),
        downtime_seconds=0,
        target=None,
        would=change.own if change.own is not Action.NO_OP else change.would,
        alone=None,
        outings=(),
    )


def _told_by_host(diagnostics: Iterable[Diagnostic]) -> dict[str, list[Diagnostic]]:
    found: dict[str, list[Diagnostic]] = defaultdict(list)
    for one in diagnostics:
        if one.address is not None:
            found[one.address.partition("/")[0]].append(one)
    return found
