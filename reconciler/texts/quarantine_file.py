"""Keeps the failed boots of a domain as a file on its host (`<kernel_dir>/<domain>/quarantine.json`). Pure.

Written by `config_files`, read by `guests`. It lies on the host, so that no controller tries them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from reconciler.model.host import Quarantined


def render_quarantine(entries: Iterable[Quarantined]) -> str:
    return json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"


def parse_quarantine(text: str) -> tuple[Quarantined, ...]:
    """Read the entries of a file. A damaged file gives none, so at worst a failed boot is tried once more."""
    try:
        found = json.loads(text)
        return tuple(Quarantined(**entry) for entry in found if isinstance(entry.get("boot"), str))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()
