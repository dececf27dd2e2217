"""`python -m bench.settled SPECS STATE` brings simulated hosts to where their first plan leads.

Each host gets there in one change, since one a step is slow.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from unittest.mock import patch

from reconciler.decide.changes import Consent
from reconciler.plan.steps import (
    AwaitReady,
    CreateDisk,
    PlannedStep,
    PromoteConfig,
    SetAutostart,
    StageImage,
    Start,
    WriteConfig,
)
from reconciler.reconcile import Reconciler, Selection
from reconciler.simulated.domains import start_instance
from reconciler.simulated.draft import changing
from reconciler.simulated.files import change_files
from reconciler.simulated.store import Store
from reconciler.specs import read_tree

_BOOTED_SECONDS = 100.0


async def settle(root: Path, state_dir: Path) -> None:
    """Bring about all that a tree asks for on its simulated hosts, where there is nothing yet."""
    reading = read_tree(root)
    plan = await Reconciler(reading, root, state_dir).make_plan(Selection(), Consent())
    steps: dict[str, list[PlannedStep]] = {name: [] for name in reading.desired.hosts}
    for planned in plan.steps:
        steps[planned.host].append(planned)
    with patch.object(os, "fsync"):  # it lasts no longer than the measurement
        for name, part in reading.desired.hosts.items():
            store = Store(state_dir, name)
            with changing(part.settings, reading.desired.fleet, store) as draft:
                for planned in steps[name]:
                    match planned.step:
                        case StageImage() | CreateDisk() | WriteConfig() | PromoteConfig() | SetAutostart():
                            change_files(draft, planned.step, commit=None, spec_root=root)
                        case Start(definition=definition):
                            start_instance(draft, definition)
                        case _:
                            assert isinstance(planned.step, AwaitReady), planned.step
            store.write_clock(_BOOTED_SECONDS)


if __name__ == "__main__":
    asyncio.run(settle(Path(sys.argv[1]), Path(sys.argv[2])))
