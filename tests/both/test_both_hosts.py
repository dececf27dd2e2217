"""One table of cases, run against a dom0 with a fake xl and against the simulated host: same steps in, same states out.

A case says what a person or a guest did to hosts on which `web` runs (and `db`, where it is named), which steps are
carried out then, and in which power states the domains are afterwards. What differs between the two hosts fails, also
where the case says nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.host import Power
from reconciler.plan.steps import (
    AttachDisk,
    AttachVif,
    CreateDisk,
    DeleteDisk,
    DetachVif,
    GrowDisk,
    PromoteConfig,
    RemoveConfig,
    SetMemory,
    SetVcpus,
    Shutdown,
    Start,
    Step,
    Unpause,
    WriteConfig,
)
from tests.both.sides import MIB_KIB, Outcome, Side, make_domain, make_sides, outcome_of, started

pytestmark = pytest.mark.anyio

ByHand = Callable[[Side], None]


@dataclass(frozen=True, slots=True)
class Case:
    """`steps` are given the definitions of web and db as they run; `fails` says whether they are to be refused."""

    steps: Callable[[Domain, Domain], tuple[Step, ...]]
    ends: Mapping[str, Power] = field(default_factory=lambda: {"web": Power.RUNNING})
    by_hand: tuple[ByHand, ...] = ()
    fails: bool = False
    with_db: bool = False
    before: Callable[[Domain], Domain] = lambda web: web  # another web than the usual one


def power(name: str, state: Power) -> ByHand:
    return lambda side: side.set_power(name, state)


def guest(name: str, **behaviour: str) -> ByHand:
    def set_it(side: Side) -> None:
        for key, value in behaviour.items():
            side.set_guest(name, key, value)

    return set_it


def reboots(name: str) -> ByHand:
    return lambda side: side.reboot_guest(name)


def renamed(name: str, other: str) -> ByHand:
    return lambda side: side.rename(name, other)


def migrated_away(name: str) -> ByHand:
    return lambda side: side.rename(name, f"{name}--migratedaway")


def unpause(web: Domain) -> Unpause:
    return Unpause(domain=web.name, uuid=web.uuid)


def clear_away(web: Domain) -> Shutdown:
    return replace(shutdown(web), remnant=True)


def memory(web: Domain, mib: int) -> SetMemory:
    return SetMemory(domain=web.name, uuid=web.uuid, before_kib=web.memory_kib, memory_kib=mib * MIB_KIB)


def shutdown(web: Domain, on_timeout: Literal["fail", "destroy"] = "fail") -> Shutdown:
    return Shutdown(domain=web.name, uuid=web.uuid, timeout_seconds=60, on_timeout=on_timeout)


def reading(domain: Domain, other: Domain, access: Literal["ro", "rw"]) -> AttachDisk:
    """The disk of the other domain, attached as well."""
    disk = replace(other.disks[0], vdev="xvdb", devid=51728, access=access, size_bytes=None)
    return AttachDisk(domain=domain.name, uuid=domain.uuid, disk=disk)


def only_reading(web: Domain) -> Domain:
    return replace(web, disks=tuple(replace(disk, access="ro") for disk in web.disks))


VIF = Vif(devid=1, mac="00:16:3e:00:00:77", bridge="xenbr0")
GONE = {"web": Power.ABSENT}
CRASHED = {"web": Power.CRASHED}
CASES: dict[str, Case] = {
    "memory grows": Case(lambda web, db: (memory(web, 256),)),
    "memory grows by 1 MiB": Case(lambda web, db: (memory(web, 129),)),
    "memory shrinks": Case(lambda web, db: (memory(web, 96),)),
    "memory above maxmem is refused": Case(lambda web, db: (memory(web, 513),), fails=True),
    "memory a little above maxmem is refused": Case(
        lambda web, db: (memory(web, 129),), fails=True, before=lambda web: replace(web, maxmem_kib=web.memory_kib)
    ),
    "a balloon that stays 1 MiB short is there": Case(
        lambda web, db: (memory(web, 256),), by_hand=(guest("web", balloon="almost"),)
    ),
    "a balloon that refuses fails": Case(
        lambda web, db: (memory(web, 256),), by_hand=(guest("web", balloon="refuse"),), fails=True
    ),
    "vcpus": Case(lambda web, db: (SetVcpus(domain="web", uuid=web.uuid, vcpus=3),)),
    "vcpus above maxvcpus are refused": Case(
        lambda web, db: (SetVcpus(domain="web", uuid=web.uuid, vcpus=5),), fails=True
    ),
    "an interface comes": Case(lambda web, db: (AttachVif(domain="web", uuid=web.uuid, vif=VIF),)),
    "an interface comes and goes": Case(
        lambda web, db: (
            AttachVif(domain="web", uuid=web.uuid, vif=VIF),
            DetachVif(domain="web", uuid=web.uuid, vif=VIF),
        )
    ),
    "an interface that is not there goes": Case(lambda web, db: (DetachVif(domain="web", uuid=web.uuid, vif=VIF),)),
    "an interface that is there already comes again": Case(
        lambda web, db: (AttachVif(domain="web", uuid=web.uuid, vif=web.vifs[0]),)
    ),
    "an interface whose number another one has": Case(
        lambda web, db: (AttachVif(domain="web", uuid=web.uuid, vif=replace(VIF, devid=0)),), fails=True
    ),
    "another interface than the one that is to go": Case(
        lambda web, db: (DetachVif(domain="web", uuid=web.uuid, vif=replace(VIF, devid=0)),), fails=True
    ),
    "a disk that is there already comes again": Case(
        lambda web, db: (AttachDisk(domain="web", uuid=web.uuid, disk=web.disks[0]),)
    ),
    "a disk whose name another one has": Case(
        lambda web, db: (AttachDisk(domain="web", uuid=web.uuid, disk=replace(db.disks[0], size_bytes=None)),),
        fails=True,
        with_db=True,
    ),
    "memory of a crashed domain": Case(
        lambda web, db: (memory(web, 256),), by_hand=(power("web", Power.CRASHED),), fails=True, ends=CRASHED
    ),
    "vcpus of a domain that has shut down": Case(
        lambda web, db: (SetVcpus(domain="web", uuid=web.uuid, vcpus=2),),
        by_hand=(power("web", Power.SHUTDOWN),),
        fails=True,
        ends={"web": Power.SHUTDOWN},
    ),
    "memory of a paused domain": Case(
        lambda web, db: (memory(web, 256),), by_hand=(power("web", Power.PAUSED),), ends={"web": Power.PAUSED}
    ),
    "a domain that is somebody else's by now is not shut down": Case(
        lambda web, db: (replace(shutdown(web), uuid=db.uuid),)
    ),
    "a domain that is somebody else's by now is not changed": Case(
        lambda web, db: (replace(memory(web, 256), uuid=db.uuid),), fails=True
    ),
    "a domain that is somebody else's by now is not started": Case(
        lambda web, db: (Start(definition=replace(web, uuid=db.uuid)),), fails=True
    ),
    "a disk that is there is not made again": Case(
        lambda web, db: (CreateDisk(domain="web", disk=web.disks[0]),), fails=True
    ),
    "a disk grows": Case(
        lambda web, db: (GrowDisk(domain="web", disk=replace(web.disks[0], size_bytes=2 << 20), attached=False),)
    ),
    "a disk that is in use is not deleted": Case(
        lambda web, db: (DeleteDisk(domain="web", disk=web.disks[0]),), fails=True
    ),
    "a disk is deleted with its domain": Case(
        lambda web, db: (
            shutdown(web),
            RemoveConfig(domain="web"),
            DeleteDisk(domain="web", disk=web.disks[0]),
            DeleteDisk(domain="web", disk=web.disks[0]),
        ),
        ends={},
    ),
    "a disk that another domain writes to is not attached": Case(
        lambda web, db: (reading(web, db, "ro"),), fails=True, with_db=True, ends={"web": Power.RUNNING}
    ),
    "a disk that another domain only reads is read by a second one": Case(
        lambda web, db: (reading(db, web, "ro"),), with_db=True, before=only_reading
    ),
    "a disk that another domain only reads is not written to": Case(
        lambda web, db: (reading(db, web, "rw"),), with_db=True, before=only_reading, fails=True
    ),
    "a guest that obeys goes down": Case(lambda web, db: (shutdown(web),), ends=GONE),
    "a guest that is gone already": Case(lambda web, db: (shutdown(web), shutdown(web)), ends=GONE),
    "a guest that ignores it stays": Case(
        lambda web, db: (shutdown(web),), by_hand=(guest("web", shutdown="ignore"),), fails=True
    ),
    "a guest that ignores it loses its plug": Case(
        lambda web, db: (shutdown(web, "destroy"),), by_hand=(guest("web", shutdown="ignore"),), ends=GONE
    ),
    "a paused guest cannot react": Case(
        lambda web, db: (shutdown(web),),
        by_hand=(power("web", Power.PAUSED),),
        fails=True,
        ends={"web": Power.PAUSED},
    ),
    "a crashed domain is cleared away": Case(
        lambda web, db: (shutdown(web),), by_hand=(power("web", Power.CRASHED),), ends=GONE
    ),
    "a domain that shut itself down is cleared away": Case(
        lambda web, db: (shutdown(web),), by_hand=(power("web", Power.SHUTDOWN),), ends=GONE
    ),
    "a guest between two lives goes down when it is back": Case(
        lambda web, db: (shutdown(web),), by_hand=(reboots("web"),), ends=GONE
    ),
    "what runs is not started twice": Case(lambda web, db: (Start(definition=web),)),
    "what is paused runs already": Case(
        lambda web, db: (Start(definition=web),), by_hand=(power("web", Power.PAUSED),), ends={"web": Power.PAUSED}
    ),
    "what is left of a domain holds its name": Case(
        lambda web, db: (Start(definition=web),),
        by_hand=(power("web", Power.CRASHED),),
        fails=True,
        ends={"web": Power.CRASHED},
    ),
    "a restart from a candidate": Case(
        lambda web, db: (
            WriteConfig(definition=replace(web, cmdline="quiet"), candidate=True),
            shutdown(web),
            Start(definition=replace(web, cmdline="quiet"), candidate=True),
            PromoteConfig(domain="web"),
        )
    ),
    "another definition that runs is not taken for the candidate": Case(
        lambda web, db: (
            WriteConfig(definition=replace(web, cmdline="quiet"), candidate=True),
            Start(definition=replace(web, cmdline="quiet"), candidate=True),
        ),
        fails=True,
    ),
    "a paused guest goes on": Case(lambda web, db: (unpause(web),), by_hand=(power("web", Power.PAUSED),)),
    "what runs goes on": Case(lambda web, db: (unpause(web),)),
    "what is left of a crash is cleared away": Case(
        lambda web, db: (clear_away(web),), by_hand=(power("web", Power.CRASHED),), ends=GONE
    ),
    "what was left half made is cleared away": Case(
        lambda web, db: (clear_away(web),), by_hand=(power("web", Power.UNFINISHED),), ends=GONE
    ),
    "what is being made is a state of its own": Case(
        lambda web, db: (), by_hand=(power("web", Power.STARTING),), ends={"web": Power.STARTING}
    ),
    "what is being made is not cleared away": Case(
        lambda web, db: (clear_away(web),),
        by_hand=(power("web", Power.STARTING),),
        ends={"web": Power.STARTING},
        fails=True,
    ),
    "what is made is there": Case(
        lambda web, db: (), by_hand=(power("web", Power.STARTING), power("web", Power.RUNNING))
    ),
    "what runs is no remnant": Case(lambda web, db: (clear_away(web),), fails=True),
    "a domain that lost its name is that domain": Case(lambda web, db: (), by_hand=(renamed("web", "(null)"),)),
    "a domain that was renamed is that domain": Case(lambda web, db: (), by_hand=(renamed("web", "other"),)),
    "a zombie without a name is that domain": Case(
        lambda web, db: (),
        by_hand=(power("web", Power.DYING), renamed("web", "(null)")),
        ends={"web": Power.DYING},
    ),
    "a migration that was cut short is a state of its own": Case(
        lambda web, db: (), by_hand=(migrated_away("web"),), ends={"web": Power.MIGRATING}
    ),
    "a saved domain is not absent": Case(
        lambda web, db: (), by_hand=(lambda side: side.save("web"),), ends={"web": Power.SAVED}
    ),
    "memory of a domain that has shut down": Case(
        lambda web, db: (memory(web, 256),),
        by_hand=(power("web", Power.SHUTDOWN),),
        fails=True,
        ends={"web": Power.SHUTDOWN},
    ),
    "an interface for a domain that has crashed": Case(
        lambda web, db: (AttachVif(domain="web", uuid=web.uuid, vif=VIF),),
        by_hand=(power("web", Power.CRASHED),),
        fails=True,
        ends={"web": Power.CRASHED},
    ),
    "a disk for a domain that is dying": Case(
        lambda web, db: (reading(web, db, "ro"),),
        by_hand=(power("web", Power.DYING),),
        with_db=True,
        fails=True,
        ends={"web": Power.DYING},
    ),
    "what crashed does not go on": Case(
        lambda web, db: (unpause(web),), by_hand=(power("web", Power.CRASHED),), fails=True, ends={"web": Power.CRASHED}
    ),
    "what is not there does not go on": Case(
        lambda web, db: (
            shutdown(web),
            unpause(web),
        ),
        fails=True,
        ends={"web": Power.ABSENT},
    ),
    "memory of what is not there": Case(
        lambda web, db: (
            shutdown(web),
            memory(web, 256),
        ),
        fails=True,
        ends={"web": Power.ABSENT},
    ),
    "what was saved is not shut down": Case(
        lambda web, db: (shutdown(web),), by_hand=(lambda side: side.save("web"),), ends={"web": Power.SAVED}
    ),
    "what is migrating is not shut down": Case(
        lambda web, db: (shutdown(web),), by_hand=(migrated_away("web"),), fails=True, ends={"web": Power.MIGRATING}
    ),
    "what is migrating is not started": Case(
        lambda web, db: (Start(definition=web),),
        by_hand=(migrated_away("web"),),
        fails=True,
        ends={"web": Power.MIGRATING},
    ),
    "what is migrating gets no memory": Case(
        lambda web, db: (memory(web, 256),), by_hand=(migrated_away("web"),), fails=True, ends={"web": Power.MIGRATING}
    ),
    "what was renamed is not started twice": Case(
        lambda web, db: (Start(definition=web),), by_hand=(renamed("web", "other"),), fails=True
    ),
    "a zombie without a name is not started over": Case(
        lambda web, db: (Start(definition=web),),
        by_hand=(
            power("web", Power.DYING),
            renamed("web", "(null)"),
        ),
        fails=True,
        ends={"web": Power.DYING},
    ),
    "what was renamed is not shut down": Case(
        lambda web, db: (shutdown(web),), by_hand=(renamed("web", "other"),), fails=True
    ),
    "a disk that is not there": Case(
        lambda web, db: (
            AttachDisk(
                domain="web",
                uuid=web.uuid,
                disk=Disk(vdev="xvdb", devid=51728, kind="file", target=web.disks[0].target + ".none"),
            ),
        ),
        fails=True,
    ),
}


@pytest.mark.parametrize("title", CASES)
async def test_both_hosts(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await play_on(make_sides(tmp_path, monkeypatch), CASES[title])


async def play_on(sides: tuple[Side, Side], case: Case) -> None:
    """Play a case on both, and compare."""
    outcomes = [await _play(case, side) for side in sides]
    for outcome in outcomes:
        assert outcome.failed is case.fails, outcome.why
        assert {name: outcome.guests[name][0] for name in case.ends} == dict(case.ends)
    for name in sorted(outcomes[0].guests.keys() | outcomes[1].guests.keys()):
        assert outcomes[0].guests.get(name) == outcomes[1].guests.get(name), name


async def _play(case: Case, side: Side) -> Outcome:
    web, db = (make_domain(side.settings, name, number) for number, name in enumerate(("web", "db"), 1))
    web = case.before(web)
    prepared = await outcome_of(side, (*started(web), *(started(db) if case.with_db else ())))
    assert not prepared.failed, prepared.why
    for act in case.by_hand:
        act(side)
    return await outcome_of(side, case.steps(web, db))
