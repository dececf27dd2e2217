"""Passes over hosts that another controller has: what that one tells takes the place of a look, and nothing is done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.cluster.sharing import Told
from reconciler.fleet import Seen
from reconciler.inspect import observed
from reconciler.inspect.status import Condition
from reconciler.model.diagnostics import Diagnostic, Kind


def look_of(name: str, told: Told) -> Seen:
    """Return what is told of a host as a look at it."""
    if told.seen is None or told.problem:
        problem = Diagnostic(
            kind=Kind.WORLD,
            summary="its controller cannot observe the host",
            detail=f"{told.who}, which has {name}, cannot observe it: {told.problem}",
            address=name,
            transient=True,
        )
        return Seen(host=None, problems=(problem,), at=told.at, era=told.era, told_by=told.who)
    seen, by = told.seen.hosts[name], told.who
    return Seen(host=seen.host, asked=seen.question, at=told.at, key=told.seen.key, era=told.era, told_by=by)


def with_told(found: Mapping[str, observed.Seen], looks: Mapping[str, Seen]) -> dict[str, observed.Seen]:
    """Return hosts as they were observed here, and in the place of those that others have what these tell of them."""
    own = {name: seen for name, seen in found.items() if name not in looks or not looks[name].told_by}
    return own | {
        name: observed.Seen(
            host=look.host,
            question=look.asked,
            at=datetime.fromtimestamp(look.at, UTC),
            told_by=look.told_by,
            key=look.key,
        )
        for name, look in looks.items()
        if look.told_by and look.host is not None
    }


def as_told(judged: Mapping[str, tuple[Condition, str]], told: Told) -> dict[str, tuple[Condition, str]]:
    """Return the conditions of the domains of a host as its controller judges them, which knows what failed there."""
    words = {one.value: one for one in Condition}
    of_others = {
        address: (words[told.domains[address][0]], told.domains[address][1])
        for address in judged
        if address in told.domains and told.domains[address][0] in words
    }
    return {**judged, **of_others}
