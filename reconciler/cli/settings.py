"""What is given before the subcommand; `cli` makes it, and every subcommand gets it as click's `ctx.obj`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    state_dir: Path  # history, sightings and simulated hosts
