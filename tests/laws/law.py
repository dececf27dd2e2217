"""How hard a law is tried: so many examples, times RECONCILER_LAW_EFFORT (see `make test-laws`)."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import settings

EFFORT: Final = int(os.environ.get("RECONCILER_LAW_EFFORT", "1"))


def law(examples: int) -> settings:
    return settings(max_examples=examples * EFFORT, deadline=None)
