"""What every room of the tests shares.

The profile `fixed` has hypothesis try the same examples each time, so that the same code gets the same answer. Without
it, and with `--hypothesis-seed`, it tries others.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
