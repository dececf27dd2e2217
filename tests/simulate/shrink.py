"""Makes a script that breaks a law as short as it goes on breaking it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tests.simulate.script import Event, incidents, with_incidents

Script = list[Event]


def shrink(script: Script, breaks: Callable[[Script], bool], seconds: float) -> Script:
    """Leave out whatever is not needed, line by line and then key by key, until nothing more goes or time is over."""
    deadline, best = time.monotonic() + seconds, script
    shorter = True
    while shorter:
        shorter = False
        for attempt in (*_in_lumps(best), *_simpler(best)):
            if time.monotonic() > deadline:
                return best
            if breaks(attempt):
                best, shorter = attempt, True
                break
    return best


def _in_lumps(script: Script) -> Iterator[Script]:
    """Yield the script without some lines in a row, large lumps first."""
    size = len(script) // 2
    while size:
        for start in range(len(script) - size, -1, -max(1, size // 2)):
            yield script[:start] + script[start + size :]
        size //= 2


def _simpler(script: Script) -> Iterator[Script]:
    for number, event in enumerate(script):
        happens = incidents(event)
        for one in happens if len(happens) > 1 else ():
            yield [*script[:number], with_incidents(event, [h for h in happens if h != one]), *script[number + 1 :]]
        for key in event.keys:
            if (event.verb, key) != ("hand", "do"):
                yield [*script[:number], event.without(key), *script[number + 1 :]]
