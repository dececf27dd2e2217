"""One step in words: what `plan --steps` lists, progress tells, and results name."""

from __future__ import annotations

from typing import assert_never

from reconciler.model.domain import Disk, Vif
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    AwaitReady,
    CreateDisk,
    DeleteDisk,
    DetachVif,
    GrowDisk,
    PromoteConfig,
    Rehearse,
    RehearseEnd,
    RemoveConfig,
    Rename,
    SetAutostart,
    SetMedium,
    SetMemory,
    SetQuarantine,
    SetScheduler,
    SetVcpus,
    Shutdown,
    StageImage,
    Start,
    Step,
    SweepImages,
    Unpause,
    WriteConfig,
)
from reconciler.show import values
from reconciler.show.escape import plain
from reconciler.show.rehearsals import rehearsal_words


def in_words(step: Step) -> str:
    """Say what a step does, in the imperative and without its address."""
    return plain(_words(step))


def _words(step: Step) -> str:
    match step:
        case StageImage():
            return f"stage {step.image.source or step.image.path} ({step.image.short})"
        case WriteConfig():
            return "write the config as a candidate" if step.candidate else "write the config file"
        case Rename():
            return f"rename from {step.old}"
        case PromoteConfig():
            return "note that it has proven itself" if step.first_boot else "make the candidate the config file"
        case RemoveConfig():
            return "remove the config file"
        case SweepImages():
            return "remove staged files that nothing needs"
        case SetAutostart():
            return "no longer start at boot" if step.order is None else f"start at boot, in place {step.order}"
        case SetQuarantine() if step.entries and not step.entries[-1].holds_boot:
            return "note that its rehearsal said nothing"
        case SetQuarantine():
            return "remember what failed to boot" if step.entries else "forget what failed to boot"
        case Start():
            return "start from the candidate" if step.candidate else "start"
        case AwaitReady():
            return f"wait until ready (at most {values.duration(step.ready.timeout_seconds)})"
        case Rehearse():
            return rehearsal_words(step.rehearsal, step.needed_kib)
        case RehearseEnd():
            return "see that nothing is left of the rehearsal"
        case Shutdown() if step.remnant:
            return "clear away what is left of it"
        case Unpause():
            return "unpause"
        case Shutdown():
            return f"shut down ({_patience(step)})"
        case SetMemory():
            return f"memory {values.exact_memory(step.before_kib)} → {values.exact_memory(step.memory_kib)}"
        case SetVcpus():
            return f"vcpus → {step.vcpus}"
        case SetScheduler():
            return ", ".join(f"{key.replace('_', ' ')} → {value}" for key, value in step.shares)
        case CreateDisk() | GrowDisk() | DeleteDisk() | AttachDisk():
            return _disk_words(step)
        case SetMedium():
            return f"put {step.disk.target} into {step.disk.vdev}" if step.disk.target else f"empty {step.disk.vdev}"
        case AttachVif():
            return f"attach {_vif(step.vif)}"
        case DetachVif():
            return f"detach {_vif(step.vif)}"
        case _:
            assert_never(step)


def _patience(step: Shutdown) -> str:
    """Say how long a step may take, and what comes then."""
    own = f"at most {values.duration(step.timeout_seconds)}, then {step.on_timeout}"
    short = step.unconnected_seconds
    if short is None or (short >= step.timeout_seconds and step.on_timeout == "destroy"):
        return own
    return f"{own}; {values.duration(short)}, then destroy if no device connected"


def _disk_words(step: CreateDisk | GrowDisk | DeleteDisk | AttachDisk) -> str:
    size = "" if step.disk.size_bytes is None else values.size(step.disk.size_bytes)
    match step:
        case CreateDisk():
            origin = f" from {step.disk.source}" if step.disk.source is not None else ""
            return f"create {_disk(step.disk)}{origin}{f' of {size}' if size else ''}"
        case GrowDisk():
            return f"grow {_disk(step.disk)} to {size}"
        case DeleteDisk():
            return f"delete {_disk(step.disk)}"
        case AttachDisk():
            return f"attach {_disk(step.disk)}"


def _disk(disk: Disk) -> str:
    return f"disk {disk.vdev} {disk.target}"


def _vif(vif: Vif) -> str:
    return f"vif {vif.devid} {vif.mac}" + (f" on {vif.bridge}" if vif.bridge else "")
