"""The input of resolve, a spec tree as parsed TOML, and the collection of what it finds wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from reconciler.records import dataclass
from reconciler.specs.schema_errors import Complaint, Problem

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """One TOML file. `data` is None when it could not be read or parsed; whoever tried has reported why.

    `text` is what could be read of one that could not be parsed.
    """

    path: str  # relative to the tree
    data: Table | None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFolder:
    """A folder of the tree with domains in it; `settings` is None when host.toml is missing (reported already)."""

    name: str
    settings: SpecFile | None
    domains: Mapping[str, SpecFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """A file of the tree that specs name as kernel or ramdisk: its sha256, or the sentence why it cannot be used."""

    sha256: str = ""
    problem: str | None = None
    hint: str = "Relative paths start at the root of the spec tree."


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecTree:
    """Everything that was read. `files` has an entry for each relative path that `image_paths` found."""

    settings: SpecFile
    profiles: Mapping[str, SpecFile]
    hosts: Mapping[str, HostFolder]
    files: Mapping[str, TreeFile] = field(default_factory=dict)

    def spec_files(self) -> Iterable[SpecFile]:
        yield self.settings
        yield from self.profiles.values()
        for host in self.hosts.values():
            yield from host.domains.values()

    def image_paths(self) -> frozenset[str]:
        """Return the paths relative to the tree that any spec names as kernel or ramdisk."""
        tables = [spec.data for spec in self.spec_files() if spec.data]
        tables += [table["defaults"] for table in tables if isinstance(table.get("defaults"), dict)]
        paths = (table.get(key) for table in tables for key in ("kernel", "ramdisk"))
        return frozenset(path for path in paths if isinstance(path, str) and not path.startswith("/"))


class Findings:
    """Collects problems, each once, in the order found, and the addresses that they freeze."""

    def __init__(self) -> None:
        self._problems: dict[Problem, None] = {}
        self.frozen: set[str] = set()

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(self._problems)

    def report(self, file: str, complaint: Complaint, *freezes: str, address: str | None = None) -> None:
        """Report a problem. One of a profile is told once, however many domains build on the profile."""
        self._problems.setdefault(Problem(file=file, complaint=complaint, address=address))
        self.frozen.update(freezes)
