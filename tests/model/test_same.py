"""When two looks at a host lead to the same decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.model.domain import Domain, Policy
from reconciler.model.host import Guest, Host, Quarantined, is_same
from reconciler.model.rehearsal import SnapshotFact
from tests.worlds import disk, domain, guest, host, vif

DISK, VIF = disk("/srv/web"), vif("00:16:3e:00:00:01")
WEB = domain("web", disks=(DISK,), vifs=(VIF,))
FACT = SnapshotFact(way="reflink", room="/srv", size_bytes=4096, free_bytes=1 << 30, total_bytes=1 << 40)


def world(runs: Domain = WEB, change: Callable[[Guest], Guest] = lambda one: one, fact: SnapshotFact = FACT) -> Host:
    there = change(guest(WEB, running=runs, quarantine=(Quarantined(boot="x", reason="it panicked"),)))
    return host(there, snapshots={"/srv/web": fact})


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (world(change=lambda one: replace(one, running_seconds=9.0)), True),
        (world(fact=replace(FACT, free_bytes=1 << 29)), True),
        (world(fact=replace(FACT, way=None)), False),
        (world(runs=replace(WEB, disks=(replace(DISK, chosen=(("format", "raw"),)),))), False),
        (world(runs=replace(WEB, vifs=(replace(VIF, chosen=(("model", "e1000"),)),))), False),
        (world(runs=replace(WEB, policy=Policy(wave=3))), False),
        (world(change=lambda one: replace(one, quarantine=(Quarantined(boot="x", reason="rolled back"),))), False),
    ],
    ids=["time", "free room", "no way", "what xl chose of a disk", "and of a vif", "wave noted", "why quarantined"],
)
def test_they_are_told_apart_by_what_decisions_depend_on(other: Host, same: bool) -> None:
    assert is_same(world(), other) is same
