"""Layers of a domain: `[defaults]`, then profiles (which may build on profiles), then its own file; later ones win.

Merging works on plain TOML tables, so that what a file leaves out is told from what it sets to the default. For a
message, a key of the merged table is traced back to the file it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.records import dataclass
from reconciler.specs.resolve.inputs import Findings, SpecFile, SpecTree, Table
from reconciler.specs.schema import LIFTED, DomainSpec
from reconciler.specs.schema_errors import Complaint, Loc, near_miss, validate

PROFILE_DEPTH_MAX = 20


@dataclass(frozen=True, slots=True)
class Layer:
    """One table of domain keys: a whole file, or the part of a file below `prefix`."""

    file: str
    data: Table
    prefix: Loc = ()


def merge(layers: tuple[Layer, ...]) -> dict[str, Any]:
    """Merge the tables of all layers, lowest first: tables merge key by key, everything else replaces."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.data.items():
            below = merged.get(key)
            merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def origin(layers: tuple[Layer, ...], loc: Loc) -> tuple[str, Loc]:
    """Find the file, and the path in it, that gave the value at `loc`. A missing value is the top file's to give."""
    for layer in reversed(layers):
        if loc and loc[0] in layer.data:
            value = layer.data[str(loc[0])]
            in_other_layer = isinstance(value, Mapping) and len(loc) > 1 and loc[1] not in value
            if not in_other_layer:
                return layer.file, layer.prefix + loc
    if loc and loc[0] in LIFTED:  # it may stand in [xl]
        below = tuple(Layer(layer.file, layer.data.get("xl", {}), (*layer.prefix, "xl")) for layer in layers)
        if any(loc[0] in layer.data for layer in below):
            return origin(below, loc)
    return layers[-1].file, layers[-1].prefix + loc


class Profiles:
    """All profiles of a tree, checked once; gives the layers below a table that names some of them."""

    def __init__(self, profiles: Mapping[str, SpecFile], findings: Findings) -> None:
        self._files = profiles
        self._findings = findings
        self._layers: dict[str, tuple[Layer, ...] | None] = {}
        for name in profiles:
            self._layers_of_profile(name, ())

    def below(
        self, table: Table, file: str, prefix: Loc = (), path: tuple[str, ...] = (), address: str | None = None
    ) -> tuple[Layer, ...] | None:
        """Return the layers of the profiles that `table` names, lowest first; None when one cannot be used."""
        named = table.get("profile", ())
        names = [named] if isinstance(named, str) else named
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return None  # the table's own check says so
        usable = True
        layers: dict[str, Layer] = {}
        for index, name in enumerate(names):
            loc: Loc = (*prefix, "profile") if isinstance(named, str) else (*prefix, "profile", index)
            complaint = self._misnamed(name, loc, path)
            if complaint is not None:
                self._findings.report(file, complaint, address=address)
            found = self._layers_of_profile(name, path) if complaint is None else None
            usable = usable and found is not None
            for layer in found or ():
                layers.pop(layer.file, None)  # named twice: only the last time counts, since later wins
                layers[layer.file] = layer
        return tuple(layers.values()) if usable else None

    def _misnamed(self, name: str, loc: Loc, path: tuple[str, ...]) -> Complaint | None:
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            detail = f"Profiles build on each other in a circle: {circle}."
            return Complaint(loc=loc, summary="Circle of profiles", detail=detail)
        if len(path) >= PROFILE_DEPTH_MAX:
            detail = f"More than {PROFILE_DEPTH_MAX} profiles build on each other."
            return Complaint(loc=loc, summary="Too many profiles", detail=detail)
        if name not in self._files:
            detail = f'There is no profile "{name[:60]}": profiles/{name[:60]}.toml does not exist.'
            return Complaint(loc=loc, summary="Unknown profile", detail=detail, hint=near_miss(name, self._files))
        return None

    def _layers_of_profile(self, name: str, path: tuple[str, ...]) -> tuple[Layer, ...] | None:
        if name not in self._layers:
            self._layers[name] = self._expand(self._files[name], (*path, name))
        return self._layers[name]

    def _expand(self, profile: SpecFile, path: tuple[str, ...]) -> tuple[Layer, ...] | None:
        if profile.data is None:
            return None
        _, complaints = validate(DomainSpec, profile.data)
        for complaint in complaints:
            self._findings.report(profile.path, complaint)
        below = self.below(profile.data, profile.path, path=path)
        if complaints or below is None:
            return None
        return (*below, Layer(profile.path, profile.data))


def base_layers(tree: SpecTree, profiles: Profiles) -> tuple[Layer, ...] | None:
    """Return the `[defaults]` of the tree and the profiles they name: what lies below every domain."""
    defaults = (tree.settings.data or {}).get("defaults")
    if not isinstance(defaults, dict):
        return ()
    below = profiles.below(defaults, tree.settings.path, ("defaults",))
    return None if below is None else (*below, Layer(tree.settings.path, defaults, ("defaults",)))
