"""Carries out steps on the running domains of a simulated host. Called by its executor, which lends them its clock.

A step that takes time looks again and again, as on a real host, so that it sees what another process does meanwhile
(`reconciler sim HOST crash web`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from reconciler.model.boot import boots_the_same
from reconciler.model.copies import replace
from reconciler.model.diagnostics import ReconcilerError, moved_on
from reconciler.model.domain import Domain, Image, Vif, address_of
from reconciler.model.host import NAMELESS, Guest, Power
from reconciler.model.memory import needed_kib
from reconciler.model.parts import limit_of
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    DetachVif,
    SetMedium,
    SetMemory,
    SetScheduler,
    SetVcpus,
    Shutdown,
    Start,
    Unpause,
    domain_of,
)
from reconciler.records import dataclass
from reconciler.simulated.draft import Draft
from reconciler.simulated.guest import (
    SHUTDOWN_SECONDS,
    Behaviour,
    Instance,
    actual_kib,
    boot,
    devices_connected,
    read_behaviour,
    set_target,
)
from reconciler.specs.resolve.domain import derived_mac
from reconciler.specs.resolve.images import digest_told, why_no_image
from reconciler.waiting import Clock, NotYet, wait_until

MEMORY_WAIT_SECONDS = 60.0  # how long a start or a balloon waits for memory
BALLOON_TOLERANCE_KIB = 2 * 1024  # a real host's balloons go to what their guest can spare

LiveStep = SetVcpus | SetScheduler | AttachVif | DetachVif | AttachDisk | SetMedium


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSteps:
    """Carries out steps. `change` opens a draft of the host, and `clock` is what they wait by."""

    change: Callable[[], AbstractContextManager[Draft]]
    clock: Clock

    async def start(self, step: Start, report: Callable[[str], None]) -> None:
        """Do as `xl create`, but wait for memory first. If the domain runs already with this uuid, that is success."""

        async def look() -> NotYet | None:
            with self.change() as draft:
                if _runs_already(draft, step):
                    return None
                guest = draft.guest(step.definition.name)
                definition = _definition_to_start(draft, step, guest)
                short_kib = needed_kib(definition, definition.memory_kib) - draft.view().free_kib()
                if short_kib <= 0:
                    _create(draft, step, definition, guest)
                    return None
                return NotYet(
                    f"{definition.name} waits for {_mib(short_kib)} MiB of memory",
                    lambda: _not_enough(draft, definition.name, short_kib),
                )

        await wait_until(look, clock=self.clock, seconds=MEMORY_WAIT_SECONDS, report=report)

    async def shut_down(self, step: Shutdown, report: Callable[[str], None]) -> None:
        """Do as `xl shutdown`, and wait until the domain is gone. After the timeout, fail or destroy it."""
        asked_at = self.clock.now()

        async def look() -> NotYet | None:
            with self.change() as draft:
                instance = draft.instance(step.domain)
                if instance is None or instance.definition.uuid != step.uuid:
                    return None  # gone; who has its name now is left alone
                _refuse_renamed(draft, step.domain, instance)
                if step.remnant and instance.power is Power.RUNNING:
                    raise _not_needed(draft, step, "domain runs meanwhile", "was to be cleared away, and runs by now")
                waited_seconds = draft.now - asked_at
                late = waited_seconds >= step.timeout_seconds
                pulled = (late and step.on_timeout == "destroy") or _is_hopeless(
                    instance, step, waited_seconds, draft.now
                )
                if pulled or _goes_down(instance, step, waited_seconds):
                    gone = replace(instance, power=Power.ABSENT, last_words="reboot: Power down")
                    draft.stored.instances[step.domain] = gone
                    return None
                return NotYet(f"{step.domain} is shutting down", lambda: _still_up(draft, step, instance))

        await wait_until(look, clock=self.clock, seconds=step.timeout_seconds, report=report)

    async def set_memory(self, step: SetMemory, report: Callable[[str], None]) -> None:
        """Do as `xl mem-set`: wait for free memory, set the target, wait until the balloon gets there."""

        async def room() -> NotYet | None:
            return self._set_target(step)

        async def reached() -> NotYet | None:
            with self.change() as draft:
                instance = _running(draft, step.domain, step.uuid)
                reached_kib = actual_kib(instance, draft.now)
                if abs(reached_kib - step.memory_kib) <= BALLOON_TOLERANCE_KIB:
                    return None
                return NotYet(
                    f"{step.domain} has {_mib(reached_kib)} of {_mib(step.memory_kib)} MiB",
                    lambda: draft.failed(
                        step.domain,
                        "balloon did not get there",
                        f"{step.domain} was asked for {_mib(step.memory_kib)} MiB and has {_mib(reached_kib)} MiB "
                        f"after {MEMORY_WAIT_SECONDS:g} s.",
                        hint="Its guest may lack a balloon driver or need the memory; what it reached is kept.",
                    ),
                )

        for look in (room, reached):
            await wait_until(look, clock=self.clock, seconds=MEMORY_WAIT_SECONDS, report=report)

    def _set_target(self, step: SetMemory) -> NotYet | None:
        """Set the balloon's target if the host has the memory."""
        with self.change() as draft:
            instance = _running(draft, step.domain, step.uuid)
            definition = instance.definition
            if step.memory_kib > definition.maxmem_kib:
                problem = f"{step.domain} cannot have more than its maxmem of {_mib(definition.maxmem_kib)} MiB."
                raise draft.failed(step.domain, "above maxmem", problem)
            growth_kib = needed_kib(definition, step.memory_kib) - needed_kib(
                definition, actual_kib(instance, draft.now)
            )
            short_kib = growth_kib - draft.view().free_kib()
            if growth_kib > 0 and short_kib > 0:
                return NotYet(
                    f"{step.domain} waits for memory to grow into", lambda: _not_enough(draft, step.domain, short_kib)
                )
            draft.stored.instances[step.domain] = set_target(instance, step.memory_kib, draft.now)
            return None

    def unpause(self, step: Unpause) -> None:
        """Do as `xl unpause`. If the domain runs already, that is success."""
        with self.change() as draft:
            instance = _running(draft, step.domain, step.uuid)
            if instance.power is Power.PAUSED:
                draft.stored.instances[step.domain] = replace(instance, power=Power.RUNNING)

    def change_live(self, step: LiveStep) -> None:
        """Make a change that takes no time: the running definition becomes what the step means."""
        with self.change() as draft:
            instance = _running(draft, step.domain, step.uuid)
            if _is_done(instance.definition, step):
                return
            _check_live(draft, instance.definition, step)
            after = draft.after(draft.guest(domain_of(step)), step)
            if after is not None and after.running is not None:
                draft.stored.instances[step.domain] = replace(instance, definition=after.running)


def _refuse_renamed(draft: Draft, name: str, instance: Instance) -> None:
    """Raise where a domain goes by another name by now, as while it is migrated by hand."""
    if instance.exists and instance.listed_as not in (None, name, NAMELESS):
        problem = f"{name} is listed as {instance.listed_as} by now. It is left alone."
        raise draft.failed(name, "it goes by another name", problem)


def _runs_already(draft: Draft, step: Start) -> bool:
    """Return whether the domain runs already, as when the dom0 started it at boot.

    Raises for another definition in place of a candidate, and for a remnant that holds the name.
    """
    definition = step.definition
    instance = draft.our_instance(definition.name, definition.uuid)
    if instance is None:
        return False
    _refuse_renamed(draft, definition.name, instance)
    if step.candidate and not boots_the_same(instance.definition, definition):
        problem = f"{definition.name} runs already, but not what was to be started."
        raise draft.failed(definition.name, "another definition was started", problem, transient=True)
    if instance.power in (Power.RUNNING, Power.PAUSED):
        return True
    problem = f"A domain {definition.name} is still there, {instance.power}, and holds the name."
    raise draft.failed(definition.name, "name taken", problem, passing=True)


def _definition_to_start(draft: Draft, step: Start, guest: Guest | None) -> Domain:
    """Return what the file says that the domain is started from, which a person may have edited since the plan."""
    name = step.definition.name
    draft.refuse_foreign(name, guest)
    definition = None if guest is None else guest.candidate if step.candidate else guest.config
    if definition is None:
        path = draft.paths.candidate(name) if step.candidate else draft.paths.config(name)
        raise draft.failed(name, "no config file", f"There is no {path} on {draft.settings.name} to start {name} from.")
    if (definition.name, definition.uuid) != (name, step.definition.uuid):
        problem = f"Its config file now defines {definition.name} with the uuid {definition.uuid}; it was not started."
        raise draft.failed(name, "config file of another domain", problem)
    return definition


def _create(draft: Draft, step: Start, definition: Domain, guest: Guest | None) -> None:
    check_create(draft, definition)
    after = draft.after(guest, replace(step, definition=definition))
    assert after is not None and after.running is not None, "a started domain runs"
    start_instance(draft, after.running)


def check_create(draft: Draft, definition: Domain) -> None:
    """Raise where a creation would fail: a fault was asked for, or a disk is missing or in use."""
    if draft.store.take_fault("create-fails"):
        raise draft.failed(
            definition.name,
            "xl create failed",
            f"xl create of {definition.name} failed: script: Failed to find an unused loop device (a fault was asked "
            "for).",
            "The fault is the host's, so nothing is held against the kernel; it ends by itself, or at once with: "
            f"reconciler sim {draft.settings.name} fault create-fails --times 0",
            passing=True,
        )
    for disk in definition.disks:
        draft.check_disk(definition.name, disk)


def start_instance(draft: Draft, definition: Domain) -> None:
    """Have the host hold this domain, booted from the bytes that the path of its kernel holds now."""
    domid = draft.stored.next_domid
    draft.stored.next_domid += 1
    behaviour = _behaviour(draft, definition)
    definition = _without_gaps(draft, definition)
    instance = boot(definition, behaviour, domid=domid, now=draft.now)
    secrets = draft.view().secrets_of(definition)
    draft.stored.instances[definition.name] = replace(instance, secrets=secrets)


def _without_gaps(draft: Draft, definition: Domain) -> Domain:
    """Add what a config file may leave open and a running domain has: digests of what it booted, and macs."""

    def booted(image: Image | None) -> Image | None:
        if image is None or image.sha256:
            return image
        return replace(image, sha256=draft.store.digest(draft.stored, image.path))

    macs = (vif if vif.mac else replace(vif, mac=derived_mac(definition.uuid, vif.devid)) for vif in definition.vifs)
    return replace(definition, kernel=booted(definition.kernel), ramdisk=booted(definition.ramdisk), vifs=tuple(macs))


def _behaviour(draft: Draft, definition: Domain) -> Behaviour:
    for image in definition.images:
        if image.path.startswith(f"{draft.paths.kernel_dir}/") and image.path not in draft.stored.files:
            problem = f"{image.path} is not staged on {draft.settings.name}."
            raise draft.failed(definition.name, "no such file", problem, passing=True)
        told = digest_told(draft.store.digest(draft.stored, image.path), draft.store.content(draft.stored, image.path))
        if (why := why_no_image(told)) is not None:
            problem = f"{image.source or image.path} {why[0]}: xc_dom_find_loader: no loader found: Invalid kernel."
            raise draft.failed(definition.name, "no kernel", problem, why[1], boot_failed=True)
    if definition.kernel is None:
        return Behaviour()
    try:
        return read_behaviour(draft.store.content(draft.stored, definition.kernel.path))
    except ValueError as error:
        source = definition.kernel.source or definition.kernel.path
        problem = f"The simulated kernel {source}: {error}."
        raise draft.failed(definition.name, "kernel cannot boot", problem, boot_failed=True) from None


def _is_hopeless(instance: Instance, step: Shutdown, waited_seconds: float, now: float) -> bool:
    """Return whether the plug may be pulled early: the boot failed, and the guest never connected a device."""
    short = step.unconnected_seconds
    return short is not None and waited_seconds >= short and devices_connected(instance, now) is False


def _goes_down(instance: Instance, step: Shutdown, waited_seconds: float) -> bool:
    """Return whether a domain in this state is gone `waited_seconds` after it was asked to shut down."""
    match instance.power:
        case Power.CRASHED | Power.SHUTDOWN:
            return True
        case Power.REBOOTING | Power.UNFINISHED:
            return step.remnant
        case Power.RUNNING:
            return instance.behaviour.shutdown == "ok" and waited_seconds >= SHUTDOWN_SECONDS
        case _:
            return False


def _running(draft: Draft, name: str, uuid: str) -> Instance:
    instance = draft.our_instance(name, uuid)
    if instance is None or instance.power not in (Power.RUNNING, Power.PAUSED):
        raise draft.failed(name, "does not run", f"{name} does not run on {draft.settings.name} any more.")
    _refuse_renamed(draft, name, instance)
    return instance


def _is_done(definition: Domain, step: LiveStep) -> bool:
    """Return whether an earlier run, whose answer was lost, has attached it already."""
    match step:
        case AttachVif():
            return any(vif.devid == step.vif.devid and vif.mac == step.vif.mac for vif in definition.vifs)
        case AttachDisk() | SetMedium():
            there = ((disk.devid, disk.target) for disk in definition.disks)
            return (step.disk.devid, step.disk.target) in there
        case _:
            return False


def _is_another(vif: Vif, wanted: Vif) -> bool:
    return vif.devid == wanted.devid and bool(wanted.mac) and vif.mac != wanted.mac


def _check_live(draft: Draft, definition: Domain, step: LiveStep) -> None:
    """Raise for what xl would refuse."""
    name = domain_of(step)
    match step:
        case SetVcpus() if step.vcpus > limit_of("vcpus", definition)[1]:
            limit, most = limit_of("vcpus", definition)
            problem = f"{name} cannot have {step.vcpus} vcpus: its {limit} is {most}."
            raise draft.failed(name, f"above {limit}", problem)
        case AttachVif() if any(vif.devid == step.vif.devid for vif in definition.vifs):
            raise draft.failed(name, "device exists already", f"{name} has another vif {step.vif.devid} already.")
        case DetachVif() if any(_is_another(vif, step.vif) for vif in definition.vifs):
            raise draft.failed(name, "another interface is there", f"vif {step.vif.devid} of {name} is another one.")
        case AttachDisk():
            if any(disk.devid == step.disk.devid for disk in definition.disks):
                raise draft.failed(name, "device name is taken", f"{name} has another disk {step.disk.vdev} already.")
            draft.check_disk(name, step.disk)
        case SetMedium():
            if not any(disk.devid == step.disk.devid and disk.cdrom for disk in definition.disks):
                raise draft.failed(name, "no such drive", f"{name} has no CD drive {step.disk.vdev}.")
            draft.check_disk(name, step.disk)
        case _:
            pass


def _not_needed(draft: Draft, step: Shutdown, summary: str, how: str) -> ReconcilerError:
    problem = f"{step.domain} {how}; it is left alone."
    return moved_on(summary, problem, "Plan again.", address_of(draft.settings.name, step.domain))


def _still_up(draft: Draft, step: Shutdown, instance: Instance) -> ReconcilerError:
    if step.remnant and instance.power is Power.STARTING:
        return _not_needed(draft, step, "domain is being made", "is being made just now")
    return draft.failed(
        step.domain,
        "did not shut down",
        f"{step.domain} is still {instance.power} {step.timeout_seconds:g} s after it was asked to shut down. "
        "It was left as it is.",
        hint="Shut it down from inside, or allow pulling the plug, which loses what it has not written: "
        'on_shutdown_timeout = "destroy".',
    )


def _not_enough(draft: Draft, name: str, short_kib: int) -> ReconcilerError:
    return draft.failed(
        name,
        "not enough memory",
        f"{draft.settings.name} lacks {_mib(short_kib)} MiB for {name}, and none came free in "
        f"{MEMORY_WAIT_SECONDS:g} s.",
        hint="Somebody else may have taken it: run plan again.",
        passing=True,
    )


def _mib(kib: int) -> int:
    return kib // 1024
