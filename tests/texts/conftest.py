"""Fixtures of the tests of texts: the real xl as a judge, and a corpus of config files found in the wild."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.texts.oracle.real_xl import RealXl, Unavailable, real_xl


@pytest.fixture(scope="session")
def xl() -> RealXl:
    try:
        return real_xl()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Config files of other projects, not part of this repository; the environment says where they are."""
    folder = os.environ.get("RECONCILER_CORPUS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECONCILER_CORPUS names no folder of config files")
    return Path(folder)
