"""Says which step takes a disk, a mac or a uuid, and which one gives it up. `edges` lets them change hands by that."""

from __future__ import annotations

from reconciler.model.claims import Claims, claims_of, disk_claims, live_claims, mac_claim, target_claim
from reconciler.model.host import Guest, Host
from reconciler.plan.steps import AttachDisk, AttachVif, CreateDisk, DetachVif, SetMedium, Shutdown, Start, Step


def taken_by(host: Host, step: Step) -> Claims:
    """Return the claims that a domain has from this step on, or that it reads in it."""
    match step:
        case Start():
            return claims_of(host, step.definition)
        case AttachVif():
            claim = mac_claim(step.vif)
        case AttachDisk() | SetMedium():
            return disk_claims(host, step.disk)
        case CreateDisk() if step.disk.source is not None:
            claim = target_claim(host, step.disk.source, reads_only=True)
        case _:
            return {}
    return {claim.key: claim}


def released_by(host: Host, guest: Guest | None, step: Step) -> Claims:
    """Return the claims of a domain, as it was observed, that it no longer has after this step."""
    match step:
        case Shutdown():
            return live_claims(host, guest)
        case DetachVif():
            claim = mac_claim(step.vif)
            return {claim.key: claim}
        case SetMedium():
            disks = guest.running.disks if guest is not None and guest.running is not None else ()
            before = (disk_claims(host, disk) for disk in disks if disk.devid == step.disk.devid)
            return {key: claim for claims in before for key, claim in claims.items()}
        case _:
            return {}
