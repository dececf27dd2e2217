"""A law: after any part of any apply, the proven config file boots only what got ready once, on the simulated host.

For a dom0, with more that goes wrong, it is in tests/laws/test_proven_on_a_dom0.py.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.apply.follow import carry_out
from reconciler.decide.changes import Consent
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif
from reconciler.model.host import Guest
from reconciler.plan.steps import AwaitReady
from reconciler.toolstack import Question
from tests.both.passes import NONE, look
from tests.both.sides import Side, SimulatedSide, make_domain, make_sides

KERNELS = ("vmlinuz", "another", "third")
RESTART = Consent(restart=frozenset({"alpha/web"}))


@dataclass(frozen=True)
class Turn:
    """A spec, and how many steps of the plan for it are carried out before the power goes."""

    kernel: str
    cmdline: str | None
    swapped: bool
    changes: dict[str, Any]
    steps: int
    asked: bool  # whether restarts that wait are asked for


def turns() -> st.SearchStrategy[list[Turn]]:
    at_once = Policy(ready=Ready(min_seconds=0, timeout_seconds=5))
    policy = st.sampled_from([at_once, at_once, replace(at_once, restart="defer")])
    changes = st.fixed_dictionaries(
        {
            "state": st.sampled_from(["running", "running", "running", "stopped"]),
            "cpu_weight": st.sampled_from([None, 512]),
            "on_crash": st.sampled_from(["destroy", "restart"]),
            "policy": policy,
        }
    )
    turn = st.builds(
        Turn,
        kernel=st.sampled_from(KERNELS),
        cmdline=st.sampled_from([None, "ro"]),
        swapped=st.booleans(),
        changes=changes,
        steps=st.sampled_from([99, 99, 1, 2, 3, 4, 5, 6]),
        asked=st.booleans(),
    )
    return st.lists(turn, min_size=2, max_size=4)


def wanted(side: Side, folder: Path, turn: Turn) -> Domain:
    folder_of_disks = side.settings.disk_roots[0]
    disks = tuple(
        Disk(
            vdev=f"xvda{n}",
            devid=51712 + n,
            kind="file",
            target=f"{folder_of_disks}/{n}.img",
            size_bytes=4096,
        )
        for n in ((1, 2) if turn.swapped else (2, 1))
    )
    vifs = (Vif(devid=0, mac="00:16:3e:00:00:01", bridge="xenbr0"),)
    kernel = Image(sha256="", source=str(folder / "boot" / turn.kernel))
    web = make_domain(side.settings, disks=disks, vifs=vifs, kernel=kernel, cmdline=turn.cmdline)
    return replace(web, **turn.changes)


def boots(definition: Domain) -> tuple[object, ...]:
    kernel = definition.kernel
    order = tuple(disk.devid for disk in definition.disks)
    return kernel.sha256 if kernel is not None else None, definition.cmdline or None, order, definition.on_crash


@dataclass
class Life:
    """One domain through its turns."""

    side: Side
    folder: Path
    ready_once: set[tuple[object, ...]] = field(default_factory=set)

    async def guest(self) -> Guest | None:
        return (await self.side.observer().observe(Question())).guests.get("web")

    async def turn(self, turn: Turn) -> None:
        seen = await look(self.side, {"web": wanted(self.side, self.folder, turn)}, RESTART if turn.asked else NONE)
        executor = self.side.executor()
        for planned in seen.plan.steps[: turn.steps]:
            try:
                await carry_out(executor, planned.step, lambda _: None)
            except ReconcilerError:
                break
            if isinstance(planned.step, AwaitReady):
                guest = await self.guest()
                assert guest is not None
                assert guest.running is not None
                self.ready_once.add(boots(guest.running))
            await self.check()

    async def check(self) -> None:
        guest = await self.guest()
        if guest is None or guest.config is None or not guest.config_proven:
            return
        assert boots(guest.config) in self.ready_once


@contextmanager
def fresh_side(kind: type[Side]) -> Iterator[tuple[Side, Path]]:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        sides = make_sides(folder, patch)
        for kernel in KERNELS:
            (folder / "boot" / kernel).write_text(str(folder / "boot" / kernel))
        yield next(side for side in sides if isinstance(side, kind)), folder


def live_through(kind: type[Side], story: list[Turn]) -> None:
    with fresh_side(kind) as (side, folder):
        life = Life(side, folder)

        async def all_turns() -> None:
            for turn in story:
                await life.turn(turn)

        asyncio.run(all_turns())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns())
def test_on_the_simulated_host(story: list[Turn]) -> None:
    live_through(SimulatedSide, story)
