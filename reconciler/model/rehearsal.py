"""A rehearsal: the throwaway domain that boots new boot inputs beside the running one, on snapshots of its disks.

Made by `decide`, carried in steps, made and taken down by executors. It is never a domain of the fleet.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Literal

from reconciler.model.diagnostics import Diagnostic, ReconcilerError
from reconciler.model.domain import Disk, Domain, Ready
from reconciler.records import dataclass

ENDING = ".rehearsal"
"""What the name of a throwaway ends in, and that of no spec."""

Way = Literal["lvm", "thin", "reflink", "copy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFact:
    """How a host can make a snapshot of a disk, and the room that there is: of its volume group, pool or file system.

    With `way` None there is none, for the reason in `why_not`. A file without reflinks can only be copied.
    """

    way: Way | None
    why_not: str = ""
    room: str = ""  # the name of that volume group, pool or file system
    size_bytes: int = 0  # of the disk
    free_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A snapshot of one disk. `room_bytes` is what it takes: a classic LVM snapshot at once, the others at most."""

    way: Way
    origin: str
    target: str
    size_bytes: int
    room: str
    room_bytes: int
    keep_free_bytes: int = 0  # of what it is in; below, the rehearsal is ended
    vdev: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """All that it takes to boot one definition beside the domain `of`, and to take that down again."""

    of: str
    of_uuid: str
    definition: Domain
    ready: Ready
    clones: tuple[Clone, ...] = ()
    bridge: str | None = None  # one of its own, made for it; None: none is needed, or there is one for rehearsals
    pause_seconds: float = 0  # how long its domain is expected to be paused meanwhile; 0: not at all
    has_less_memory: bool = False  # than the domain, so that it says nothing where that is what it lacks

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def uuid(self) -> str:
        return self.definition.uuid

    @property
    def written(self) -> tuple[Disk, ...]:
        """Return the disks that it writes to, which have to be snapshots."""
        return tuple(disk for disk in self.definition.disks if disk.access == "rw" and not disk.cdrom)


class NotMadeError(ReconcilerError):
    """Reports why a rehearsal could not be made, and for how long its domain was paused in vain."""

    def __init__(self, *diagnostics: Diagnostic, paused_seconds: float) -> None:
        super().__init__(*diagnostics)
        self.paused_seconds = paused_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What the record of a rehearsal on a host names: what was about to be made, and has to be taken down."""

    uuid: str
    name: str
    of: str
    clones: tuple[tuple[Way, str, str], ...] = ()  # how, of what, and where
    bridge: str | None = None
    nonce: str = ""
    of_uuid: str = ""


def leftover_of(rehearsal: Rehearsal, nonce: str) -> Leftover:
    """Return what has to be taken down of a rehearsal, as its record names it."""
    return Leftover(
        uuid=rehearsal.uuid,
        name=rehearsal.name,
        of=rehearsal.of,
        of_uuid=rehearsal.of_uuid,
        clones=tuple((clone.way, clone.origin, clone.target) for clone in rehearsal.clones),
        bridge=rehearsal.bridge,
        nonce=nonce,
    )


def record_text(rehearsal: Rehearsal, nonce: str) -> str:
    """Write the record of a rehearsal, which is on the host before anything of it is made."""
    return json.dumps({"format": 1, **asdict(leftover_of(rehearsal, nonce))}) + "\n"


def read_record(text: str) -> Leftover | None:
    """Read such a record; None for a text that is none."""
    try:
        record = json.loads(text)
        if record["format"] != 1:
            return None
        clones = tuple((way, str(origin), str(target)) for way, origin, target in record["clones"])
        names = (str(record[key]) for key in ("uuid", "name", "of", "nonce", "of_uuid"))
        uuid, name, of, nonce, of_uuid = names
        bridge = None if record["bridge"] is None else str(record["bridge"])
    except (ValueError, TypeError, KeyError):
        return None
    return Leftover(uuid=uuid, name=name, of=of, clones=clones, bridge=bridge, nonce=nonce, of_uuid=of_uuid)
