"""Keeps boot inputs that failed, or that a rollback left, from being tried again; the last proven ones come back.

Called by `decide` for each change of a domain with a quarantine, and before a rollback. Say the new kernel of `web`
panicked once. While web runs its old one, the update is blocked; when web is down, it is started with its old one:

>>> from tests.worlds import NEW, change_of, desired, domain, guest, host, kernel, plan, stopped
>>> from reconciler.model.boot import with_quarantined
>>> old, new = domain("web"), domain("web", kernel=kernel("web", NEW))
>>> failed = with_quarantined(None, new, "it panicked")
>>> [change_of(plan(host(one(old, quarantine=failed)), desired(new)), "web").action.value for one in (guest, stopped)]
['blocked', 'start']
"""

from __future__ import annotations

from reconciler.decide.changes import Action, Change, Consent, make_acting, make_blocked, make_change
from reconciler.decide.diff import Pending, compare
from reconciler.decide.partial import without_boot
from reconciler.decide.safety_rules import Block
from reconciler.model.boot import ROLLED_BACK, boots_the_same, failed_before, quarantined
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, address_of
from reconciler.model.host import Guest, Host


def heed_quarantine(host: Host, guest: Guest, change: Change, consent: Consent) -> Change:
    """Return the change, unless it would boot inputs that failed: then what of it can be done all the same.

    A domain that is down, or that runs what failed, is brought back as it last worked.
    """
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
    waiting = tuple(Pending(field=field, why="is quarantined") for field in change.fields)
    back = _last_proven(host, guest, target, why, failed=failed is not None)
    if back is not None:
        return replace(back, pending=waiting, quarantined=entry, would=change.action)
    hint = f"change kernel, ramdisk or cmdline, or try again with: reconciler apply --retry {change.address}"
    blocked = make_blocked(host, change.domain, Block(why, hint), guest, change.fields, change.action)
    blocked = replace(blocked, quarantined=entry)
    rest = without_boot(host, change) if failed is None else None
    if rest is None:
        return blocked
    waiting = tuple(one for one in waiting if one.field not in rest.fields)
    return replace(rest, reason=why, blocked=why, hint=hint, pending=waiting, quarantined=entry, would=change.action)


def _tried_again(change: Change, *, runs: bool) -> Change:
    """Return the change with the quarantine lifted. A domain that runs what failed is restarted."""
    if runs and not change.restarts:
        change = replace(change, action=Action.RESTART, reason="tried again as --retry asked", downtime_seconds=None)
    return replace(change, quarantine=())


def _last_proven(host: Host, guest: Guest, target: Domain, why: str, *, failed: bool) -> Change | None:
    """Return the change that leads to what last worked; None when the domain runs it already, or there is none.

    `failed` says that what runs is quarantined itself, since an apply was cut short before it had gone the way back.
    After a failed first boot, that way only leads down.
    """
    if guest.unproven and guest.candidate is not None and not failed:  # say, a rollback that was cut short
        candidate = _as_kept(guest.candidate, target)
        return make_acting(
            host, guest, Action.UPDATE, f"what it runs has not proven itself yet, and {why}", candidate, ()
        )
    old = guest.config
    if old is not None and failed and guest.exists and not guest.config_proven:
        remnant = make_change(
            host, guest.name, Action.STOP, f"its first boot failed, and {why}", guest=guest, target=old
        )
        return replace(remnant, downtime_seconds=None)
    if old is None or not guest.config_proven or old.state != "running" or failed_before(guest, old) is not None:
        return None
    old = _as_kept(old, target)
    if not guest.exists:
        return make_change(host, guest.name, Action.START, f"it does not run, and {why}", guest=guest, target=old)
    if not failed or guest.running is None:
        return None
    fields = compare(guest.running, old, host, running=True)
    reason = f"it runs what did not get ready, and {why}"
    back = make_change(host, guest.name, Action.RESTART, reason, guest=guest, target=old, fields=fields)
    return replace(back, downtime_seconds=None)


def _as_kept(definition: Domain, target: Domain) -> Domain:
    """Return a definition of the host with the spec's policy, but with the ready signs that were asked of it."""
    return replace(definition, policy=replace(target.policy, ready=definition.policy.ready))


def no_rollback(host: Host, guest: Guest, desired: Domain, wanted: Domain, *, is_kept: bool) -> Block | None:
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
