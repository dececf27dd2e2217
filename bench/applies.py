"""Bringing a whole fleet about on simulated hosts, step by step, against `bench.floor` on what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

from bench.fleet import write_fleet
from bench.measure import Figure, Used, against, python

_AT_MOST = 72 / 3 / 0.39  # a third of what it took at 99eef40, against the floor there
_ROUNDS = 1  # each takes a minute


def applies(folder: Path, domains: int) -> Iterator[Figure]:
    """Measure how long it takes to create so many domains where there is nothing yet."""
    specs, settled, numbers = folder / "specs", folder / "settled", count()
    write_fleet(specs, domains)
    python("-m", "bench.settled", str(specs), str(settled))

    def create() -> Used:
        command = ("--state-dir", str(folder / f"state{next(numbers)}"), "apply", "--yes", str(specs))
        return python("-m", "reconciler", *command)

    floor = partial(python, "-m", "bench.floor", str(specs), str(settled))
    yield against("create all, step by step", create, floor, at_most=_AT_MOST, rounds=_ROUNDS)
