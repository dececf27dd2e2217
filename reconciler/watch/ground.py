"""What passes over one host, or over all hosts at once, keep from one to the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import field

from reconciler.apply.result import Progress
from reconciler.cluster.keys import Reserved
from reconciler.model.fleet import Desired
from reconciler.reconcile import Reconciler
from reconciler.records import dataclass
from reconciler.waiting import Stop, never
from reconciler.watch.backoff import Backoff
from reconciler.watch.news import Outcome
from reconciler.watch.source import Specs


@dataclass(slots=True, kw_only=True)
class Ground:
    reconciler: Reconciler
    specs: Specs  # that the pass under way goes by
    desired: Desired
    backoff: Backoff
    name: str | None = None  # of the one host; None: all hosts
    asked: str = ""  # what the specs say of it, in short
    unpause: frozenset[str] = frozenset()
    places: Mapping[str, Reserved] = field(default_factory=dict)  # that were reserved before the last look began
    at_rest: Outcome | None = None  # of the last pass, where the same look leads to the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Attending:
    """What the loop tells a pass, and is told by it.

    `known` are the addresses that earlier passes judged: each gets a new condition, also when it is not seen now.
    `stop` gives a reason when no more steps are to begin. Once `ending` gives one, a host that has not answered for
    some seconds is not waited for any more. `work_begins` is called with what was found before anything is done.
    """

    progress: Progress
    known: Collection[str] = ()
    stop: Stop = never
    ending: Stop = never
    work_begins: Callable[[Outcome], Awaitable[None]] | None = None


class GoneError(Exception):
    """Ends a pass over a host that the specs no longer describe."""
