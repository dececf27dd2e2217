"""What a boot reads, as one digest: the identity under which a failed boot is remembered and not tried again."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from reconciler.model.domain import Domain, canonical_json
from reconciler.model.host import Guest, Quarantined

ROLLED_BACK = "rolled back by hand"  # the reason of what `reconciler rollback` left, which did not fail
_REMEMBERED = 10  # failed boots kept for a domain


def boot_digest(definition: Domain) -> str:
    """sha256 over all that a boot reads: kernel, ramdisk, command line, devices, and what is set only at a start.

    So whatever needs a restart is in it. Left out is what changes live or is only kept (memory within maxmem, vcpus,
    weights, prevent_destroy …): such a change does not make a bad kernel worth another try.
    """
    inputs = {
        "type": definition.type,
        "images": [image.sha256 or image.path for image in definition.images],
        "cmdline": definition.cmdline or "",  # xl lists an empty one for none
        "bootloader": [definition.bootloader, *definition.bootloader_args],
        "firmware": definition.firmware,
        "maxmem_kib": definition.maxmem_kib,
        "maxvcpus": definition.maxvcpus,
        "cpus": definition.cpus,
        "on": [definition.on_poweroff, definition.on_reboot, definition.on_crash, definition.on_watchdog],
        "disks": [[disk.devid, disk.target, disk.format, disk.access] for disk in definition.disks],
        "vifs": [
            [vif.mac, vif.bridge, vif.ip, vif.script, vif.rate, vif.model, vif.type, vif.vifname]
            for vif in definition.vifs
        ],
        "pci": list(definition.pci),
        "xl": [list(pair) for pair in definition.xl],
    }
    return hashlib.sha256(canonical_json(inputs).encode()).hexdigest()


def quarantined(guest: Guest | None, definition: Domain) -> Quarantined | None:
    """The failed boot that this definition would repeat, if it is one that is remembered."""
    if guest is None or not guest.quarantine:
        return None
    digest = boot_digest(definition)
    return next((entry for entry in guest.quarantine if entry.boot == digest), None)


def failed_before(guest: Guest | None, definition: Domain) -> Quarantined | None:
    """As `quarantined`, less what a rollback left: that has worked."""
    entry = quarantined(guest, definition)
    return None if entry is None or entry.reason == ROLLED_BACK else entry


def with_quarantined(guest: Guest | None, definition: Domain, reason: str) -> tuple[Quarantined, ...]:
    """The remembered failed boots with this one added, the oldest dropped."""
    entry = Quarantined(boot=boot_digest(definition), kernel=_kernel(definition), reason=reason)
    before = [other for other in (guest.quarantine if guest is not None else ()) if other.boot != entry.boot]
    return (*before[-(_REMEMBERED - 1) :], entry)


def before_this(guest: Guest) -> Domain | None:
    """Where a rollback leads: what was proven before what runs now; None: nothing is kept."""
    return guest.config if guest.unproven and guest.config_proven else guest.previous


def as_before(desired: Domain, before: Domain) -> Domain:
    """The desired domain, booting what an earlier definition of it booted, and ready by the signs of that time."""
    return replace(
        desired,
        policy=replace(desired.policy, ready=before.policy.ready),
        type=before.type,
        kernel=before.kernel,
        ramdisk=before.ramdisk,
        cmdline=before.cmdline,
        bootloader=before.bootloader,
        bootloader_args=before.bootloader_args,
        firmware=before.firmware,
    )


def boots_the_same(one: Domain, other: Domain) -> bool:
    """Whether a rollback from one to the other would change nothing."""
    return as_before(one, other) == one


def left_by_rollback(guest: Guest, desired: Domain) -> tuple[Quarantined, ...]:
    """The remembered boots with what runs now and what the specs ask for: so nobody undoes a rollback."""
    if guest.definition is None:
        return with_quarantined(guest, desired, ROLLED_BACK)
    left = with_quarantined(guest, guest.definition, ROLLED_BACK)
    return with_quarantined(replace(guest, quarantine=left), desired, ROLLED_BACK)


def _kernel(definition: Domain) -> str:
    return definition.kernel.path if definition.kernel is not None else ""
