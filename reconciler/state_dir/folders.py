"""The folder of each fleet in the user's state directory, so that one tree's hosts never show in another.

A folder that is named with `--state-dir` or $RECONCILER_STATE_DIR is taken as it is. Called by the command line's
settings. Clones of `watch --git` lie beside the folders, since a fleet's name is known only from what they hold.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path

from reconciler.expressions import expression
from reconciler.specs.value_types import is_name
from reconciler.state_dir.files import make_folder, replace_file

_NO_NAME = "~"  # which no name has
# What versions up to 0.1 left in the user's state directory, where all trees shared it.
_LEFT = (
    "brake.json",
    "errors.log",
    "forgotten.json",
    "history.sqlite",
    "history.sqlite-shm",
    "history.sqlite-wal",
    "observed.key",
    "paused.json",
    "plans-used",
    "watch.json",
)
_TAKEN = frozenset((*_LEFT, "git", "hosts", "sightings.json"))
_FLEET = expression(r"""^\s*fleet\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def folder_of(root: Path, tree: Path, source: str | None = None) -> Path:
    """Return the folder of the fleet that a tree describes; where it names none, that of the tree's path or URL.

    What an earlier version left in `root` is taken over: the first tree that comes gets what belongs to no host, and
    each tree what was kept of its hosts.
    """
    place = source or str(tree.resolve())
    nameless = root / f"{_NO_NAME}{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:12]}"
    fleet = fleet_named(tree)
    folder = nameless if fleet is None else root / (f"{fleet}{_NO_NAME}" if fleet in _TAKEN else fleet)
    with suppress(OSError):  # what cannot be moved stays where it is, for the next time
        if nameless.exists() and not folder.exists():
            nameless.rename(folder)  # the tree has a name by now
        _take_over(root, folder, frozenset(file.parent.name for file in tree.glob("*/host.toml")))
    return folder


def fleet_named(tree: Path) -> str | None:
    """Return the name that a tree gives its fleet; None for none. A file that is not TOML just now is read by its line.

    >>> fleet_named(Path("/nowhere")) is None
    True
    """
    try:
        text = (tree / "reconciler.toml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    try:
        named = tomllib.loads(text).get("fleet")
    except (tomllib.TOMLDecodeError, RecursionError):
        found = _FLEET.search(text)
        named = found[1] if found else None
    return named if isinstance(named, str) and is_name(named) else None


def _take_over(root: Path, folder: Path, hosts: frozenset[str]) -> None:
    moves = [(root / name, folder / name) for name in _LEFT] if not folder.exists() else []
    moves += [(root / "hosts" / host, folder / "hosts" / host) for host in sorted(hosts)]
    for old, new in moves:
        if old.exists() and not new.exists():
            make_folder(new.parent)
            with suppress(FileNotFoundError):  # another process was faster
                old.rename(new)
    _take_sightings(root / "sightings.json", folder / "sightings.json", hosts)


def _take_sightings(old: Path, new: Path, hosts: frozenset[str]) -> None:
    if new.exists() or new.with_suffix("").exists() or not old.exists():
        return
    try:
        known = dict(json.loads(old.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return
    for file, kept in ((new, hosts & known.keys()), (old, known.keys() - hosts)):
        make_folder(file.parent)
        replace_file(file, json.dumps({host: known[host] for host in sorted(kept)}).encode(), durable=True)
