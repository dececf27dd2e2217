"""Decides what happens to each domain of a host, without the order.

`decide_host` looks at one host's guests and desired domains and gives one `Change` for every declared or managed
domain. `plan` orders the steps that carry the changes out.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.decide.changes import (
    DEFERRED,
    DRIFTED,
    FROZEN,
    HELD_UNTIL,
    SPEC_CHANGED,
    Action,
    Change,
    Consent,
    Fleet,
    left_alone,
    make_acting,
    make_blocked,
    make_change,
    same_config,
)
from reconciler.decide.diff import Effect, FieldChange, Pending, align_vifs, compare, fields_of_new
from reconciler.decide.holds import heed_stuck, with_hold
from reconciler.decide.ownership import (
    adopt,
    block_prune,
    block_rename,
    kept_from_pruning,
    with_new_name,
    with_renewed_mark,
)
from reconciler.decide.partial import defer, heed_windows, postponed, to_be_written
from reconciler.decide.quarantine import heed_quarantine, no_rollback
from reconciler.decide.rehearsals import heed_rehearsal
from reconciler.decide.safety_rules import Block, HostIndex, block_change, block_destroy, block_newer, block_second_file
from reconciler.decide.states import held_by_state, on_two_hosts
from reconciler.model.boot import as_before, before_this, left_by_rollback
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Guest, Host, Owner, Power


def decide_host(
    host: Host,
    settings: HostSettings,
    desired: Mapping[str, Domain],
    frozen: frozenset[str],
    fleet: Fleet,
    consent: Consent,
) -> tuple[Change, ...]:
    """Return one change for every declared or managed domain of a host, sorted by name."""
    index = HostIndex.of(host, desired)
    names = set(desired) | {name for name, guest in host.guests.items() if guest.owner is Owner.OURS}
    names |= {name for owner, _, name in (address.partition("/") for address in frozen) if owner == host.name and name}
    changes = []
    for name in sorted(names):
        guest, wanted = host.guests.get(name), desired.get(name)
        if address_of(host.name, name) in frozen:
            why, until = FROZEN, ("a spec file without errors",)
            change = make_change(host, name, Action.NO_OP, why, guest=guest, waits_for=until)
        elif guest is not None and (left := block_newer(guest)) is not None:
            changes.append(make_blocked(host, name, left, guest))
            continue
        elif wanted is None:
            assert guest is not None
            change = _decide_unwanted(host, guest, index, fleet, consent)
        else:
            change = with_new_name(host, _decide_wanted(host, settings, guest, wanted, index, fleet, consent))
        reconciles = settings.reconcile and (wanted is None or wanted.policy.reconcile)
        if not reconciles and (change.action is not Action.NO_OP or change.would is not None):
            change = _hold(change, settings)
        if wanted is not None and guest is not None and settings.reconcile and not wanted.policy.reconcile:
            change = change if change.address in consent.rollback else _noted(change, guest)
        elif change.acts and change.address in fleet.postponed:
            change = postponed(host, change, fleet.postponed[change.address])
        change = change if consent.ignore_holds else with_hold(host, change)
        changes.append(heed_stuck(host, heed_windows(host, change, fleet.shut)))
    return tuple(changes)


def _decide_unwanted(host: Host, guest: Guest, index: HostIndex, fleet: Fleet, consent: Consent) -> Change:
    """Decide about a domain of ours that no spec of this host names."""
    other = fleet.twice.get(address_of(host.name, guest.name))
    if other is not None:
        return on_two_hosts(host, guest, guest.name, other)
    elsewhere = fleet.declared.get(guest.name)
    if elsewhere is not None:
        return make_blocked(host, guest.name, _moved(guest.name, host.name, elsewhere), guest)
    if not fleet.prune and fleet.any_specs:
        reason = "no spec names it, but some specs cannot be read, so nothing is destroyed"
        return make_change(host, guest.name, Action.NO_OP, reason, guest=guest, waits_for=("specs that can be read",))
    held = held_by_state(host, guest, consent)
    if held is not None:
        return held
    kept = guest.config is not None and not guest.config.policy.reconcile
    if kept or address_of(host.name, guest.name) in fleet.left_alone:
        reason = "no spec names it any more, and the last one said reconcile = false"
        reason += ", which is kept on the host" if kept else ", or nobody could read whether it did"
        hint = f"to give it up, restore {host.name}/{guest.name}.toml without that, apply, then remove the file"
        change = make_change(host, guest.name, Action.NO_OP, reason, guest=guest, waits_for=(HELD_UNTIL,))
        return replace(change if kept else _noted(change, guest), hint=hint)
    held_name = block_prune(host, guest, fleet, index.twins(guest))
    if held_name is not None:
        return make_blocked(host, guest.name, held_name, guest)
    is_kept = address_of(host.name, guest.name) in fleet.kept
    forbidden = block_destroy(host, guest, index, any_specs=fleet.any_specs, is_kept=is_kept)
    if forbidden is not None:
        return make_blocked(host, guest.name, forbidden, guest, would=Action.DESTROY)
    gone = make_change(
        host, guest.name, Action.DESTROY, "no spec names it any more", guest=guest, downtime_seconds=None
    )
    return kept_from_pruning(gone, guest, fleet.doubts.get(gone.address), adopting=host.name in consent.adopt)


def _decide_wanted(
    host: Host,
    settings: HostSettings,
    guest: Guest | None,
    desired: Domain,
    index: HostIndex,
    fleet: Fleet,
    consent: Consent,
) -> Change:
    other = fleet.twice.get(address_of(host.name, desired.name))
    if other is not None:
        return on_two_hosts(host, guest, desired.name, other)
    others = [name for name in fleet.managed.get(desired.name, ()) if name != host.name]
    if others and (guest is None or guest.owner is not Owner.OURS):
        return make_blocked(host, desired.name, _moved(desired.name, others[0], host.name), guest)
    before = fleet.renamed_from.get(address_of(host.name, desired.name), "")
    unseen = fleet.unseen.names.get(desired.name) or fleet.unseen.names.get(before)
    if unseen is not None and unseen != host.name and (guest is None or guest.owner is not Owner.OURS):
        away = Block(f"it was last seen on {unseen}, which cannot be observed now", "wait until that host answers")
        return make_blocked(host, desired.name, away, guest)
    no_rename = block_rename(host, guest, desired, fleet)
    if no_rename is not None:
        return make_blocked(host, desired.name, no_rename, guest)
    waits = guest is not None and (guest.owner is Owner.OURS or guest.power is Power.SAVED)
    held = held_by_state(host, guest, consent) if guest is not None and waits else None
    if held is not None:
        return held
    if guest is None or (guest.owner is Owner.OURS and guest.definition is None and not _lives(guest)):
        change = _create(host, guest, desired)
    elif guest.owner is not Owner.OURS:
        change = adopt(host, settings, guest, desired, consent, _create(host, guest, desired))
    else:
        change = _reconcile_ours(host, guest, desired, consent)
    if host.name in consent.adopt and address_of(host.name, desired.name) in fleet.doubts:
        change = with_renewed_mark(change)
    if guest is not None and guest.quarantine:
        change = heed_quarantine(host, guest, change, consent)
    second = block_second_file(host, desired, index)
    if second is not None and (change.acts or (guest is not None and guest.owner is not Owner.OURS)):
        return make_blocked(host, desired.name, second, guest, change.fields)
    if not change.acts:
        return change
    block = block_change(host, settings, guest, change.target or desired, index, change.fields)
    if block is None:
        return heed_rehearsal(host, settings, fleet.name, index, change, consent)
    blocked = make_blocked(host, desired.name, block, guest, change.fields, change.whole)
    return replace(blocked, quarantined=change.quarantined, waits_for=change.waits_for)


def _create(host: Host, guest: Guest | None, desired: Domain) -> Change:
    return make_change(
        host,
        desired.name,
        Action.CREATE,
        "it does not exist yet",
        fields=fields_of_new(desired, host),
        guest=guest,
        target=desired,
        writes_config=True,
    )


def _reconcile_ours(host: Host, guest: Guest, desired: Domain, consent: Consent, *, on_demand: bool = True) -> Change:
    """Decide about a domain of ours. `on_demand`: one that is asked to restart does so also where nothing differs."""
    if _lives(guest) and guest.running is None:
        why = guest.problem or "xl does not tell its configuration"
        block = Block(f"it is there, but {why}", "look at `xl list -l` on the host")
        return make_blocked(host, guest.name, block, guest)
    if address_of(host.name, guest.name) in consent.rollback:
        return _rolled_back(host, guest, desired, consent)
    if desired.state == "stopped":
        return _towards_stopped(host, guest, desired)
    live = guest.power in (Power.RUNNING, Power.PAUSED)
    current = guest.running if live or guest.config is None else guest.config
    assert current is not None
    target = align_vifs(desired, current)
    fields = compare(current, target, host, running=live)
    if not live:
        reason = "it does not run" if not guest.exists else f"it is {guest.power}"
        return make_acting(host, guest, Action.START, reason, target, fields)
    change = _update(host, guest, target, fields, consent)
    asked = on_demand and guest.power is Power.RUNNING and change.address in consent.restart
    if not asked or change.action is Action.RESTART:
        return change
    reason = change.reason if change.acts else "a restart was asked for"
    restarted = make_acting(host, guest, Action.RESTART, reason, target, fields)
    return replace(restarted, downtime_seconds=None)


def _rolled_back(host: Host, guest: Guest, desired: Domain, consent: Consent) -> Change:
    """Decide about a rollback to what the domain booted before.

    What it leaves and what the spec asks for are quarantined, lest `watch` undo the rollback.
    """
    back = before_this(guest)
    wanted = as_before(desired, back) if back is not None else desired
    block = no_rollback(host, guest, desired, wanted, is_kept=back is not None)
    if block is not None:
        return make_blocked(host, guest.name, block, guest)
    allowed = replace(consent, rollback=frozenset(), restart=frozenset({address_of(host.name, guest.name)}))
    change = _reconcile_ours(host, guest, wanted, allowed, on_demand=False)
    if not change.acts:
        return change
    return replace(change, quarantine=left_by_rollback(guest, desired), reason="rolled back to what it booted before")


def _lives(guest: Guest) -> bool:
    """Return whether a guest is more than the remnant of a creation that was cut short, which never ran."""
    return guest.exists and guest.power is not Power.UNFINISHED


def _towards_stopped(host: Host, guest: Guest, desired: Domain) -> Change:
    current = guest.running or guest.candidate or guest.config
    assert current is not None
    target = align_vifs(desired, current)
    fields = compare(current, target, host, running=False)
    if guest.exists:
        change = make_acting(host, guest, Action.STOP, 'the spec says state = "stopped"', target, fields)
        return replace(change, downtime_seconds=None)
    return make_acting(host, guest, Action.UPDATE, _why(guest, target), target, fields)


def _update(host: Host, guest: Guest, target: Domain, fields: tuple[FieldChange, ...], consent: Consent) -> Change:
    """Decide about a running domain of ours: live changes, a restart, or changes that wait for one."""
    assert guest.running is not None
    costly = [change for change in fields if change.effect is Effect.RESTART and not change.waits]
    lowered = tuple(Pending(field=change, why="is lowered at the next start") for change in fields if change.waits)
    reason = _why(guest, target)
    defers = target.policy.restart == "defer" and address_of(host.name, guest.name) not in consent.restart
    if costly and not defers:
        restarted = make_acting(host, guest, Action.RESTART, reason, target, fields)
        return replace(restarted, downtime_seconds=None)
    pending = lowered
    if costly:
        target, fields, deferred = defer(host, guest.running, target, fields)
        target = to_be_written(target, guest)
        pending = (*lowered, *deferred)
        reason = f"{reason}; what needs a restart is deferred"
    live = tuple(change for change in fields if not change.waits)
    change = make_acting(host, guest, Action.UPDATE, reason, target, live)
    if guest.power is Power.PAUSED:  # it goes on, and what else changes while it runs follows
        change = replace(change, action=Action.UPDATE, reason="it is paused", target=target)
    elif costly and not change.acts:
        change = replace(change, reason='its spec says restart = "defer"')
    if not costly:
        return replace(change, pending=pending) if pending else change
    hint = f"reconciler apply --restart {address_of(host.name, guest.name)}"
    return replace(change, pending=pending, hint=hint, would=Action.RESTART, waits_for=(DEFERRED,))


def _why(guest: Guest, target: Domain) -> str:
    if guest.unproven:
        return "it runs a new definition that has not proven itself yet"
    if guest.edited:
        return "its config file was edited by hand"
    if guest.config is not None and same_config(guest.config, target):
        return DRIFTED
    return SPEC_CHANGED


def _hold(change: Change, settings: HostSettings) -> Change:
    where = "its spec" if settings.reconcile else "host.toml"
    return left_alone(change, f"held: {where} says reconcile = false", HELD_UNTIL)


def _noted(change: Change, guest: Guest) -> Change:
    """Note in the config file that the spec says to leave the domain alone, so that this outlives the spec."""
    config = guest.config
    untouched = guest.owner is Owner.OURS and guest.candidate is None and guest.config_proven and not guest.edited
    if config is None or not untouched or guest.problem or guest.newer is not None or not config.policy.reconcile:
        return change
    target = replace(config, policy=replace(config.policy, reconcile=False))
    reason = f"{change.reason}; that it is to be left alone is noted in its config file"
    return replace(
        change, action=Action.UPDATE, reason=reason, target=target, notes=True, writes_config=True, blocked=None
    )


def _moved(name: str, source: str, destination: str) -> Block:
    return Block(
        f"it moved from {source} to {destination} in the specs, and moving a domain is not supported yet",
        f"move {name}.toml back to {source}/; to have it made anew on {destination}, first apply without the file "
        f"(it is shut down, its disks are kept on {source}), and copy its disks",
    )
