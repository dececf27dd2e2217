"""Gives the loop its specs, pass by pass. This one reads a local folder; `git_source` follows a git branch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from reconciler.model.diagnostics import Diagnostic
from reconciler.records import dataclass
from reconciler.show.escape import plain
from reconciler.specs import TreeCache, TreeReading, read_tree
from reconciler.watch.triggers import Clock

_QUIET_SECONDS = 0.3  # without a change: then an editor, or a `git checkout`, is taken to have ended
_UNREST_SECONDS = 10.0  # what changes longer than that without a pause is read as it is
_POLL_SECONDS = 10.0  # between two looks whether the folder itself was replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Specs:
    """The specs in force. `problems` say why there are no newer ones: they were refused, or are out of reach."""

    reading: TreeReading
    root: Path
    signer: str | None = None
    problems: tuple[Diagnostic, ...] = ()


class Source(Protocol):
    name: str  # as the user gave it, and printable

    async def read(self, in_use: Collection[Path] = ()) -> Specs:
        """Return the specs as they are now. Raises ReconcilerError when there are none yet.

        `in_use` are roots of earlier specs that hosts still take files from.
        """

    async def watch(self, ask: Callable[[], None]) -> None:
        """Call `ask` whenever the specs may have changed, until cancelled.

        It is only a hint, since each pass reads the specs anyway.
        """

    def stop(self) -> None:
        """End any reading that is under way, and begin no other. Calling it again does no harm."""


class LocalSource:
    """Reads a folder, and watches it where the operating system can. `tell` takes a sentence for the log.

    The state directory may lie in the folder; what watch itself writes there counts as no change of the specs.
    """

    def __init__(self, root: Path, clock: Clock, tell: Callable[[str], None], state_dir: Path | None = None) -> None:
        self.name = plain(str(root))
        self._root = root
        self._clock = clock
        self._tell = tell
        self._state_dir = state_dir
        self._cache = TreeCache()
        self._last_found: str | None = None  # by the reading before, after it had stopped changing

    async def read(self, in_use: Collection[Path] = ()) -> Specs:
        """Read the specs. New ones are read again after a moment, until two readings are the same (for at most 10 s).

        In the midst of a checkout some files are missing, and a missing file would be a domain to destroy.
        """
        reading = await self._read()
        waited_seconds = 0.0
        while _state(reading) != self._last_found and waited_seconds < _UNREST_SECONDS:
            await self._clock.wait(asyncio.Event(), _QUIET_SECONDS)
            waited_seconds += _QUIET_SECONDS
            before, reading = reading, await self._read()
            if _state(before) == _state(reading):
                break
        self._last_found = _state(reading)
        return Specs(reading=reading, root=self._root)

    async def _read(self) -> TreeReading:
        return await asyncio.to_thread(read_tree, self._root, self._cache, needs_fleet=True)

    async def watch(self, ask: Callable[[], None]) -> None:
        """Call `ask` once at the end of each burst of changes, and when the folder is replaced by another."""
        try:
            import watchfiles  # noqa: F401  # asked for here, so that its absence is told once
        except ImportError:  # no wheel for this platform
            self._tell("this platform has no watchfiles, so changes of the specs are seen at the interval only")
            return
        told = False
        while True:
            folder = _identity(self._root)
            try:
                await self._watch_folder(folder, ask)
            except ExceptionGroup:  # raised amid the watching: for a change of a file whose name is no UTF-8
                ask()
                await asyncio.sleep(_QUIET_SECONDS)
                continue
            except (OSError, RuntimeError) as error:  # the folder is gone; no inotify watches are left
                if folder is not None and not told:
                    self._tell(f"the specs cannot be watched, so changes are seen at the interval only: {error}")
                    told = True
            await asyncio.sleep(_POLL_SECONDS)
            if _identity(self._root) != folder:
                ask()

    async def _watch_folder(self, folder: tuple[int, int] | None, ask: Callable[[], None]) -> None:
        """Watch the folder until another one takes its place."""
        import watchfiles

        root, ours = self._root.absolute(), self._ours()
        async for changes in watchfiles.awatch(
            root,
            watch_filter=lambda _, path: _matters(path, root, ours),
            step=int(_QUIET_SECONDS * 1000),
            debounce=int(_UNREST_SECONDS * 1000),
            rust_timeout=int(_POLL_SECONDS * 1000),
            yield_on_timeout=True,
        ):
            if changes:
                ask()
            if _identity(self._root) != folder:
                return

    def stop(self) -> None:
        pass  # reading a folder takes no time

    def _ours(self) -> tuple[str, ...]:
        """Return the path of the state directory within the folder, in parts; () when it lies elsewhere."""
        root, state_dir = self._root.resolve(), (self._state_dir or Path("/")).resolve()
        return state_dir.relative_to(root).parts if state_dir.is_relative_to(root) else ()


def _state(reading: TreeReading) -> str:
    """Return what two readings have in common only if nothing changed: the digest of the files, and the problems."""
    return f"{reading.desired.tree_digest} {[problem.detail for problem in reading.diagnostics]}"


def _matters(path: str, root: Path, ours: tuple[str, ...]) -> bool:
    """Return whether a path can be a spec, rather than an editor's temporary file or a part of .git."""
    inside = Path(os.path.relpath(path, root)).parts
    if ours and inside[: len(ours)] == ours:
        return False
    return inside[:1] == ("..",) or not any(part.startswith(".") or part.endswith("~") for part in inside)


def _identity(root: Path) -> tuple[int, int] | None:
    """Return the device and inode of the folder, links followed; None when there is none."""
    try:
        found = root.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_same(before: Specs, after: Specs) -> bool:
    """Return whether a reading brought nothing new, down to each byte that was read."""

    def read(specs: Specs) -> tuple[object, ...]:
        of_all = replace(specs.reading.desired, hosts={})  # the digest of the tree stands for what it says of hosts
        return of_all, specs.reading.diagnostics, specs.root, specs.signer

    return bool(after.reading.desired.tree_digest) and read(before) == read(after)
