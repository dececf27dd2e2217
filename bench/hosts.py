"""`python -m bench.hosts [HOSTS [DOMAINS [ROUNDS]]]`: what watch costs over many hosts, each with so many domains.

The first passes bring all domains about; then nothing changes, and each round is an interval of 60 s for every host.
Simulated hosts wait by clocks of their own, and watch by one that only counts, so all of it is work of the processor.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import time
from pathlib import Path

from bench.fleet import write_fleet
from bench.watch import resident_kib
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier, leave_old_objects_alone, take_short_turns
from reconciler.watch.source import LocalSource

_HOSTS, _DOMAINS, _ROUNDS = 40, 50, 5
_INTERVAL_SECONDS = 60.0
_SETTLED_SECONDS = 1.1  # a file that changed a moment ago is read again
_LOOK_SECONDS = 0.02
_WARM_UP = 2


class SteeredClock:
    """Time stands still until it is moved on, but for short waits."""

    def __init__(self) -> None:
        self.seconds = time.time()

    def now(self) -> float:
        return self.seconds

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        until = self.seconds + seconds
        while not event.is_set() and self.seconds < until and seconds > 1:
            await asyncio.sleep(_LOOK_SECONDS)


def main() -> None:
    numbers = [int(text) for text in sys.argv[1:]] + [_HOSTS, _DOMAINS, _ROUNDS][len(sys.argv) - 1 :]
    hosts, domains, rounds = numbers
    with tempfile.TemporaryDirectory() as folder:
        root, state_dir = Path(folder) / "specs", Path(folder) / "state"
        write_fleet(root, hosts * domains, per_host=domains)
        asyncio.run(bench(root, state_dir, hosts, domains, rounds))


async def bench(root: Path, state_dir: Path, hosts: int, domains: int, rounds: int) -> None:
    leave_old_objects_alone()
    take_short_turns()
    clock = SteeredClock()
    source = LocalSource(root, clock, lambda text: None)
    passes = Passes(source, state_dir, detect_only=False, now=clock.now, backoff=Backoff(lambda: 0.5))
    watcher = Watcher(
        source,
        passes,
        state_dir,
        interval_seconds=_INTERVAL_SECONDS,
        clock=clock,
        log=Log(io.StringIO(), as_json=False, now=clock.now),
        notifier=Notifier({}),
    )
    await asyncio.sleep(_SETTLED_SECONDS)
    began, worked = time.monotonic(), time.process_time()
    running = asyncio.create_task(watcher.run())
    while watcher.metrics().domains_by_condition.get("Ready", 0) < hosts * domains:
        await asyncio.sleep(_LOOK_SECONDS)
    seconds, cpu = time.monotonic() - began, time.process_time() - worked
    print(f"{hosts} hosts with {domains} domains each")
    print(f"until all are ready         {seconds:8.1f} s, of which {cpu / seconds:.0%} were work of the processor")
    for _ in range(_WARM_UP):
        await one_interval(watcher, clock, hosts)
    before_kib, worked = resident_kib(), time.process_time()
    for _ in range(rounds):
        await one_interval(watcher, clock, hosts)
    share = (time.process_time() - worked) / rounds / _INTERVAL_SECONDS
    print(
        f"at rest                     {share:8.2%} of a core ({share / hosts * 1000:.2%} for 1,000 hosts; at most 5 %)"
    )
    print(f"memory, after against before {resident_kib() / before_kib:7.3f} × {before_kib // 1024} MiB")
    watcher.stop()
    await running


async def one_interval(watcher: Watcher, clock: SteeredClock, hosts: int) -> None:
    passes = watcher.metrics().passes_total + hosts
    clock.seconds += _INTERVAL_SECONDS + 1
    while watcher.metrics().passes_total < passes:
        await asyncio.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
