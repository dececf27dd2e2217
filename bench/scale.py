"""`python -m bench.scale [DOMAINS]`: the life of very many domains on one simulated host, through the command line.

They are planned, created and all restarted, first a quarter of them and then all. What grows with the domains alone
costs a domain the same both times; a growth of 4 would be what grows with their square.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.fleet import write_fleet

_DOMAINS = 10_000
_MOST_GROWTH = 2.0  # of the cpu time of a domain


def main() -> int:
    domains = int(sys.argv[1]) if len(sys.argv) > 1 else _DOMAINS
    few, many = life_of(domains // 4), life_of(domains)
    worst = 0.0
    for what, seconds in many.items():
        growth = (seconds / domains) / (few[what] / (domains // 4))
        worst = max(worst, growth)
        print(f"{what:<24} {seconds:8.1f} s of cpu, {1000 * seconds / domains:6.1f} ms a domain, growth {growth:4.2f}")
    return int(worst > _MOST_GROWTH)


def life_of(domains: int) -> dict[str, float]:
    """The seconds of cpu of each command. Raises AssertionError when one does not end as it should."""
    with tempfile.TemporaryDirectory() as folder:
        specs, kernel = Path(folder) / "specs", Path(folder) / "specs" / "kernels" / "linux"
        write_fleet(specs, domains, per_host=domains)

        def run(*arguments: str) -> tuple[float, str]:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "reconciler", "--state-dir", f"{folder}/state", *arguments, str(specs)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

        took: dict[str, float] = {}
        took["plan, as JSON"], text = run("plan", "--json")
        plan = json.loads(text)
        assert plan["summary"]["create"] == domains, plan["summary"]
        print(f"{domains} domains on one host: {len(plan['steps'])} steps to create them")
        took["create"], _ = run("apply", "--yes")
        kernel.write_text(kernel.read_text() + 'console = "new"\n')
        took["restart"], text = run("apply", "--yes", "--json")
        assert not json.loads(text)["failed"]
        took["find nothing to do"], text = run("plan", "--json")
        assert json.loads(text)["steps"] == []
        return took


if __name__ == "__main__":
    sys.exit(main())
