"""Steps: what to do, one by one. A closed union, dispatched by `match` with `assert_never`.

A step says everything its executor needs, so a plan can be stored and followed later without computing anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.domain import Disk, Domain, Image, Ready, Vif
from reconciler.model.host import Quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class StageImage:
    """Copy a kernel or ramdisk to its place under kernel_dir, by content; there already: nothing to do."""

    domain: str
    image: Image
    kind: Literal["stage_image"] = "stage_image"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDisk:
    """Create a file or LVM disk that does not exist; an existing one is an error."""

    domain: str
    disk: Disk
    kind: Literal["create_disk"] = "create_disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowDisk:
    """Grow a disk to `disk.size_bytes`; `attached` makes the running guest see it."""

    domain: str
    disk: Disk
    attached: bool
    kind: Literal["grow_disk"] = "grow_disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDisk:
    """Delete a disk that asked for it (on_delete = "delete"); gone already is success."""

    domain: str
    disk: Disk
    kind: Literal["delete_disk"] = "delete_disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteConfig:
    """Write the xl.cfg with our mark. `candidate`: beside the proven one, until PromoteConfig.

    `proven` False: a config file that nothing has got ready from yet.
    """

    definition: Domain
    candidate: bool = False
    proven: bool = True
    adopt: bool = False  # a file that is not ours may be replaced, since the user said so
    # what the running domain booted from files that are not staged: their paths, with the sha256 that they had then
    booted: tuple[tuple[str, str], ...] = ()
    kind: Literal["write_config"] = "write_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteConfig:
    """Make the candidate, which has proven itself, the config file; the old one is kept as the previous one.

    After a first boot there is no candidate: then the config file is marked as proven.
    `replaces_previous` False: what is kept as the previous one stays, since the old config boots the same kernel.
    """

    domain: str
    first_boot: bool = False
    replaces_previous: bool = True
    kind: Literal["promote_config"] = "promote_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveConfig:
    """Remove our config file, candidate and previous one: the domain is no longer ours."""

    domain: str
    kind: Literal["remove_config"] = "remove_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepImages:
    """Remove this domain's staged images except `keep`."""

    domain: str
    keep: tuple[str, ...] = ()
    kind: Literal["sweep_images"] = "sweep_images"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetQuarantine:
    """Keep on the host which boot inputs are not to be tried again, and drop a candidate; (): lift the quarantine."""

    domain: str
    entries: tuple[Quarantined, ...]
    kind: Literal["set_quarantine"] = "set_quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAutostart:
    """Have the dom0 start the domain at boot, in this order; None: no longer."""

    domain: str
    order: int | None
    kind: Literal["set_autostart"] = "set_autostart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """`xl create` from the config file or the candidate; waits until the memory it needs is free."""

    definition: Domain
    candidate: bool = False
    kind: Literal["start"] = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitReady:
    """Wait until the started domain is ready."""

    domain: str
    uuid: str
    ready: Ready
    kind: Literal["await_ready"] = "await_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Shut down gracefully and wait until the name, the memory and the disks are free.

    A crashed or already shut-down domain is cleared away. After the timeout: fail, or destroy if the spec says so.
    `remnant`: it was no running domain that was seen; one that runs by now is left alone.
    """

    domain: str
    uuid: str
    timeout_seconds: float
    on_timeout: Literal["fail", "destroy"]
    # of a guest that failed to boot: if none of its devices was ever connected, it is destroyed after so long
    unconnected_seconds: float | None = None
    remnant: bool = False
    kind: Literal["shutdown"] = "shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpause:
    """Let a paused domain go on, unless something on the host needs it paused (a dump, a save, a migration)."""

    domain: str
    uuid: str
    kind: Literal["unpause"] = "unpause"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMemory:
    """Balloon a running domain to `memory_kib` and wait until it is really there."""

    domain: str
    uuid: str
    before_kib: int
    memory_kib: int
    kind: Literal["set_memory"] = "set_memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVcpus:
    domain: str
    uuid: str
    vcpus: int
    kind: Literal["set_vcpus"] = "set_vcpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScheduler:
    """What Xen's scheduler is told of the running domain, by key: its weight and its cap."""

    domain: str
    uuid: str
    shares: tuple[tuple[str, int], ...]
    kind: Literal["set_scheduler"] = "set_scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachVif:
    domain: str
    uuid: str
    vif: Vif
    kind: Literal["attach_vif"] = "attach_vif"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachVif:
    domain: str
    uuid: str
    vif: Vif
    kind: Literal["detach_vif"] = "detach_vif"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachDisk:
    domain: str
    uuid: str
    disk: Disk
    kind: Literal["attach_disk"] = "attach_disk"


HostStep = (
    StageImage
    | CreateDisk
    | GrowDisk
    | DeleteDisk
    | WriteConfig
    | PromoteConfig
    | RemoveConfig
    | SweepImages
    | SetAutostart
    | SetQuarantine
    | Start
    | Shutdown
    | Unpause
    | SetMemory
    | SetVcpus
    | SetScheduler
    | AttachVif
    | DetachVif
    | AttachDisk
)
"""What an executor carries out on a host."""

Step = HostStep | AwaitReady
"""What a plan has steps of: `apply` itself waits for readiness, by looking."""


def domain_of(step: Step) -> str:
    """The name of the domain a step works on."""
    match step:
        case WriteConfig() | Start():
            return step.definition.name
        case _:
            return step.domain


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step in its place: what must be done before it, and what it changes in promised memory (KiB, signed)."""

    id: str
    host: str
    step: Step
    needs: tuple[str, ...] = ()
    delta_kib: int = 0
    wave: int = 0
    outing: bool = False  # its domain only goes down with another, and comes back as it was

    @property
    def address(self) -> str:
        return f"{self.host}/{domain_of(self.step)}"


def is_of_way_back(step_id: str) -> bool:
    """Whether this is the id of a step of a `Fallback`: that of the start it is for, and its place in the fallback."""
    return "." in step_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What is done when a start does not get ready: these steps, in order, as soon as one of `after` fails.

    Of a domain that was taken down and whose start is not tried, because something else failed, only the start of the
    proven definition is done.
    """

    address: str
    after: tuple[str, ...]  # ids of planned steps
    steps: tuple[PlannedStep, ...]
