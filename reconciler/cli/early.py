"""Ctrl-C before `main` heeds it, while modules are loaded: the program ends at once, without a traceback.

Nothing has been begun by then. `reconciler.cli` imports this before all that takes time, and calls `over` after it: who
only imports the package keeps what they had.
"""

from __future__ import annotations

import os
import signal

_INTERRUPTED = 130

_before = signal.getsignal(signal.SIGINT)
if _before is signal.default_int_handler:  # else we were started to ignore it, or this is no program of ours
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))


def over() -> None:
    """Give back what was there before, since modules are loaded."""
    signal.signal(signal.SIGINT, _before)
