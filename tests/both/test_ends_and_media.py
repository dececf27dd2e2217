"""What guests do by themselves, and media of CD drives: the same on a dom0 with a fake xl and on the simulated host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.decide.changes import Action
from reconciler.model.domain import Disk, Domain, Ready
from reconciler.model.host import Power
from reconciler.plan.steps import AwaitReady, SetMedium, Start
from tests.both.passes import look
from tests.both.sides import PRESERVED, Side, make_domain, make_sides, outcome_of
from tests.both.test_both_hosts import ByHand, Case, clear_away, guest, play_on

pytestmark = pytest.mark.anyio

ENDS = [
    ("reboot", "destroy", Power.ABSENT),
    ("reboot", "preserve", Power.REBOOTING),
    ("reboot", "coredump-destroy", Power.ABSENT),
    ("poweroff", "destroy", Power.ABSENT),
    ("poweroff", "preserve", Power.SHUTDOWN),
    ("crash", "destroy", Power.ABSENT),
    ("crash", "preserve", Power.CRASHED),
    ("crash", "coredump-destroy", Power.ABSENT),
    ("crash", "coredump-restart", Power.RUNNING),
    ("reboot", "soft-reset", Power.RUNNING),
]


@pytest.mark.parametrize(("how", "action", "state"), ENDS)
async def test_a_guest_that_ends_by_itself(
    how: str, action: str, state: Power, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host does as its on_* says; what is kept is cleared away as a remnant, and then it starts anew."""

    def with_action(web: Domain) -> Domain:
        changes: dict[str, Any] = {f"on_{how}": action}
        return replace(web, **changes)

    by_hand: tuple[ByHand, ...] = (lambda side: side.end_guest("web", how),)
    sides: tuple[Side, Side] = make_sides(tmp_path, monkeypatch)
    await play_on(sides, Case(lambda web, db: (), {"web": state}, by_hand, before=with_action))
    for side in sides:
        web = with_action(make_domain(side.settings))
        again = await outcome_of(
            side, (*([clear_away(web)] if state.holds and state is not Power.RUNNING else ()), Start(definition=web))
        )
        assert (again.why, again.guests["web"][0]) == ("", Power.RUNNING)


@pytest.mark.parametrize(
    ("how", "writes", "state", "kept"),
    [
        ("reboot", False, Power.RUNNING, Power.REBOOTING),
        ("crash", False, Power.RUNNING, Power.CRASHED),
        ("poweroff", False, Power.RUNNING, Power.SHUTDOWN),
        ("crash", True, Power.ABSENT, Power.CRASHED),  # what is kept has the disk still
    ],
)
async def test_what_ended_is_kept_under_another_name(
    how: str, writes: bool, state: Power, kept: Power, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `rename-restart` asks; it is nobody's then, and is named where it stands in the way."""

    def before(web: Domain) -> Domain:
        changes: dict[str, Any] = {f"on_{how}": "rename-restart"}
        return replace(web, disks=web.disks if writes else (), vifs=(), **changes)

    name = f"web{PRESERVED}"
    sides: tuple[Side, Side] = make_sides(tmp_path, monkeypatch)
    by_hand: tuple[ByHand, ...] = (lambda side: side.end_guest("web", how),)
    await play_on(sides, Case(lambda web, db: (), {"web": state, name: kept}, by_hand, before=before))
    for side in sides:
        (change,) = (await look(side, {"web": before(make_domain(side.settings))})).plan.changes
        assert change.action is (Action.BLOCKED if writes else Action.NO_OP), change.reason
        assert not writes or name in (change.blocked or "")


def drive(medium: str) -> Disk:
    return Disk(vdev="hdc", devid=5632, kind="file", target=medium, access="ro", cdrom=True)


def with_drive(web: Domain, medium: str = "") -> Domain:
    return replace(web, type="hvm", disks=(*web.disks, drive(medium)), vifs=())


def put(web: Domain, medium: str, vdev: str = "hdc") -> SetMedium:
    return SetMedium(domain=web.name, uuid=web.uuid, disk=replace(drive(medium), vdev=vdev))


CASES: dict[str, Case] = {
    "a medium is put in": Case(lambda web, db: (put(web, iso(web)),), before=with_drive),
    "a medium is put in twice": Case(lambda web, db: (put(web, iso(web)), put(web, iso(web))), before=with_drive),
    "a medium is taken out": Case(lambda web, db: (put(web, ""),), before=lambda web: with_drive(web, iso(web))),
    "nothing is taken out": Case(lambda web, db: (put(web, ""),), before=with_drive),
    "two have one medium": Case(lambda web, db: (put(web, iso(web)),), before=with_drive, with_db=True),
    "there is no drive": Case(lambda web, db: (put(web, iso(web)),), fails=True),
    "the file is a disk that another domain writes to": Case(
        lambda web, db: (put(web, db.disks[0].target),), fails=True, before=with_drive, with_db=True
    ),
    "a guest that reboots over and over is not ready": Case(
        lambda web, db: (ready(web, 9),), by_hand=(guest("web", boot="reboot-loop"),), fails=True
    ),
    "a guest that crashes over and over is not ready": Case(
        lambda web, db: (ready(web, 9),),
        by_hand=(guest("web", boot="panic"),),
        fails=True,
        before=lambda web: replace(web, on_crash="restart"),
    ),
    "a guest that stays is ready": Case(lambda web, db: (ready(web),)),
}


def iso(web: Domain) -> str:
    return web.disks[0].target.rpartition("/")[0] + "/install.iso"


def ready(web: Domain, timeout_seconds: float = 120) -> AwaitReady:
    return AwaitReady(domain=web.name, uuid=web.uuid, ready=Ready(timeout_seconds=timeout_seconds, min_seconds=3))


@pytest.mark.parametrize("title", CASES)
async def test_both_hosts(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = make_sides(tmp_path, monkeypatch)
    for side in sides:
        side.put(iso(make_domain(side.settings)))
    await play_on(sides, CASES[title])
