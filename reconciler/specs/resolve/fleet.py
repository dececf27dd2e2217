"""Checks the rules that look at more than one file: what no two domains may share, and whom a domain may depend on.

Each finding freezes every domain involved: which of them is meant to have the MAC or the disk, nobody knows.
"""

from __future__ import annotations

import graphlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.model.disks import may_share, place_of, world_wide
from reconciler.model.domain import Disk, Domain, address_of
from reconciler.model.fleet import HostSettings
from reconciler.model.paths import disk_identity
from reconciler.model.pci import read_pci
from reconciler.records import dataclass
from reconciler.specs.resolve.domain import derived_mac
from reconciler.specs.resolve.inputs import Findings, HostFolder, SpecFile
from reconciler.specs.resolve.layers import Layer, origin
from reconciler.specs.schema import MAC_PREFIX
from reconciler.specs.schema_errors import Complaint, Loc, near_miss
from reconciler.specs.secrets import concealed_text

SHARED = frozenset(
    {"Duplicate domain name", "Duplicate UUID", "Duplicate MAC", "Disk used twice", "PCI device used twice"}
)
"""The summaries of what no two domains may have in common."""

NAMELESS_FLEET = "The fleet has no name"
"""The summary of what keeps a tree with real hosts from being planned at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A domain that is right by itself, and where its keys came from."""

    host: str
    domain: Domain
    layers: tuple[Layer, ...]
    renamed_from: str | None = None

    @property
    def address(self) -> str:
        return address_of(self.host, self.domain.name)

    @property
    def file(self) -> str:
        return self.layers[-1].file

    def report(self, findings: Findings, complaint: Complaint, *freezes: str) -> None:
        """Report a complaint about this domain where its value came from; freezes it, and `freezes`."""
        file, loc = origin(self.layers, complaint.loc)
        own = self.address if file == self.file else None
        findings.report(file, replace(complaint, loc=loc), self.address, *freezes, address=own)


def check_names(hosts: Mapping[str, HostFolder], findings: Findings) -> None:
    """Check that each domain name is unique in the fleet, since UUID and MACs derive from it."""
    first: dict[str, tuple[str, str]] = {}
    for host in sorted(hosts):
        for name, file in sorted(hosts[host].domains.items()):
            address = address_of(host, name)
            if name in first:
                other_file, other_address = first[name]
                complaint = Complaint(
                    summary="Duplicate domain name",
                    detail=f"{other_file} and {file.path} both define a domain {name}; a name is unique in the fleet.",
                    hint="Rename the file whose domain does not exist yet: with another name a domain is made anew.",
                )
                findings.report(file.path, complaint, address, other_address, address=address)
            first.setdefault(name, (file.path, address))


def check_fleet_is_named(settings: SpecFile, hosts: Iterable[HostSettings | None], findings: Findings) -> bool:
    """Check that a tree with real hosts says which fleet it is: by that name it knows which domains are its own."""
    real = sorted(host.name for host in hosts if host is not None and not host.is_simulated)
    if settings.data is None or "fleet" in settings.data or not real:
        return True
    fresh = hashlib.sha256("\n".join(real).encode()).hexdigest()[:8]
    complaint = Complaint(
        summary=NAMELESS_FLEET,
        detail=f"{settings.path} does not say which fleet this is, and {real[0]} is a real host: the name says whose "
        "the domains there are, and their uuids and macs derive from it.",
        hint=f'Add one line to {settings.path}: fleet = "fleet-{fresh}" (or another name that no other tree has), or '
        'fleet = "default" where domains are already managed under that name.',
    )
    findings.report(settings.path, complaint)
    return False


def check_fleet(resolved: Iterable[Resolved], hosts: Mapping[str, HostFolder], findings: Findings) -> None:
    """Check all rules between domains. (What two files of one name share is no news.)"""
    named_once = (entry for entry in resolved if entry.address not in findings.frozen)
    entries = sorted(named_once, key=lambda entry: (entry.host, entry.domain.name))
    _check_old_names(entries, hosts, findings)
    entries = [entry for entry in entries if entry.address not in findings.frozen]
    by_host: dict[str, list[Resolved]] = defaultdict(list)
    for entry in entries:
        by_host[entry.host].append(entry)
    _report(in_common_of_fleet, entries, findings)
    for host, neighbours in by_host.items():
        _report(in_common_of_host, neighbours, findings)
        _check_dependencies(neighbours, hosts[host], hosts, findings)


def _check_old_names(entries: list[Resolved], hosts: Mapping[str, HostFolder], findings: Findings) -> None:
    """Check that nothing else is made under a name that a domain was renamed from."""
    declared = {name: file.path for host in sorted(hosts) for name, file in hosts[host].domains.items()}
    first: dict[str, Resolved] = {}
    for entry in entries:
        old = entry.renamed_from
        if old is None:
            continue
        hint = None
        if old == entry.domain.name:
            detail, hint = f'renamed_from names "{old}", which is its own name.', "Leave it out."
        elif old in declared:
            detail = f'renamed_from names "{old}", and {declared[old]} still declares a domain of that name.'
            hint = f"Remove {declared[old]}, if this is that domain under its new name."
        elif first.setdefault(old, entry) is not entry:
            detail = f'{first[old].address} and {entry.address} both say renamed_from = "{old}".'
        else:
            continue
        complaint = Complaint(loc=("renamed_from",), summary="No rename", detail=detail, hint=hint)
        others = [first[old].address] if old in first else []
        entry.report(findings, complaint, *others)


@dataclass(frozen=True, slots=True, kw_only=True)
class InCommon:
    """What several domains have, or one has twice, and no two may have. It is told of the domain at `address`."""

    address: str
    complaint: Complaint
    others: tuple[str, ...] = ()  # addresses


_TRIES = 1000

_Domains = Mapping[str, Domain]  # by address, or by whatever they shall be called in messages


def _report(rule: Callable[[_Domains], Iterator[InCommon]], entries: list[Resolved], findings: Findings) -> None:
    by_address = {entry.address: entry for entry in entries}
    for found in rule({entry.address: entry.domain for entry in entries}):
        by_address[found.address].report(findings, found.complaint, *found.others)


def in_common_of_fleet(domains: _Domains) -> Iterator[InCommon]:
    """List what no two domains of a fleet may have in common, nor one of them twice."""
    yield from _uuids(domains)
    yield from _macs(domains)
    yield from _disks(domains, world_wide, over_hosts=True)


def in_common_of_host(domains: _Domains) -> Iterator[InCommon]:
    """List what no two domains of a host may have in common, nor one of them twice."""
    yield from _disks(domains, lambda disk: disk_identity(disk.identity))
    yield from _pci(domains)


def _uuids(domains: _Domains) -> Iterator[InCommon]:
    first: dict[str, str] = {}
    for address, domain in domains.items():
        other = first.setdefault(domain.uuid, address)
        if other != address:
            detail = f"{other} and {address} have one UUID, {domain.uuid}."
            hint = "Leave uuid out to have one derived from the name, and never set it in a profile."
            complaint = Complaint(loc=("uuid",), summary="Duplicate UUID", detail=detail, hint=hint)
            yield InCommon(address=address, complaint=complaint, others=(other,))


def _macs(domains: _Domains) -> Iterator[InCommon]:
    first: dict[str, tuple[str, int]] = {}
    taken = {vif.mac for domain in domains.values() for vif in domain.vifs}
    for address, domain in domains.items():
        for index, vif in enumerate(domain.vifs):
            other, other_index = first.setdefault(vif.mac, (address, index))
            if (other, other_index) == (address, index):
                continue
            loc: Loc = ("vif", index, "mac") if vif.named else ("vif", index)
            who = f"vif[{other_index}] of {other} and vif[{index}] of {address}"
            complaint = Complaint(
                loc=loc,
                summary="Duplicate MAC",
                detail=f"{who} have one MAC, {vif.mac}.",
                hint=_another_mac(domain.uuid, index, vif.mac, taken),
            )
            yield InCommon(address=address, complaint=complaint, others=(other,))


def _another_mac(uuid: str, index: int, mac: str, taken: set[str]) -> str:
    """Name a MAC that nobody has, behind the octets that this one was derived behind."""
    prefixes = (":".join(mac.split(":")[:octets]) for octets in range(1, 6))
    prefix = next((one for one in prefixes if derived_mac(uuid, index, one) == mac), MAC_PREFIX)
    tries = (derived_mac(uuid, index, prefix, attempt) for attempt in range(1, _TRIES))
    free = next((one for one in tries if one not in taken), None)
    if free is None:
        return f"Nearly all addresses behind {prefix} are taken: give mac_prefix in reconciler.toml fewer octets."
    return f'Give one of them another, such as mac = "{free}".'


def _disks(domains: _Domains, name_of: Callable[[Disk], str | None], *, over_hosts: bool = False) -> Iterator[InCommon]:
    """List disks that one domain writes and another uses, if only to read: its caches would go stale."""
    users: dict[str, list[tuple[str, int, Disk]]] = defaultdict(list)
    for address, domain in domains.items():
        for index, disk in enumerate(domain.disks):
            if (name := name_of(disk)) is not None:
                users[name].append((address, index, disk))
    for target, uses in users.items():
        if len(uses) < 2 or may_share(*(disk.access for _, _, disk in uses)):
            continue
        if over_hosts and len({address.rpartition("/")[0] for address, _, _ in uses}) == 1:
            continue  # on one host it is told by what is known there
        writing = next(use for use in uses if not may_share(use[2].access))
        address, index, disk = next(use for use in reversed(uses) if use is not writing)
        key, _ = place_of(disk)
        shown = target if disk.script is None else f"{concealed_text(disk.target)} of {disk.script}"
        complaint = Complaint(
            loc=("disk", index, key),
            summary="Disk used twice",
            detail=f"{shown} is a disk of {_names(use[0] for use in uses)}, and {writing[0]} writes to it.",
            hint='A disk can be used twice only if every use has access = "ro".',
        )
        yield InCommon(address=address, complaint=complaint, others=tuple(use[0] for use in uses))


def _pci(domains: _Domains) -> Iterator[InCommon]:
    first: dict[str, str] = {}
    for address, domain in domains.items():
        for index, device in enumerate(map(read_pci, domain.pci)):
            others = (first[key] for key in device.functions if key in first)
            if (other := next(others, None)) is not None:
                whom = f"{address}, twice" if other == address else f"{other} and to {address}"
                detail = f"The PCI device {device.device} is given to {whom}."
                complaint = Complaint(loc=("pci", index), summary="PCI device used twice", detail=detail)
                yield InCommon(address=address, complaint=complaint, others=(other,))
            for key in device.functions:
                first.setdefault(key, address)


def _check_dependencies(
    neighbours: list[Resolved], folder: HostFolder, hosts: Mapping[str, HostFolder], findings: Findings
) -> None:
    by_name = {entry.domain.name: entry for entry in neighbours}
    for entry in neighbours:
        for index, name in enumerate(entry.domain.depends_on):
            loc: Loc = ("depends_on", index)
            if name not in folder.domains:
                detail = f'depends_on names "{name}", but {entry.host} has no such domain.'
                elsewhere = next((host for host in sorted(hosts) if name in hosts[host].domains), None)
                others = [other for other in folder.domains if other != entry.domain.name]
                hint = f"{name} is on {elsewhere}." if elsewhere else near_miss(name, others)
                entry.report(findings, Complaint(loc=loc, summary="Unknown domain", detail=detail, hint=hint))
            elif name in by_name and by_name[name].domain.policy.wave > entry.domain.policy.wave:
                waves = f"{by_name[name].domain.policy.wave}, after wave {entry.domain.policy.wave}"
                detail = f"{entry.domain.name} depends on {name}, which comes later: in wave {waves}."
                complaint = Complaint(loc=loc, summary="Dependency on a later wave", detail=detail)
                entry.report(findings, complaint)  # it is the fault of this line alone
    _check_circles(by_name, findings)


def _check_circles(by_name: dict[str, Resolved], findings: Findings) -> None:
    graph = {name: [d for d in entry.domain.depends_on if d in by_name] for name, entry in by_name.items()}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circle: list[str] = error.args[1][::-1]  # graphlib lists it from what is needed to what needs it
        else:
            return
        start = circle.index(min(circle))
        circle = circle[start:-1] + circle[: start + 1]  # the same circle is told the same way every time
        entry = by_name[circle[0]]
        complaint = Complaint(
            loc=("depends_on",),
            summary="Circle of dependencies",
            detail=f"Domains depend on each other in a circle: {' → '.join(circle)}.",
            hint="Remove one of these from depends_on.",
        )
        entry.report(findings, complaint, *(by_name[name].address for name in circle))
        graph = {name: needs for name, needs in graph.items() if name not in circle}


def _names(addresses: Iterable[str]) -> str:
    unique = list(dict.fromkeys(addresses))
    return " and of ".join(unique) if len(unique) > 1 else f"{unique[0]}, twice"
