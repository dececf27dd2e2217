"""Remembers the sha256 of files, so that a file which was not touched since the last pass is not read again.

Used by `observe`. Kept as JSON under the state directory, or in memory. When it is lost, files are read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.state_dir.files import replace_file


class DigestCache:
    """Maps file facts (a line of `stat`: path, size, inode, times) to the sha256, for one host."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._digests: dict[str, str] | None = None

    def known(self) -> Mapping[str, str]:
        if self._digests is None:
            self._digests = self._load()
        return self._digests

    def remember(self, digests: Mapping[str, str]) -> None:
        """Keep exactly these, so that the cache never holds more than the host does."""
        if digests == self._digests:
            return
        self._digests = dict(digests)
        if self._path is None:
            return
        with suppress(OSError):  # a full disk: files are read again by the next process, and nothing else comes of it
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, json.dumps(self._digests).encode(), durable=False)

    def _load(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text()) if self._path else {}
        except (OSError, ValueError):
            return {}  # not there yet, or damaged: every file is read anew
        return found if isinstance(found, dict) else {}
