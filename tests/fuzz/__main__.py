"""`make fuzz`: hostile inputs for every target, from a seed, until there were enough of each or the time is over.

Prints how many inputs each target took, and for each law that broke the smallest input that breaks it. The same seed
gives the same inputs. Exits with 1 when a law broke.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.laws import bounded
from tests.fuzz.mutated import hostile
from tests.fuzz.targets import TARGETS

_ROUND = 500
_MEMORY_MAX = 2 << 30
_GROWTH_MAX_MIB = 300
_PHASES = (Phase.generate, Phase.shrink)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, _MEMORY_MAX))  # what takes more raises MemoryError
    names = options.targets.split(",") if options.targets else list(TARGETS)
    ends = time.monotonic() + options.seconds if options.seconds else None
    inputs: Counter[str] = Counter()
    faults: dict[str, str] = {}
    grown: Counter[str] = Counter()
    turn = 0
    while any(inputs[name] < options.examples and name not in faults for name in names):
        for name in names:
            if inputs[name] >= options.examples or name in faults:
                continue
            if ends is not None and time.monotonic() >= ends:
                return _told(inputs, faults, grown)
            before = _peak_mib()
            most = min(_ROUND, options.examples - inputs[name])
            fault = _round(name, options.seed + turn, most, inputs)
            grown[name] += _peak_mib() - before
            if fault is not None:
                faults[name] = fault
                _say(f"{name}: a law is broken (SEED={options.seed + turn})\n{fault}")
            _say(f"{name}: {inputs[name]} inputs")
        turn += 1
    return _told(inputs, faults, grown)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0, help="end after this time; 0: never")
    parser.add_argument("--targets", default="", help=f"of {', '.join(TARGETS)}; default: all")
    return parser.parse_args(arguments)


def _round(name: str, number: int, most: int, inputs: Counter[str]) -> str | None:
    """Try some inputs on a target; return how a law broke, if one did."""
    target = TARGETS[name]
    last = ""

    @seed(number)
    @settings(max_examples=most, database=None, deadline=None, phases=_PHASES, suppress_health_check=list(HealthCheck))
    @given(hostile(target.seeds()))
    def check(text: str) -> None:
        nonlocal last
        last = text
        inputs[name] += 1
        with bounded():
            target.check(text)

    return _caught(check, lambda: last)


def _caught(check: Callable[[], None], last: Callable[[], str]) -> str | None:
    try:
        check()
    except Exception:  # noqa: BLE001 - whatever it is, it is what we are looking for
        return f"{traceback.format_exc(limit=-6)}\ninput: {last()!r}"
    return None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _told(inputs: Counter[str], faults: dict[str, str], grown: Counter[str]) -> int:
    for name, count in inputs.items():
        grew = f", peak memory grew by {grown[name]} MiB" if grown[name] else ""
        _say(f"{name}: {count} inputs{grew}{', A LAW IS BROKEN' if name in faults else ''}")
    _say(f"{sum(inputs.values())} inputs, {len(faults)} targets with a broken law.")
    too_much = [name for name in inputs if grown[name] > _GROWTH_MAX_MIB]
    if too_much:
        _say(f"Memory is not bounded: {', '.join(too_much)}.")
    return 1 if faults or too_much else 0


if __name__ == "__main__":
    sys.exit(main())
