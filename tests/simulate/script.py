"""A script: what happens to a fleet, one event a line, as a person reads and writes it. Text in, values out.

    host alpha memory=4096
    kernel 1 boot=panic
    spec alpha/web kernel=1 memory=256
    apply at=alpha@12=lost-reply die=40

A line is a verb, whom it is about, and keys. What comes after `#` is for people.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Event:
    """One line of a script."""

    verb: str
    about: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        about = [self.about] if self.about else []
        return shlex.join([self.verb, *about, *(f"{key}={value}" for key, value in self.keys.items())])

    def without(self, key: str) -> Event:
        return replace(self, keys={one: value for one, value in self.keys.items() if one != key})

    def with_(self, **keys: str) -> Event:
        return replace(self, keys=self.keys | keys)


@dataclass(frozen=True)
class Incident:
    """What happens at the `number`th command that a run gives a host: a fault of that command, or a hand's deed."""

    host: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.host}@{self.number}={self.what}"


def incidents(event: Event) -> list[Incident]:
    """Read the incidents of a run: `at=alpha@12=lost,beta@3=destroy/web`.

    >>> incidents(Event("apply", keys={"at": "alpha@12=after,alpha@14=destroy/web"}))[1].what
    'destroy/web'
    """
    found = []
    for text in filter(None, event.keys.get("at", "").split(",")):
        place, _, what = text.partition("=")
        host, _, number = place.partition("@")
        found.append(Incident(host, int(number), what))
    return found


def with_incidents(event: Event, those: Iterable[Incident]) -> Event:
    told = ",".join(map(str, those))
    return event.with_(at=told) if told else event.without("at")


def read_script(text: str) -> list[Event]:
    """Read a script.

    >>> str(read_script("spec alpha/web memory=256  # small")[0])
    'spec alpha/web memory=256'
    """
    events = []
    for line in text.splitlines():
        verb, *words = shlex.split(line, comments=True) or [""]
        if verb:
            about = [word for word in words if "=" not in word]
            pairs = [word.partition("=") for word in words if "=" in word]
            events.append(Event(verb, " ".join(about), {key: value for key, _, value in pairs}))
    return events


def written(events: Iterable[Event]) -> str:
    return "".join(f"{event}\n" for event in events)
