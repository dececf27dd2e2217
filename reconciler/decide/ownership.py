"""Decides what may be taken over, given up or renamed: whose a domain is, which one it is, and what shows it.

Called by `decide` for one domain at a time, and by `chains`.
"""

from __future__ import annotations

from reconciler.decide.changes import Action, Change, Consent, Fleet, left_alone, make_blocked, make_change
from reconciler.decide.diff import Effect, FieldChange, Pending, align_vifs, compare
from reconciler.decide.partial import defer
from reconciler.decide.safety_rules import Block
from reconciler.decide.unusable import why_unusable
from reconciler.model.copies import replace
from reconciler.model.domain import Domain, Image, address_of
from reconciler.model.fleet import Doubt, HostSettings
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.specs.resolve.images import staged_path


def adopt(
    host: Host, settings: HostSettings, guest: Guest, desired: Domain, consent: Consent, created: Change
) -> Change:
    """Decide about a domain or config file that is not ours. `created` is its change if it is neither one yet."""
    if not _may_be_adopted(host, guest, consent):
        address = address_of(host.name, guest.name)
        owner = "another fleet's" if guest.owner is Owner.FOREIGN else "not managed by reconciler"
        what = "a domain" if guest.exists else "a config file"
        block = Block(f"{what} of this name is there and is {owner}", f"reconciler apply --adopt {address}")
        return make_blocked(host, guest.name, block, guest)
    unusable = why_unusable(desired)
    if unusable is not None:  # that freezes all that the spec asks for, and it asks for the domain itself
        return make_blocked(host, guest.name, Block(unusable, "put the right file there, or correct the spec"), guest)
    if guest.exists and (guest.running is None or guest.power not in (Power.RUNNING, Power.PAUSED)):
        why = guest.problem or "xl does not tell its configuration"
        why = why if guest.power in (Power.RUNNING, Power.PAUSED) else f"it is {guest.power}"
        return make_blocked(host, guest.name, Block(f"it cannot be adopted: {why}", None), guest)
    current = as_adopted(host, settings, guest.running) if guest.running is not None else guest.config
    if current is None:
        return replace(created, action=Action.ADOPT)
    hint = None
    if guest.owner is Owner.FOREIGN and current.uuid != desired.uuid:
        desired, hint = with_identity_of(current, desired)
    if guest.exists and current.uuid != desired.uuid:
        block = Block("it runs with another uuid than the spec's", f'put uuid = "{current.uuid}" into the spec')
        return make_blocked(host, guest.name, block, guest)
    target = align_vifs(desired, current)
    fields = compare(current, target, host, running=guest.exists)
    pending: tuple[Pending, ...] = ()
    if any(change.effect is Effect.RESTART for change in fields):
        target, fields, pending = defer(host, current, target, fields)
    change = make_change(host, guest.name, Action.ADOPT, "taken over as --adopt asked", fields=fields, guest=guest)
    rest = Action.RESTART if pending else None
    return replace(change, target=target, pending=pending, writes_config=True, hint=hint, would=rest)


def _may_be_adopted(host: Host, guest: Guest, consent: Consent) -> bool:
    """Return whether the user named this domain, or its host. A whole host never takes what another fleet has."""
    if address_of(host.name, guest.name) in consent.adopt:
        return True
    return host.name in consent.adopt and guest.owner is Owner.UNMANAGED


def with_identity_of(current: Domain, desired: Domain) -> tuple[Domain, str]:
    """Return a spec with the uuid and the macs that another fleet's name derived, and the lines that keep them."""
    by_index = {vif.devid: vif.mac for vif in current.vifs}
    vifs = tuple(
        vif if vif.named else replace(vif, mac=by_index.get(vif.devid, vif.mac), named=True) for vif in desired.vifs
    )
    macs = "".join(f', and mac = "{vif.mac}" into its vif {place}' for place, vif in enumerate(vifs, 1))
    hint = f'to keep its identity under the name of this fleet, put uuid = "{current.uuid}" into the spec{macs}'
    return replace(desired, uuid=current.uuid, vifs=vifs), hint


def as_adopted(host: Host, settings: HostSettings, running: Domain) -> Domain:
    """Return what runs, with the kernel and ramdisk that it booted as files that can be staged.

    A domain that was made without us runs from any file of its host. What that file holds now is taken for what it
    booted, staged, and recorded in the mark; what it holds later proves nothing.
    """

    def staged(image: Image | None) -> Image | None:
        if image is None or image.path in host.images:
            return image
        now = host.unstaged.get(image.path, "")
        sha256 = image.sha256 or now
        if not sha256 or sha256 != now:  # nobody has its bytes any more
            return replace(image, sha256=sha256)
        path = staged_path(settings.kernel_dir, running.name, image.path, sha256)
        return Image(sha256=sha256, path=path, source=image.path)

    return replace(running, kernel=staged(running.kernel), ramdisk=staged(running.ramdisk))


def booted_unstaged(host: Host, guest: Guest | None) -> tuple[tuple[str, str], ...]:
    """Return path and sha256 of each file that a running domain booted and that is not staged, for its mark."""
    if guest is None or guest.running is None:
        return ()
    now = {} if guest.owner is Owner.OURS else host.unstaged
    found = (
        (image.path, image.sha256 or now.get(image.path, ""))
        for image in guest.running.images
        if image.path not in host.images
    )
    return tuple((path, sha256) for path, sha256 in found if path and sha256)


def kept_from_pruning(gone: Change, guest: Guest, doubt: Doubt | None, *, adopting: bool) -> Change:
    """Return the change of a domain that no spec names, as far as it may be destroyed at all.

    One that this tree may never have asked for stays. In a run that adopts its host nothing is destroyed; the marks of
    what is in doubt are renewed, so that a later run knows.
    """
    if adopting:
        kept = left_alone(gone, f"{gone.reason}, and a run with --adopt {gone.host} prunes nothing", "a later run")
        return kept if doubt is None else _renewed(kept, guest)
    return gone if doubt is None else replace(left_alone(gone, doubt.why, doubt.waits_for), hint=doubt.hint)


def with_renewed_mark(change: Change) -> Change:
    """Return a change that also has the commit of this tree noted, where nothing else writes the config file."""
    guest = change.guest
    idle = change.action is Action.NO_OP and change.would is None and not change.pending
    return change if guest is None or guest.owner is not Owner.OURS or not idle else _renewed(change, guest)


def _renewed(change: Change, guest: Guest) -> Change:
    untouched = guest.candidate is None and guest.config_proven and not guest.edited and not guest.problem
    if guest.config is None or not untouched or guest.newer is not None:
        return change
    return replace(
        change,
        action=Action.UPDATE,
        reason=f"{change.reason}; its mark is renewed, as --adopt asked",
        target=guest.config,
        notes=True,
        writes_config=True,
        waits_for=(),
    )


def with_new_name(host: Host, change: Change) -> Change:
    """Return the change of a domain that its host has under another name yet: the name is a field like others."""
    guest = change.guest
    if guest is None or guest.renamed_from is None:
        return change
    old = guest.renamed_from
    named = FieldChange(path="name", before=old, after=guest.name, effect=Effect.LIVE)
    fields = tuple(sorted((named, *change.fields), key=lambda field: field.path))
    if change.acts and guest.candidate is not None:  # which it runs from
        why = Block(
            f"an update of it was cut short while it was called {old}",
            f"give its file the old name again ({old}.toml), apply, then rename it",
        )
        return make_blocked(host, guest.name, why, guest, fields, change.action)
    if change.action is Action.NO_OP and change.target is not None:  # decided in full, and nothing else is left to do
        return replace(change, action=Action.UPDATE, reason=f"renamed from {old}", fields=fields)
    reason = f"{change.reason}; renamed from {old}" if change.acts else change.reason
    return replace(change, fields=fields, reason=reason)


def block_rename(host: Host, guest: Guest | None, desired: Domain, fleet: Fleet) -> Block | None:
    """Return why a domain cannot be the one that was called otherwise; None where it can, or has no other name."""
    if guest is not None and guest.owner is Owner.OURS:
        return None
    keeper = fleet.keepers.get(desired.uuid)
    if keeper is not None and keeper.partition("/")[0] != host.name:
        return Block(
            f"its uuid is that of {keeper}, and a domain is renamed on its own host only",
            f"move {desired.name}.toml to {keeper.partition('/')[0]}/, or give it a uuid of its own",
        )
    old = fleet.renamed_from.get(address_of(host.name, desired.name))
    other = host.guests.get(old) if old is not None else None
    if other is None or other.owner is Owner.OURS:
        return None
    whose = "another fleet's" if other.owner is Owner.FOREIGN else "not managed by reconciler"
    return Block(
        f"{old}, which its spec says it was renamed from, is {whose}",
        f"give its file the old name ({old}.toml), then: reconciler apply --adopt {address_of(host.name, str(old))}",
    )


def block_prune(host: Host, guest: Guest, fleet: Fleet, twins: int) -> Block | None:
    """Return why what no spec names may be a domain that got another name, so that it is not destroyed."""
    definition = guest.config or guest.candidate
    heir = fleet.heirs.get(definition.uuid) if definition is not None else None
    if heir is not None:
        return Block(
            f"its uuid is that of {heir} in the specs, so it may be that domain under its old name",
            f"see why it cannot be renamed: reconciler why {heir}",
        )
    if twins > 1:
        return Block(
            "another config file of ours on its host has its uuid, as a rename that was cut short leaves it",
            f'restore the spec of the new name, with renamed_from = "{guest.name}", and apply',
        )
    return None
