"""Holds what a check is given, and what it answers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from typing import TypeVar

from reconciler.doctor.facts import Facts
from reconciler.model.domain import Domain
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Host
from reconciler.records import dataclass

T = TypeVar("T")


class NotKnownError(Exception):
    """Says that a check cannot be made. The message ends the sentence "It is not known whether …, since "."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One host: what the specs ask of it, how it was seen, and what its dom0 tells of itself."""

    settings: HostSettings
    domains: Mapping[str, Domain]
    facts: Facts
    host: Host | None  # None: it could not be observed

    @property
    def seen(self) -> Host:
        """Return the host. Raises NotKnownError when it could not be observed."""
        return known(self.host, "the domains of the host could not be observed")


def known(fact: T | None, why_not: str) -> T:
    """Return a fact. Raises NotKnownError where there is none."""
    if fact is None:
        raise NotKnownError(why_not)
    return fact


@dataclass(frozen=True, slots=True)
class Defect:
    """What a check found: a sentence, which of the hints of its row mends it, and what stands in that hint."""

    what: str
    mend: str
    values: Mapping[str, str] = field(default_factory=dict)
    domain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the table of checks. `hints` are by system, or by what is the matter; `{…}` is filled in, quoted."""

    id: str
    looks_at: str  # "whether …"
    breaks: str
    hints: Mapping[str, str]
    not_of: tuple[str, ...] = ()  # tools with which there is nothing to look at
    judge: Callable[[Case], Iterator[Defect]]

    def hint(self, defect: Defect) -> str:
        r"""Return the hint for a defect. Names that hosts and people chose cannot become commands in it.

        >>> check = Check(id="x", looks_at="", breaks="", hints={"linux": "rm {path}"}, judge=lambda case: iter(()))
        >>> check.hint(Defect("", "linux", {"path": "/etc/xen/auto/$(reboot)"}))
        "rm '/etc/xen/auto/$(reboot)'"
        """
        return self.hints[defect.mend].format_map({key: shlex.quote(value) for key, value in defect.values.items()})


class State(StrEnum):
    """What a check came to."""

    FOUND = "found"
    UNKNOWN = "unknown"
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that hurts, or that nobody can tell (then `what` says why)."""

    host: str
    check: str
    state: State
    what: str
    breaks: str
    hint: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that was found on one host, and the checks that found nothing."""

    host: str
    observed: bool
    findings: tuple[Finding, ...]
    ok: tuple[str, ...] = ()
