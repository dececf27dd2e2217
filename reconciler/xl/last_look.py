"""Remembers which domains a host was seen not to hold, so that the next process need not wait for them.

Used by `observe`. Kept as JSON under the state directory. When it is lost, the next look takes some seconds longer.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from reconciler.state_dir.files import replace_file


def recall(path: Path | None, boot_id: str) -> frozenset[str]:
    """Return the names of the domains that were missing at the last look in this boot of the dom0."""
    try:
        found = json.loads(path.read_text()) if path is not None else {}
        return frozenset(map(str, found["missing"])) if boot_id and found["boot_id"] == boot_id else frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def remember(path: Path | None, boot_id: str, missing: Collection[str]) -> None:
    """Note what was missing just now."""
    if path is None or recall(path, boot_id) == frozenset(missing):
        return
    with suppress(OSError):  # a full disk costs the next look some seconds, and nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"boot_id": boot_id, "missing": sorted(missing)}
        replace_file(path, json.dumps(about).encode(errors="surrogateescape"), durable=False)
