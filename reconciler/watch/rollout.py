"""A failed update does not walk through the fleet: which restarts wait because another one failed. Pure.

Within one apply the first failed restart stops the rest. The loop would begin that rest at its next pass; so it asks
here first. Starts of what crashed and live changes never wait: only what would take a running domain down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from reconciler.decide.changes import Action, Change
from reconciler.model.boot import ROLLED_BACK
from reconciler.model.fleet import Desired
from reconciler.plan.plan import Plan


def restarts_to_postpone(plan: Plan, desired: Desired, failed: Collection[str]) -> dict[str, str]:
    """Address -> why its restart waits: for an earlier wave, or because the same kernel failed to boot elsewhere."""
    refused = [change for change in plan.changes if _failed_to_boot(change)]
    stuck = {
        address: wave
        for address in (*failed, *(change.address for change in refused))
        if (wave := _wave(desired, address)) is not None
    }
    found = {}
    for change in plan.changes:
        if change.action is not Action.RESTART or change.target is None:
            continue
        earlier = sorted(address for address, wave in stuck.items() if wave < change.target.policy.wave)
        if earlier:
            found[change.address] = f"its restart waits for wave {stuck[earlier[0]]}, where {earlier[0]} failed"
        elif (culprit := _same_kernel(change, refused)) is not None:
            found[change.address] = f"its restart waits, since the kernel failed to boot in {culprit}"
    return found


def _failed_to_boot(change: Change) -> bool:
    return change.quarantined is not None and change.quarantined.reason != ROLLED_BACK


def _same_kernel(change: Change, refused: Iterable[Change]) -> str | None:
    """Another domain in which the kernel that this restart would bring failed; None also when it runs it already."""
    kernel = change.target.kernel if change.target is not None else None
    running = change.guest.running.kernel if change.guest is not None and change.guest.running is not None else None
    if kernel is None or not kernel.sha256 or kernel == running:
        return None
    for other in refused:
        if other.quarantined is not None and other.quarantined.kernel.endswith(f".{kernel.short}"):
            return other.address
    return None


def _wave(desired: Desired, address: str) -> int | None:
    host, _, name = address.partition("/")
    part = desired.hosts.get(host)
    return part.domains[name].policy.wave if part is not None and name in part.domains else None
