"""Says how often to try again what may work a moment later, and how long to wait before.

`commands` and `events` import this only when they are about to try: behind these policies is stamina, which takes time
to load.
"""

from __future__ import annotations

from typing import Final

from stamina import AsyncRetryingCaller
from stamina.instrumentation import set_on_retry_hooks

set_on_retry_hooks(())  # those that it has would write to stdout, which belongs to data

CRASHED_COMMAND: Final = AsyncRetryingCaller(attempts=3, timeout=None, wait_initial=1.0, wait_max=1.0, wait_jitter=0.0)
LOST_CONNECTION: Final = AsyncRetryingCaller(
    attempts=None, timeout=None, wait_initial=5.0, wait_max=300.0, wait_jitter=1.0
)
