"""`python -m bench.floor SPECS STATE`: the least that anybody has to do who plans for a tree and its simulated hosts.

It reads the files, parses them with toml-rs, passes them through pydantic once, and reads what is observed, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import toml_rs
from pydantic import BaseModel


class Disk(BaseModel):
    vdev: str
    path: str
    size: str


class Vif(BaseModel):
    bridge: str
    mac: str


class Domain(BaseModel):
    """A domain as the files of `bench.fleet` have it, without any rule of ours."""

    kernel: str
    memory: int
    vcpus: int
    disk: list[Disk]
    vif: list[Vif]


def main(specs: Path, state_dir: Path) -> tuple[list[Domain], list[Any]]:
    files = [path for path in specs.glob("*/*.toml") if path.name != "host.toml"]
    domains = [Domain.model_validate(toml_rs.loads(path.read_text())) for path in files]
    observed = [json.loads(line) for path in state_dir.glob("hosts/*/journal.*.jsonl") for line in path.open("rb")]
    return domains, observed


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
