"""What every room of the tests shares.

With the profile `fixed` hypothesis tries the same examples each time, so that the same code gets the same answer. Else,
and with `--hypothesis-seed`, it tries others.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No test cuts the power for real: tests/state_dir/disk.py looks at what is to reach the disk, and when. A busy disk
# takes many milliseconds each time, and there are tens of thousands.
setattr(os, "fsync", lambda opened: None)  # noqa: B010

settings.register_profile("other", deadline=None)  # how long an example takes says something of the machine only
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("other")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
