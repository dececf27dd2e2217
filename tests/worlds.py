"""Small hand-made worlds: one host, domains by keyword."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.decide.changes import Change, Consent
from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.model.host import FileFact, Guest, Host, Owner, Power
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.verify import verify

MIB = 1024
OLD, NEW = "1" * 64, "2" * 64


def kernel(name: str, sha256: str = OLD) -> Image:
    return Image(sha256=sha256, path=f"/var/lib/xen/kernels/{name}/vmlinuz.{sha256[:12]}", source="kernels/vmlinuz")


def domain(name: str, **changes: Any) -> Domain:
    basis = Domain(
        name=name, uuid=f"uuid-of-{name}", kernel=kernel(name), memory_kib=256 * MIB, maxmem_kib=512 * MIB, maxvcpus=2
    )
    return replace(basis, **changes)


def disk(target: str, devid: int = 51712, **changes: Any) -> Disk:
    return replace(Disk(vdev=hex(devid), devid=devid, kind="file", target=target, size_bytes=4096), **changes)


def vif(mac: str, devid: int = 0, **changes: Any) -> Vif:
    return replace(Vif(devid=devid, mac=mac, named=True, bridge="xenbr0"), **changes)


def guest(definition: Domain, **changes: Any) -> Guest:
    """A domain of ours that runs as defined."""
    return replace(
        Guest(
            name=definition.name,
            owner=Owner.OURS,
            config=definition,
            config_exists=True,
            running=definition,
            power=Power.RUNNING,
            actual_kib=definition.memory_kib,
            autostart=definition.autostart,
        ),
        **changes,
    )


def stopped(definition: Domain, **changes: Any) -> Guest:
    """A domain of ours that does not run."""
    return guest(definition, **{"running": None, "power": Power.ABSENT, "actual_kib": 0, **changes})


def unmanaged(definition: Domain, **changes: Any) -> Guest:
    return guest(definition, **{"owner": Owner.UNMANAGED, "config": None, "config_exists": False, **changes})


def host(*guests: Guest, free_mib: int = 8192, **changes: Any) -> Host:
    definitions = [part for one in guests for part in (one.config, one.running) if part is not None]
    basis = Host(
        name="alpha",
        total_kib=16 * 1024 * MIB,
        free_kib=free_mib * MIB,
        cpus=4,
        guests={one.name: one for one in guests},
        images={image.path: image.sha256 for part in definitions for image in part.images},
        files={
            disk.target: FileFact(kind="file", size_bytes=4096, key=disk.target, real_path=disk.target)
            for part in definitions
            for disk in part.disks
        },
    )
    return replace(basis, **changes)


def desired(*domains: Domain, settings: HostSettings | None = None, **changes: Any) -> Desired:
    part = DesiredHost(
        settings=settings or HostSettings(name="alpha", toolstack="simulated"),
        domains={one.name: one for one in domains},
    )
    return replace(Desired(fleet="default", hosts={"alpha": part}), **changes)


def plan(world: Host, wanted: Desired, consent: Consent | None = None) -> Plan:
    """A proven plan for one host."""
    made = build_plan(wanted, {world.name: world}, consent or Consent())
    verify(made, {world.name: world}, wanted)
    return made


def change_of(made: Plan, name: str) -> Change:
    return next(change for change in made.changes if change.domain == name)


def kinds(made: Plan, name: str) -> list[str]:
    return [step.step.kind for step in made.steps if step.address == f"alpha/{name}"]
