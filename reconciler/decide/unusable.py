"""Holds back what a spec asks for while its kernel or ramdisk cannot be used; the domain goes on as it last worked.

A source that vanished, is empty, a Git LFS pointer or not as pinned is an error of the spec, which freezes all that the
spec asks for: another command line may be meant for the very kernel that is missing. What is proven goes on. The domain
is kept running as its config file says, started and restarted from it. Called by `reconcile` once hosts were asked for
their files, and by `plan` to say it of each change.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.decide.changes import Action, Change
from reconciler.decide.diff import Effect, align_vifs, compare
from reconciler.model.copies import replace
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.domain import Domain, Image, address_of
from reconciler.model.fleet import Desired
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.specs.resolve.images import complete_images

USABLE = "a kernel and ramdisk that can be used"
"""What a change waits for whose spec asks for files that cannot be used."""


def why_unusable(asked: Domain) -> str | None:
    """Say which image cannot be used; None when all of them can."""
    missing = next((image.source for image in asked.images if not image.sha256), None)
    return None if missing is None else f"{missing} is not there, or not as pinned"


def as_it_last_worked(asked: Domain, guest: Guest | None) -> Domain | None:
    """Return what a domain of ours goes on with; None when nobody knows what that is.

    How it is to be treated may only become stricter: reconcile = false of the spec counts.
    """
    if guest is None or guest.owner is not Owner.OURS or guest.edited or guest.newer is not None:
        return None
    proven = guest.config if guest.config_proven and not guest.unproven else None
    known = proven or guest.definition
    if known is None:
        return None
    treated = known.policy
    return replace(
        known,
        policy=replace(
            treated,
            restart=asked.policy.restart,
            reconcile=asked.policy.reconcile and treated.reconcile,
            wave=treated.wave if guest.wave_noted else asked.policy.wave,
        ),
    )


def going_on(change: Change, asked: Domain, host: Host) -> Change:
    """Return the change of a domain that goes on as it last worked, with why, and what its spec asks for."""
    why = f"{why_unusable(asked)}, so it goes on as it last worked"
    waits_for = (*change.waits_for, USABLE)
    if change.action is not Action.NO_OP or change.would is not None or change.blocked is not None:
        return replace(change, reason=f"{change.reason}; {why}", waits_for=waits_for)
    guest = change.guest
    current = guest.definition if guest is not None else None
    assert guest is not None
    assert current is not None
    wanted = align_vifs(_with_images_of(asked, current), current)
    fields = compare(current, wanted, host, running=guest.power in (Power.RUNNING, Power.PAUSED))
    costly = any(field.effect is Effect.RESTART and not field.waits for field in fields)
    rest = Action.RESTART if costly else Action.UPDATE
    reason = why if change.reason == "as specified" else f"{change.reason}; {why}"
    return replace(change, reason=reason, waits_for=waits_for, fields=fields, would=rest if fields else None)


def _with_images_of(asked: Domain, current: Domain) -> Domain:
    """Return what is asked for with the images that are there in place of those that cannot be used."""

    def there(image: Image | None, now: Image | None) -> Image | None:
        return now if image is not None and not image.sha256 else image

    return replace(asked, kernel=there(asked.kernel, current.kernel), ramdisk=there(asked.ramdisk, current.ramdisk))


def complete(desired: Desired, hosts: Mapping[str, Host]) -> tuple[Desired, tuple[Diagnostic, ...]]:
    """Return the desired state with the digests that only hosts could tell.

    A source that vanished is an error of the spec. Its domain goes on as it last worked, and nothing is pruned.
    """
    problems: list[Diagnostic] = []
    parts = dict(desired.hosts)
    unusable: dict[str, Domain] = {}
    kept: set[str] = set()
    for name, host in hosts.items():
        part = parts[name]
        domains = {**part.domains, **_to_be_started(host, desired)}
        kept |= {address_of(name, domain) for domain in domains if domain not in part.domains}
        for domain in part.domains.values():
            completed, missing = complete_images(domain, part.settings, host.digests)
            address = address_of(name, domain.name)
            problems += [replace(problem, address=address) for problem in missing]
            domains[domain.name] = completed
            going_on = as_it_last_worked(completed, host.guests.get(domain.name)) if why_unusable(completed) else None
            if going_on is not None:
                unusable[address], domains[domain.name] = completed, going_on
        parts[name] = replace(part, domains=domains)
    prune = desired.prune and not problems
    frozen = desired.frozen - kept
    return replace(desired, hosts=parts, frozen=frozen, unusable=unusable, prune=prune), tuple(problems)


def _to_be_started(host: Host, desired: Desired) -> dict[str, Domain]:
    """Return what is down and starts as it last worked although the settings of the tree have errors."""
    addresses = desired.to_keep_running & desired.frozen
    found = (guest for guest in host.guests.values() if address_of(host.name, guest.name) in addresses)
    return {guest.name: guest.config for guest in found if guest.config is not None and _is_proven_and_down(guest)}


def _is_proven_and_down(guest: Guest) -> bool:
    whole = guest.owner is Owner.OURS and guest.config_proven and not guest.edited and guest.newer is None
    return whole and guest.power in (Power.ABSENT, Power.SHUTDOWN, Power.CRASHED)
