"""The fixture `lab` of the real-Xen tests. Nothing here runs unless pytest is asked for them: `-m xen`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xen.lab import Lab, booted


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless a `-m` expression names them: a plain `pytest` must not boot a machine."""
    return True if "xen" not in config.option.markexpr else None


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with booted() as lab:
        yield lab
