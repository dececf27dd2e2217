"""Generated worlds: a host with guests of all kinds, and specs that agree with it, differ from it or ignore it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif
from reconciler.model.fleet import Brake, Desired, DesiredHost, HostSettings, RehearsalSettings
from reconciler.model.host import FileFact, Guest, Host, Owner, Power
from reconciler.model.memory import promised_kib
from reconciler.model.rehearsal import SnapshotFact

MIB = 1024
GIB = 1024 * MIB
NAMES = ("a", "b", "c", "d", "e")
SHAS = ("1" * 64, "2" * 64)


@dataclass(frozen=True)
class World:
    """One host and what is desired of it."""

    host: Host
    desired: Desired


def image(name: str, sha256: str) -> Image:
    return Image(sha256=sha256, path=f"/var/lib/xen/kernels/{name}/vmlinuz.{sha256[:12]}", source="kernels/vmlinuz")


@st.composite
def definitions(draw: st.DrawFn, name: str) -> Domain:
    """A definition of one domain, small in every respect, so that equal and slightly different ones are common."""
    index = NAMES.index(name)
    memory_mib = draw(st.sampled_from([64, 128, 256, 512]))
    maxmem_mib = memory_mib + draw(st.sampled_from([0, 0, 256]))
    vcpus = draw(st.integers(1, 2))
    macs = draw(st.lists(st.integers(1, 3), unique=True, max_size=2))
    disks = draw(st.lists(st.sampled_from([51712, 51728]), unique=True, max_size=2))
    return Domain(
        name=name,
        uuid=f"00000000-0000-0000-0000-00000000000{index}",
        kernel=image(name, draw(st.sampled_from(SHAS))),
        memory_kib=memory_mib * MIB,
        maxmem_kib=maxmem_mib * MIB,
        vcpus=vcpus,
        maxvcpus=vcpus + draw(st.integers(0, 1)),
        cpu_weight=draw(st.sampled_from([None, 512])),
        disks=tuple(
            Disk(
                vdev=hex(devid),
                devid=devid,
                kind="file",
                target=f"/srv/{name}-{devid}.img",
                size_bytes=draw(st.sampled_from([None, 4096, 8192])) or 4096,
                on_delete=draw(st.sampled_from(["keep", "delete"])),
            )
            for devid in disks
        ),
        vifs=tuple(
            Vif(devid=at, mac=f"00:16:3e:00:0{index}:0{mac}", named=True, bridge="xenbr0")
            for at, mac in enumerate(macs)
        ),
        state=draw(st.sampled_from(["running", "running", "running", "stopped"])),
        autostart=draw(st.sampled_from([None, None, 10])),
        prevent_destroy=draw(st.sampled_from([False, False, False, True])),
        depends_on=tuple(sorted(draw(st.sets(st.sampled_from(NAMES[:index]), max_size=1)))) if index else (),
        policy=Policy(
            wave=draw(st.sampled_from([0, 0, 0, 1])),
            restart=draw(st.sampled_from(["auto", "auto", "auto", "defer"])),
            reconcile=draw(st.sampled_from([True, True, True, False])),
            rehearse=draw(st.sampled_from(["off", "off", "if-possible", "required"])),
            ready=Ready(min_seconds=0),
        ),
    )


@st.composite
def guests(draw: st.DrawFn, name: str, wanted: Domain | None) -> Guest | None:
    """What is on the host under a name: nothing, exactly the wanted, something near it, or somebody else's."""
    kind = draw(st.sampled_from(["absent", "same", "other", "other", "unmanaged"]))
    if kind == "absent":
        return None
    autostart = draw(st.sampled_from([None, 10]))
    definition = wanted if kind == "same" and wanted is not None else draw(definitions(name))
    if kind == "same":
        autostart = definition.autostart
    definition = replace(definition, autostart=autostart)
    owner = Owner.UNMANAGED if kind == "unmanaged" else Owner.OURS
    runs = definition.state == "running" and draw(st.sampled_from([True, True, True, False]))
    drifted = replace(definition, memory_kib=draw(st.sampled_from([definition.memory_kib, 64 * MIB])))
    power = draw(st.sampled_from([Power.RUNNING] * 5 + [Power.CRASHED, Power.REBOOTING])) if runs else Power.ABSENT
    return Guest(
        name=name,
        owner=owner,
        config=definition if owner is Owner.OURS else None,
        config_exists=owner is Owner.OURS,
        running=drifted if runs else None,
        power=power,
        actual_kib=drifted.memory_kib if runs else 0,
        autostart=autostart,
        edited=owner is Owner.OURS and draw(st.sampled_from([False, False, False, True])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    wanted = {name: draw(definitions(name)) for name in NAMES if draw(st.booleans())}
    wanted = {
        name: replace(domain, depends_on=tuple(base for base in domain.depends_on if base in wanted))
        for name, domain in wanted.items()
    }
    held = {name: draw(guests(name, wanted.get(name))) for name in NAMES}
    there = {name: guest for name, guest in held.items() if guest is not None}
    free_kib = draw(st.sampled_from([0, 64, 200, 600, 4096])) * MIB
    named = [disk for guest in there.values() for part in (guest.config, guest.running) if part for disk in part.disks]
    host = Host(
        name="alpha",
        total_kib=free_kib + 128 * MIB + sum(promised_kib(guest) for guest in there.values()),
        free_kib=free_kib,
        cpus=4,
        guests=there,
        images={
            image.path: image.sha256
            for guest in there.values()
            for part in (guest.config, guest.running)
            if part is not None
            for image in part.images
        },
        files={
            disk.target: FileFact(kind="file", size_bytes=4096, key=disk.target, real_path=disk.target)
            for disk in named
        },
        snapshots={
            disk.target: SnapshotFact(way="reflink", room="/srv", size_bytes=4096, free_bytes=free, total_bytes=1 << 30)
            for free in [draw(st.sampled_from([0, 6000, 1 << 30]))]
            for disk in named
        },
    )
    settings = HostSettings(
        name="alpha",
        toolstack="simulated",
        max_unavailable=draw(st.integers(1, 3)),
        parallel=draw(st.integers(1, 4)),
        rehearsal=RehearsalSettings(pause=draw(st.booleans()), keep_free=0),
    )
    desired = Desired(
        fleet="default",
        hosts={"alpha": DesiredHost(settings=settings, domains=wanted)},
        prune=draw(st.sampled_from([True, True, False])),
    )
    return World(host=host, desired=replace(desired, brake=replace(desired.brake, max_destroy=100)))


@st.composite
def handovers(draw: st.DrawFn) -> World:
    """Worlds in which domains have disks, macs and uuids that the specs give to others, and nothing else is scarce."""
    drawn = [replace(draw(definitions(name)), depends_on=(), policy=Policy()) for name in NAMES]
    wanted = {domain.name: domain for domain in drawn if draw(st.sampled_from([True, True, False]))}
    heirs = dict(zip(NAMES, draw(st.permutations(drawn)), strict=True))
    takes_uuids = draw(st.sampled_from([False, False, True]))  # a changed uuid blocks what runs
    guests = {}
    for name, heir in heirs.items():
        kind = draw(st.sampled_from(["running"] * 4 + ["stopped", "absent", "unmanaged"]))
        there = replace(draw(definitions(name)), vifs=heir.vifs, disks=heir.disks, depends_on=())
        there = replace(there, uuid=heir.uuid if takes_uuids else there.uuid, state="running", autostart=None)
        runs = kind in ("running", "unmanaged")
        if kind != "absent":
            guests[name] = Guest(
                name=name,
                owner=Owner.UNMANAGED if kind == "unmanaged" else Owner.OURS,
                config=None if kind == "unmanaged" else there,
                config_exists=kind != "unmanaged",
                running=there if runs else None,
                power=Power.RUNNING if runs else Power.ABSENT,
                actual_kib=there.memory_kib if runs else 0,
            )
    paths = [f"/srv/{name}-{devid}.img" for name in NAMES for devid in (51712, 51728)]
    host = Host(
        name="alpha",
        total_kib=32 * GIB,
        free_kib=16 * GIB,
        cpus=4,
        guests=guests,
        files={path: FileFact(kind="file", size_bytes=4096, key=path, real_path=path) for path in paths},
    )
    settings = HostSettings(name="alpha", toolstack="simulated", max_unavailable=draw(st.integers(1, 3)))
    part = DesiredHost(settings=settings, domains=wanted)
    return World(host=host, desired=Desired(fleet="default", hosts={"alpha": part}, brake=Brake(max_destroy=100)))
