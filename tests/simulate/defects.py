"""`make simulate-defects`: puts faults back that were found once, one by one, and sees that the simulation finds each.

A fault is a patch in `defects/`, whose first line tells of it. It is applied to a copy of the package, on which the
kept scripts are played, and then stories of seeds for as long as CI plays them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
DEFECTS = Path(__file__).with_name("defects")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seconds", default=45.0, show_default=True, help="How long to look for each; what CI has.")
@click.option("--seed", default=1, show_default=True)
def main(names: tuple[str, ...], seconds: float, seed: int) -> None:
    """Look for each fault of NAMES, or for all."""
    missed = []
    for patch in sorted(DEFECTS.glob("*.patch")):
        if names and not any(patch.name.startswith(name) for name in names):
            continue
        began = time.monotonic()
        found = look_for(patch, seconds, seed)
        took = f"{time.monotonic() - began:.0f} s; {found.played}"
        click.echo(f"{patch.stem} ({took})\n  by script: {found.by_script or 'MISSED'}")
        click.echo(f"  by seed:   {found.by_seed or 'not in this time'}")
        missed += [] if found.by_script or found.by_seed else [patch.stem]
    sys.exit(bool(missed))


@dataclass(frozen=True)
class Found:
    """Which law a fault broke, by which script and by which seed ("" for none), and how much was played."""

    by_script: str
    by_seed: str
    played: str


def look_for(patch: Path, seconds: float, seed: int) -> Found:
    """Play the kept scripts, and then stories, on a package with this fault."""
    with tempfile.TemporaryDirectory(prefix="defect-") as name:
        copy = Path(name)
        for part in ("reconciler", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["git", "apply", patch], cwd=copy, check=True)
        by_script = [line for line in _played(copy, "--seconds", "0.1").splitlines() if ".txt: line " in line]
        told = _played(copy, "--seconds", str(seconds), "--seed", str(seed), "--no-scripts")
        broken = [line for line in told.splitlines() if line.startswith("seed ")]
        events = next((line for line in told.splitlines() if " events in " in line), "")
        return Found(by_script[0][:160] if by_script else "", broken[0][:160] if broken else "", events)


def _played(copy: Path, *options: str) -> str:
    command = [sys.executable, "-m", "tests.simulate", "--events", "10000000", "--shrink", "0", *options]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
