"""Opening a host with the toolstack that it has; nothing else decides this. Called by `reconcile` and by commands.

A toolstack is imported only when a host has it, so that the other one costs nothing at start-up. What only one of them
has (a hand that reaches in, a console to attach to) is asked for here as well; None says that this host has it not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from reconciler.fence import Fencing
from reconciler.model.fleet import Desired, HostSettings
from reconciler.records import dataclass
from reconciler.toolstack import Executor, Observer

if TYPE_CHECKING:
    from reconciler.simulated.hand import Hand
    from reconciler.texts.cfg_words import Words


@dataclass(frozen=True, slots=True)
class OpenHost:
    """A host that was opened: its observer, and a function that makes an executor over the same connection.

    `executor` takes the commit to record in files that are written there, the folder that relative kernels are in, and
    who says that the host is ours.
    """

    observer: Observer
    executor: Callable[[str | None, Path, Fencing], Executor]


def open_host(settings: HostSettings, fleet: str, state_dir: Path) -> OpenHost:
    """Make the observer of a host without asking anything of the host yet. Close the observer when done."""
    match settings.toolstack:
        case "simulated":
            from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver

            return OpenHost(
                SimulatedObserver(settings, fleet, state_dir),
                lambda commit, root, fencing: SimulatedExecutor(settings, fleet, commit, root, state_dir, fencing),
            )
        case "xl" | "xm":
            from reconciler.xl.dialect import XL, XM
            from reconciler.xl.execute import XlExecutor
            from reconciler.xl.observe import XlObserver

            dialect = XM if settings.toolstack == "xm" else XL
            observer = XlObserver(settings, fleet, state_dir, dialect=dialect)
            return OpenHost(
                observer,
                lambda commit, root, fencing: XlExecutor(
                    settings, fleet, commit, root, connection=observer.connection, dialect=dialect, fencing=fencing
                ),
            )
        case _:
            assert_never(settings.toolstack)


@asynccontextmanager
async def executing(
    desired: Desired, root: Path, state_dir: Path, host: str, fencing: Fencing
) -> AsyncIterator[Executor]:
    """Open a host for the block alone: for what is done besides plans. `root` is the folder of the specs."""
    opened = open_host(desired.hosts[host].settings, desired.fleet, state_dir)
    try:
        yield opened.executor(desired.commit, root, fencing)
    finally:
        await opened.observer.close()


def open_hand(settings: HostSettings, fleet: str, state_dir: Path) -> Hand | None:
    """Make what lets a person reach into a simulated host; None for a real one, where people have xl or xm."""
    match settings.toolstack:
        case "simulated":
            from reconciler.simulated.hand import Hand

            return Hand(settings=settings, fleet=fleet, state_dir=state_dir)
        case "xl" | "xm":
            return None
        case _:
            assert_never(settings.toolstack)


def lies_in_the_state_dir(settings: HostSettings) -> bool:
    """Return whether all of a host is in files of the state directory, so that who has read these has seen it."""
    return settings.toolstack == "simulated"


def words_of(settings: HostSettings) -> Words:
    """Return the words that the config files of a host have. A simulated host has those of xl."""
    from reconciler.texts.cfg_words import XL_WORDS, XM_WORDS

    return XM_WORDS if settings.toolstack == "xm" else XL_WORDS


def console_command(settings: HostSettings, name: str) -> list[str] | None:
    """Return the command that attaches to a console; None for a simulated host, which only tells what was said."""
    match settings.toolstack:
        case "simulated":
            return None
        case "xl" | "xm":
            from reconciler.xl.console import attach

            return attach(settings.toolstack, settings.connect, name)
        case _:
            assert_never(settings.toolstack)
