"""Remembers the last plan of a fleet of simulated hosts that had nothing to do, as it was told.

It is told again where all that it was made of is as it was, byte for byte: the program, the files of the tree, the
hosts and what else lies in the state directory. So a plan that finds nothing to do costs no more than to read all that.
There is one such answer, in one file, that may be lost at any time. Called by `plan`, which says what is worth it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from reconciler.expressions import expression
from reconciler.specs.files import TreeRoot
from reconciler.specs.tree import RESERVED_FOLDERS
from reconciler.state_dir.files import replace_file

_FILE = "quiet-plan.json"
_PROGRAM = Path(__file__).parent.parent
_NOT_READ = ("git", "consoles", "plans-used")  # what watch has fetched, and what is kept for people; not hosts/git
_BLOBS = expression(r"hosts/[^/]+/blobs")
_MAX_BYTES = 64 * 1024 * 1024  # of a file that is read for it


class _NotPlainError(Exception):
    """Reports a link, a pipe or a file too large: with one of these in it, nothing is remembered of a folder."""


def state_of(state_dir: Path) -> str | None:
    """Return the digest of all that a plan may read there, before hosts are looked at; None: it has none."""
    digest = hashlib.sha256()
    try:
        _note(state_dir, "", digest)
    except (OSError, _NotPlainError):
        return None
    return digest.hexdigest()


def _note(state_dir: Path, prefix: str, digest: hashlib._Hash) -> None:
    """Add what lies in a folder of the state directory, whose path there is `prefix`."""
    folder = f"{state_dir}/{prefix}"
    for name, content in _contents(folder, lambda name: name != _FILE):
        digest.update(f"{folder}{name} {len(content)}\n".encode(errors="surrogateescape"))
        digest.update(content)
    for name in _folders(folder):
        path = f"{prefix}{name}"
        if _BLOBS.fullmatch(path):  # their names are their digests and stand in the journal: whether one came or went
            digest.update(f"{os.stat(f'{folder}{name}').st_mtime_ns}\n".encode())  # noqa: PTH116 -- will do
        elif path not in _NOT_READ:
            _note(state_dir, f"{path}/", digest)


def is_there(state_dir: Path) -> bool:
    """Return whether anything is remembered."""
    return (state_dir / _FILE).exists()


def recall(state_dir: Path, specs: Path, state: str | None, asked: object) -> str | None:
    """Return what was told when all was as it is now, and the same was asked; None where it has to be found out."""
    try:
        with (state_dir / _FILE).open("rb") as file:
            kept: Any = json.loads(file.read())
        images, text = kept["images"], kept["text"]
        tree = TreeRoot(str(specs))
        digests = {**_specs(specs), **{path: tree.digest(path).sha256 for path in images}}
    except (OSError, ValueError, TypeError, KeyError, RecursionError, _NotPlainError):
        return None
    return str(text) if state is not None and kept["key"] == _key(state, specs, digests, asked) else None


def remember(
    state_dir: Path, specs: Path, state: str | None, asked: object, digests: Mapping[str, str], text: str
) -> None:
    """Remember what was told. `digests` are those of the files of the tree that it was made of, by path."""
    images = [path for path in digests if not path.endswith(".toml")]
    if state is None or not state_dir.is_dir():
        return
    kept = {"key": _key(state, specs, digests, asked), "images": images, "text": text}
    with suppress(OSError):
        replace_file(state_dir / _FILE, json.dumps(kept).encode(), durable=False)


def _key(state: str, specs: Path, digests: Mapping[str, str | None], asked: object) -> str:
    said = [_program(), state, str(specs.resolve()), sorted(digests.items()), repr(asked)]
    return hashlib.sha256(json.dumps(said).encode(errors="surrogateescape")).hexdigest()


@cache
def _program() -> list[object]:
    """Tell this program from any other version of it, an edited one too, by its files."""
    found: list[object] = [sys.version]
    for folder, _, names in sorted(os.walk(_PROGRAM)):
        for name in sorted(names):
            if name.endswith((".py", ".sh")):
                stat = os.stat(f"{folder}/{name}")  # noqa: PTH116 -- there are hundreds
                found.append([f"{folder}/{name}", stat.st_size, stat.st_mtime_ns])
    return found


def _specs(root: Path) -> dict[str, str]:
    """Return the digest of every TOML file of a tree that a reading of it opens; nothing else may say anything."""
    digests = _toml_files(f"{root}", "")
    for name in _folders(f"{root}"):
        if name.endswith(".toml"):
            raise _NotPlainError
        if name == "profiles" or name not in RESERVED_FOLDERS:
            _refuse_strays(f"{root}/{name}", is_deep=False)
            digests |= _toml_files(f"{root}/{name}", f"{name}/")
    return digests


def _refuse_strays(folder: str, *, is_deep: bool) -> None:
    """Raise where reading a tree has something to say that is not in a TOML file directly in the folder of a host."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in found:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.is_symlink() or (entry.name.endswith(".toml") and (is_deep or is_folder)):
            raise _NotPlainError
        if is_folder:
            _refuse_strays(entry.path, is_deep=True)


def _toml_files(folder: str, prefix: str) -> dict[str, str]:
    contents = _contents(folder, lambda name: name.endswith(".toml") and not name.startswith("."))
    return {prefix + name: hashlib.sha256(content).hexdigest() for name, content in contents}


def _folders(folder: str) -> list[str]:
    """List the folders in a folder, less hidden ones."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_symlink()) for entry in entries if entry.is_dir() and entry.name[0] != "."]
    except FileNotFoundError:
        return []
    if any(is_link for _, is_link in found):
        raise _NotPlainError
    return sorted(name for name, _ in found)


def _contents(folder: str, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder, by name, with their bytes."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if is_wanted(entry.name)), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            continue
        if not entry.is_file(follow_symlinks=False):
            raise _NotPlainError
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 -- there are thousands
            content = file.read(_MAX_BYTES)
        if len(content) == _MAX_BYTES:
            raise _NotPlainError
        yield entry.name, content
