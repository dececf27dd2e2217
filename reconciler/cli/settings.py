"""Options that stand before the subcommand. `program` fills them in; each subcommand gets them as click's `ctx.obj`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    state_dir: Path  # history, sightings and simulated hosts
