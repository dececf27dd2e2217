"""Tells receivers outside what happens: `[[notify]]` of reconciler.toml. Called by `watch`.

A pass says what it found and did (`Facts`). What of that is news is decided on what was told before (`events`), and put
into the spool in one transaction with it (`spool`); a task a receiver sends it from there, in order (`delivery`).
"""

from reconciler.notify.delivery import Fared
from reconciler.notify.events import Facts
from reconciler.notify.notifications import Notifications

__all__ = ["Facts", "Fared", "Notifications"]
