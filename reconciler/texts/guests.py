"""Puts together what a host holds, domain by domain: config files, candidates and live domains under one name each.

Called by every observer, of real and simulated hosts, so that "whose is this?" has one answer. A domain is ours when a
file with our fleet's mark, written for this very name and UUID, says so. Everything else is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.model.copies import replace
from reconciler.model.domain import Disk, Domain
from reconciler.model.host import NAMELESS, Devices, Guest, Owner, Power
from reconciler.model.parts import KEPT, KEPT_OF_DISKS, taken_from
from reconciler.records import dataclass
from reconciler.texts.cfg_grammar import quote
from reconciler.texts.cfg_words import XL_WORDS, Words
from reconciler.texts.config_file import ConfigFile, read_file
from reconciler.texts.listed_keys import listed_keys
from reconciler.texts.listing import Row, power_of_row
from reconciler.texts.quarantine_file import is_newer, parse_quarantine
from reconciler.texts.running import Recorded, differences_at_start, overlay

_UNKNOWN_DISK = Disk(vdev="", devid=0, kind="file", target="")
"""What no file says of a disk: the defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDomain:
    """A domain that the hypervisor holds now. `name` is None when it has no name (any more).

    What it runs with is either in `config` (of `xl list -l`) or, on a simulated host, in `definition`. With neither,
    the host could not tell.
    """

    name: str | None
    uuid: str  # "" where the listing has none
    power: Power
    actual_kib: int
    running_seconds: float | None = None  # since it booted, where the host can tell
    domid: int | None = None
    devices: Devices | None = None  # None: its host cannot tell
    served: bool | None = None  # whether xl's process for it is there; None: its host cannot tell
    config: Mapping[str, Any] | None = None
    definition: Domain | None = None


def live_domains_of(rows: Iterable[Row], long: Mapping[int, Mapping[str, Any]]) -> tuple[LiveDomain, ...]:
    """Match the rows of `xl list -v` with the entries of `xl list -l` by domid and UUID; Domain-0 is left out.

    Between the two commands a domain can reboot and another can get its domid: then the entry is not the row's.
    """
    instances = []
    for row in rows:
        if row.domid == 0:
            continue
        config = long.get(row.domid)
        created = config.get("c_info") if config is not None else None
        uuid = created.get("uuid") if isinstance(created, dict) else None
        if row.uuid and uuid != row.uuid:
            config = None
        instances.append(
            LiveDomain(
                name=row.name,
                uuid=row.uuid or uuid or "",
                power=power_of_row(row, is_told=config is not None),
                actual_kib=row.memory_kib,
                domid=row.domid,
                config=config,
            )
        )
    return tuple(instances)


def assemble_guests(
    *,
    fleet: str,
    configs: Mapping[str, str],
    candidates: Mapping[str, str],
    instances: Sequence[LiveDomain],
    images: Mapping[str, str],
    autostart: Mapping[str, int],
    saved: Mapping[str, str] | None = None,
    present: Mapping[str, str] | None = None,
    started: Mapping[str, str] | None = None,
    words: Words = XL_WORDS,
) -> tuple[dict[str, Guest], int]:
    """Return all guests of a host by name, and the KiB of further rows that belong to the same domains.

    `configs` and `candidates` are file texts by domain name, `images` the sha256 of staged files by path, `autostart`
    the order of the domains that the dom0 starts at boot, `saved` the images that wait to be restored, by domain name,
    and `started` the texts that domains were last started from, where that was noted. The files are in these `words`.
    A row that has the UUID of a domain of ours is that domain, whatever its name is now. One without a name that is
    nobody's is named "(null)" and its UUID. `present` has the sha256 that other named files have now, not at the boot.
    """
    now = {**present, **images} if present else images
    read_configs = {name: _read_named(name, text, now, words) for name, text in configs.items()}
    read_candidates = {name: read_file(text, now, words) for name, text in candidates.items()}
    strays = _by_other_name(read_configs)
    live, remains_kib = _by_name(instances, _ours_by_uuid(fleet, read_configs, read_candidates))
    guests = {
        name: _guest(
            _Evidence(
                name=name,
                fleet=fleet,
                config=read_configs.get(name),
                stray=strays.get(name),
                candidate=read_candidates.get(name),
                instance=live.get(name),
                images=images,
                autostart=autostart.get(name),
                saved_image=saved.get(name) if saved is not None else None,
                started_candidate=name in candidates and (started or {}).get(name) == candidates[name],
            )
        )
        for name in sorted({*configs, *candidates, *live, *(saved or {})})
    }
    return {name: guest for name, guest in guests.items() if guest is not None}, remains_kib


def _read_named(name: str, text: str, images: Mapping[str, str], words: Words) -> ConfigFile:
    """Read a config file. One without a name, as xm took it, is of the domain that it is called after."""
    file = read_file(text, images, words)
    problems = file.reading.problems if file.reading is not None else ()
    if file.mark is not None or [problem.loc for problem in problems] != [("name",)]:
        return file
    named = read_file(f"name = {quote(name)}\n{text}", images, words)
    said = f"Its config file gives no name, so that of the file counts: {name}."
    return replace(named, ignored=(said, *named.ignored))


def _by_other_name(configs: Mapping[str, ConfigFile]) -> dict[str, ConfigFile]:
    """Map domains without a config file of their own to the only one that defines each; ours are never called so."""
    strays: dict[str, list[ConfigFile]] = {}
    for name, file in configs.items():
        if file.mark is None and file.domain is not None and file.domain.name not in (name, *configs):
            strays.setdefault(file.domain.name, []).append(file)
    return {name: files[0] for name, files in strays.items() if len(files) == 1}


def with_past(
    guest: Guest, *, previous: str | None, quarantine: str | None, images: Mapping[str, str], words: Words = XL_WORDS
) -> Guest:
    """Add to a guest of ours what is kept beside its config file: its previous definition and the failed boots."""
    file = read_file(previous, images, words) if previous is not None else None
    newer = guest.newer or _newer("its previous config file", file)
    if newer is None and quarantine is not None and is_newer(quarantine):
        newer = "its list of failed boots (an unknown format)"
    if file is None and quarantine is None:
        return guest
    if guest.owner is not Owner.OURS:
        return replace(guest, newer=newer)
    return replace(
        guest,
        newer=newer,
        previous=None if file is None else file.domain,
        quarantine=() if quarantine is None else parse_quarantine(quarantine),
    )


def _newer(what: str, file: ConfigFile | None) -> str | None:
    """Name a file that a newer version of reconciler wrote, with its format; None for any other."""
    newer = file.mark.newer if file is not None and file.mark is not None else None
    return None if newer is None else f"{what} ({newer})"


def _ours_by_uuid(
    fleet: str, configs: Mapping[str, ConfigFile], candidates: Mapping[str, ConfigFile]
) -> dict[str, str]:
    """Map the UUID of each domain that a file of ours defines under its own name to that name."""
    return {
        file.mark.uuid: name
        for files in (candidates, configs)
        for name, file in files.items()
        if file.mark is not None and (file.mark.fleet, file.mark.name) == (fleet, name)
    }


_RUNS = {Power.RUNNING, Power.PAUSED}


def _by_name(instances: Sequence[LiveDomain], ours: Mapping[str, str]) -> tuple[dict[str, LiveDomain], int]:
    """Give each live domain the name of the domain that it is. Returns them by name, and the KiB of leftover rows.

    A leftover is a second row of the same domain that does not run, or what dies under a name that another row has.
    Of two that run with one UUID, as by a copied config file, each is a domain.
    """
    live: dict[str, LiveDomain] = {}
    remains_kib = 0
    for instance in sorted(instances, key=lambda instance: _standing(instance, ours)):
        name = ours.get(instance.uuid) or instance.name or f"{NAMELESS} {instance.uuid or instance.domid}"
        there = live.get(name)
        if there is None:
            live[name] = instance
        elif there.uuid == instance.uuid and {there.power, instance.power} <= _RUNS:
            other = instance.name or f"{NAMELESS} {instance.uuid}"
            live[other if other not in live and other not in ours.values() else f"{other} {instance.domid}"] = instance
        elif there.uuid == instance.uuid or instance.power is Power.DYING:
            remains_kib += instance.actual_kib
        else:  # a stranger has the name of a domain of ours, which lives under another one
            live[f"{name} {instance.uuid}"] = instance
    return live, remains_kib


def _standing(instance: LiveDomain, ours: Mapping[str, str]) -> tuple[bool, bool, bool, bool]:
    """Return a sort key: of the rows of one domain a migration comes first, and what is dying last."""
    name = ours.get(instance.uuid)
    return (
        name is None,
        instance.power is not Power.MIGRATING,
        instance.power is Power.DYING,
        instance.name != name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """All that was found under one name."""

    name: str
    fleet: str
    config: ConfigFile | None
    stray: ConfigFile | None  # where it has no config file: somebody's of another name that defines it
    candidate: ConfigFile | None
    instance: LiveDomain | None
    images: Mapping[str, str]
    autostart: int | None
    saved_image: str | None = None
    started_candidate: bool = False  # by what was noted when it was started


def _guest(found: _Evidence) -> Guest | None:
    """Make the guest of this evidence; None when there is only a leftover candidate that cannot be ours."""
    owner, problems = _owner(found)
    candidate = found.candidate if owner is Owner.OURS and _is_ours(found, found.candidate) else None
    newer = _newer("its config file", found.config) or _newer("its candidate", found.candidate)
    here = (found.config, candidate, found.instance, found.saved_image, newer)
    if all(one is None for one in here):
        return None
    started_from, running = _running(found, candidate, problems)
    mark = found.config.mark if owner is Owner.OURS and found.config is not None else None
    config_proven = mark is None or mark.proven
    file = found.config or found.stray
    saved_image = found.saved_image if found.instance is None else None
    return Guest(
        name=found.name,
        owner=owner,
        config=_placed(_definition(owner, found.config), found),
        candidate=_placed(_definition(owner, candidate), found),
        running=_placed(running, found),
        unproven=started_from is not None and (started_from is candidate or not config_proven),
        config_proven=config_proven,
        power=found.instance.power if found.instance else Power.SAVED if saved_image else Power.ABSENT,
        saved_image=saved_image,
        **_life(found),
        autostart=found.autostart,
        config_exists=found.config is not None,
        edited=owner is Owner.OURS and found.config is not None and not found.config.intact,
        problem=" ".join(problems) or None,
        newer=newer,
        wave_noted=all(file.mark is None or file.mark.format != 0 for file in (found.config, candidate) if file),
        commit=_commit(owner, found.config or candidate),
        ignored=file.ignored if file is not None else (),
        unsaid=_unsaid(found, started_from),
        comments=file.comments if file is not None and owner is Owner.UNMANAGED else {},
    )


def _life(found: _Evidence) -> dict[str, Any]:
    """Return what is seen of a guest that the host holds, as arguments for Guest."""
    instance = found.instance
    if instance is None:
        return {}
    listed_as = None if instance.name == found.name else instance.name or NAMELESS
    return {
        "actual_kib": instance.actual_kib,
        "running_seconds": instance.running_seconds,
        "domid": instance.domid,
        "uuid": instance.uuid,
        "listed_as": listed_as,
        "devices": instance.devices,
        "served": instance.served,
    }


def _unsaid(found: _Evidence, started_from: ConfigFile | None) -> tuple[str, ...]:
    """List what a spec could not say of this domain: what its file has no words for.

    When no file can be its origin, what only `xl list -l` shows is added.
    """
    file = found.config or found.stray
    of_file = file.unsaid if file is not None else ()
    if found.instance is None or found.instance.config is None or started_from is not None:
        return of_file
    return (*of_file, *listed_keys(found.instance.config).untold)


def _definition(owner: Owner, file: ConfigFile | None) -> Domain | None:
    """Return what a file says now. A file of ours that was edited to nonsense counts as we wrote it."""
    if file is None:
        return None
    return file.domain or (file.original if owner is Owner.OURS else None)


def _commit(owner: Owner, file: ConfigFile | None) -> str | None:
    return file.mark.commit if owner is Owner.OURS and file is not None and file.mark is not None else None


def _placed(domain: Domain | None, found: _Evidence) -> Domain | None:
    if domain is None or domain.autostart == found.autostart:
        return domain
    return replace(domain, autostart=found.autostart)


def _is_ours(found: _Evidence, file: ConfigFile | None) -> bool:
    """Return whether our fleet wrote a file for this name. A copy under another name is not ours."""
    mark = file.mark if file is not None else None
    return mark is not None and mark.fleet == found.fleet and mark.name == found.name


def _owner(found: _Evidence) -> tuple[Owner, list[str]]:
    """Return whose the name is on this host, with sentences about what is wrong with it."""
    problems = []
    if found.name.isdecimal():
        problems.append("Its name is a number, which xl takes for a domid.")
    if found.config is not None and found.config.problem:
        problems.append(found.config.problem)
    decisive = found.config if found.config is not None else found.candidate
    mark = decisive.mark if decisive is not None else None
    if mark is None:
        return Owner.UNMANAGED, problems
    if mark.fleet != found.fleet:
        return Owner.FOREIGN, problems
    if mark.name != found.name:
        if not mark.name:  # a newer version may have other words for it
            return Owner.UNMANAGED, problems
        problems.append(f"Its config file is a copy of the one of {mark.name}.")
        return Owner.UNMANAGED, problems
    known = {file.mark.uuid for file in (found.config, found.candidate) if file and file.mark and _is_ours(found, file)}
    if found.instance is not None and found.instance.uuid not in known:
        problems.append(
            f"A domain of this name with the UUID {found.instance.uuid or '(unknown)'} runs,"
            f" which is not the one that our config file defines ({mark.uuid})."
        )
        return Owner.UNMANAGED, problems
    return Owner.OURS, problems


def _running(
    found: _Evidence, candidate: ConfigFile | None, problems: list[str]
) -> tuple[ConfigFile | None, Domain | None]:
    """Return the file that the live domain was started from, as far as can be told, and what the domain runs with."""
    instance = found.instance
    if instance is None:
        return None, None
    files = [file for file in (found.config or found.stray, candidate) if file is not None and _defines(file, instance)]
    try:
        choices = [(file, _live_definition(instance, file, found.images)) for file in files]
        if not choices:
            return None, _live_definition(instance, None, found.images)
    except ValueError as error:
        problems.append(f"What it runs with cannot be read: {error}")
        return None, None
    if choices[0][1] is None:
        problems.append("`xl list -l` does not tell what it runs with.")
        return None, None
    # xl does not list all that a file says: of equally good ones it is the one that it was seen to be started from,
    # else the config, which has proven itself
    ordered = reversed(choices) if found.started_candidate else choices
    file, running = (
        choices[0]
        if len(choices) == 1
        else min(ordered, key=lambda choice: differences_at_start(choice[1], _origin(choice[0])))
    )
    return file, _in_order_of(running, _origin(file))


def _in_order_of(running: Domain | None, origin: Domain | None) -> Domain | None:
    """Return what runs with its disks in the order that it was started with.

    xl lists a disk that was attached anew last.
    """
    if running is None or origin is None:
        return running
    order = {disk.devid: at for at, disk in enumerate(origin.disks)}
    disks = tuple(sorted(running.disks, key=lambda disk: order.get(disk.devid, len(order))))
    return running if disks == running.disks else replace(running, disks=disks)


def _origin(file: ConfigFile) -> Domain | None:
    """Return what a domain was started with from this file. An edit by hand counts as made after the start.

    Otherwise a line added to the file would look like a difference of the running domain, and cause a restart.
    """
    return file.original or file.domain


def _defines(file: ConfigFile, instance: LiveDomain) -> bool:
    """Return whether the domain can have been started from this file. A file without a UUID can start any."""
    origin = _origin(file)
    if origin is None:
        return False
    written_for = file.mark.uuid if file.mark is not None else origin.uuid
    return instance.uuid in (written_for, origin.uuid) or not origin.uuid


def _recorded(file: ConfigFile | None) -> Recorded:
    mark = file.mark if file is not None else None
    return Recorded(digests=dict(mark.booted or ()), by_name=mark.booted is None) if mark is not None else Recorded()


def _without_digests(domain: Domain) -> Domain:
    """Drop the digests of a file without a mark: they tell what would be booted now, not what was."""
    images = {"kernel": domain.kernel, "ramdisk": domain.ramdisk}
    unknown: dict[str, Any] = {key: image and replace(image, sha256="") for key, image in images.items()}
    return replace(domain, **unknown)


def _live_definition(instance: LiveDomain, file: ConfigFile | None, images: Mapping[str, str]) -> Domain | None:
    base = _origin(file) if file is not None else None
    if instance.config is not None:
        known = base if base is None or file is None or file.mark is not None else _without_digests(base)
        running = overlay(instance.config, known, images, _recorded(file))
        if base is not None:
            return running
        told: Any = listed_keys(instance.config)
        return replace(running, xl=told.xl, cpus=told.cpus)
    if instance.definition is None or base is None:
        return instance.definition
    # what the hypervisor does not know counts as the file says it now, as it does for a real domain
    there = {(disk.devid, disk.target): disk for disk in base.disks}
    disks = tuple(
        taken_from(disk, there.get((disk.devid, disk.target), _UNKNOWN_DISK), KEPT_OF_DISKS)
        for disk in instance.definition.disks
    )
    kept = taken_from(instance.definition, base, KEPT)
    return kept if disks == kept.disks else replace(kept, disks=disks)
