"""A stale holder never acts, and the rightful one is not refused for ever, whatever stops, expires or is lost.

The controllers are the real ones; etcd and the host are values. A controller that is not given its turn is one that was
stopped, or cut off. A step asks nothing but the host, since any check before it may be old by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.cluster.controller import Controller
from reconciler.cluster.sharing import Wanted
from reconciler.fence import Line
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.plan.places import FleetLimit
from tests.cluster.fake_etcd import FakeEtcd, Store

LEASE = 10
ONE = st.integers(0, 2)
HOST = "alpha"
TREE = Desired(
    fleet="prod",
    tree_digest="d1",
    hosts={HOST: DesiredHost(settings=HostSettings(name=HOST, toolstack="simulated"), domains={})},
)


def wait(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what awaits nothing but values: without a loop, since there are thousands."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


class Protocol(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.etcds = [FakeEtcd(self.store) for _ in range(3)]
        self.controllers = [Controller(etcd, LEASE, clock=lambda: self.store.now) for etcd in self.etcds]
        for number, one in enumerate(self.controllers):
            one.name = one.who = f"c{number}"
            one.go_by(TREE)
        self.line = ""  # of the host
        self.shown: dict[int, Line] = {}  # what each shows with its commands
        self.taking: dict[int, tuple[str, Line]] = {}  # what each has read of the line, and means to write
        self.steps: dict[int, Line] = {}  # under way on the host, by whom
        self.taker: int | None = None  # who took the line last
        self.snapshot = self.store.snapshot()

    @rule(one=ONE)
    def turn(self, one: int) -> None:
        with suppress(ReconcilerError):
            wait(self.controllers[one].turn())

    @rule(one=ONE)
    def works(self, one: int) -> None:
        """All of it in a row, as where nothing goes wrong."""
        self.turn(one)
        self.reads_the_line(one)
        self.takes_the_line(one)
        self.begins_a_step(one)

    @rule(one=ONE)
    def follows_one_that_is_gone(self, one: int) -> None:
        """The others are cut off until their lease has run out, and whoever is left has waited for it."""
        for _ in range(3):
            self.store.now += LEASE
            self.store.expire()
            self.works(one)

    @rule(seconds=st.integers(1, 25))
    def time_passes(self, seconds: int) -> None:
        self.store.now += seconds
        self.store.expire()

    @rule(one=ONE)
    def reads_the_line(self, one: int) -> None:
        with suppress(ReconcilerError):
            wanted = wait(self.controllers[one].line_for(HOST, Line.parse(self.line), None))
            self.taking[one] = (self.line, wanted)

    @rule(one=ONE)
    def takes_the_line(self, one: int) -> None:
        """If the line is still what was read, and nothing is under way: the host waits for that."""
        if one not in self.taking:
            return
        seen, wanted = self.taking.pop(one)
        if seen == self.line and not self.steps:
            self.line, self.shown[one], self.taker = wanted.text, wanted, one
            self.controllers[one].took(HOST, wanted)

    @rule(one=ONE)
    def begins_a_step(self, one: int) -> None:
        if one in self.shown and self.shown[one].text == self.line and one not in self.steps:
            assert one == self.taker, "a stale one acts"
            self.steps[one] = self.shown[one]

    @rule(one=ONE)
    def ends_a_step(self, one: int) -> None:
        self.steps.pop(one, None)

    @rule(one=ONE)
    def is_cut_off(self, one: int) -> None:
        self.etcds[one].cut = True

    @rule(one=ONE)
    def is_back(self, one: int) -> None:
        self.etcds[one].cut = False

    @rule(one=ONE)
    def an_answer_is_lost(self, one: int) -> None:
        self.etcds[one].loses = True

    @rule()
    def etcd_is_wiped(self) -> None:
        self.store.wipe()

    @rule()
    def etcd_is_saved(self) -> None:
        self.snapshot = self.store.snapshot()

    @rule()
    def etcd_is_restored(self) -> None:
        self.store.restore(self.snapshot)

    @rule(text=st.sampled_from(["", "3 torn", "by hand\n"]))
    def the_line_is_lost(self, text: str) -> None:
        self.line, self.taker = text, None

    @precondition(lambda self: self.steps)
    @rule()
    def all_steps_end(self) -> None:
        self.steps.clear()

    @invariant()
    def only_one_session_acts(self) -> None:
        assert len({line.session for line in self.steps.values()}) <= 1

    def teardown(self) -> None:
        """Once all is well again, one of them acts within three leases."""
        self.steps.clear()
        for etcd in self.etcds:
            etcd.cut = etcd.loses = False
        for _ in range(3 * 3):  # thirds of a lease
            for one in range(3):
                self.turn(one)
            for one in range(3):
                self.reads_the_line(one)
                self.takes_the_line(one)
                if self.controllers[one].why_not(HOST) is None:
                    self.begins_a_step(one)
            if self.steps:
                return
            self.store.now += LEASE / 3
        raise AssertionError("nobody acts: " + "; ".join(str(one.why_not(HOST)) for one in self.controllers))


Protocol.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestProtocol = Protocol.TestCase


def test_two_controllers_do_not_take_the_same_place() -> None:
    """What max_unavailable counts is reserved before the step, all of it or nothing."""

    async def both() -> list[bool]:
        store = Store()
        first, second = (Controller(FakeEtcd(store), LEASE, clock=lambda: store.now) for _ in range(2))
        hosts = dict.fromkeys(("alpha", "beta"), TREE.hosts[HOST])
        for one in (first, second):
            one.go_by(Desired(fleet="prod", tree_digest="d1", hosts=hosts))
        for _ in range(9):
            for one in (first, second):
                await one.turn()
            store.now += LEASE / 3
        mine = {name: next(one for one in (first, second) if one.why_not(name) is None) for name in hosts}
        done = []
        for name in hosts:
            wanted = Wanted(restarts=frozenset({f"{name}/web"}), limit=FleetLimit(limit=1))
            done.append(await mine[name].reserve(name, wanted) is None)
        await mine["alpha"].give_back("alpha", mine["alpha"].reserved())  # by one that the host does not know yet
        assert await mine["beta"].reserve("beta", wanted) is not None
        mine["alpha"].took("alpha", await mine["alpha"].line_for("alpha", Line(), None))
        await mine["alpha"].give_back("alpha", mine["alpha"].reserved())
        done.append(await mine["beta"].reserve("beta", wanted) is None)
        return done

    assert asyncio.run(both()) == [True, False, True]
