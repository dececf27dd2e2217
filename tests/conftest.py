"""What every room of the tests shares.

With the profile `fixed` hypothesis tries the same examples each time, so that the same code gets the same answer. Else,
and with `--hypothesis-seed`, it tries others.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("other", deadline=None)  # how long an example takes says something of the machine only
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("other")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
