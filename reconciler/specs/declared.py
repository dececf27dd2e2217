"""Finds the file, line and column of the key that a difference is about. Called by `why`.

Reads the few files of one domain anew: a whole tree is read without positions, which cost more than all else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.expressions import expression
from reconciler.model.diagnostics import Source
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.vdev import devid_of
from reconciler.specs.files import Content, TreeRoot
from reconciler.specs.positions import Positions
from reconciler.specs.schema import LIFTED
from reconciler.specs.schema_errors import Loc
from reconciler.specs.toml import TomlError, parse_toml
from reconciler.specs.tree import TREE_FILE

_PROFILES_MAX = 100  # of a domain; a circle of profiles ends here
_ELEMENT = expression(r"(?P<key>disk|vif)\[(?P<which>[^]]+)\](?:\.(?P<part>.+))?")
_ELSE_SAID_BY = {
    **{key.name: (key.floor,) for key in DOMAIN_KEYS if key.floor is not None},
    "cmdline": ("root", "extra"),
}


class Declarations:
    """The tables that one domain is made of, its own file first: what an earlier one says counts."""

    def __init__(self, root: Path, file: str) -> None:
        self._root = TreeRoot(os.fspath(root))
        self._positions: dict[str, Positions] = {}
        self._tables = list(self._layers(file))

    def source_of(self, path: str) -> Source | None:
        """Find where the value at a path of a `FieldChange` (`memory`, `disk[xvda].size`) is set; None: nowhere."""
        key = path.partition("[")[0].partition(".")[0]
        if key in LIFTED and not any(key in table for _, table, _ in self._tables):
            return self.source_of(f"xl.{key}")
        for name in (key, *_ELSE_SAID_BY.get(key, ())):
            for file, table, prefix in self._tables:
                if name in table:
                    loc = _loc_within(table, name, path) if name == key else (name,)
                    return self._positions[file].source((*prefix, *loc))
        return None

    def _layers(self, file: str) -> Iterator[tuple[str, Mapping[str, Any], Loc]]:
        own = self._read(file)
        defaults = self._read(TREE_FILE).get("defaults")
        yield file, own, ()
        yield from self._profiles(own)
        if isinstance(defaults, dict):
            yield TREE_FILE, defaults, ("defaults",)
            yield from self._profiles(defaults)

    def _profiles(self, table: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], Loc]]:
        """List the profiles that a table builds on, the strongest first: the last named, then its own profiles."""
        layers: list[tuple[str, Mapping[str, Any], Loc]] = []
        pending = _profile_names(table)
        while pending and len(layers) < _PROFILES_MAX:
            file = f"profiles/{pending.pop()}.toml"
            profile = self._read(file)
            layers.append((file, profile, ()))
            pending += _profile_names(profile)
        return layers

    def _read(self, file: str) -> dict[str, Any]:
        """Read the tables of a file; {} when it is missing or broken, which `validate` tells."""
        content = self._root.read_spec(file, is_link=True)
        if not isinstance(content, Content):
            return {}
        self._positions[file] = Positions(f"{self._root.path.rstrip('/')}/{file}", content.text)
        try:
            return parse_toml(content.text)
        except TomlError:
            return {}


def _profile_names(table: Mapping[str, Any]) -> list[str]:
    named = table.get("profile", ())
    return [named] if isinstance(named, str) else [name for name in named if isinstance(name, str)]


def _loc_within(table: Mapping[str, Any], key: str, path: str) -> Loc:
    """Return the path of keys that says most exactly what `path` means, as far as the table has it."""
    if path.startswith("xl."):
        return _present(table, ("xl", path.removeprefix("xl.")))
    element = _ELEMENT.fullmatch(path)
    index = _index_of(table[key], key, element["which"]) if element else None
    if element is None or index is None:
        return (key,)
    return _present(table, (key, index, element["part"]) if element["part"] else (key, index))


def _present(table: Mapping[str, Any], loc: Loc) -> Loc:
    """Return as much of a path of keys as leads to something."""
    value: Any = table
    for depth, part in enumerate(loc):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return loc[:depth]
    return loc


def _index_of(elements: Any, key: str, which: str) -> int | None:
    """Return the place of a disk by its vdev, of a vif by its index; None when nobody can be sure."""
    if not isinstance(elements, list):
        return None
    if key == "disk":
        names = [element.get("vdev") if isinstance(element, dict) else None for element in elements]
        return next((at for at, name in enumerate(names) if isinstance(name, str) and _same_disk(name, which)), None)
    if any(isinstance(element, dict) and "mac" in element for element in elements):
        return None  # interfaces with a mac keep the number they had when others go
    return int(which) if which.isdigit() and int(which) < len(elements) else None


def _same_disk(one: str, other: str) -> bool:
    try:
        return devid_of(one) == devid_of(other)
    except ValueError:
        return False
