"""Defines the steps: what to do, one by one. They are a closed union, dispatched by `match` with `assert_never`.

A step says everything its executor needs, so a plan can be stored and followed later without computing anew.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.domain import Disk, Domain, Image, Ready, Vif
from reconciler.model.host import Quarantined
from reconciler.model.rehearsal import Rehearsal
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StageImage:
    """Copy a kernel or ramdisk to its path under kernel_dir, by content. If it is there already, nothing is done."""

    domain: str
    image: Image
    kind: Literal["stage_image"] = "stage_image"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDisk:
    """Create a disk as a file or logical volume. If it exists already, that is an error."""

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
    """Delete a disk whose spec said on_delete = "delete". If it is gone already, that is success."""

    domain: str
    disk: Disk
    kind: Literal["delete_disk"] = "delete_disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteConfig:
    """Write the xl.cfg with our mark; with `candidate` beside the proven file, until PromoteConfig.

    With `proven` False, no domain has got ready from this config file yet.
    """

    definition: Domain
    candidate: bool = False
    proven: bool = True
    adopt: bool = False  # a file that is not ours may be replaced, since the user said so
    # what the running domain booted from files that are not staged: their paths, with the sha256 that they had then
    booted: tuple[tuple[str, str], ...] = ()
    kind: Literal["write_config"] = "write_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """Give a domain of ours, and all that is kept of it, its new name. Its old config file goes last.

    `definition` is what its config file says, under the new name. Done again after a cut, it ends what is half done.
    """

    domain: str
    old: str
    uuid: str
    definition: Domain
    proven: bool = True
    kind: Literal["rename"] = "rename"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteConfig:
    """Make the candidate, which is proven now, the config file, and keep the old one as the previous one.

    After a first boot there is no candidate: then the config file is marked as proven. With `replaces_previous` False
    the previous file stays, since the old config boots the same kernel.
    """

    domain: str
    first_boot: bool = False
    replaces_previous: bool = True
    kind: Literal["promote_config"] = "promote_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveConfig:
    """Remove our config file, the candidate and the previous one: the domain is no longer ours."""

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
    """Note on the host which boot inputs are not to be tried again, and drop the candidate; () lifts the quarantine."""

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

    A crashed domain, or one that is shut down already, is cleared away. After the timeout the step fails, or destroys
    the domain if the spec says so. With `remnant` no running domain was seen; if it runs by now, it is left alone.
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
    """Set what Xen's scheduler knows of a running domain, by key: its weight and its cap."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMedium:
    """Put a medium into a CD drive that is there, or take it out: `disk.target` is "" then."""

    domain: str
    uuid: str
    disk: Disk
    kind: Literal["set_medium"] = "set_medium"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearse:
    """Boot the new boot inputs in a throwaway domain on snapshots, and see whether it gets ready. It is always ended.

    If it does not, `control` is booted in the same way: only where that gets ready is the kernel to blame. A rehearsal
    that says nothing fails the step where one is `required`; else the restart goes on without.
    """

    domain: str
    rehearsal: Rehearsal
    control: Rehearsal
    required: bool
    needed_kib: int
    kind: Literal["rehearse"] = "rehearse"


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearseEnd:
    """See that nothing is left of a rehearsal: neither its domain nor a snapshot. Its memory is free then."""

    domain: str
    rehearsal: Rehearsal
    control: Rehearsal
    needed_kib: int
    kind: Literal["rehearse_end"] = "rehearse_end"


HostStep = (
    StageImage
    | CreateDisk
    | GrowDisk
    | DeleteDisk
    | WriteConfig
    | Rename
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
    | SetMedium
    | RehearseEnd
)
"""What an executor carries out on a host."""

Step = HostStep | AwaitReady | Rehearse
"""What a plan has steps of: `apply` itself waits for readiness, by looking, and judges rehearsals."""


def takes_down(step: Step) -> bool:
    """Return whether nobody can reach a running domain after this step: it is shut down, or paused for a rehearsal."""
    return isinstance(step, Shutdown) or (isinstance(step, Rehearse) and is_paused_for(step))


def is_paused_for(step: Rehearse | RehearseEnd) -> bool:
    """Return whether a domain is paused for its rehearsal, or for the control that may follow."""
    return max(step.rehearsal.pause_seconds, step.control.pause_seconds) > 0


def domain_of(step: Step) -> str:
    """Return the name of the domain that a step works on."""
    match step:
        case WriteConfig() | Start():
            return step.definition.name
        case _:
            return step.domain


def names_of(step: Step) -> tuple[str, ...]:
    """Return all names that the domain of a step has, or has had until now, on its host."""
    return (step.domain, step.old) if isinstance(step, Rename) else (domain_of(step),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step in its place: the steps before it that it needs, and its change of promised memory (KiB, signed)."""

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
    """Return whether this is the id of a step of a `WayBack`.

    Such an id is that of the start it belongs to, with its place in the way back: s5.f1.
    """
    return "." in step_id


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """The way back of a start that does not get ready: these steps, in order, as soon as one of `after` fails.

    If a domain was taken down and its start is not tried, since something else failed, only the start of the proven
    definition is done.
    """

    address: str
    after: tuple[str, ...]  # ids of planned steps
    steps: tuple[PlannedStep, ...]
