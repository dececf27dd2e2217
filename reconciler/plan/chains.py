"""Makes of each change a chain of steps, each needing the one before. `order` adds waiting for other domains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

from reconciler.decide.changes import Action, Change
from reconciler.decide.dependencies import as_it_is, depends_on
from reconciler.decide.ownership import booted_unstaged
from reconciler.model.boot import boot_digest, boots_the_same, failed_before, with_quarantined
from reconciler.model.copies import replace
from reconciler.model.disks import disk_key, missing_bytes
from reconciler.model.domain import Domain
from reconciler.model.host import Guest, Host, Owner, Power
from reconciler.model.memory import needed_kib, promised_kib
from reconciler.model.parts import with_kept
from reconciler.plan.live_steps import live_steps
from reconciler.plan.meaning import guest_after
from reconciler.plan.rehearsing import rehearsal_steps
from reconciler.plan.renames import renaming
from reconciler.plan.steps import (
    AwaitReady,
    CreateDisk,
    DeleteDisk,
    GrowDisk,
    PromoteConfig,
    Rehearse,
    RehearseEnd,
    RemoveConfig,
    Rename,
    SetAutostart,
    SetQuarantine,
    Shutdown,
    StageImage,
    Start,
    Step,
    SweepImages,
    Unpause,
    WriteConfig,
    is_paused_for,
)
from reconciler.records import dataclass

_UNCONNECTED_SECONDS = 20  # a guest that never got hold of a disk has nothing to write back


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A step of a chain, with its change of promised memory (KiB, signed)."""

    step: Step
    delta_kib: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The steps of a change in one wave. A change has one more chain for each of its outings, in their waves."""

    change: Change
    links: tuple[Link, ...]
    depends_on: tuple[str, ...] = ()
    outing: bool = False

    @property
    def delta_kib(self) -> int:
        """Return how much the whole chain changes promised memory (KiB, signed)."""
        return sum(link.delta_kib for link in self.links)

    @property
    def wave(self) -> int:
        return self.change.wave

    def first(self, *kinds: type[Step]) -> int | None:
        """Return the index of the first step of these kinds."""
        return next((index for index, link in enumerate(self.links) if isinstance(link.step, kinds)), None)

    @property
    def waits_for_rehearsal(self) -> bool:
        """Return whether it needs its place only when its rehearsal is ready, since nothing pauses it before."""
        return any(isinstance(link.step, Rehearse) and not is_paused_for(link.step) for link in self.links)

    @property
    def memory_gate(self) -> int | None:
        """Return the index of the first step that moves memory: before it, a chain that needs more has to wait."""
        return next((index for index, link in enumerate(self.links) if link.delta_kib), None)

    @property
    def memory_done(self) -> int | None:
        """Return the index of the step after which the memory that a chain gives back is free: the last that moves any.

        After a restart it is the wait for ready: until the new definition works, the old one may need its memory.
        """
        if self.change.restarts:
            return self.first(AwaitReady)
        return next((index for index in reversed(range(len(self.links))) if self.links[index].delta_kib), None)


def chains_of(change: Change, host: Host, named_disks: Mapping[str, frozenset[str]]) -> list[Chain]:
    """Return the chains of a change in the order of their waves: the outings of its domain, and its own steps.

    `named_disks` says who names each disk; one that anybody else names is never deleted.
    """
    guest, chains, needed = change.guest, [], depends_on(change)
    before = renaming(guest, host) if guest is not None and change.acts else ()
    for wave in change.outings:
        assert guest is not None
        part = replace(change, action=Action.RESTART, target=as_it_is(change), guest=guest, wave=wave, quarantine=None)
        links, guest = _followed((*before, *_outing(part, change.target)), guest)
        before = ()
        chains.append(Chain(change=part, links=links, depends_on=needed, outing=True))
    part = replace(change, action=change.own, guest=guest)
    if part.acts:
        links, _ = _followed((*before, *_steps(part, host, named_disks)), guest)
        chains.append(Chain(change=part, links=links, depends_on=needed))
    return chains


def _outing(change: Change, wanted: Domain | None) -> Iterator[Step]:
    """Shut the domain down and start it as it was. If its config file was edited by hand, write what runs first.

    How long it gets to shut down, and whether its plug may be pulled, is as `wanted` by its spec, as ever.
    """
    target, guest = _target(change), change.guest
    assert guest is not None
    if guest.edited:
        yield WriteConfig(definition=target, proven=guest.config_proven)
    yield _shutdown(replace(change, target=wanted or target))
    yield from _start_again(target, signs=not _was_not_ready(guest))


def way_back_of(change: Change, *, may_return: bool = True) -> tuple[Link, ...]:
    """Return the way back: the steps that bring a domain back when its new definition does not get ready; () for none.

    The failed boot is quarantined first, so that a run cut short after that does not try it again. A first boot leaves
    only disks and config. One that goes down with another just starts again. Unless it `may_return`, nothing starts.
    """
    guest, target = change.guest, change.target
    if change.restarts and target is not None and guest is not None and not (_is_own(change) and _boots_anew(change)):
        before = as_it_is(change) if change.outings else guest.config or target
        again = _start_again(before) if may_return else []
        return _links(again, guest_after(guest, _shutdown(change)))
    unproven_update = change.action is Action.UPDATE and guest is not None and guest.unproven
    if target is None or target.state != "running" or (_adopts(change) and guest is not None and guest.exists):
        return ()
    tried = guest.candidate if unproven_update and guest is not None and guest.candidate is not None else target
    old = guest.config if guest is not None else None
    if not (unproven_update or _boots_anew(change)):
        return ()
    if guest is not None and change.quarantine == ():  # a rollback that fails leaves nothing behind, so keeps nothing
        guest = replace(guest, quarantine=())
    steps: list[Step] = [
        SetQuarantine(domain=target.name, entries=with_quarantined(guest, tried, reason="")),
        _shutdown_of_failed(target.name, target.uuid, target),
    ]
    reserved_kib = needed_kib(tried, tried.memory_kib)
    if change.restarts and guest is not None:  # what it had is kept for it until the new definition is ready
        reserved_kib = max(reserved_kib, promised_kib(guest))
    ran = guest is not None and guest.owner is Owner.OURS and (guest.config_proven or guest.exists)
    another = ran and old is not None and boot_digest(old) != boot_digest(tried)
    comes_back = another and old is not None and old.state == "running" and failed_before(guest, old) is None
    if old is not None and may_return and comes_back and needed_kib(old, old.memory_kib) <= reserved_kib:
        steps += _start_again(old)
    started = replace(
        guest or Guest(name=target.name, owner=Owner.OURS),
        running=tried,
        power=Power.RUNNING,
        actual_kib=tried.memory_kib,
        unproven=True,
    )
    return _links(steps, started)


def _is_own(change: Change) -> bool:
    """Return whether a change starts its domain for its own sake, and not only because another one goes down."""
    return change.own in (Action.CREATE, Action.START, Action.RESTART)


def _boots_anew(change: Change) -> bool:
    """Return whether a change starts its domain with boot inputs that are not proven."""
    old = change.guest.config if change.guest is not None else None
    if old is None or change.target is None or _adopts(change):
        return True
    if boot_digest(old) != boot_digest(change.target):
        return change.writes_config
    return change.guest is not None and not change.guest.config_proven


def _was_not_ready(guest: Guest) -> bool:
    """Return whether nobody has seen ready what runs, so that it cannot be asked to get ready when it comes back."""
    failed = guest.running is not None and failed_before(guest, guest.running) is not None
    return guest.unproven or failed


def _start_again(definition: Domain, *, signs: bool = True) -> list[Step]:
    """Start a domain as it was. The ready signs are those of that definition, since a new kernel may have others."""
    ready = definition.policy.ready if signs else replace(definition.policy.ready, tcp=None, console=None)
    return [Start(definition=definition), AwaitReady(domain=definition.name, uuid=definition.uuid, ready=ready)]


def _links(steps: Iterable[Step], guest: Guest | None) -> tuple[Link, ...]:
    return _followed(steps, guest)[0]


def _followed(steps: Iterable[Step], guest: Guest | None) -> tuple[tuple[Link, ...], Guest | None]:
    """Make the links of these steps, and return them with the guest after them."""
    links, held_kib = [], promised_kib(guest) if guest else 0
    for step in steps:
        if isinstance(step, Rehearse | RehearseEnd):  # it moves no guest of the fleet, and takes memory meanwhile
            kib = step.needed_kib if isinstance(step, Rehearse) else -step.needed_kib
            links.append(Link(step=step, delta_kib=kib))
            continue
        guest = guest_after(guest, step) if _moves_guest(step) else guest
        before_kib, held_kib = held_kib, promised_kib(guest) if guest else 0
        links.append(Link(step=step, delta_kib=held_kib - before_kib))
    return tuple(links), guest


def _moves_guest(step: Step) -> bool:
    return not isinstance(step, StageImage | SweepImages | CreateDisk | GrowDisk | DeleteDisk | Rename)


def _steps(change: Change, host: Host, named_disks: Mapping[str, frozenset[str]]) -> Iterator[Step]:
    match change.action:
        case Action.BLOCKED | Action.NO_OP | Action.MIGRATE:  # nothing, and what nobody decides yet
            return
        case Action.DESTROY:
            yield from _destroy(change, host, named_disks)
        case Action.CREATE | Action.START | Action.RESTART:
            yield from _bring_up(change, host)
        case Action.STOP:
            assert change.guest is not None
            yield from _unpause(change.guest)
            yield _shutdown(change)
            yield from _keep_down(change, host)
        case Action.UPDATE if change.notes:
            yield WriteConfig(definition=_target(change))
        case Action.UPDATE | Action.ADOPT:
            if change.guest is not None and change.guest.exists:
                yield from _update_live(change, host)
            elif change.action is Action.ADOPT and _target(change).state == "running":
                yield from _bring_up(change, host)
            else:
                yield from _keep_down(change, host)
        case _:
            assert_never(change.action)


def _bring_up(change: Change, host: Host) -> Iterator[Step]:
    """Create, start or restart a domain. What can be prepared while the old one runs is done first."""
    target, guest = _target(change), change.guest
    writes = change.writes_config or (guest is not None and guest.candidate is not None)
    candidate = guest is not None and guest.config is not None and writes and not _adopts(change)
    yield from _quarantine(change)
    yield from _stage(target, host)
    yield from _create_disks(target, host)
    yield from rehearsal_steps(change)
    if writes:  # before the domain goes down: a full disk must not cost an outage
        yield WriteConfig(definition=target, candidate=candidate, proven=False, adopt=_adopts(change))
    if guest is not None and guest.exists:
        yield from _unpause(guest)
        yield _shutdown(change)
    yield from _grow_disks(target, host, attached=())
    if target.state == "running":
        yield Start(definition=target, candidate=candidate)
        yield AwaitReady(domain=target.name, uuid=target.uuid, ready=target.policy.ready)
        yield from _promote(change, target if candidate else None)
    yield from _autostart(change)
    yield from _sweep(change)


def _promote(change: Change, candidate: Domain | None) -> Iterator[Step]:
    """Have the host note that what runs is proven, unless it knows; `candidate` is given if it runs from one."""
    old = _proven_config(change)
    if candidate is not None:
        replaces = old is not None and not boots_the_same(old, candidate)
        yield PromoteConfig(domain=change.domain, replaces_previous=replaces)
    elif old is None:
        yield PromoteConfig(domain=change.domain, first_boot=True)


def _proven_config(change: Change) -> Domain | None:
    """Return the last proven definition on the host. For a file that was not ours, nobody knows one."""
    guest = change.guest
    ours = guest is not None and guest.owner is Owner.OURS and guest.config_proven
    return guest.config if guest is not None and ours else None


def _adopts(change: Change) -> bool:
    return change.action is Action.ADOPT


def _keep_down(change: Change, host: Host) -> Iterator[Step]:
    """Bring a domain that stays down to its definition."""
    target = _target(change)
    yield from _stage(target, host)
    yield from _create_disks(target, host)
    yield from _grow_disks(target, host, attached=())
    if change.writes_config:
        yield from _write_for_later(change)
    yield from _autostart(change)
    yield from _sweep(change)


def _write_for_later(change: Change) -> Iterator[Step]:
    """Write the definition of a domain that is down; unproven boot inputs go into a candidate beside the proven."""
    target, proven = _target(change), _proven_config(change)
    same = proven is not None and boot_digest(proven) == boot_digest(target)
    edited = change.guest is not None and change.guest.edited  # then nobody knows what has got ready
    if _adopts(change):
        yield WriteConfig(definition=target, proven=False, adopt=True)
    elif proven is None or same or edited:
        yield WriteConfig(definition=target, proven=same)
    else:
        if with_kept(proven, target) != proven:
            yield WriteConfig(definition=with_kept(proven, target))
        yield WriteConfig(definition=target, candidate=True)


def _update_live(change: Change, host: Host) -> Iterator[Step]:
    """Change a domain while it runs."""
    target, guest = _target(change), change.guest
    assert guest is not None
    assert guest.running is not None
    running = guest.running
    yield from _unpause(guest)
    yield from _stage(target, host)
    yield from _create_disks(target, host)
    yield from _grow_disks(target, host, attached=tuple(disk.devid for disk in running.disks))
    if guest.unproven:
        yield AwaitReady(domain=target.name, uuid=target.uuid, ready=target.policy.ready)
        yield from _promote(change, None if _runs_first_boot(guest) else guest.candidate)
    yield from live_steps(running, target)
    if change.writes_config:
        yield WriteConfig(definition=target, adopt=_adopts(change), booted=booted_unstaged(host, guest))
    yield from _autostart(change)


def _runs_first_boot(guest: Guest) -> bool:
    """Return whether it runs from a config file that is not proven. A candidate beside it was never started."""
    if guest.config is None or guest.running is None or guest.config_proven:
        return False
    return boot_digest(guest.config) == boot_digest(guest.running)


def _destroy(change: Change, host: Host, named_disks: Mapping[str, frozenset[str]]) -> Iterator[Step]:
    """Destroy a domain. Its config file, which makes it ours, goes last: so a destroy cut short is taken up again."""
    guest = change.guest
    assert guest is not None
    definition = guest.config or guest.running
    assert definition is not None
    if guest.exists:
        yield from _unpause(guest)
        yield _shutdown(change)
    if guest.autostart is not None:
        yield SetAutostart(domain=guest.name, order=None)
    yield SweepImages(domain=guest.name)
    for disk in definition.disks:
        others = named_disks.get(disk_key(host, disk.identity), frozenset()) - {guest.name}
        if disk.on_delete == "delete" and not others:
            yield DeleteDisk(domain=guest.name, disk=disk)
    yield RemoveConfig(domain=guest.name)


def _unpause(guest: Guest) -> Iterator[Step]:
    """Unpause a paused guest first, since it can do nothing that is asked of it."""
    if guest.power is Power.PAUSED and guest.running is not None:
        yield Unpause(domain=guest.name, uuid=guest.running.uuid)


def _shutdown(change: Change) -> Shutdown:
    """Shut down with the timeout that the spec names, else the one that is kept with the domain on its host."""
    guest = change.guest
    assert guest is not None
    definition = change.target or guest.config or guest.running
    known = guest.running or guest.config or guest.candidate
    uuid = known.uuid if known is not None else ""
    if guest.running is not None and (change.quarantined or failed_before(guest, guest.running)):
        return _shutdown_of_failed(guest.name, uuid, definition)
    return Shutdown(
        domain=guest.name,
        uuid=uuid,
        timeout_seconds=definition.shutdown_timeout_seconds if definition else 90,
        on_timeout=definition.on_shutdown_timeout if definition else "fail",
        remnant=guest.power not in (Power.RUNNING, Power.PAUSED) and change.action is not Action.DESTROY,
    )


def _shutdown_of_failed(name: str, uuid: str, definition: Domain | None) -> Shutdown:
    """Shut down a boot that failed. One that never connected a device has nothing to write, and gets at most 20 s."""
    timeout_seconds = definition.shutdown_timeout_seconds if definition is not None else 90
    return Shutdown(
        domain=name,
        uuid=uuid,
        timeout_seconds=timeout_seconds,
        on_timeout=definition.on_shutdown_timeout if definition is not None else "fail",
        unconnected_seconds=min(timeout_seconds, _UNCONNECTED_SECONDS),
    )


def _quarantine(change: Change) -> Iterator[Step]:
    """Lift the quarantine for a retry. A rollback quarantines what it leaves, lest the next run undo the rollback."""
    if change.quarantine is not None:
        yield SetQuarantine(domain=change.domain, entries=change.quarantine)


def _stage(target: Domain, host: Host) -> Iterator[Step]:
    for image in target.images:
        if image.source and image.path and host.images.get(image.path) != image.sha256:
            yield StageImage(domain=target.name, image=image)


def _create_disks(target: Domain, host: Host) -> Iterator[Step]:
    for disk in target.disks:
        if disk.kind != "device" and disk.target not in host.files:
            yield CreateDisk(domain=target.name, disk=disk)


def _grow_disks(target: Domain, host: Host, attached: tuple[int, ...]) -> Iterator[Step]:
    for disk in target.disks:
        if missing_bytes(disk, host.files.get(disk.target)) > 0:
            yield GrowDisk(domain=target.name, disk=disk, attached=disk.devid in attached)


def _autostart(change: Change) -> Iterator[Step]:
    target = _target(change)
    before = change.guest.autostart if change.guest is not None else None
    if before != target.autostart:
        yield SetAutostart(domain=target.name, order=target.autostart)


def _sweep(change: Change) -> Iterator[Step]:
    """Remove the staged images that neither the new definition nor the one before it names."""
    target, guest = _target(change), change.guest
    if guest is None or guest.config is None or set(guest.config.images) == set(target.images):
        return
    before = guest.config if guest.config_proven else guest.previous
    keep = {image.path for definition in (target, before) if definition is not None for image in definition.images}
    yield SweepImages(domain=target.name, keep=tuple(sorted(keep)))


def _target(change: Change) -> Domain:
    assert change.target is not None, change.address
    return change.target
