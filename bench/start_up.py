"""What it costs to start, against processes that only import."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.fleet import write_fleet
from bench.measure import Figure, against, python

_FEW = 10
_ROUNDS = 11  # each takes a fraction of a second


def start_up(folder: Path) -> Iterator[Figure]:
    """Measure commands that have next to nothing to do."""
    specs, state = folder / "specs", folder / "state"
    write_fleet(specs, _FEW)
    python("-m", "bench.settled", str(specs), str(state))
    click = partial(python, "-c", "import click")
    libraries = partial(python, "-c", "import asyncio, click, toml_rs; from pydantic import BaseModel")
    yield against(
        "reconciler --help", partial(python, "-m", "reconciler", "--help"), click, at_most=1.3, rounds=_ROUNDS
    )
    for name, at_most in (("validate", 1.3), ("status", 1.5), ("plan", None)):
        work = partial(python, "-m", "reconciler", "--state-dir", str(state), name, str(specs))
        yield against(f"reconciler {name}, {_FEW} domains", work, libraries, at_most=at_most, rounds=_ROUNDS)
