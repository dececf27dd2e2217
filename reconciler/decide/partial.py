"""Finds the part of a change that can be done at once, while the rest waits: for a restart, a kernel,
a window or a later try.

Called by `decide`, `quarantine` and `waves`.
"""

from __future__ import annotations

from reconciler.decide.changes import Action, Change, left_alone, make_acting
from reconciler.decide.diff import Effect, FieldChange, Pending, compare
from reconciler.decide.windows import WINDOW, Shut, Wait
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, Image
from reconciler.model.host import Guest, Host, Owner
from reconciler.model.parts import kept_of_policy, live_values, with_kept


def without_restart(target: Domain, running: Domain) -> Domain:
    """Return the target without all that needs a restart: what the running domain can be given as it is."""
    kept = with_kept(running, target)
    there = {disk.devid for disk in running.disks}
    vifs = {vif.devid: vif for vif in running.vifs}
    sizes = {(disk.devid, disk.target): disk.size_bytes for disk in target.disks}
    grown = (replace(disk, size_bytes=sizes.get((disk.devid, disk.target))) for disk in kept.disks)
    return replace(
        kept,
        disks=(*grown, *(disk for disk in target.disks if disk.devid not in there)),
        vifs=tuple(vifs.get(vif.devid, vif) for vif in target.vifs),
        policy=target.policy,
        **live_values(target, running),
    )


def to_be_written(part: Domain, guest: Guest) -> Domain:
    """Return what the config file gets of such a part, without anything that its proven boot did not read.

    What runs may have been started by hand from something else, or from a file that is not staged.
    """
    proven = guest.config if guest.config_proven and not (guest.edited or guest.unproven) else None
    return _as_staged(part, guest) if proven is None else without_restart(part, proven)


def defer(
    host: Host, running: Domain, target: Domain, fields: tuple[FieldChange, ...]
) -> tuple[Domain, tuple[FieldChange, ...], tuple[Pending, ...]]:
    """Return the part of a target that can be had live, its fields, and in words what has to wait."""
    reduced = without_restart(target, running)
    live = compare(running, reduced, host, running=True)
    now = {change.path for change in live}
    waiting = tuple(
        Pending(field=change, why="needs a restart") for change in fields if change.path not in now and not change.waits
    )
    return reduced, live, waiting


def without_boot(host: Host, change: Change) -> Change | None:
    """Return what is left of a change that may not boot its target: live changes, and what must outlive the spec.

    None when nothing is left.
    """
    guest, target = change.guest, change.target
    if guest is None or target is None or guest.unproven or (guest.candidate is not None and not guest.exists):
        return None
    if guest.running is not None and not any(field.effect is Effect.RESTART for field in _not_waiting(change.fields)):
        part, fields = target, _not_waiting(change.fields)  # only asked to restart: the rest is as if nobody had
    elif guest.running is not None:
        part, fields, _ = defer(host, guest.running, target, change.fields)
        part = to_be_written(part, guest)
    elif guest.config is not None:
        part, fields = _kept(guest.config, target), ()
    else:
        return None
    rest = make_acting(host, guest, Action.UPDATE, change.reason, part, fields)
    return rest if rest.acts else None


def _not_waiting(fields: tuple[FieldChange, ...]) -> tuple[FieldChange, ...]:
    return tuple(field for field in fields if not field.waits)


def restart_later(
    change: Change, rest: Change | None, *, reason: str, waits_for: str, hint: str, pending_why: str
) -> Change:
    """Return a restart that waits as what is left of it for now: `rest`, which `without_boot` gave, or nothing."""
    live = rest.fields if rest is not None else ()
    return replace(
        rest or replace(change, action=Action.NO_OP, target=None, downtime_seconds=0),
        reason=reason,
        waits_for=(*change.waits_for, waits_for),
        hint=hint,
        would=Action.RESTART,
        pending=tuple(Pending(field=field, why=pending_why) for field in change.fields if field not in live),
    )


def _kept(definition: Domain, target: Domain) -> Domain:
    """Add what must outlive the spec, except its state: state = "running" would start the domain as it is."""
    return replace(with_kept(definition, target), state=definition.state)


def postponed(host: Host, change: Change, why: str) -> Change:
    """Do nothing about a domain for now, but keep on its host what must outlive the spec."""
    guest, target = change.guest, change.target
    alone = left_alone(change, why, "a later try")
    if guest is None or target is None or guest.config is None or guest.unproven or guest.candidate is not None:
        return alone
    now = guest.running or guest.config
    kept = replace(_kept(now, target), policy=target.policy)
    update = make_acting(host, guest, Action.UPDATE, why, to_be_written(kept, guest), ())
    keeps = kept != now or kept_of_policy(kept) != kept_of_policy(guest.config)
    if not (keeps and update.acts):
        return alone
    rest = alone.would if alone.would is not Action.UPDATE else None
    return replace(update, reason=why, waits_for=alone.waits_for, would=rest, quarantined=change.quarantined)


def heed_windows(host: Host, change: Change, shut: Shut | None) -> Change:
    """Return the change as what of it may happen now. A restart that waits leaves what can be done live."""
    if shut is None or change.leads_back:
        return change
    now = shut.wait(change.address, change.action) if change.acts and not change.resumes else None
    if now is not None:
        held = _held_by_window(host, change, now)
        live = shut.wait(change.address, held.action) if held.acts else None
        return held if live is None else _alone_until(change, now)
    later = shut.wait(change.address, change.would) if change.would is not None and change.blocked is None else None
    return change if later is None else replace(change, waits_for=(*change.waits_for, later.told))


def _held_by_window(host: Host, change: Change, wait: Wait) -> Change:
    rest = without_boot(host, change) if change.action is Action.RESTART else None
    if rest is None:
        return _alone_until(change, wait)
    return restart_later(
        change,
        rest,
        reason=_why_until(change, wait),
        waits_for=wait.told,
        hint=_way_out(change),
        pending_why="waits for its window",
    )


def _alone_until(change: Change, wait: Wait) -> Change:
    alone = left_alone(change, _why_until(change, wait), wait.told)
    return replace(alone, waits_for=(*change.waits_for, wait.told), hint=_way_out(change))


def _why_until(change: Change, wait: Wait) -> str:
    return f"its {change.action.value} waits for {wait.told.replace(WINDOW, 'a window: ')}"


def _way_out(change: Change) -> str:
    return f"to do it now all the same: reconciler apply --ignore-windows --target {change.address}"


def _as_staged(definition: Domain, guest: Guest) -> Domain:
    """Name the same bytes by their staged paths: a config file of ours names no other file."""
    config = guest.config

    def staged(image: Image | None, kept: Image | None) -> Image | None:
        same = image is not None and kept is not None and image.sha256 != "" and image.sha256 == kept.sha256
        return kept if same else image

    if config is None or guest.owner is not Owner.OURS:
        return definition
    return replace(
        definition,
        kernel=staged(definition.kernel, config.kernel),
        ramdisk=staged(definition.ramdisk, config.ramdisk),
    )
