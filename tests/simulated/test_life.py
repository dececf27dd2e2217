"""Anything in any order: specs are edited, domains drift, the host fails, an apply dies. What must never happen does
not happen, and once the trouble is over, applies lead to where nothing is left to do.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reconciler.apply.result import StepResult
from reconciler.decide.changes import Consent
from reconciler.model.boot import failed_before
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.fleet import HostSettings, Simulated
from reconciler.model.host import Guest, Host
from reconciler.model.memory import used_kib
from reconciler.plan.plan import Plan
from reconciler.plan.steps import PlannedStep
from reconciler.reconcile import Reconciler, Selection
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedObserver
from reconciler.specs import read_tree
from reconciler.toolstack import Question
from tests.transcript import write_files

NAMES = ("a", "b", "c")
KERNELS = {
    "good": 'console = "good"',
    "better": 'console = "better"',
    "panics": 'boot = "panic"',
    "hangs": 'boot = "hang"\nshutdown = "ignore"',
}
BAD = ("panics", "hangs")
DISKS = tuple(f"/srv/{name}" for name in NAMES)
SETTINGS = HostSettings(
    name="alpha", toolstack="simulated", disk_roots=("/srv",), simulated=Simulated(memory_kib=1024 * 1024)
)
TREE = {
    "reconciler.toml": "[brake]\nmax_destroy = 9\n",
    "alpha/host.toml": 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nsimulated = { memory = "1GiB" }\n',
    **{f"kernels/{name}": f"#!simulated-kernel\n{behaviour}\n" for name, behaviour in KERNELS.items()},
}
FAULTS = ("unreachable", "create-fails", "lost-reply", "slow", "disk-full")
_APPLIES_UNTIL_SETTLED = 5

names = st.sampled_from(NAMES)


class Killed(BaseException):
    """The process dies: nothing catches this."""


class Killer:
    """Progress that dies when so many things have happened."""

    def __init__(self, after: int | None) -> None:
        self._left = after

    def _happened(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed

    def started(self, step: PlannedStep) -> None:
        self._happened()

    def noted(self, step: PlannedStep, text: str) -> None:
        """A wait tells of itself as often as it likes."""

    def finished(self, result: StepResult) -> None:
        self._happened()


class Life(RuleBasedStateMachine):
    """One simulated host, its specs, and all that people, hosts and processes do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="life-"))
        self.state_dir = self.folder / "state"
        self.hand = Hand(settings=SETTINGS, fleet="default", state_dir=self.state_dir)
        self.kernels: dict[str, str] = {}  # of the domains that are declared
        self.disks_seen: set[str] = set()

    def teardown(self) -> None:
        try:
            self._settle()
        finally:
            shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        write_files({f"specs/{path}": text for path, text in TREE.items()}, self.folder)
        self.hand.create("legacy", memory_kib=128 * 1024)
        self.legacy = self._boots()["legacy"]

    @rule(name=names, kernel=st.sampled_from(tuple(KERNELS)), memory=st.sampled_from([64, 128]), cpus=st.integers(1, 2))
    def declare(self, name: str, kernel: str, memory: int, cpus: int) -> None:
        disk = f'[[disk]]\nvdev = "xvda"\npath = "/srv/{name}"\nsize = "1MiB"\n'
        keys = f'kernel = "kernels/{kernel}"\nmemory = {memory}\nmaxmem = 128\nvcpus = {cpus}\nmaxvcpus = 2\n'
        timeouts = 'on_shutdown_timeout = "destroy"\nshutdown_timeout = "5s"\nready = { timeout = "20s" }\n'
        write_files({f"specs/alpha/{name}.toml": keys + timeouts + disk}, self.folder)
        self.kernels[name] = kernel

    @rule(name=names)
    def give_up(self, name: str) -> None:
        (self.folder / f"specs/alpha/{name}.toml").unlink(missing_ok=True)
        self.kernels.pop(name, None)

    @rule(name=names, how=st.sampled_from(["destroy", "crash", "memory"]))
    def drift(self, name: str, how: str) -> None:
        if name not in self._boots():
            return
        if how == "destroy":
            self.hand.destroy(name)
        elif how == "crash":
            self.hand.crash(name)
        else:
            self.hand.set(name, {"memory": "72"})

    @rule(kind=st.sampled_from(FAULTS), times=st.integers(1, 2))
    def fail(self, kind: str, times: int) -> None:
        self.hand.fault(kind, times)

    @rule()
    def apply(self) -> None:
        self._apply(None)

    @rule(after=st.integers(0, 25))
    def apply_and_die(self, after: int) -> None:
        self._apply(after)

    @invariant()
    def what_is_not_ours_is_untouched(self) -> None:
        if hasattr(self, "legacy"):
            assert self._boots()["legacy"] == self.legacy

    @invariant()
    def no_disk_is_lost(self) -> None:
        there = set(self._host().files)
        assert self.disks_seen <= there
        self.disks_seen |= there

    @invariant()
    def memory_is_never_promised_twice(self) -> None:
        host = self._host()
        assert used_kib(host) <= host.total_kib
        assert host.free_kib >= 0

    def _apply(self, dies_after: int | None, retry: frozenset[str] = frozenset()) -> Plan | None:
        """One run, as the command does it; None: it died, or the host could not even be looked at."""
        before, boots = self._host().guests, self._boots()
        reconciler = Reconciler(read_tree(self.folder / "specs"), self.folder / "specs", self.state_dir)

        async def run() -> Plan:
            plan = await reconciler.make_plan(Selection(), Consent(retry=retry))
            if plan.steps:
                await reconciler.apply(plan, Killer(dies_after))
            await reconciler.close()
            return plan

        try:
            return asyncio.run(run())
        except (Killed, ReconcilerError):
            return None
        finally:
            if not retry:
                self._check_nothing_quarantined_was_booted(before, boots)

    def _check_nothing_quarantined_was_booted(self, before: Mapping[str, Guest], boots: Mapping[str, str]) -> None:
        after = self._boots()
        for name, guest in self._host().guests.items():
            if name in before and guest.running is not None and boots.get(name) != after.get(name):
                assert failed_before(before[name], guest.running) is None, name

    def _settle(self) -> None:
        """The trouble is over: soon nothing is left to do, and every good kernel runs."""
        for kind in FAULTS:
            self.hand.fault(kind, 0)
        self._apply(
            None, retry=frozenset(f"alpha/{name}" for name in self.kernels)
        )  # a fault may have failed a good one
        for _ in range(_APPLIES_UNTIL_SETTLED):
            plan = self._apply(None)
        assert plan is not None
        acting = {change.domain for change in plan.changes if change.acts}
        # a first boot that nobody saw fail is tried at each run
        assert all(self.kernels.get(name) in BAD for name in acting), acting
        guests = self._host().guests
        for name, kernel in self.kernels.items():
            if kernel not in BAD:
                running = guests[name].running
                assert running is not None, name
                assert running.kernel is not None
                assert f"/{kernel}." in running.kernel.path
        if self.kernels:  # an empty tree prunes nothing
            assert set(guests) <= {*self.kernels, "legacy"}

    def _host(self) -> Host:
        observer = SimulatedObserver(SETTINGS, "default", self.state_dir)
        for _ in range(5):  # a fault that is still to come is met by this look, too
            try:
                return asyncio.run(observer.observe(Question(files=DISKS)))
            except ReconcilerError:
                continue
        raise AssertionError("more faults than were asked for")

    def _boots(self) -> dict[str, str]:
        return {domain["name"]: domain["boot"] for domain in self.hand.look()["domains"]}


Life.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLife = pytest.mark.timeout(600)(Life.TestCase)  # to find the shortest way to a failure takes longer than passing
