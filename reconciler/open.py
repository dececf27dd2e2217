"""Which toolstack a host has: the one place that decides. Called by `reconcile` and by commands that use one host.

The toolstacks are imported here and only when a host has them: the other one costs nothing to start.
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
    """A host that was opened: its reading side, and what opens its changing side over the same connection.

    `executor` takes the commit that is recorded in what is written there, and the folder that relative kernels are in.
    """

    observer: Observer
    executor: Callable[[str | None, Path], Executor]


def open_host(settings: HostSettings, fleet: str, state_dir: Path) -> OpenHost:
    """Nothing is asked of the host yet; close the observer when done."""
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
