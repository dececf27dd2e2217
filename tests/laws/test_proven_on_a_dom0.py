"""A law: nothing that a boot reads ever reaches the proven config file of a dom0 unproven.

Whatever the specs, a person's hand, a kernel, a full dom0 or a kill does, and whenever: after each step and at the end,
what the proven config file boots got ready once. It is read from the file itself, by Python, which reads our files as
xl does.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.apply import follow
from reconciler.apply.follow import apply_plan
from reconciler.apply.result import StepResult
from reconciler.decide import diff
from reconciler.decide.changes import Consent
from reconciler.dom0 import config_files
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.domain import Disk, Domain, Image, Policy, Ready
from reconciler.plan.steps import AwaitReady, PlannedStep, WriteConfig
from reconciler.texts.config_file import read_file
from reconciler.texts.mark import split_mark
from tests.both import fake_xl
from tests.both.passes import look
from tests.both.sides import XenSide, make_domain
from tests.both.test_only_what_worked_is_proven import fresh_side

from .law import EFFORT

KERNELS = ("vmlinuz", "another")
LOADS = ("kernel", "kernel", "ramdisk", "pygrub", "firmware")
BOOTS = ("boots", "boots", "panics", "no device")
DRIFTS = (
    "none",
    "none",
    "other bytes",
    "edit",
    "destroy",
    "from the candidate",
    "crash",
    "pause",
    "reboot of the dom0",
)
ALL = frozenset({"alpha/web"})
CONSENTS = (Consent(), Consent(), Consent(restart=ALL), Consent(retry=ALL), Consent(restart=ALL, retry=ALL))

Boot = tuple[object, ...]


@dataclass(frozen=True)
class Turn:
    """What is asked for, what its kernel does, what happens to the host before, and after which step we are killed."""

    kernel: str
    boots: str
    cmdline: str | None
    swapped: bool
    changes: dict[str, Any]
    drift: str
    consent: Consent
    killed_after: int
    loads: str = "kernel"


def turns() -> st.SearchStrategy[list[Turn]]:
    at_once = Policy(ready=Ready(min_seconds=0, timeout_seconds=5))
    policies = [at_once, at_once, replace(at_once, restart="defer")]
    changes = {
        "state": st.sampled_from(["running", "running", "running", "stopped"]),
        "cpu_weight": st.sampled_from([None, 512]),
        "on_crash": st.sampled_from(["destroy", "restart"]),
        "policy": st.sampled_from(policies),
    }
    turn = st.builds(
        Turn,
        kernel=st.sampled_from(KERNELS),
        boots=st.sampled_from(BOOTS),
        cmdline=st.sampled_from([None, "ro"]),
        swapped=st.booleans(),
        changes=st.fixed_dictionaries(changes),
        drift=st.sampled_from(DRIFTS),
        consent=st.sampled_from(CONSENTS),
        killed_after=st.sampled_from([99, 99, 99, 1, 2, 3, 4, 5, 6]),
        loads=st.sampled_from(LOADS),
    )
    return st.lists(turn, min_size=2, max_size=3)


FIRST = Turn(
    kernel="vmlinuz",
    boots="boots",
    cmdline=None,
    swapped=False,
    changes={"policy": Policy(ready=Ready(min_seconds=0, timeout_seconds=5))},
    drift="none",
    consent=Consent(),
    killed_after=99,
)


@dataclass
class Life:
    """One domain through its turns. It is told of each step, as progress is, and judges the config file then."""

    side: XenSide
    folder: Path
    ready_once: set[Boot] = field(default_factory=set)
    unproven: list[Boot] = field(default_factory=list)  # what was found in a proven file and never got ready
    left: int = 0  # steps until the kill
    victim: asyncio.Task[Any] | None = None

    async def turn(self, turn: Turn) -> None:
        (self.folder / "boot" / turn.kernel).write_text(f"{turn.boots}: {turn.kernel}")
        (self.folder / "boot" / "initrd").write_text(turn.kernel)
        self.drift(turn)
        seen = await look(self.side, {"web": self.wanted(turn)}, turn.consent)
        self.left = turn.killed_after
        self.victim = asyncio.create_task(
            apply_plan(seen.plan, {"alpha": self.side.executor()}, {"alpha": 4}, self, {})
        )
        with suppress(asyncio.CancelledError):
            await self.victim
        self.check()

    def wanted(self, turn: Turn) -> Domain:
        disks = tuple(
            Disk(vdev=f"xvda{n}", devid=51712 + n, kind="file", target=f"{self.folder}/disks/{n}.img", size_bytes=4096)
            for n in ((1, 2) if turn.swapped else (2, 1))
        )
        kernel = Image(sha256="", source=str(self.folder / "boot" / turn.kernel))
        web = make_domain(self.side.settings, disks=disks, vifs=(), kernel=kernel, cmdline=turn.cmdline)
        match turn.loads:
            case "ramdisk":
                web = replace(web, ramdisk=Image(sha256="", source=str(self.folder / "boot" / "initrd")))
            case "pygrub":
                web = replace(web, kernel=None, bootloader="pygrub")
            case "firmware":
                web = replace(web, kernel=None, firmware="pvgrub64")
        return replace(web, shutdown_timeout_seconds=1, on_shutdown_timeout="destroy", **turn.changes)

    def drift(self, turn: Turn) -> None:
        match turn.drift:
            case "other bytes":
                for name in KERNELS:
                    (self.folder / "boot" / name).write_text(f"{turn.boots}: {name}, by hand")
            case "edit" if self.config.exists():
                text = re.sub(r"^cmdline.*\n", "", self.config.read_text(), flags=re.MULTILINE)
                self.config.write_text(f'{text}cmdline = "by hand"\n')
            case "destroy" | "reboot of the dom0":
                self.side.write([])
            case "from the candidate" if self.candidate.exists():
                self.side.write([])
                fake = self.folder / "bin" / "xl"
                subprocess.run([fake, "create", self.candidate], check=False, capture_output=True)
            case "crash" | "pause":
                state = "---sc-" if turn.drift == "crash" else "--p---"
                self.side.write([one | {"state": state} for one in self.domains()])

    @property
    def config(self) -> Path:
        return self.folder / "etc" / "web.cfg"

    @property
    def candidate(self) -> Path:
        return self.folder / "kernels" / "web" / "candidate.cfg"

    def domains(self) -> fake_xl.Domains:
        file = self.folder / "xen" / "domains"
        found: fake_xl.Domains = ast.literal_eval(file.read_text()) if file.exists() else []
        return found

    def started(self, step: PlannedStep) -> None: ...

    def noted(self, step: PlannedStep, text: str) -> None: ...

    def finished(self, result: StepResult) -> None:
        if isinstance(result.step.step, AwaitReady) and result.problem is None and result.reason is None:
            self.ready_once |= {self.runs(one["config"]) for one in self.domains() if one["state"] == "-b----"}
        self.check()
        self.left -= 1
        if self.left == 0 and self.victim is not None:
            self.victim.cancel()

    def runs(self, config: dict[str, Any]) -> Boot:
        built = config["b_info"]
        return _boots(built, [one["vdev"] for one in config["disks"]], config["on_crash"])

    def check(self) -> None:
        """Judge the config file, if it says that it is proven, and nobody has edited it."""
        text = self.config.read_text() if self.config.exists() else ""
        mark, body = split_mark(text)
        if mark is None or not mark.proven or not read_file(text, {}).intact:
            return
        said: dict[str, Any] = {}
        exec(body, {}, said)
        if "firmware" in said:
            said["kernel"] = f"/usr/lib/xen/boot/{said['firmware']}"
        boots = _boots(said, [spec.split("vdev=")[1].split(",")[0] for spec in said["disk"]], said["on_crash"])
        if boots not in self.ready_once:
            self.unproven.append(boots)


def _boots(said: dict[str, Any], order: list[str], on_crash: str) -> Boot:
    kernel, ramdisk = _digest(said.get("kernel")), _digest(said.get("ramdisk"))
    return kernel, ramdisk, said.get("bootloader"), said.get("cmdline") or None, tuple(order), on_crash


def _digest(path: str | None) -> str | None:
    """Of a file of this machine; what is none, as a firmware of Xen's own, is what it is called."""
    file = Path(path or "/")
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else path


def live_through(story: list[Turn]) -> None:
    with fresh_side(XenSide) as (side, folder):
        assert isinstance(side, XenSide)
        life = Life(side, folder)

        async def all_turns() -> None:
            await life.turn(FIRST)
            assert life.ready_once, "else nothing is tried here"
            for turn in story:
                await life.turn(turn)
                assert life.unproven == [], life.ready_once

        asyncio.run(all_turns())


@pytest.mark.timeout(600)
@settings(max_examples=3 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns())
def test_nothing_that_a_boot_reads_reaches_the_proven_config_file_unproven(story: list[Turn]) -> None:
    live_through(story)


def straight_into_the_proven_file(patch: pytest.MonkeyPatch) -> None:
    write = config_files.write

    async def defect(shell: Dom0Shell, step: WriteConfig, *rest: Any) -> None:
        await write(shell, replace(step, candidate=False, proven=True), *rest)

    patch.setattr(config_files, "write", defect)


def any_look_is_ready(patch: pytest.MonkeyPatch) -> None:
    async def defect(*_: object) -> None: ...

    patch.setattr(follow, "await_ready", defect)


def the_order_of_disks_is_no_difference(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(diff, "_order", lambda current, desired: ([], []))


@pytest.mark.parametrize(
    ("defect", "turn"),
    [
        (straight_into_the_proven_file, replace(FIRST, kernel="another", killed_after=2)),
        (any_look_is_ready, replace(FIRST, kernel="another", boots="panics")),
        (the_order_of_disks_is_no_difference, replace(FIRST, swapped=True)),
    ],
)
def test_the_law_sees_what_it_is_there_for(defect: Callable[[pytest.MonkeyPatch], None], turn: Turn) -> None:
    """Else it might hold of anything."""
    with pytest.MonkeyPatch.context() as patch:
        defect(patch)
        with pytest.raises(AssertionError, match="== \\[\\]"):
            live_through([turn])
