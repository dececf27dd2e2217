"""`make load`: a host with very many domains through a day of edits and accidents; and many hosts, some of which flap.

On the one host a thousand files are edited within a minute, some of them to what no spec may be, and mended later. Then
a day goes by: each hour somebody destroys a domain by hand. On the many hosts some fall silent every other pass, while
specs of theirs and of others change. It fails where an edit is lost, where what failed is not told, where a domain
restarts that nobody asked to, or where memory grows. Waiting is done by a clock that only counts.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from bench.fleet import write_fleet
from bench.settled import settle
from bench.watch import CountingClock, resident_kib
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedObserver
from reconciler.specs import read_tree
from reconciler.toolstack import Question
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.news import Outcome
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier
from reconciler.watch.source import LocalSource

_BURSTS = 20  # in the minute of edits, with a pass after each
_BROKEN_EACH = 50
_WARM_UP = 3
_PASSES_MAX = 20  # until all is done that was asked for
_GROWTH_MAX = 1.1
_HOUR_SECONDS = 3600.0
_ROUNDS = 24
_FOR_LONG = 1_000_000
_INTERRUPTS = ("shutdown", "destroy")


class _Counted:
    """A log that nobody keeps."""

    def __init__(self) -> None:
        self.lines = 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        return len(text)

    def flush(self) -> None:
        return


@dataclass
class Load:
    """A tree on simulated hosts, and a watch over it. `wanted` is what the files ask for, in MiB."""

    folder: Path
    seed: int
    clock: CountingClock = field(default_factory=CountingClock)
    log: _Counted = field(default_factory=_Counted)
    wanted: dict[str, int] = field(default_factory=dict)
    stops: int = 0  # steps that take a domain down

    def __post_init__(self) -> None:
        self.root, self.state_dir = self.folder / "specs", self.folder / "state"
        self.random = random.Random(self.seed)

    async def begin(self, domains: int, per_host: int) -> None:
        write_fleet(self.root, domains, per_host=per_host)
        self.wanted = {f"{file.parent.name}/{file.stem}": 256 for file in self.root.glob("host*/d*.toml")}
        source = LocalSource(self.root, self.clock, lambda text: None)
        passes = Passes(source, self.state_dir, detect_only=False, now=self.clock.now, backoff=Backoff(lambda: 0.5))
        self.watcher = Watcher(
            source,
            passes,
            self.state_dir,
            interval_seconds=60.0,
            clock=self.clock,
            log=Log(cast(TextIO, self.log), as_json=False, now=self.clock.now),
            notifier=Notifier({}),
        )
        await settle(self.root, self.state_dir)
        for _ in range(_WARM_UP):
            await self.look()

    async def look(self, after_seconds: float = 60.0) -> Outcome:
        self.clock.seconds += after_seconds
        outcome = await self.watcher.make_pass(frozenset({"interval"}))
        self.stops += sum(result.step.step.kind in _INTERRUPTS for result in outcome.result.done)
        return outcome

    def edit(self, address: str) -> None:
        self.wanted[address] = self.random.randrange(128, 256)
        self.write(address, f"memory = {self.wanted[address]}\nmaxmem = 256\n")

    def break_file(self, address: str) -> None:
        self.write(address, "memory = = 1\n")

    def write(self, address: str, memory: str) -> None:
        file = self.root / f"{address}.toml"
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("memory", "maxmem"))]
        file.write_text("".join([kept[0], memory, *kept[1:]]))

    def hand(self, host: str) -> Hand:
        reading = read_tree(self.root)
        settings = reading.desired.hosts[host].settings
        return Hand(settings=settings, fleet=reading.desired.fleet, state_dir=self.state_dir)

    def condition(self, address: str) -> str | None:
        domains: Iterable[dict[str, Any]] = self.watcher.status_document()["domains"]
        return next((one["condition"] for one in domains if one["address"] == address), None)

    async def differs(self, but: Collection[str] = ()) -> list[str]:
        """List the domains that do not run with what their files ask for, on all hosts but some."""
        reading = read_tree(self.root)
        found = []
        for name, part in reading.desired.hosts.items():
            if name in but:
                continue
            host = await SimulatedObserver(part.settings, reading.desired.fleet, self.state_dir).observe(Question())
            for address, mib in self.wanted.items():
                if address.startswith(f"{name}/"):
                    guest = host.guests.get(address.rpartition("/")[2])
                    if guest is None or guest.running is None or guest.running.memory_kib != mib * 1024:
                        found.append(address)
        return found

    async def until_done(self) -> int:
        for passes in range(1, _PASSES_MAX + 1):
            outcome = await self.look()
            if not outcome.result.done and not outcome.failed:
                return passes
        raise SystemExit(f"still something to do after {_PASSES_MAX} passes")


def holds(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"bench.load: {what}")


async def one_host(load: Load, domains: int, edits: int, hours: float, interval_seconds: float) -> None:
    began = time.process_time()
    await load.begin(domains, per_host=domains)
    addresses, broken = sorted(load.wanted), set[str]()
    for burst in range(_BURSTS):
        for number in range(edits * burst // _BURSTS, edits * (burst + 1) // _BURSTS):
            address = load.random.choice(addresses)
            if number % _BROKEN_EACH == 0:
                load.break_file(address)
                broken.add(address)
            else:
                load.edit(address)
                broken.discard(address)
        await load.look(60.0 / _BURSTS)
        hidden = [address for address in broken if load.condition(address) == "Ready"]
        holds(not hidden, f"a broken file is not told: {hidden}")
    for address in broken:
        load.edit(address)
    passes = await load.until_done()
    differs = await load.differs()
    holds(not differs, f"edits were lost: {differs[:5]}")
    holds(load.stops == 0, f"{load.stops} domains went down for what can be changed live")
    seconds = time.process_time() - began
    say(f"{domains} domains on one host, {edits} edits within a minute: {passes} passes later all were there,")
    say(f"no domain had gone down, and each broken file had been told; {seconds:.0f} s of a core")
    await _a_day(load, addresses, hours, interval_seconds)


async def _a_day(load: Load, addresses: Sequence[str], hours: float, interval_seconds: float) -> None:
    began, each = time.process_time(), max(1, int(_HOUR_SECONDS / interval_seconds))
    passes, before_kib, destroyed = int(hours * each), 0, ""
    for number in range(passes):
        if number % each == 0:
            destroyed = load.random.choice(addresses)
            load.hand(destroyed.partition("/")[0]).destroy(destroyed.rpartition("/")[2])
        outcome = await load.look(interval_seconds)
        if number % each == 0:
            started = [result.step.address for result in outcome.result.done]
            holds(destroyed in started, f"{destroyed} was destroyed by hand and not started again")
        if number == each - 1:
            before_kib = resident_kib()
    holds(not await load.differs(), "something is not as its file asks for after the day")
    grown = resident_kib() / max(before_kib, 1)
    holds(grown <= _GROWTH_MAX, f"memory grew by a factor of {grown:.2f}")
    seconds = (time.process_time() - began) / max(passes, 1)
    say(f"{hours:g} hours, a pass each {interval_seconds:g} s ({passes}), a domain destroyed each hour: all came back")
    say(f"in the next pass; {seconds:.2f} s of a core for a pass")
    say(f"memory at the end against after the first hour: {grown:.3f} x {before_kib >> 10} MiB")


async def flapping(load: Load, hosts: int, flap: int, domains: int) -> None:
    began = time.process_time()
    await load.begin(hosts * domains, per_host=domains)
    names = sorted({address.partition("/")[0] for address in load.wanted})
    going = names[:flap]
    hands = {name: load.hand(name) for name in going}
    steady = sorted(address for address in load.wanted if address.partition("/")[0] not in going)
    unsteady = sorted(load.wanted.keys() - set(steady))
    for number in range(_ROUNDS):
        silent = going if number % 2 == 0 else []
        for name, hand in hands.items():
            hand.fault("unreachable", _FOR_LONG if name in silent else 0)
        for address in (load.random.choice(steady), load.random.choice(unsteady)):
            load.edit(address)
        await load.look()
        hidden = [one for one in unsteady if silent and load.condition(one) == "Ready"]
        holds(not hidden, f"hosts are silent, and not told: {hidden[:5]}")
        late = await load.differs(but=going)
        holds(not late, f"hosts that answer waited for those that do not: {late[:5]}")
    passes = await load.until_done()
    holds(not await load.differs(), "edits were lost")
    holds(load.stops == 0, f"{load.stops} domains went down")
    say(f"{hosts} hosts with {domains} domains each, {flap} of them silent in every other of {_ROUNDS} passes:")
    say(f"those that answer never waited, the silent ones were told, {passes} passes after that all edits were there;")
    say(f"{time.process_time() - began:.0f} s of a core")


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--domains", type=int, default=2000)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--interval", type=float, default=60)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--flapping", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = Load(Path(folder), options.seed)
        asyncio.run(one_host(load, options.domains, options.edits, options.hours, options.interval))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(flapping(Load(Path(folder), options.seed), options.hosts, options.flapping, 2))


if __name__ == "__main__":
    main()
