"""Lists the kernels and ramdisks that a host holds for each domain, and the role of each. Pure.

Called by `commands.kernels`. The specs matter only for one question: whether they ask for other bytes than those that
run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from reconciler.model.domain import Domain, Image, address_of
from reconciler.model.host import Guest, Host, Owner, Quarantined
from reconciler.records import dataclass


class Role(StrEnum):
    """The part that a kernel file plays for its domain."""

    RUNNING = "running"
    CONFIG = "config"  # the last proven definition names it
    CANDIDATE = "candidate"  # a definition that has not proven itself yet names it
    PREVIOUS = "previous"  # a rollback leads to it
    QUARANTINED = "quarantined"  # failed to boot, or was left by a rollback
    UNUSED = "unused"  # nothing names it: removed with the next update


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFile:
    """A kernel or ramdisk on the host. `sha256` "": nobody knows its bytes (it is not staged)."""

    path: str
    sha256: str
    roles: tuple[Role, ...]
    is_staged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBytes:
    """A source of the specs whose bytes are not those that run."""

    kind: str  # kernel or ramdisk
    source: str
    sha256: str  # "": it is not there
    running_sha256: str | None  # None: the domain runs without one


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainKernels:
    """All that is known of one domain's kernels and ramdisks."""

    address: str
    files: tuple[KernelFile, ...]
    quarantined: tuple[Quarantined, ...]
    other_bytes: tuple[OtherBytes, ...]


def kernels_of(host: Host, declared: Mapping[str, Domain]) -> tuple[DomainKernels, ...]:
    """Return an entry for every domain of ours, and every folder of staged files that no domain claims, by name."""
    ours = {name for name, guest in host.guests.items() if guest.owner is Owner.OURS}
    staged: dict[str, dict[str, str]] = {name: {} for name in ours}
    for path, sha256 in host.images.items():
        staged.setdefault(path.split("/")[-2], {})[path] = sha256
    return tuple(_domain(host, name, staged[name], declared.get(name)) for name in sorted(staged))


def _domain(host: Host, name: str, staged: Mapping[str, str], desired: Domain | None) -> DomainKernels:
    guest = host.guests.get(name)
    ours = guest if guest is not None and guest.owner is Owner.OURS else None
    quarantined = tuple(one for one in ours.quarantine if one.holds_boot) if ours is not None else ()
    return DomainKernels(
        address=address_of(host.name, name),
        files=tuple(_files(ours, staged)),
        quarantined=quarantined,
        other_bytes=tuple(_other_bytes(ours, desired)) if ours is not None and desired is not None else (),
    )


def _files(guest: Guest | None, staged: Mapping[str, str]) -> Iterator[KernelFile]:
    """List the staged files, and those that a definition names without staging (an adopted domain's kernel)."""
    roles: dict[str, list[Role]] = {}
    known: dict[str, str] = {}
    for role, definition in _definitions(guest):
        for image in {image.path: image for image in definition.images}.values():  # they may be one file
            if image.path:
                roles.setdefault(image.path, []).append(role)
                known.setdefault(image.path, image.sha256)
    failed = {entry.kernel for entry in guest.quarantine} if guest is not None else set()
    for path in sorted({*staged, *roles}, key=lambda path: (_rank(roles.get(path, ())), path)):
        otherwise = Role.QUARANTINED if path in failed else Role.UNUSED
        yield KernelFile(
            path=path,
            sha256=staged.get(path) or known.get(path, ""),
            roles=tuple(roles.get(path, (otherwise,))),
            is_staged=path in staged,
        )


def _definitions(guest: Guest | None) -> Iterator[tuple[Role, Domain]]:
    if guest is None:
        return
    for role, definition in (
        (Role.RUNNING, guest.running),
        (Role.CONFIG, guest.config),
        (Role.CANDIDATE, guest.candidate),
        (Role.PREVIOUS, guest.previous),
    ):
        if definition is not None:
            yield role, definition


def _rank(roles: Iterable[Role]) -> int:
    """Sort what runs first, and what nothing names last."""
    order = list(Role)
    return min((order.index(role) for role in roles), default=len(order))


def _other_bytes(guest: Guest, desired: Domain) -> Iterator[OtherBytes]:
    now = guest.definition
    for kind, wanted, current in (
        ("kernel", desired.kernel, now.kernel if now is not None else None),
        ("ramdisk", desired.ramdisk, now.ramdisk if now is not None else None),
    ):
        if wanted is not None and wanted.source and _digest(wanted) != _digest(current):
            yield OtherBytes(kind=kind, source=wanted.source, sha256=wanted.sha256, running_sha256=_digest(current))


def _digest(image: Image | None) -> str | None:
    return image.sha256 if image is not None else None
