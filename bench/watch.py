"""`python -m bench.watch [DOMAINS [PASSES]]`: what watch costs while nothing changes.

Waiting is done by a clock that only counts, work by the real processor: so the share of a core that the passes of a
day would take is known after a minute. Memory is looked at after the first passes and after the last one.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import time
from pathlib import Path

from bench.fleet import write_fleet
from bench.settled import settle
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier
from reconciler.watch.source import LocalSource

_DOMAINS, _PASSES = 1_000, 200
_WARM_UP = 20
_INTERVAL_SECONDS = 60.0
_SETTLED_SECONDS = 1.1  # a file that changed a moment ago is read again


class CountingClock:
    def __init__(self) -> None:
        self.seconds = time.time()

    def now(self) -> float:
        return self.seconds

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        self.seconds += seconds


def main() -> None:
    domains = int(sys.argv[1]) if len(sys.argv) > 1 else _DOMAINS
    passes = int(sys.argv[2]) if len(sys.argv) > 2 else _PASSES
    with tempfile.TemporaryDirectory() as folder:
        root, state_dir = Path(folder) / "specs", Path(folder) / "state"
        write_fleet(root, domains, per_host=domains)
        asyncio.run(bench(root, state_dir, domains, passes))


async def bench(root: Path, state_dir: Path, domains: int, passes: int) -> None:
    clock, said = CountingClock(), io.StringIO()
    source = LocalSource(root, clock, lambda text: None)
    making = Passes(source, state_dir, detect_only=False, now=clock.now, backoff=Backoff(lambda: 0.5))
    watcher = Watcher(
        source,
        making,
        state_dir,
        interval_seconds=_INTERVAL_SECONDS,
        clock=clock,
        log=Log(said, as_json=False, now=clock.now),
        notifier=Notifier({}),
    )
    await settle(root, state_dir)
    await asyncio.sleep(_SETTLED_SECONDS)
    for _ in range(_WARM_UP):
        await watcher.make_pass(frozenset({"interval"}))
    assert watcher.metrics().domains_by_condition["Ready"] == domains
    before_kib, said_before = resident_kib(), len(said.getvalue())
    began = time.process_time()
    for _ in range(passes):
        await watcher.make_pass(frozenset({"interval"}))
    seconds = (time.process_time() - began) / passes
    assert watcher.metrics().drifted == 0
    print(f"{domains} domains on one host, nothing changes, {passes} passes")
    print(f"a pass takes                {seconds:8.3f} s of a core")
    print(
        f"at one pass in {_INTERVAL_SECONDS:.0f} s         {seconds / _INTERVAL_SECONDS:8.2%} of a core (at most 1 %)"
    )
    print(f"memory, after against before {resident_kib() / before_kib:7.3f} × {before_kib // 1024} MiB")
    print(f"said meanwhile              {len(said.getvalue()) - said_before:8} characters")


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
