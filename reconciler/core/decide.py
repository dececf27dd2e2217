"""What happens to each domain of a host: the decision, without the order.

`decide_host` looks at one host's guests and desired domains and gives one `Change` for every declared or managed
domain. `plan` orders the steps that carry the changes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.boot import (
    ROLLED_BACK,
    as_before,
    before_this,
    boots_the_same,
    failed_before,
    left_by_rollback,
    quarantined,
)
from reconciler.core.changes import Action, Change, Consent, Fleet
from reconciler.core.diff import Effect, FieldChange, align_vifs, compare, fields_of_new
from reconciler.core.policy import Block, HostIndex, block_change, block_destroy
from reconciler.core.state import Domain, Guest, Host, HostSettings, Owner, Power, address_of, with_kept

HELD_UNTIL = "reconcile = true"
"""What a change waits for that its spec or host.toml holds back."""


def decide_host(
    host: Host,
    settings: HostSettings,
    desired: Mapping[str, Domain],
    frozen: frozenset[str],
    fleet: Fleet,
    consent: Consent,
) -> tuple[Change, ...]:
    """One change for every declared or managed domain of a host, sorted by name."""
    index = HostIndex.of(host, desired)
    names = set(desired) | {name for name, guest in host.guests.items() if guest.owner is Owner.OURS}
    changes = []
    for name in sorted(names):
        guest, wanted = host.guests.get(name), desired.get(name)
        if address_of(host.name, name) in frozen:
            change = _change(host, name, Action.NO_OP, "its spec file has errors, so it is left alone", guest=guest)
        elif wanted is None:
            assert guest is not None
            change = _decide_unwanted(host, guest, fleet)
        else:
            change = _decide_wanted(host, settings, guest, wanted, index, fleet, consent)
        reconciles = settings.reconcile and (wanted is None or wanted.policy.reconcile)
        if change.action is not Action.NO_OP and not reconciles:
            change = _hold(change, settings)
        elif change.acts and change.address in fleet.postponed:
            change = _postponed(host, change, fleet.postponed[change.address])
        changes.append(change)
    return tuple(changes)


def _decide_unwanted(host: Host, guest: Guest, fleet: Fleet) -> Change:
    """A domain of ours that no spec of this host names."""
    elsewhere = fleet.declared.get(guest.name)
    if elsewhere is not None:
        return _blocked(host, guest.name, _moved(guest.name, host.name, elsewhere), guest)
    if not fleet.prune and fleet.any_specs:
        reason = "no spec names it, but some specs cannot be read, so nothing is destroyed"
        return _change(host, guest.name, Action.NO_OP, reason, guest=guest, waits_for=("specs that can be read",))
    forbidden = block_destroy(host, guest, any_specs=fleet.any_specs)
    if forbidden is not None:
        return _blocked(host, guest.name, forbidden, guest)
    return _change(host, guest.name, Action.DESTROY, "no spec names it any more", guest=guest, downtime_seconds=None)


def _decide_wanted(
    host: Host,
    settings: HostSettings,
    guest: Guest | None,
    desired: Domain,
    index: HostIndex,
    fleet: Fleet,
    consent: Consent,
) -> Change:
    others = [name for name in fleet.managed.get(desired.name, ()) if name != host.name]
    if others and (guest is None or guest.owner is not Owner.OURS):
        return _blocked(host, desired.name, _moved(desired.name, others[0], host.name), guest)
    unseen = fleet.unseen.get(desired.name)
    if unseen is not None and unseen != host.name and (guest is None or guest.owner is not Owner.OURS):
        away = Block(f"it was last seen on {unseen}, which cannot be observed now", "wait until that host answers")
        return _blocked(host, desired.name, away, guest)
    if guest is None or (guest.owner is Owner.OURS and guest.definition is None and not guest.exists):
        change = _create(host, guest, desired)
    elif guest.owner is not Owner.OURS:
        change = _adopt(host, guest, desired, consent)
    else:
        change = _reconcile_ours(host, guest, desired, consent)
    if guest is not None and guest.quarantine:
        change = _heed_quarantine(host, guest, change, consent)
    if not change.acts:
        return change
    block = block_change(host, settings, guest, change.target or desired, index, change.fields)
    return change if block is None else _blocked(host, desired.name, block, guest, change.fields)


def _create(host: Host, guest: Guest | None, desired: Domain) -> Change:
    return _change(
        host,
        desired.name,
        Action.CREATE,
        "it does not exist yet",
        fields=fields_of_new(desired, host),
        guest=guest,
        target=desired,
        writes_config=True,
    )


def _reconcile_ours(host: Host, guest: Guest, desired: Domain, consent: Consent) -> Change:
    if guest.power in (Power.REBOOTING, Power.SUSPENDED, Power.DYING):
        reason = f"it is {guest.power.value}, which is no state to act on"
        return _change(host, guest.name, Action.NO_OP, reason, guest=guest, waits_for=(f"{guest.power.value} to end",))
    if guest.exists and guest.running is None:
        why = guest.problem or "xl does not tell its configuration"
        return _blocked(host, guest.name, Block(f"it is there, but {why}", _hint_for_untold(guest)), guest)
    if address_of(host.name, guest.name) in consent.rollback:
        return _rolled_back(host, guest, desired, consent)
    live = guest.power in (Power.RUNNING, Power.PAUSED)
    current = guest.running if live or guest.config is None else guest.config
    assert current is not None
    target = align_vifs(desired, current)
    fields = compare(current, target, host, running=live and desired.state == "running")
    if desired.state == "stopped":
        return _towards_stopped(host, guest, desired)
    if not live:
        reason = "it does not run" if not guest.exists else f"it is {guest.power.value}"
        return _acting(host, guest, Action.START, reason, target, fields)
    return _update(host, guest, target, fields, consent)


def _heed_quarantine(host: Host, guest: Guest, change: Change, consent: Consent) -> Change:
    """Boot inputs that failed are not tried again; a domain that is down is brought back as it last worked."""
    target = change.target
    if target is None or target.state != "running":
        return change
    boots = change.action in (Action.CREATE, Action.START, Action.RESTART)
    # without a difference that is worth a restart, what runs is the target
    failed = failed_before(guest, guest.running if boots else target) if guest.running is not None else None
    entry = quarantined(guest, target) if boots else failed
    if entry is None:
        return change
    if change.address in consent.retry:
        return change if change.quarantine is not None else _tried_again(change, runs=failed is not None)
    why = f"its boot inputs are quarantined, since they failed before: {entry.reason}"
    if entry.reason == ROLLED_BACK:
        why = f"its boot inputs are quarantined: {ROLLED_BACK}"
    waiting = tuple(f"{field.path} is quarantined" for field in change.fields)
    back = _last_proven(host, guest, target, why, failed=failed is not None)
    if back is not None:
        return replace(back, pending=waiting, quarantined=entry)
    hint = f"change kernel, ramdisk or cmdline, or try again with: reconciler apply --retry {change.address}"
    blocked = replace(_blocked(host, change.domain, Block(why, hint), guest, change.fields), quarantined=entry)
    rest = without_boot(host, change) if failed is None else None
    if rest is None:
        return blocked
    return replace(rest, reason=why, blocked=why, hint=hint, pending=waiting, quarantined=entry)


def without_boot(host: Host, change: Change) -> Change | None:
    """What can be done of a change that may not boot its target: live changes, and what must outlive the spec.

    None: nothing.
    """
    guest, target = change.guest, change.target
    if guest is None or target is None or guest.unproven or (guest.candidate is not None and not guest.exists):
        return None
    if guest.running is not None:
        part, fields, _ = _defer(host, guest.running, target, change.fields)
    elif guest.config is not None:
        part, fields = replace(with_kept(guest.config, target), state=guest.config.state), ()
    else:
        return None
    rest = _acting(host, guest, Action.UPDATE, change.reason, part, fields)
    return rest if rest.acts else None


def _tried_again(change: Change, *, runs: bool) -> Change:
    """With the quarantine lifted; what runs and has failed is started anew."""
    if runs and not change.restarts:
        change = replace(change, action=Action.RESTART, reason="tried again as --retry asked", downtime_seconds=None)
    return replace(change, quarantine=())


def _last_proven(host: Host, guest: Guest, target: Domain, why: str, *, failed: bool) -> Change | None:
    """The way to what last worked, for a domain whose target is quarantined; None: it runs that, or there is none.

    `failed`: what runs is quarantined itself, since an apply was cut short before it had gone the way back. After a
    first boot that way leads only down.
    """
    if guest.unproven and guest.candidate is not None and not failed:  # say, a rollback that was cut short
        candidate = _as_kept(guest.candidate, target)
        return _acting(host, guest, Action.UPDATE, f"what it runs has not proven itself yet, and {why}", candidate, ())
    old = guest.config
    if old is not None and failed and guest.exists and not guest.config_proven:
        remnant = _change(host, guest.name, Action.STOP, f"its first boot failed, and {why}", guest=guest, target=old)
        return replace(remnant, downtime_seconds=None)
    if old is None or not guest.config_proven or old.state != "running" or failed_before(guest, old) is not None:
        return None
    old = _as_kept(old, target)
    if not guest.exists:
        return _change(host, guest.name, Action.START, f"it does not run, and {why}", guest=guest, target=old)
    if not failed or guest.running is None:
        return None
    fields = compare(guest.running, old, host, running=True)
    reason = f"it runs what did not get ready, and {why}"
    back = _change(host, guest.name, Action.RESTART, reason, guest=guest, target=old, fields=fields)
    return replace(back, downtime_seconds=None)


def _as_kept(definition: Domain, target: Domain) -> Domain:
    """A definition from the host under the policy of the spec, but ready by the signs that were asked of it."""
    return replace(definition, policy=replace(target.policy, ready=definition.policy.ready))


def _rolled_back(host: Host, guest: Guest, desired: Domain, consent: Consent) -> Change:
    """Back to what it booted before; what it leaves and what the spec asks for are quarantined, or watch undoes it."""
    back = before_this(guest)
    wanted = as_before(desired, back) if back is not None else desired
    block = _no_rollback(host, guest, desired, wanted, is_kept=back is not None)
    if block is not None:
        return _blocked(host, guest.name, block, guest)
    allowed = replace(consent, rollback=frozenset(), restart=frozenset({address_of(host.name, guest.name)}))
    change = _reconcile_ours(host, guest, wanted, allowed)
    if not change.acts:
        return change
    return replace(change, quarantine=left_by_rollback(guest, desired), reason="rolled back to what it booted before")


def _no_rollback(host: Host, guest: Guest, desired: Domain, wanted: Domain, *, is_kept: bool) -> Block | None:
    revert = "revert the commit in git and apply it"
    if desired.state == "stopped":
        return Block("it is to be stopped, so nothing of it runs that could be rolled back", 'set state = "running"')
    if not is_kept:
        return Block("nothing that it booted before is kept on the host", revert)
    if guest.definition is not None and boots_the_same(guest.definition, wanted):
        return Block("what is kept from before boots the same kernel, ramdisk and cmdline", revert)
    entry = quarantined(guest, wanted)
    if entry is not None and entry.reason == ROLLED_BACK:
        retry = f"to go forward again: reconciler apply --retry {address_of(host.name, guest.name)}"
        return Block("it was rolled back already, and what it left then is all that is kept", retry)
    if entry is not None:
        retry = f"revert the commit in git, then: reconciler apply --retry {address_of(host.name, guest.name)}"
        return Block(f"what it booted before is quarantined: {entry.reason}", retry)
    gone = next((image.path for image in wanted.images if image.path not in host.images), None)
    return None if gone is None else Block(f"{gone}, which it booted before, is gone from the host", revert)


def _hint_for_untold(guest: Guest) -> str:
    if guest.power is Power.PAUSED:  # as a domain is that is being made, or was left half made
        return f"if nobody is creating it just now, clear it away on the host: xl destroy {guest.name}"
    return "look at `xl list -l` on the host"


def _towards_stopped(host: Host, guest: Guest, desired: Domain) -> Change:
    current = guest.running or guest.candidate or guest.config
    assert current is not None
    target = align_vifs(desired, current)
    fields = compare(current, target, host, running=False)
    if guest.exists:
        change = _acting(host, guest, Action.STOP, 'the spec says state = "stopped"', target, fields)
        return replace(change, downtime_seconds=None)
    return _acting(host, guest, Action.UPDATE, _why(guest, target), target, fields)


def _update(host: Host, guest: Guest, target: Domain, fields: tuple[FieldChange, ...], consent: Consent) -> Change:
    """A running domain of ours: live changes, a restart, or changes that wait for one."""
    assert guest.running is not None
    costly = [change for change in fields if change.effect is Effect.RESTART and not change.waits]
    lowered = tuple(f"{change.path} is lowered at the next start" for change in fields if change.waits)
    reason = _why(guest, target)
    defers = target.policy.restart == "defer" and address_of(host.name, guest.name) not in consent.restart
    if costly and not defers:
        restarted = _acting(host, guest, Action.RESTART, reason, target, fields)
        return replace(restarted, downtime_seconds=None)
    pending = lowered
    if costly:
        target, fields, deferred = _defer(host, guest.running, target, fields)
        pending = (*lowered, *deferred)
        reason = f"{reason}; what needs a restart is deferred"
    live = tuple(change for change in fields if not change.waits)
    hint = f"reconciler apply --restart {address_of(host.name, guest.name)}" if costly else None
    return replace(_acting(host, guest, Action.UPDATE, reason, target, live), pending=pending, hint=hint)


def _defer(
    host: Host, running: Domain, target: Domain, fields: tuple[FieldChange, ...]
) -> tuple[Domain, tuple[FieldChange, ...], tuple[str, ...]]:
    """The part of a target that can be had live, its fields, and what has to wait, in words."""
    reduced = without_restart(target, running)
    live = compare(running, reduced, host, running=True)
    now = {change.path for change in live}
    waiting = tuple(
        f"{change.path} needs a restart" for change in fields if change.path not in now and not change.waits
    )
    return reduced, live, waiting


def _adopt(host: Host, guest: Guest, desired: Domain, consent: Consent) -> Change:
    address = address_of(host.name, guest.name)
    if address not in consent.adopt:
        owner = "another fleet's" if guest.owner is Owner.FOREIGN else "not managed by reconciler"
        what = "a domain" if guest.exists else "a config file"
        block = Block(f"{what} of this name is there and is {owner}", f"reconciler apply --adopt {address}")
        return _blocked(host, guest.name, block, guest)
    if guest.exists and guest.running is None:
        why = guest.problem or "xl does not tell its configuration"
        return _blocked(host, guest.name, Block(f"it cannot be adopted: {why}", None), guest)
    current = guest.running or guest.config
    if current is None:
        return replace(_create(host, guest, desired), action=Action.ADOPT)
    if guest.exists and current.uuid != desired.uuid:
        block = Block("it runs with another uuid than the spec's", f'put uuid = "{current.uuid}" into the spec')
        return _blocked(host, guest.name, block, guest)
    target = align_vifs(desired, current)
    fields = compare(current, target, host, running=guest.exists)
    pending: tuple[str, ...] = ()
    if any(change.effect is Effect.RESTART for change in fields):
        target, fields, pending = _defer(host, current, target, fields)
    change = _change(host, guest.name, Action.ADOPT, "taken over as --adopt asked", fields=fields, guest=guest)
    return replace(change, target=target, pending=pending, writes_config=True)


def without_restart(target: Domain, running: Domain) -> Domain:
    """The target less all that needs a restart: what can be applied to the running domain as it is."""
    kept_disks = {disk.devid: disk for disk in running.disks}
    wanted = {disk.devid: disk for disk in target.disks}
    disks = [
        replace(disk, on_delete=wanted[disk.devid].on_delete) if disk.devid in wanted else disk
        for disk in running.disks
    ]
    vifs = {vif.devid: vif for vif in running.vifs}
    return replace(
        running,
        memory_kib=min(target.memory_kib, running.maxmem_kib),
        vcpus=min(target.vcpus, running.maxvcpus),
        cpu_weight=target.cpu_weight,
        cap=target.cap,
        disks=(*disks, *(disk for devid, disk in wanted.items() if devid not in kept_disks)),
        vifs=tuple(vifs.get(vif.devid, vif) for vif in target.vifs),
        state=target.state,
        autostart=target.autostart,
        prevent_destroy=target.prevent_destroy,
        shutdown_timeout_seconds=target.shutdown_timeout_seconds,
        on_shutdown_timeout=target.on_shutdown_timeout,
        depends_on=target.depends_on,
        policy=target.policy,
    )


def _acting(
    host: Host, guest: Guest, action: Action, reason: str, target: Domain, fields: tuple[FieldChange, ...]
) -> Change:
    """The change, or a no-op when there is nothing to do for an update."""
    waits = guest.unproven or (not guest.exists and target.state == "stopped")  # in a candidate, for the next start
    written = (guest.candidate if waits else None) or guest.config
    writes = written is None or guest.edited or not _same_config(written, target)
    unstaged = any(host.images.get(image.path) != image.sha256 for image in target.images if image.sha256)
    if action is Action.UPDATE and not (fields or writes or unstaged or guest.unproven):
        return _change(host, guest.name, Action.NO_OP, "as specified", guest=guest, target=target)
    if action is Action.UPDATE and unstaged and not fields:
        reason = "a staged kernel or ramdisk is missing on the host"
    return _change(host, guest.name, action, reason, fields=fields, guest=guest, target=target, writes_config=writes)


def _same_config(one: Domain, other: Domain) -> bool:
    """Whether two definitions are the same as far as a config file carries them (autostart is the dom0's)."""
    return one == other or replace(one, autostart=None) == replace(other, autostart=None)


def _why(guest: Guest, target: Domain) -> str:
    if guest.unproven:
        return "it runs a new definition that has not proven itself yet"
    if guest.edited:
        return "its config file was edited by hand"
    if guest.config is not None and _same_config(guest.config, target):
        return "drifted from the spec"
    return "spec changed"


def _hold(change: Change, settings: HostSettings) -> Change:
    where = "its spec" if settings.reconcile else "host.toml"
    return _left_alone(change, f"held: {where} says reconcile = false", HELD_UNTIL)


def _postponed(host: Host, change: Change, why: str) -> Change:
    """Nothing is done about it for now, but that what must outlive the spec is kept on the host."""
    guest, target = change.guest, change.target
    alone = _left_alone(change, why, "a later try")
    if guest is None or target is None or guest.config is None or guest.unproven or guest.candidate is not None:
        return alone
    now = guest.running or guest.config
    kept = replace(with_kept(now, target), state=now.state, policy=target.policy)
    update = _acting(host, guest, Action.UPDATE, why, kept, ())
    return replace(update, waits_for=alone.waits_for) if kept != now and update.acts else alone


def _left_alone(change: Change, reason: str, waits_for: str) -> Change:
    """What differs is still told; nothing is done about it."""
    return replace(
        change,
        action=Action.NO_OP,
        reason=reason,
        waits_for=(waits_for,),
        blocked=None,
        hint=None,
        target=None,
        downtime_seconds=0,
    )


def _moved(name: str, source: str, destination: str) -> Block:
    return Block(
        f"it moved from {source} to {destination} in the specs, and moving a domain is not supported yet",
        f"move {name}.toml back to {source}/, or destroy the domain there first",
    )


def _change(
    host: Host,
    name: str,
    action: Action,
    reason: str,
    *,
    fields: tuple[FieldChange, ...] = (),
    guest: Guest | None = None,
    target: Domain | None = None,
    waits_for: tuple[str, ...] = (),
    downtime_seconds: float | None = 0,
    writes_config: bool = False,
) -> Change:
    return Change(
        host=host.name,
        domain=name,
        action=action,
        reason=reason,
        fields=fields,
        guest=guest,
        target=target,
        waits_for=waits_for,
        downtime_seconds=downtime_seconds,
        writes_config=writes_config,
    )


def _blocked(host: Host, name: str, block: Block, guest: Guest | None, fields: tuple[FieldChange, ...] = ()) -> Change:
    change = _change(host, name, Action.BLOCKED, block.reason, fields=fields, guest=guest)
    return replace(change, blocked=block.reason, hint=block.hint)
