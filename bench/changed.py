"""`python -m bench.changed [DOMAINS]`: one changed file of many, from watch being told of it to the proven plan.

The floor is here what `reconciler plan` takes for the whole tree. Only the host of that file should be looked at again.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.fleet import write_fleet
from bench.hosts import SteeredClock
from bench.measure import Figure, python
from reconciler.watch.backoff import Backoff
from reconciler.watch.logs import Log
from reconciler.watch.loop import Watcher
from reconciler.watch.passes import Passes
from reconciler.watch.process import Notifier, leave_old_objects_alone, take_short_turns
from reconciler.watch.source import LocalSource

_DOMAINS = 10_000
_AT_MOST = 1 / 40
_ROUNDS = 3
_SETTLED_SECONDS = 1.1  # a file that changed a moment ago is read again
_LOOK_SECONDS = 0.02


def main() -> int:
    domains = int(sys.argv[1]) if len(sys.argv) > 1 else _DOMAINS
    with tempfile.TemporaryDirectory() as folder:
        specs, state = Path(folder) / "specs", Path(folder) / "state"
        write_fleet(specs, domains)
        python("-m", "bench.settled", str(specs), str(state))
        command = ("-m", "reconciler", "--state-dir", str(state), "plan", str(specs))
        cold = median(python(*command).seconds for _ in range(_ROUNDS))
        times, looks = asyncio.run(change_one(specs, state))
    seconds = median(times)
    what = f"one changed file of {domains} in watch"
    figure = Figure(what=what, seconds=seconds, floor=cold, ratio=seconds / cold, at_most=_AT_MOST)
    print(figure.line())
    print(f"hosts that were looked at for it: {looks}")
    return 0 if figure.is_kept and looks == 1 else 1


async def change_one(specs: Path, state: Path) -> tuple[list[float], int]:
    """Return the seconds of the processor of some changes, and the most hosts that one of them had looked at."""
    leave_old_objects_alone()
    take_short_turns()
    clock = SteeredClock()
    source = LocalSource(specs, clock, print)
    passes = Passes(source, state, detect_only=True, now=clock.now, backoff=Backoff(lambda: 0.5))
    watcher = Watcher(
        source,
        passes,
        state,
        interval_seconds=1e9,
        clock=clock,
        log=Log(io.StringIO(), as_json=False, now=clock.now),
        notifier=Notifier({}),
    )
    running = asyncio.create_task(watcher.run())
    while not watcher.is_ready():
        await asyncio.sleep(_LOOK_SECONDS)
    times, looks = [], 0
    for name in sorted(specs.glob("*/d*.toml"))[:_ROUNDS]:
        await asyncio.sleep(_SETTLED_SECONDS)
        drifted, passed = watcher.metrics().drifted, watcher.metrics().passes_total
        began = time.process_time()
        name.write_text(name.read_text().replace("memory = 256", "memory = 192"))
        watcher.take_specs_soon()
        while watcher.metrics().drifted == drifted:
            await asyncio.sleep(_LOOK_SECONDS)
        times.append(time.process_time() - began)
        looks = max(looks, watcher.metrics().passes_total - passed)
    watcher.stop()
    await running
    return times, looks


if __name__ == "__main__":
    sys.exit(main())
