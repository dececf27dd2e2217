"""A disk that tells what it was asked to keep, and when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Disk:
    """What reaches the disk, in its order: "sync NAME" and "rename to NAME"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        sync, rename = os.fsync, Path.replace

        def fsync(opened: int) -> None:
            self.log.append(f"sync {Path(f'/proc/self/fd/{opened}').readlink().name}")
            sync(opened)

        def replace(path: Path, target: Path) -> Path:
            self.log.append(f"rename {path.name} to {target.name}")
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)

    def kept(self, path: Path) -> bool:
        """Whether what was written under this name was on the disk before it had the name, and the name after that."""
        renames = [entry for entry in self.log if entry.endswith(f" to {path.name}")]
        if not renames:
            return False
        last = self.log.index(renames[-1])
        draft = renames[-1].split()[1]
        return f"sync {draft}" in self.log[:last] and f"sync {path.parent.name}" in self.log[last:]
