"""`python -m bench [DOMAINS]`: how much longer our work takes than the least anybody would have to do for it."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.fleet import write_fleet
from reconciler.decide.changes import Consent
from reconciler.decide.unusable import complete
from reconciler.model.host import Host
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.verify import verify
from reconciler.reconcile import Reconciler
from reconciler.specs import TreeReading, read_tree

T = TypeVar("T")

_REPEATS = 3
_DOMAINS = 10_000
_FEW = 10
_STARTS = 7


def main() -> None:
    domains = int(sys.argv[1]) if len(sys.argv) > 1 else _DOMAINS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "specs"
        write_fleet(root, domains)
        print(f"{domains} domains on {sum(1 for _ in root.glob('*/host.toml'))} hosts")
        floor = best(lambda: [path.read_bytes() for path in root.rglob("*.toml")])
        parsed = best(lambda: [tomllib.loads(path.read_text()) for path in root.rglob("*.toml")])
        reading, seconds = timed(lambda: read_tree(root))
        say("read and check the specs", min(seconds, best(lambda: read_tree(root))), floor, "reading the bytes")
        say("  the same", seconds, parsed, "parsing with tomllib")
        bench_plans(reading, root, Path(folder) / "state", floor)
    bench_start_up()


def bench_plans(reading: TreeReading, root: Path, state_dir: Path, floor: float) -> None:
    """Create everything from nothing, and find nothing to do once it is there."""
    reconciler = Reconciler(reading, root, state_dir)
    hosts, _ = asyncio.run(reconciler.observe(frozenset(reading.desired.hosts)))
    desired, _ = complete(reading.desired, hosts)

    def plan_of(world: dict[str, Host]) -> Plan:
        plan = build_plan(desired, world, Consent())
        verify(plan, world, desired)
        return plan

    plan, seconds = timed(lambda: plan_of(hosts))
    say(f"plan and prove {len(plan.steps)} steps from nothing", seconds, floor, "reading the bytes")
    arrived = {name: after(host, plan) for name, host in hosts.items()}
    nothing, seconds = timed(lambda: plan_of(arrived))
    say(f"find nothing to do ({len(nothing.steps)} steps)", seconds, floor, "reading the bytes")


def after(host: Host, plan: Plan) -> Host:
    from reconciler.plan.meaning import Replay

    replay = Replay(host)
    for step in plan.steps:
        if step.host == host.name:
            replay.apply(step.step)
    return replay.host()


def bench_start_up() -> None:
    """Processor time, since that is what a busy machine changes least."""
    click = least_cpu("-c", "import click")
    say("reconciler --help", least_cpu("-m", "reconciler", "--help"), click, "importing click")
    floor = least_cpu("-c", "import asyncio, click, toml_rs; from pydantic import BaseModel")
    with tempfile.TemporaryDirectory() as folder:
        root, state = Path(folder) / "specs", Path(folder) / "state"
        write_fleet(root, _FEW)
        command = ("-m", "reconciler", "--state-dir", str(state))
        run(*command, "apply", "--yes", str(root))
        for name in ("validate", "status", "plan"):
            say(
                f"reconciler {name}, {_FEW} domains", least_cpu(*command, name, str(root)), floor, "importing libraries"
            )


def least_cpu(*arguments: str) -> float:
    """The least seconds of the processor that a Python program takes."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(_STARTS))


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


def best(work: Callable[[], object]) -> float:
    return min(timed(work)[1] for _ in range(_REPEATS))


def say(what: str, seconds: float, floor: float, floor_name: str) -> None:
    print(f"{what:<44} {seconds:8.3f} s  {seconds / floor:7.1f} × {floor_name}")


if __name__ == "__main__":
    main()
