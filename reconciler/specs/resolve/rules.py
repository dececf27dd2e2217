"""Checks that the keys of one domain agree with each other, whatever its host. Called for each merged spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.model.key_row import Kind
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.parts import CEILING_OF, key_named
from reconciler.model.paths import absolute, disk_identity, is_normal, relative
from reconciler.model.quantities import Unfit
from reconciler.model.vdev import devid_of
from reconciler.specs.patterns import WAYS_OUT, UnusablePatternError, check_pattern
from reconciler.specs.schema import DiskSpec, DomainSpec
from reconciler.specs.schema_errors import Complaint, spell
from reconciler.specs.secret_files import BEFORE, SECRET_FILES
from reconciler.specs.spec import keys_of

DISAGREE = "Keys that do not agree"
_OF_WHAT_IS_MISSING = frozenset({DISAGREE, "Missing key", "Nothing to boot"})
PATHS_OF_DISKS = {
    "path": "path",
    "device": "device",
    "source": "source",
    "active-disk": "active_disk",
    "hidden-disk": "hidden_disk",
}
"""The keys of a disk that name files of the dom0, with their fields."""

_WAYS_TO_BOOT = tuple(key for key in DOMAIN_KEYS if key.boots)
_NEEDY = tuple(key for key in DOMAIN_KEYS if key.needs)
_MADE_FORMATS = ("raw", "qcow2")
_MULTICAST_BIT = 1
_PORT_MAX = 65535


def check_alone(spec: DomainSpec) -> Iterator[Complaint]:
    """Yield every contradiction within one domain."""
    yield from _check_boot(spec)
    yield from _check_sizes(spec)
    for index, disk in enumerate(spec.disk):
        yield from _check_disk(disk, index)
    yield from _check_vdevs(spec)
    yield from _check_vifs(spec)
    yield from _check_pci(spec)
    yield from _check_ready(spec)
    yield from _check_xl(spec)
    yield from _check_secrets(spec)


def is_shadowed(complaint: Complaint, wrong_values: tuple[Complaint, ...]) -> bool:
    """Return whether a complaint may exist only because a wrong value near it was left out for this check."""
    if complaint.summary not in _OF_WHAT_IS_MISSING:
        return False
    if complaint.loc[0] in ("disk", "notify"):  # what the keys of one must agree on lies within it
        return any(wrong.loc[:2] == complaint.loc[:2] for wrong in wrong_values)
    return any(len(wrong.loc) == 1 or wrong.loc[0] == complaint.loc[0] for wrong in wrong_values)


def _check_boot(spec: DomainSpec) -> Iterator[Complaint]:
    if spec.type != "hvm" and not any(getattr(spec, key.attribute) for key in _WAYS_TO_BOOT):
        yield Complaint(
            loc=("kernel",),
            summary="Nothing to boot",
            detail=f"A {spec.type} domain needs {_one_of([f'a {key.name}' for key in _WAYS_TO_BOOT])}.",
            hint='Add kernel = "PATH": a file of the spec tree, or an absolute path on the host.',
            at_key=True,
        )
    for row in _NEEDY:
        if getattr(spec, row.attribute) and not any(getattr(spec, key) for key in row.needs):
            what = f"A {row.name}" if row.kind is Kind.FILE else row.name
            yield _conflict((row.name,), f"{what} needs {_one_of([f'a {key}' for key in row.needs])}.")
    for key, image in (("kernel", spec.kernel), ("ramdisk", spec.ramdisk)):
        if image is not None:
            yield from check_path((key,), image, absolute if image.startswith("/") else relative)
            if image.startswith("/") and not image.strip("/."):
                detail = f"{key} must be the path of a file, not of a folder."
                yield Complaint(loc=(key,), summary="Invalid path", detail=detail)
    if spec.cmdline is not None:
        for key in ("root", "extra"):
            if getattr(spec, key) is not None:
                hint = "Put everything into cmdline, or use root and extra alone."
                yield _conflict((key,), f"cmdline and {key} cannot be given together.", hint)


def _one_of(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _check_sizes(spec: DomainSpec) -> Iterator[Complaint]:
    if spec.memory_kib is None and spec.maxmem_kib is None:
        yield Complaint(
            loc=("memory",),
            summary="Missing key",
            detail="A domain needs memory.",
            hint="Add memory = 1024 (MiB).",
            at_key=True,
        )
    for floor, ceiling in CEILING_OF.items():
        least, most = getattr(spec, key_named(floor).attribute), getattr(spec, ceiling.attribute)
        if least is not None and most is not None and most < least:
            of_least, of_most = _amount(ceiling.kind, least), _amount(ceiling.kind, most)
            yield _conflict((ceiling.name,), f"{ceiling.name} ({of_most}) is less than {floor} ({of_least}).")
    cap, most = getattr(spec, key_named("cap").attribute), 100 * max(spec.vcpus, spec.maxvcpus or 0)
    if cap is not None and cap > most:  # libxl refuses it when the domain is there already (libxl_sched.c)
        detail = f"cap ({cap}) is more than its vcpus can use: each uses 100 at most, all of them {most}."
        yield _conflict(("cap",), detail, f"Write cap = {most} or less (0 is no limit), or give it more vcpus.")


def _amount(kind: object, number: int) -> str:
    return f"{number // 1024} MiB" if kind is Kind.SIZE else str(number)


def _check_disk(disk: DiskSpec, index: int) -> Iterator[Complaint]:
    given = [key for key in ("path", "lv", "device", "target") if getattr(disk, key) is not None]
    if len(given) > 1 or not (given or disk.cdrom):
        what = f"has {' and '.join(given)}" if given else "says nothing of where its data is"
        hint = 'Give exactly one of path = "/FILE", lv = "GROUP/VOLUME" and device = "/dev/DEVICE".'
        yield _conflict(("disk", index, *given[1:2]), f"disk[{index}] {what}.", hint)
        return
    yield from _check_used_as_is(disk, index)
    paths = {key: getattr(disk, field) for key, field in PATHS_OF_DISKS.items()}
    for key, path in paths.items():
        if path is not None:
            yield from check_path(("disk", index, key), path)
    if disk.path is not None and disk.path.startswith("/dev/"):
        hint = f'Write device = "{disk.path}".'
        yield _conflict(("disk", index, "path"), "path names a file, but /dev holds devices.", hint)
    target = disk.path or disk.device or (f"/dev/{disk.lv}" if disk.lv else "")
    if disk.source is not None and is_normal(disk.source) and is_normal(target) and _is_same(disk.source, target):
        yield _conflict(("disk", index, "source"), f"disk[{index}] is its own source.", "Leave source out.")
    if disk.device is not None or disk.cdrom or disk.script is not None or disk.backend is not None:
        yield from _check_device(disk, index)
    if disk.format not in _MADE_FORMATS and (disk.size_kib is not None or disk.source is not None):
        key = "size" if disk.size_kib is not None else "source"
        detail = f"A disk of the format {disk.format} is never made here, so it has no {key}."
        yield _conflict(("disk", index, key), detail, 'Make it on the host, or write format = "raw" or "qcow2".')
    if disk.format == "qcow2" and disk.path is None and (disk.size_kib is not None or disk.source is not None):
        yield _conflict(("disk", index, "format"), "Only a file can be made with the format qcow2.")


def _check_used_as_is(disk: DiskSpec, index: int) -> Iterator[Complaint]:
    """Check what a drive and a disk that a script makes cannot have."""
    if disk.target is not None and disk.script is None:
        hint = 'Add the script that knows what it means, or write path = "/FILE".'
        yield _conflict(("disk", index, "target"), "target needs a script.", hint)
    if disk.script is not None and disk.lv is not None:
        hint = f'Write target = "{disk.lv}", in the words of the script.'
        yield _conflict(("disk", index, "lv"), "A disk with a script has a target instead.", hint)


def _is_same(one: str, other: str) -> bool:
    return disk_identity(absolute(one)) == disk_identity(absolute(other))


def _check_device(disk: DiskSpec, index: int) -> Iterator[Complaint]:
    """Check that a device, which exists already, is not to be created, filled, grown or deleted."""
    creation = {"size": disk.size_kib is not None, "source": disk.source is not None}
    creation |= {"allocate": disk.allocate != "sparse", "on_delete": disk.on_delete != "keep"}
    for key, given in creation.items():
        if given:
            what = "a CD drive" if disk.cdrom else "a device" if disk.device is not None else "what is served elsewhere"
            detail = f"{key} is for disks that are created; {what} is used as it is."
            hint = "Leave it out, or name a logical volume with lv." if disk.device is not None else "Leave it out."
            yield _conflict(("disk", index, key), detail, hint)


def _check_vdevs(spec: DomainSpec) -> Iterator[Complaint]:
    seen: dict[int, str] = {}
    for index, disk in enumerate(spec.disk):
        try:
            devid = devid_of(disk.vdev)
        except ValueError as error:
            yield Complaint(loc=("disk", index, "vdev"), summary="Invalid value", detail=str(error))
            continue
        if devid in seen:
            same = "" if seen[devid] == disk.vdev else f" ({seen[devid]} and {disk.vdev} are the same place)"
            detail = f"Two disks of this domain are {disk.vdev}{same}."
            yield Complaint(loc=("disk", index, "vdev"), summary="Duplicate vdev", detail=detail)
        seen[devid] = disk.vdev


def _check_vifs(spec: DomainSpec) -> Iterator[Complaint]:
    for index, vif in enumerate(spec.vif):
        if vif.mac is not None and (int(vif.mac[:2], 16) & _MULTICAST_BIT or vif.mac.strip("0:") == ""):
            detail = f"{vif.mac} is no address of one interface: its first byte must be even, and not all may be 0."
            yield Complaint(loc=("vif", index, "mac"), summary="Invalid value", detail=detail)
        if spec.type != "hvm" and vif.type == "ioemu":
            detail = f"vif[{index}].type asks for an emulated interface, which only hvm domains have."
            yield _conflict(("vif", index, "type"), detail)
    seen: dict[int, int] = {}
    for index, vif in enumerate(spec.vif):
        devid = index if vif.devid is None else vif.devid
        if devid in seen:
            detail = f"vif[{seen[devid]}] and vif[{index}] have one devid, {devid}."
            hint = "Left out, a devid is the place in the array, from 0."
            yield _conflict(("vif", index), detail, hint)
        seen.setdefault(devid, index)


def _check_pci(spec: DomainSpec) -> Iterator[Complaint]:
    for index, device in enumerate(spec.pci):
        if (device.bdf is None) == (device.name is None):
            hint = 'Write bdf = "0000:03:00.0", or name = "NAME" for one that `xl pci-assignable-add -n` has named.'
            yield _conflict(("pci", index), f"pci[{index}] needs either bdf or name.", hint)


def _check_ready(spec: DomainSpec) -> Iterator[Complaint]:
    ready = spec.ready
    if ready.min_seconds >= ready.timeout_seconds:
        detail = f"min_seconds ({ready.min_seconds:g}) must be less than timeout ({ready.timeout_seconds:g} s)."
        yield _conflict(("ready", "min_seconds"), detail)
    if ready.tcp is not None and not 1 <= int(ready.tcp.rpartition(":")[2]) <= _PORT_MAX:
        detail = f"ready.tcp must have a port from 1 to {_PORT_MAX}."
        yield Complaint(loc=("ready", "tcp"), summary="Value out of range", detail=detail)
    if ready.console is not None:
        try:
            check_pattern(ready.console)
        except UnusablePatternError as error:
            detail = f"ready.console cannot be used as a regular expression: {error}."
            yield Complaint(loc=("ready", "console"), summary="Invalid value", detail=detail, hint=WAYS_OUT)


OWN_KEYS = frozenset(key.alias for key in keys_of(DomainSpec).values()) | {"name", "builder"}


def _check_xl(spec: DomainSpec) -> Iterator[Complaint]:
    for key in spec.xl:
        if key in OWN_KEYS:
            hints = {"name": "The file's name is the domain's name.", "builder": 'Write type = "hvm", "pv" or "pvh".'}
            hint = hints.get(key, f"Move {key} out of [xl], to the top of the file.")
            detail = f"{key} cannot be given under [xl], since domain specs have their own word for it."
            yield Complaint(loc=("xl", key), summary="Key not allowed", detail=detail, hint=hint, at_key=True)


def _check_secrets(spec: DomainSpec) -> Iterator[Complaint]:
    for key, told in SECRET_FILES.items():
        path = spec.xl.get(key)
        if path is None:
            continue
        if not isinstance(path, str) or not path.startswith("/") or path.endswith(BEFORE):
            detail = f"xl.{key} is the absolute path of a file of the host, whose first line is the {told}."
            yield Complaint(loc=("xl", key), summary="Invalid value", detail=detail)
            continue
        yield from check_path(("xl", key), path)
        if told in spec.xl:
            yield _conflict(("xl", told), f"{told} and {key} cannot be given together.", f"Leave {told} out.")


def check_path(loc: tuple[str | int, ...], path: str, normal: Callable[[str], str] = absolute) -> Iterator[Complaint]:
    """Yield a complaint if `path` has no normal spelling."""
    try:
        normal(path)
    except Unfit as error:
        yield Complaint(loc=loc, summary="Invalid path", detail=f"{spell(loc)} {error}.", hint=error.hint)


def _conflict(loc: tuple[str | int, ...], detail: str, hint: str | None = None) -> Complaint:
    return Complaint(loc=loc, summary=DISAGREE, detail=detail, hint=hint)
