"""Opening a host with the toolstack that it has; nothing else decides this. Called by `reconcile` and by commands.

A toolstack is imported only when a host has it, so that the other one costs nothing at start-up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from reconciler.model.fleet import HostSettings
from reconciler.toolstack import Executor, Observer


@dataclass(frozen=True, slots=True)
class OpenHost:
    """A host that was opened: its observer, and a function that makes an executor over the same connection.

    `executor` takes the commit to record in files that are written there, and the folder that relative kernels are in.
    """

    observer: Observer
    executor: Callable[[str | None, Path], Executor]


def open_host(settings: HostSettings, fleet: str, state_dir: Path) -> OpenHost:
    """Make the observer of a host without asking anything of the host yet. Close the observer when done."""
    match settings.toolstack:
        case "simulated":
            from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver

            return OpenHost(
                SimulatedObserver(settings, fleet, state_dir),
                lambda commit, root: SimulatedExecutor(settings, fleet, commit, root, state_dir),
            )
        case "xl":
            from reconciler.xl.execute import XlExecutor
            from reconciler.xl.observe import XlObserver

            observer = XlObserver(settings, fleet, state_dir)
            return OpenHost(
                observer, lambda commit, root: XlExecutor(settings, fleet, commit, root, connection=observer.connection)
            )
        case _:
            assert_never(settings.toolstack)
