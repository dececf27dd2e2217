"""`python -m bench.scale [DOMAINS [STEPS]]`: the life of very many domains on simulated hosts, by the command line.

So many domains of one host are planned, created and all restarted; then one plan of so many steps is followed, over
hosts of 100 domains each. A quarter of it is done first: what grows with the domains alone costs a domain the same
both times; a growth of 4 would be what grows with their square. Exit code 1 tells that something grows too much.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.fleet import write_fleet

_DOMAINS, _STEPS = 5_000, 100_000
_STEPS_A_CREATE = 6
_PER_HOST = 100
_MOST_GROWTH = 2.0  # of the cpu time of a domain
Life = Callable[[int], dict[str, float]]


def main() -> int:
    domains, steps = [int(text) for text in sys.argv[1:]] + [_DOMAINS, _STEPS][len(sys.argv) - 1 :]
    worst = max(growth(domains, life_on_one_host), growth(-(-steps // _STEPS_A_CREATE), creation_on_many_hosts))
    return int(worst > _MOST_GROWTH)


def growth(domains: int, life: Life) -> float:
    """Print what a life costs, and return the most by which that of a domain grows when there are four times more."""
    few, many = life(domains // 4), life(domains)
    worst = 0.0
    for what, seconds in many.items():
        grown = (seconds / domains) / (few[what] / (domains // 4))
        worst = max(worst, grown)
        print(f"{what:<24} {seconds:8.1f} s of cpu, {1000 * seconds / domains:6.1f} ms a domain, growth {grown:4.2f}")
    return worst


def life_on_one_host(domains: int) -> dict[str, float]:
    """The seconds of cpu of each command. Raises AssertionError when one does not end as it should."""
    with tempfile.TemporaryDirectory() as folder:
        specs, kernel = Path(folder) / "specs", Path(folder) / "specs" / "kernels" / "linux"
        write_fleet(specs, domains, per_host=domains)
        took: dict[str, float] = {}
        took["plan, as JSON"], text = reconciler(folder, "plan", "--json")
        plan = json.loads(text)
        assert plan["summary"]["create"] == domains, plan["summary"]
        print(f"{domains} domains on one host: {len(plan['steps'])} steps to create them", flush=True)
        took["create"], text = reconciler(folder, "apply", "--yes", "--json")
        check_done(text, len(plan["steps"]))
        kernel.write_text(kernel.read_text() + 'console = "new"\n')
        took["restart"], text = reconciler(folder, "apply", "--yes", "--json")
        check_done(text, 7 * domains)
        took["find nothing to do"], text = reconciler(folder, "plan", "--json")
        assert json.loads(text)["steps"] == []
        return took


def creation_on_many_hosts(domains: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        write_fleet(Path(folder) / "specs", domains, per_host=_PER_HOST)
        seconds, text = reconciler(folder, "apply", "--yes", "--json")
        check_done(text, _STEPS_A_CREATE * domains)
        print(
            f"{domains} domains on {-(-domains // _PER_HOST)} hosts: {_STEPS_A_CREATE * domains} steps done", flush=True
        )
        left, text = reconciler(folder, "plan", "--json")
        assert json.loads(text)["steps"] == []
        return {"create": seconds, "find nothing to do": left}


def reconciler(folder: str, *arguments: str) -> tuple[float, str]:
    """Run a command on the specs of a folder. Returns the seconds of cpu that it took, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "reconciler", "--state-dir", f"{folder}/state", *arguments, f"{folder}/specs"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def check_done(document: str, steps: int) -> None:
    """Check that an apply has done so many steps, and that nothing else became of any."""
    found = json.loads(document)
    assert (len(found["done"]), found["failed"], found["skipped"]) == (steps, [], []), found["summary"]


if __name__ == "__main__":
    sys.exit(main())
