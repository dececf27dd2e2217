"""Says how long a step waits for what a host or a guest does in its own time, in seconds of the clock of `Xl`."""

from __future__ import annotations

NAME_FREE_SECONDS = 60  # clean-up of disks and interfaces after a shutdown; some dom0s are slow at it
MEMORY_FREE_SECONDS = 60  # freed pages are scrubbed before they count as free
REMNANT_SECONDS = 3  # until a create that failed has cleaned up by itself, or has not
HALF_MADE_SECONDS = 10  # between two looks at a domain that nobody seems to be making any more
STABLE_SECONDS = 30  # a domain that stays shut down or crashed for so long has nobody who clears it away
REBOOT_GAP_SECONDS = 30  # xl's daemon pauses 2 s between two lives; a busy dom0 takes longer
DESTROY_SECONDS = 60
ASK_AGAIN_SECONDS = 10  # after `xl shutdown` itself has failed
STUCK_SECONDS = 60  # a balloon that has not moved for so long will not move any more
BALLOON_SECONDS = 900
CONNECT_SECONDS = 30  # until guest and dom0 have both connected a new device
