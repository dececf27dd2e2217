"""`python -m bench [GOAL...]`: how much longer our work takes than the least anybody would have to do for it.

Each goal is a ratio against a floor that is measured in the same run; see `bench.measure` for how. Exit code 1 tells
that at least one was missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from bench.applies import applies
from bench.measure import Figure
from bench.plans import plans
from bench.real import real
from bench.start_up import start_up

_DOMAINS = 10_000

GOALS: Mapping[str, Callable[[Path], Iterator[Figure]]] = {
    "start-up": start_up,
    "plans": partial(plans, domains=_DOMAINS),
    "applies": partial(applies, domains=_DOMAINS),
    "real": real,
}
"""What is measured, by name; each is given a folder of its own."""


def main() -> int:
    names = sys.argv[1:] or list(GOALS)
    if unknown := [name for name in names if name not in GOALS]:
        print(f"There is no goal {unknown[0]}; there are: {', '.join(GOALS)}", file=sys.stderr)
        return 2
    all_kept = True
    for name in names:
        print(f"{name:<48}{'work':>11} {'floor':>10} {'ratio':>9}")
        with tempfile.TemporaryDirectory() as folder:
            for figure in GOALS[name](Path(folder)):
                print(figure.line(), flush=True)
                all_kept &= figure.is_kept
    return 0 if all_kept else 1


if __name__ == "__main__":
    sys.exit(main())
