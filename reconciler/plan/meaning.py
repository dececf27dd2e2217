"""Defines the meaning of each step. The plan's proof, the simulated host and the property tests all use it."""

from __future__ import annotations

from collections import defaultdict
from typing import assert_never

from reconciler.model.copies import replace
from reconciler.model.domain import Disk, Domain
from reconciler.model.host import FileFact, Guest, Host, Owner, Power
from reconciler.model.memory import promised_kib
from reconciler.model.parts import with_kept, with_shares
from reconciler.model.rehearsal import Rehearsal
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
    domain_of,
)


def apply_step(host: Host, step: Step) -> Host:
    """Return the host after the step was carried out. Raises ValueError for a step that makes no sense there."""
    replay = Replay(host)
    replay.apply(step)
    return replay.host()


class Replay:
    """A host to which steps are applied one after the other, without copying it each time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.guests = dict(host.guests)
        self.images = dict(host.images)
        self._images_of: dict[str, set[str]] = defaultdict(set)  # domain -> its staged files
        for path in self.images:
            self._images_of[_folder(path)].add(path)
        self.files = dict(host.files)
        self.free_kib = host.free_kib

    def host(self) -> Host:
        return replace(self._host, guests=self.guests, images=self.images, files=self.files, free_kib=self.free_kib)

    def apply(self, step: Step) -> None:
        match step:
            case StageImage():
                self.images[step.image.path] = step.image.sha256
                self._images_of[_folder(step.image.path)].add(step.image.path)
            case SweepImages():
                self._sweep(step)
            case CreateDisk():
                if step.disk.target in self.files:
                    raise ValueError(f"{step.disk.target} exists already, and creation never overwrites")
                self.files[step.disk.target] = _fact(step.disk)
            case GrowDisk():
                there = self.files.get(step.disk.target)
                if there is None:
                    raise ValueError(f"{step.disk.target} is not there to be grown")
                self.files[step.disk.target] = replace(there, size_bytes=step.disk.size_bytes or there.size_bytes)
            case DeleteDisk():
                self.files.pop(step.disk.target, None)
            case Rename():
                known = self.guests.pop(step.old, None) or self.guests.get(step.domain)
                if known is None:
                    raise ValueError(f"there is no domain {step.old} to rename")
                self.guests[step.domain] = _renamed(known, step)
            case Rehearse():
                for one in (step.control, step.rehearsal):
                    self._check_rehearsal(one)
                self._rehearse(step.rehearsal)
                self.free_kib -= step.needed_kib
            case RehearseEnd():
                if self.guests.pop(step.rehearsal.name, None) is not None:
                    self.free_kib += step.needed_kib
            case _:
                self._apply_to_guest(domain_of(step), step)

    def _check_rehearsal(self, rehearsal: Rehearsal) -> None:
        """Raise where a throwaway would write to anything but snapshots of its own."""
        if rehearsal.name in self.guests:
            raise ValueError(f"there is a domain {rehearsal.name} already")
        snapshots = {clone.target for clone in rehearsal.clones}
        for disk in rehearsal.written:
            if disk.target not in snapshots:
                raise ValueError(f"{rehearsal.name} would write to {disk.target}, which is no snapshot")
        origins = {clone.origin for clone in rehearsal.clones}
        if taken := sorted(snapshots & (self.files.keys() | origins)):
            raise ValueError(f"a snapshot would be made at {taken[0]}, which is there")

    def _rehearse(self, rehearsal: Rehearsal) -> None:
        running = Guest(
            name=rehearsal.name,
            owner=Owner.OURS,
            running=rehearsal.definition,
            power=Power.RUNNING,
            actual_kib=rehearsal.definition.memory_kib,
        )
        self.guests[rehearsal.name] = running

    def _apply_to_guest(self, name: str, step: Step) -> None:
        before = self.guests.get(name)
        after = guest_after(before, step)
        self.free_kib += (promised_kib(before) if before else 0) - (promised_kib(after) if after else 0)
        if after is None:
            self.guests.pop(name, None)
        else:
            self.guests[name] = after

    def _sweep(self, step: SweepImages) -> None:
        for path in sorted(self._images_of[step.domain] - set(step.keep)):
            self._images_of[step.domain].discard(path)
            self.images.pop(path, None)


def _folder(path: str) -> str:
    """Return the name of the folder that a staged file lies in, which is that of its domain."""
    return path.rpartition("/")[0].rpartition("/")[2]


def guest_after(guest: Guest | None, step: Step) -> Guest | None:
    """Return a guest after a step on it; None when nothing of that name is left."""
    match step:
        case WriteConfig():
            return _with_config(guest or Guest(name=step.definition.name, owner=Owner.OURS), step)
        case Start():
            base = guest or Guest(name=step.definition.name, owner=Owner.OURS)
            if base.exists:
                raise ValueError(f"{base.name} runs already")
            running = _started_at(step.definition, base.autostart)
            return replace(
                base,
                running=running,
                unproven=step.candidate or not base.config_proven,
                power=Power.RUNNING,
                actual_kib=running.memory_kib,
            )
        case _:
            if guest is None:
                raise ValueError(f"there is no domain {domain_of(step)} to {step.kind.replace('_', ' ')}")
            return _known_guest_after(guest, step)


def _known_guest_after(guest: Guest, step: Step) -> Guest | None:
    match step:
        case PromoteConfig():
            return _promoted(guest, step)
        case RemoveConfig():
            if not guest.exists:
                return None
            return replace(
                guest,
                owner=Owner.UNMANAGED,
                config=None,
                candidate=None,
                previous=None,
                quarantine=(),
                config_exists=False,
            )
        case SetQuarantine():
            return replace(guest, quarantine=step.entries, candidate=None if step.entries else guest.candidate)
        case SetAutostart():
            return _with_autostart(guest, step.order)
        case AwaitReady():
            return guest
        case Shutdown():
            return replace(guest, running=None, unproven=False, power=Power.ABSENT, actual_kib=0)
        case Unpause():
            return replace(guest, power=Power.RUNNING)
        case SetMemory():
            running = replace(_running(guest), memory_kib=step.memory_kib)
            return replace(guest, running=running, actual_kib=step.memory_kib)
        case SetVcpus():
            return replace(guest, running=replace(_running(guest), vcpus=step.vcpus))
        case SetScheduler():
            return replace(guest, running=with_shares(_running(guest), step.shares))
        case AttachVif():
            running = _running(guest)
            return replace(guest, running=replace(running, vifs=(*running.vifs, step.vif)))
        case DetachVif():
            running = _running(guest)
            kept = tuple(vif for vif in running.vifs if vif.devid != step.vif.devid)
            return replace(guest, running=replace(running, vifs=kept))
        case AttachDisk():
            running = _running(guest)
            return replace(guest, running=replace(running, disks=(*running.disks, step.disk)))
        case SetMedium():
            running = _running(guest)
            disks = tuple(step.disk if disk.devid == step.disk.devid else disk for disk in running.disks)
            return replace(guest, running=replace(running, disks=disks))
        case WriteConfig() | Start() | Rename():
            raise AssertionError(step.kind)  # answered before, as are those on files
        case StageImage() | CreateDisk() | GrowDisk() | DeleteDisk() | SweepImages() | Rehearse() | RehearseEnd():
            raise AssertionError(step.kind)  # answered before by guest_after and Replay.apply
        case _:
            assert_never(step)


def _renamed(guest: Guest, step: Rename) -> Guest:
    def called(definition: Domain | None) -> Domain | None:
        return None if definition is None else replace(definition, name=step.domain)

    return replace(
        guest,
        name=step.domain,
        config=replace(step.definition, autostart=guest.autostart),
        config_exists=True,
        config_proven=step.proven,
        candidate=None,
        edited=False,
        running=called(guest.running),
        previous=guest.previous,
        listed_as=None if guest.listed_as in (step.old, step.domain) else guest.listed_as,
        renamed_from=None,
    )


def _promoted(guest: Guest, step: PromoteConfig) -> Guest:
    if step.first_boot and guest.config is not None:
        return replace(guest, config_proven=True, unproven=False)
    if guest.candidate is None:
        raise ValueError(f"{guest.name} has no candidate to promote")
    old = guest.config if guest.config_proven and step.replaces_previous else None
    return replace(
        guest,
        config=guest.candidate,
        previous=guest.previous if old is None else _started_at(old, None),
        candidate=None,
        config_exists=True,
        config_proven=True,
        edited=False,
        unproven=False,
    )


def _with_config(guest: Guest, step: WriteConfig) -> Guest:
    definition = _started_at(step.definition, guest.autostart)
    if step.candidate:
        return replace(guest, candidate=definition)
    return replace(
        guest,
        owner=Owner.OURS,
        config=definition,
        candidate=None,
        config_exists=True,
        config_proven=step.proven,
        edited=False,
        unproven=False,
        running=None if guest.running is None else with_kept(guest.running, definition),
    )


def _started_at(definition: Domain, order: int | None) -> Domain:
    """Return a definition with this order at the boot of the dom0. Most have it, and a copy would cost each step."""
    return definition if definition.autostart == order else replace(definition, autostart=order)


def _with_autostart(guest: Guest, order: int | None) -> Guest:
    def place(definition: Domain | None) -> Domain | None:
        return None if definition is None else _started_at(definition, order)

    return replace(
        guest,
        autostart=order,
        config=place(guest.config),
        candidate=place(guest.candidate),
        running=place(guest.running),
    )


def _running(guest: Guest) -> Domain:
    if guest.running is None:
        raise ValueError(f"{guest.name} does not run")
    return guest.running


def _fact(disk: Disk) -> FileFact:
    return FileFact(
        kind="file" if disk.kind == "file" else "block",
        size_bytes=disk.size_bytes or 0,
        key=disk.target,
        real_path=disk.target,
    )
