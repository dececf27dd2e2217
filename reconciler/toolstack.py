"""The two faces of a host: an observer can only look, an executor can act. `plan` is handed only the first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from reconciler.doctor.facts import Examination
from reconciler.model.fleet import DesiredHost
from reconciler.model.host import Hold, Host, LockHolder, Look
from reconciler.model.rehearsal import Rehearsal
from reconciler.plan.steps import HostStep
from reconciler.records import dataclass
from reconciler.specs.secret_files import secret_files

__all__ = ["Executor", "Look", "Observer", "Question", "RehearsalLook", "question_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Says what to look at besides what every pass reads.

    `files` are disk targets, disk sources and files of secrets, `sources` those of them that are only read, and
    `images` are kernels and ramdisks (absolute paths, too).
    """

    files: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    rehearsed: tuple[str, ...] = ()  # the domains of which it is to be told how their disks can be snapshot
    sources: tuple[str, ...] = ()  # a simulated host has every source that nobody made, but no such disk
    secrets: tuple[tuple[str, str, str], ...] = ()  # domain, key and file of each password


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalLook:
    """A throwaway as seen just now, and why its host is the reason if it does not get ready."""

    look: Look
    trouble: str | None = None  # the end of a sentence: a snapshot that is full, too little room that is left


class Observer(Protocol):
    """Reads a host. Raises ReconcilerError (world) when the host cannot be observed."""

    name: str

    async def observe(self, question: Question) -> Host: ...

    async def examine(self, question: Question) -> Examination:
        """Observe the host, and tell what its dom0 says of itself, in one look. Raises like `observe` where nothing
        answers; a host that answers and cannot be observed is told in the examination."""

    async def events(self, heard: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Call `heard` whenever a domain crashed or went away, until cancelled. Only a hint: each pass looks anyway.

        Returns where a host cannot tell; `tell` takes a sentence about that for the log.
        """

    async def close(self) -> None: ...


class Executor(Protocol):
    """Changes a host. Every method raises ReconcilerError when the effect is not confirmed by looking."""

    async def execute(self, step: HostStep, report: Callable[[str], None], *, unless_held: bool = False) -> None:
        """Carry out one step. (AwaitReady is no such step: `apply.ready` does it for all hosts, through `look`.)

        With `unless_held`, nothing is done and the error says `moved` where its domain or all of the host is held.
        """

    async def hold(self, domain: str, *, seconds: float | None, by: str, reason: str) -> Hold:
        """Keep on the host that nothing is to be begun with a domain (WHOLE_HOST: with any), and return the hold.

        No lock is needed. It ends by itself after `seconds` by the host's clock; None: not before `unhold`.
        """

    async def unhold(self, domain: str) -> bool:
        """Lift the hold of a domain, or that of the whole host. Return whether there was one."""

    async def look(self, domain: str) -> Look: ...

    async def begin_rehearsal(
        self, rehearsal: Rehearsal, report: Callable[[str], None], *, unless_held: bool = False
    ) -> float:
        """Make the snapshots and the throwaway of a rehearsal, and return how long its domain was paused for that.

        What will be made is noted on the host before, so that `clear_leftovers` of any later run takes it down.
        """

    async def look_at_rehearsal(self, rehearsal: Rehearsal) -> RehearsalLook: ...

    async def end_rehearsal(self, rehearsal: Rehearsal) -> None:
        """Take down all that was made for a rehearsal, in whatever state it is, and see that it is gone."""

    async def clear_leftovers(self) -> None:
        """Take down what any earlier run left of rehearsals. It needs the lock, so none of these is under way."""

    async def probe_tcp(self, address: str) -> bool:
        """Return whether "address:port" accepts a connection, tried from the dom0."""

    async def sleep(self, seconds: float) -> None:
        """Wait by the host's own clock. On a simulated host that takes no real time."""

    def now(self) -> float:
        """Return the seconds on the host's clock, from any origin."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Hold the host's lock, so that one apply works on it. Raises ReconcilerError (refused) when it is held."""

    async def unlock(self) -> LockHolder | None:
        """End the lock of a holder that says nothing any more, and return who that was; None where nobody had it.

        Raises ReconcilerError (refused) while its holder speaks.
        """


class Questions:
    """Remembers what to ask each host for as long as its specs stay, since finding out goes through all domains."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[DesiredHost, Question]] = {}

    def about(self, part: DesiredHost) -> Question:
        """Return what to ask this host; see `question_for`."""
        known = self._known.get(part.settings.name)
        if known is None or known[0] is not part:
            self._known[part.settings.name] = known = part, question_for(part)
        return known[1]


def question_for(part: DesiredHost) -> Question:
    """Return what to ask a host besides what every look tells: the disks and images that its specs name."""
    disks = [disk for domain in part.domains.values() for disk in domain.disks]
    targets = {disk.target for disk in disks if disk.is_on_host and not disk.cdrom}
    targets |= {disk.identity for disk in disks if disk.identity.startswith("/") and not disk.cdrom}  # of a script, too
    sources = {path for disk in disks if (path := disk.target if disk.cdrom else disk.source)}
    secrets = sorted((domain.name, *secret) for domain in part.domains.values() for secret in secret_files(domain))
    sources |= {path for _, _, path in secrets}
    images = {image.source for domain in part.domains.values() for image in domain.images}
    return Question(
        files=tuple(sorted(targets | sources)),
        images=tuple(sorted(source for source in images if source.startswith("/"))),
        sources=tuple(sorted(sources - targets)),
        rehearsed=tuple(sorted(one.name for one in part.domains.values() if one.policy.rehearse != "off")),
        secrets=tuple(secrets),
    )
