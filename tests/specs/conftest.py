"""A small tree to build on: one simulated host that allows disks in /srv and in the volume group vg0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.domain import Domain
from reconciler.specs import read_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "specs"
    (root / "alpha").mkdir(parents=True)
    (root / "alpha/host.toml").write_text('toolstack = "simulated"\ndisk_roots = ["/srv", "vg0"]\n')
    return root


@pytest.fixture
def domain(tree: Path) -> Callable[[str], Domain]:
    """The domain that a TOML text gives, as alpha/web; the tree must have no problem."""

    def resolve(toml: str, name: str = "web") -> Domain:
        (tree / f"alpha/{name}.toml").write_text(toml)
        reading = read_tree(tree)
        assert reading.diagnostics == ()
        return reading.desired.hosts["alpha"].domains[name]

    return resolve
