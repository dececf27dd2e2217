"""`make simulate-defects`: puts faults back that were found once, one by one, and sees that the simulation finds each.

A fault is a patch in `defects/`, whose first line tells of it. It is applied to a copy of the package, and stories of
seeds are played on that copy, for as long as CI plays them, without the kept scripts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
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
        found, played = look_for(patch, seconds, seed)
        took = f"{time.monotonic() - began:.0f} s"
        click.echo(f"{'found' if found else 'MISSED'}  {patch.stem}  ({took}; {played}) {found}")
        missed += [] if found else [patch.stem]
    sys.exit(bool(missed))


def look_for(patch: Path, seconds: float, seed: int) -> tuple[str, str]:
    """Play stories on a package with this fault.

    Returns which law it broke, and by which seed ("" for none), and how much was played.
    """
    with tempfile.TemporaryDirectory(prefix="defect-") as name:
        copy = Path(name)
        for part in ("reconciler", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["git", "apply", patch], cwd=copy, check=True)
        options = ["--events", "10000000", "--seconds", str(seconds), "--seed", str(seed), "--shrink", "0"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulate", *options, "--no-scripts"],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        broken = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
        if done.returncode and not broken:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        events = next((line for line in done.stdout.splitlines() if " events in " in line), "")
        return broken[0][:160] if broken else "", events


if __name__ == "__main__":
    main()
