"""Judges what the specs ask for against what the host has: bridges, volume groups, a version of Xen, disks and macs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.decide.safety_rules import bridge_of
from reconciler.doctor.case import Case, Defect, NotKnownError, known
from reconciler.doctor.versions import Version, needs_of, version_of
from reconciler.model.claims import Claim, Key, claims_of, live_claims
from reconciler.model.disks import volume_group
from reconciler.model.domain import Domain
from reconciler.model.host import Guest, Host, Owner
from reconciler.specs.secrets import concealed_text

_OVS_SCRIPT = "vif-openvswitch"


def bridges(case: Case) -> Iterator[Defect]:
    there = case.seen.bridges
    if there is None:
        return  # any bridge is there
    told = set[str]()
    for name, domain in sorted(case.domains.items()):
        for vif in domain.vifs:
            bridge = bridge_of(vif)
            if bridge is None or bridge in there or bridge in told:
                continue
            told.add(bridge)
            mend = "ovs" if vif.script is not None and vif.script.endswith(_OVS_SCRIPT) else case.facts.flavour
            what = (
                f"the spec of {name} names the bridge {bridge}, and the host has {', '.join(sorted(there)) or 'none'}"
            )
            yield Defect(what, mend, {"bridge": bridge}, domain=name)


def volume_groups(case: Case) -> Iterator[Defect]:
    named = {volume_group(disk) for domain in case.domains.values() for disk in domain.disks if disk.kind == "lv"}
    if not named:
        return
    if not known(case.facts.has_lvm, "the host does not tell which tools it has"):
        what = f"the specs put disks into {_listed(named)}, and there is no `vgs` on the host"
        yield Defect(what, f"tool-{case.facts.flavour}")
        return
    there = case.seen.vg_free_bytes
    for group in sorted(named - there.keys()):
        what = f"the specs put disks into the volume group {group}, and the host has {_listed(there)}"
        yield Defect(what, "group", {"group": group})


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def xen_version(case: Case) -> Iterator[Defect]:
    needed = {name: needs_of(domain) for name, domain in sorted(case.domains.items())}
    if not any(needed.values()):
        return
    if case.seen.xen_version == "simulated":  # which knows all keys
        return
    has = known(version_of(case.seen.xen_version), "`xl info` does not tell which Xen this is")
    for name, needs in needed.items():
        for key, since in needs:
            if has < since:
                what = (
                    f"the spec of {name} uses {key}, which xl knows since Xen {_text(since)}; the host has {_text(has)}"
                )
                yield Defect(what, "key", {"version": _text(since), "name": name}, domain=name)


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def shared(case: Case) -> Iterator[Defect]:
    """Find disks and macs that a spec and a domain of somebody else both have."""
    host, tool = case.seen, case.facts.tool
    untold = []
    for other, guest in sorted(host.guests.items()):
        if guest.owner is Owner.OURS:
            continue
        theirs = _claims(host, guest)
        if not theirs and guest.exists and guest.running is None:
            untold.append(other)
        for name, domain in sorted(case.domains.items()):
            if name != other and domain.uuid != guest.uuid:  # else it is what the spec is to take over
                for what, kind in _in_common(name, claims_of(host, domain), other, theirs):
                    yield Defect(what, kind, {"other": other, "name": name, "tool": tool}, domain=name)
    if untold:
        raise NotKnownError(f"the host does not tell what {', '.join(untold)} has")


def _claims(host: Host, guest: Guest) -> Mapping[Key, Claim]:
    definitions: list[Domain] = [one for one in (guest.running, guest.config) if one is not None]
    written = {key: claim for one in definitions for key, claim in claims_of(host, one).items()}
    return {**written, **live_claims(host, guest)}


def _in_common(
    name: str, ours: Mapping[Key, Claim], other: str, theirs: Mapping[Key, Claim]
) -> Iterator[tuple[str, str]]:
    """Say what both have, and of which kind it is."""
    for key in ours.keys() & theirs.keys():
        claim = ours[key]
        if key[0] == "uuid" or (claim.reads_only and theirs[key].reads_only):
            continue
        value = concealed_text(claim.value)
        yield f"{value} is {claim.what} of {name}, by its spec, and of {other}, which is not ours", key[0]
