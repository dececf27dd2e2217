"""How long a step waits for what a host or a guest does in its own time. Tests bring less of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds, each for one thing that is awaited by looking again every `poll_seconds`."""

    poll_seconds: float = 1
    name_free_seconds: float = 60  # clean-up of disks and interfaces after a shutdown; some dom0s are slow at it
    memory_free_seconds: float = 60  # freed pages are scrubbed before they count as free
    remnant_seconds: float = 3  # until a create that failed has cleaned up by itself, or has not
    stable_seconds: float = 30  # a domain that stays shut down or crashed for so long has nobody who clears it away
    reboot_gap_seconds: float = 30  # xl's daemon pauses 2 s between two lives; a busy dom0 takes longer
    destroy_seconds: float = 60
    stuck_seconds: float = 60  # a balloon that has not moved for so long will not move any more
    balloon_seconds: float = 900
    connect_seconds: float = 30  # until guest and dom0 have both connected a new device


PATIENT = Patience()
