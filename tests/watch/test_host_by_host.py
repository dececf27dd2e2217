"""Watch works host by host: what is slow, silent or broken on one host costs the others nothing, and the rules of the
fleet hold all the same. Hosts wait here for what the test does, not for time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler import fleet
from reconciler.cluster import late_places
from reconciler.model.host import Host
from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver
from reconciler.specs import read_tree
from reconciler.toolstack import Question
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier
from reconciler.watch.source import Specs
from tests.transcript import write_files
from tests.watch.conftest import HOST, START, World

pytestmark = pytest.mark.anyio

GOOD, OTHER = 'kernel = "/boot/good"\nmemory = 64\n', 'kernel = "/boot/other"\nmemory = 64\n'
PANICS = '#!simulated-kernel\nboot = "panic"\n'
HOSTS = ("alpha", "beta", "gamma")


class SteeredClock:
    """Time stands still but for what the test lets go by."""

    def __init__(self) -> None:
        self.seconds = START

    def now(self) -> float:
        return self.seconds

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        until = self.seconds + seconds
        while not event.is_set() and self.seconds < until:
            await asyncio.sleep(0.01)


class Written:
    """Specs as the test has written them; `changed` tells watch."""

    name = "specs"

    def __init__(self, root: Path) -> None:
        self._root = root
        self.changed = asyncio.Event()
        self.needs_fleet = False

    async def read(self, in_use: Collection[Path] = ()) -> Specs:
        return Specs(reading=read_tree(self._root, needs_fleet=self.needs_fleet), root=self._root)

    async def watch(self, ask: Callable[[], None]) -> None:
        while True:
            await self.changed.wait()
            self.changed.clear()
            ask()

    def stop(self) -> None:
        pass


@dataclass
class Fleet:
    """Three hosts with a domain each, `a`, `b` and `g`, and a watch over them."""

    world: World
    clock: SteeredClock = field(default_factory=SteeredClock)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = Written(self.world.specs)
        backoff = Backoff(lambda: 0.5)
        passes = Passes(self.source, self.world.state_dir, detect_only=False, now=self.clock.now, backoff=backoff)
        self.watcher = Watcher(
            self.source,
            passes,
            self.world.state_dir,
            interval_seconds=60,
            clock=self.clock,
            log=Log(self.world.log, as_json=False, now=self.clock.now),
            notifier=Notifier({}),
        )

    def write(self, **domains: str) -> None:
        """Change specs, by the name of the domain; "" removes it."""
        for name, text in domains.items():
            file = self.world.specs / next(host for host in HOSTS if name.startswith(host[0])) / f"{name}.toml"
            file.write_text(text) if text else file.unlink()
        self.source.changed.set()

    def runs(self, name: str) -> str | None:
        """The kernel that a domain runs; None when it does not run."""
        part = read_tree(self.world.specs).desired.hosts[next(host for host in HOSTS if name.startswith(host[0]))]
        host, _ = SimulatedObserver(part.settings, "default", self.world.state_dir)._observe(Question())
        guest = host.guests.get(name)
        if guest is None or guest.running is None or guest.running.kernel is None:
            return None
        return guest.running.kernel.path.rpartition("/")[2].partition(".")[0]

    def has_other(self, name: str) -> bool:
        return self.runs(name) == "other"

    def said(self, text: str) -> bool:
        return text in self.world.log.getvalue()

    def condition(self, address: str) -> tuple[str, str]:
        """Its condition and why; both "" before it was judged."""
        known = self.watcher._board.record().domains.get(address)
        return (known.condition.value, known.reason) if known is not None else ("", "")

    async def until(self, condition: Callable[[], object], *, meanwhile_seconds: float = 0) -> None:
        """Wait for something. `meanwhile_seconds` go by on the clock of watch between two looks for it."""
        try:
            async with asyncio.timeout(12):
                while not await asyncio.to_thread(condition):
                    await asyncio.sleep(0.02)
                    self.clock.seconds += meanwhile_seconds
        except TimeoutError:
            raise AssertionError(self.world.log.getvalue()) from None

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something while watch runs, and then end it; no host holds that up."""
        running = asyncio.create_task(self.watcher.run())
        try:
            await work()
        finally:
            self.watcher.stop()
            for gate in self.gates.values():
                gate.set()
            while not running.done():
                self.clock.seconds += 10
                await asyncio.sleep(0.05)
        assert await running == 0


@pytest.fixture
async def three(world: World) -> Fleet:
    for name in ("web", "db"):
        (world.specs / f"alpha/{name}.toml").unlink()
    write_files({f"specs/{host}/host.toml": HOST for host in HOSTS}, world.folder)
    made = Fleet(world)
    made.write(a=GOOD, b=GOOD, g=GOOD)
    outcome = await made.watcher.make_pass(frozenset({"start"}))
    assert not outcome.failed
    world.log.seek(0)
    world.log.truncate()
    return Fleet(world)


@pytest.fixture
def blocked(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> dict[str, asyncio.Event]:
    """What does not go on until the event is set: "look HOST", or "STEP HOST", as in "shutdown beta"."""
    gates = three.gates
    observe, execute = SimulatedObserver.observe, SimulatedExecutor.execute

    async def observing(self: SimulatedObserver, question: Question) -> Host:
        if (gate := gates.get(f"look {self.name}")) is not None:
            await gate.wait()
        return await observe(self, question)

    async def executing(self: SimulatedExecutor, step: Any, *arguments: Any, **named: Any) -> None:
        if (gate := gates.get(f"{step.kind} {self.name}")) is not None:
            await gate.wait()
        await execute(self, step, *arguments, **named)

    monkeypatch.setattr(SimulatedObserver, "observe", observing)
    monkeypatch.setattr(SimulatedExecutor, "execute", executing)
    return gates


async def test_a_host_that_never_answers_and_one_that_restarts_for_long_hold_up_no_other(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    blocked["look gamma"], blocked["shutdown beta"] = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        three.write(b=OTHER, a=OTHER)
        await three.until(lambda: three.runs("a") == "other" and three.condition("alpha/a")[0] == "Ready")
        three.world.hand_of("alpha").destroy("a")
        await three.until(lambda: three.runs("a") == "other", meanwhile_seconds=5)
        three.write(a=GOOD)
        await three.until(lambda: three.runs("a") == "good" and three.condition("alpha/a")[0] == "Ready")
        assert three.runs("b") == "good"
        assert three.condition("beta/b")[0] == "Reconciling"
        assert not three.watcher.is_ready(), "gamma has not been looked at"
        assert three.watcher.is_healthy()
        blocked["shutdown beta"].set()
        await three.until(lambda: three.runs("b") == "other")

    await three.during(work)


async def test_a_host_takes_new_specs_at_its_next_safe_point_and_others_go_on_with_what_they_do(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    blocked["shutdown beta"] = blocked["stage_image alpha"] = asyncio.Event()

    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        three.write(a=OTHER, b=OTHER)
        for begun in ('beta/b step="shut', 'alpha/a step="stage'):
            await three.until(partial(three.said, f'event="step begun" address={begun}'))
        three.write(a=GOOD)
        await three.until(lambda: three.watcher._passes.is_touched("alpha"))
        blocked["shutdown beta"].set()
        await three.until(lambda: three.runs("b") == "other" and three.condition("alpha/a")[0] == "Ready")

    await three.during(work)
    assert three.runs("a") == "good"
    left = [line for line in three.world.events() if "step left out" in line]
    assert left
    assert all("address=alpha/a" in line and "since the specs changed" in line for line in left)


async def test_what_a_look_did_not_ask_for_is_not_known_and_no_later_wave_goes_by_it(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        blocked["look alpha"], blocked["start alpha"] = asyncio.Event(), asyncio.Event()
        three.write(a=OTHER + "wave = -1\n", b=OTHER)
        await three.until(lambda: three.condition("beta/b")[0] == "Held")
        assert three.runs("b") == "good", "nobody has asked alpha yet whether it has the canary's new kernel"
        blocked["look alpha"].set()
        await three.until(lambda: three.said("step begun") and three.said("alpha/a"))
        assert three.runs("b") == "good"
        blocked["start alpha"].set()
        await three.until(lambda: three.runs("b") == "other")
        assert "not there" not in three.world.log.getvalue()

    await three.during(work)


async def test_a_later_wave_waits_for_a_canary_on_another_host_and_goes_on_by_itself(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    blocked["start alpha"] = asyncio.Event()

    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        three.write(a=OTHER + "wave = -1\n", b=OTHER, g=OTHER)
        waits = ("Held", "wave -1 is not through: alpha/a is still to get ready")
        await three.until(lambda: three.condition("beta/b") == waits)
        three.world.hand_of("gamma").destroy("g")
        # a repair waits for no wave
        await three.until(lambda: three.runs("g") == "other", meanwhile_seconds=5)
        assert three.runs("b") == "good"
        blocked["start alpha"].set()
        await three.until(lambda: three.runs("b") == "other")

    await three.during(work)
    assert 'because="others came through"' in three.world.log.getvalue()


async def test_a_canary_that_fails_holds_the_restarts_of_other_hosts(three: Fleet) -> None:
    write_files({"specs/kernels/bad": PANICS}, three.world.folder)

    async def work() -> None:
        three.write(a=OTHER.replace("/boot/other", "kernels/bad") + "wave = -1\n", b=OTHER)
        await three.until(lambda: "alpha/a is quarantined" in three.condition("beta/b")[1], meanwhile_seconds=1)
        for _ in range(3):
            three.clock.seconds += 61
            await asyncio.sleep(0.1)

    await three.during(work)
    assert (three.runs("a"), three.runs("b")) == ("good", "good")


async def test_what_was_planned_before_a_kernel_failed_elsewhere_is_left_also_when_that_host_has_been_looked_at(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    write_files({"specs/kernels/bad": PANICS}, three.world.folder)
    blocked["stage_image beta"] = asyncio.Event()

    async def work() -> None:
        bad = OTHER.replace("/boot/other", "kernels/bad")
        three.write(a=bad, b=bad)
        await three.until(lambda: three.condition("alpha/a")[0] == "Stalled")
        blocked["stage_image beta"].set()
        await three.until(lambda: "failed to boot in alpha/a" in three.condition("beta/b")[1], meanwhile_seconds=1)
        assert three.runs("b") == "good"
        assert 'event="step begun" address=beta/b step="shut down' not in three.world.log.getvalue()

    await three.during(work)


async def test_a_bad_kernel_does_not_walk_from_host_to_host(three: Fleet, blocked: dict[str, asyncio.Event]) -> None:
    write_files({"specs/kernels/bad": PANICS}, three.world.folder)
    blocked["stage_image beta"] = blocked["stage_image gamma"] = asyncio.Event()

    async def work() -> None:
        bad = OTHER.replace("/boot/other", "kernels/bad")
        three.write(a=bad, b=bad, g=bad)
        await three.until(lambda: "step failed" in three.world.log.getvalue())
        blocked["stage_image beta"].set()
        await three.until(lambda: "failed to boot in alpha/a" in three.condition("beta/b")[1], meanwhile_seconds=1)
        await three.until(lambda: "failed to boot in alpha/a" in three.condition("gamma/g")[1], meanwhile_seconds=1)

    await three.during(work)
    assert {three.runs(name) for name in "abg"} == {"good"}
    assert not [line for line in three.world.events() if "shut down" in line and "alpha/a" not in line]


async def test_no_more_domains_are_down_at_once_than_the_fleet_allows(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    write_files({"specs/reconciler.toml": "max_unavailable = 1\n"}, three.world.folder)
    for host in HOSTS:
        blocked[f"start {host}"] = asyncio.Event()

    def down() -> set[str]:
        return {name for name in "abg" if three.runs(name) is None}

    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        three.write(a=OTHER, b=OTHER, g=OTHER)
        for _ in range(3):
            await three.until(down, meanwhile_seconds=1)
            (name,) = down()
            three.clock.seconds += 61
            await asyncio.sleep(0.2)
            assert down() == {name}
            host = next(host for host in HOSTS if host[0] == name)
            blocked[f"start {host}"].set()
            await three.until(partial(three.has_other, name))

    await three.during(work)
    assert {three.runs(name) for name in "abg"} == {"other"}


@pytest.mark.parametrize("first", ["beta", "alpha"])
async def test_a_rehearsal_has_no_place_until_it_is_ready(
    three: Fleet, blocked: dict[str, asyncio.Event], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Others go down meanwhile; when it is ready, its domain waits until they are up again."""
    monkeypatch.setattr(late_places, "_POLL_SECONDS", 0.02)
    begin = SimulatedExecutor.begin_rehearsal
    write_files({"specs/reconciler.toml": "max_unavailable = 1\n"}, three.world.folder)
    rehearsing = asyncio.Event()
    blocked["start beta"] = asyncio.Event()
    blocked["rehearse alpha"] = asyncio.Event()

    async def beginning(self: SimulatedExecutor, *arguments: Any, **named: Any) -> float:
        rehearsing.set()
        await blocked["rehearse alpha"].wait()
        return await begin(self, *arguments, **named)

    monkeypatch.setattr(SimulatedExecutor, "begin_rehearsal", beginning)

    def is_down(name: str) -> bool:
        return three.runs(name) is None

    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        three.write(a=f'{OTHER}rehearse = "required"\n')
        await asyncio.wait_for(rehearsing.wait(), 12)
        three.write(b=OTHER)
        await three.until(partial(is_down, "b"), meanwhile_seconds=1)
        if first == "beta":
            blocked["start beta"].set()
            await three.until(partial(three.has_other, "b"))
        blocked["rehearse alpha"].set()
        await asyncio.sleep(0.2)
        assert first == "beta" or (is_down("b") and not is_down("a"))
        blocked["start beta"].set()
        await three.until(lambda: three.has_other("a") and three.has_other("b"), meanwhile_seconds=1)

    await three.during(work)


async def test_a_commit_that_destroys_too_much_destroys_nothing_on_any_host(three: Fleet) -> None:
    write_files({"specs/reconciler.toml": "[brake]\nmax_destroy = 2\n"}, three.world.folder)

    async def work() -> None:
        three.write(a1=GOOD, b1=GOOD, g1=GOOD)
        await three.until(lambda: all(three.runs(name) for name in ("a1", "b1", "g1")))
        three.write(a1="", b1="", g1="")
        await three.until(
            lambda: all(
                "held by the brake" in three.condition(address)[1] for address in ("alpha/a1", "beta/b1", "gamma/g1")
            )
        )
        three.clock.seconds += 61
        await asyncio.sleep(0.2)

    await three.during(work)
    assert all(three.runs(name) for name in ("a1", "b1", "g1"))


async def test_what_a_host_has_just_made_counts_for_the_brake_before_it_was_looked_at(
    three: Fleet, blocked: dict[str, asyncio.Event]
) -> None:
    write_files({"specs/reconciler.toml": "[brake]\nmax_destroy = 2\n"}, three.world.folder)
    blocked["promote_config alpha"] = asyncio.Event()

    async def work() -> None:
        three.write(a1=GOOD, b1=GOOD, g1=GOOD)
        await three.until(lambda: three.runs("a1") and three.condition("beta/b1") == ("Ready", "as specified"))
        await three.until(lambda: three.condition("gamma/g1") == ("Ready", "as specified"))
        three.write(a1="", b1="", g1="")
        told = "the brake counts over all hosts, and alpha was not looked at yet"
        await three.until(lambda: told in three.condition("beta/b1")[1] and told in three.condition("gamma/g1")[1])
        blocked["promote_config alpha"].set()
        addresses = ("alpha/a1", "beta/b1", "gamma/g1")
        await three.until(
            lambda: all("held by the brake" in three.condition(address)[1] for address in addresses),
            meanwhile_seconds=5,
        )

    await three.during(work)
    assert all(three.runs(name) for name in ("a1", "b1", "g1"))


async def test_a_host_that_looks_the_same_is_not_decided_again(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = fleet.Fleet._make

    def counting(self: fleet.Fleet, *arguments: Any) -> Any:
        made.append(1)
        return make(self, *arguments)

    monkeypatch.setattr(fleet.Fleet, "_make", counting)

    def passes() -> int:
        return three.watcher.metrics().passes_total

    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        for _ in range(2):
            three.clock.seconds += 61
            await asyncio.sleep(0.3)
        before, at_first = len(made), passes()
        await three.until(lambda: passes() >= at_first + 12, meanwhile_seconds=10)
        assert len(made) == before
        three.world.hand_of("alpha").destroy("a")
        await three.until(lambda: three.runs("a") and len(made) > before, meanwhile_seconds=5)

    await three.during(work)


async def test_an_error_nobody_foresaw_ends_one_pass_of_one_host(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    look = fleet.Fleet.look

    async def breaks(self: fleet.Fleet, name: str, *arguments: Any) -> bool:
        if name == "beta":
            raise KeyError("odd")
        return await look(self, name, *arguments)

    async def work() -> None:
        monkeypatch.setattr(fleet.Fleet, "look", breaks)
        three.write(a=OTHER, b=OTHER)
        await three.until(lambda: three.runs("a") == "other")
        await three.until(lambda: "KeyError" in three.condition("beta/b")[1])
        monkeypatch.setattr(fleet.Fleet, "look", look)
        await three.until(lambda: three.runs("b") == "other", meanwhile_seconds=5)

    await three.during(work)
    assert "traceback=" in three.world.log.getvalue()


async def test_a_host_that_leaves_the_specs_is_left_and_one_that_comes_is_tended(three: Fleet) -> None:
    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        (three.world.specs / "gamma/g.toml").unlink()
        (three.world.specs / "gamma/host.toml").rename(three.world.folder / "away.toml")
        (three.world.specs / "gamma").rmdir()
        three.source.changed.set()
        await three.until(lambda: "gamma/g" not in three.watcher._board.record().domains)
        await three.until(lambda: three.watcher._loops["gamma"].done())
        write_files({"specs/gamma/host.toml": HOST}, three.world.folder)
        three.write(g=OTHER)
        await three.until(lambda: three.runs("g") == "other")

    await three.during(work)


async def test_specs_that_cannot_be_read_leave_those_in_force_and_no_specs_leave_nothing_ready(three: Fleet) -> None:
    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        three.world.specs.rename(three.world.folder / "elsewhere")
        three.source.changed.set()
        await three.until(lambda: {three.condition(f"{host}/{host[0]}")[0] for host in HOSTS} == {"Stalled"})
        (three.world.folder / "elsewhere").rename(three.world.specs)
        three.source.changed.set()
        await three.until(lambda: {three.condition(f"{host}/{host[0]}")[0] for host in HOSTS} == {"Ready"})

    await three.during(work)
    assert {three.runs(name) for name in "abg"} == {"good"}


async def test_domains_of_a_host_that_is_frozen_as_a_whole_are_told_by_name(three: Fleet) -> None:
    real = 'toolstack = "xl"\nconnect = "ssh://root@127.0.0.1:1"\n'  # a real host asks for the name of a fleet
    (three.world.specs / "alpha/host.toml").write_text(real)
    (three.world.state_dir / "watch.json").unlink()  # nothing is known of them from before
    fresh = Fleet(three.world)
    fresh.source.needs_fleet = True
    frozen = {"alpha/a", "beta/b", "gamma/g"}

    async def work() -> None:
        await fresh.until(lambda: frozen <= fresh.watcher._board.record().domains.keys())
        assert {fresh.condition(address)[0] for address in frozen} == {"Stalled"}
        assert fresh.condition("alpha/a")[1] == "the specs of alpha have errors, so nothing is done there"

    await fresh.during(work)
