"""A directory of TOML -> the desired state, with every problem at its line and column. The one entry for commands.

The order of things: walk the folders, read and parse every file, hash the kernels that specs name, let `resolve`
judge it all, and only then look up positions, for the files that have problems.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.model.diagnostics import Diagnostic, Kind, Source, unforeseen
from reconciler.model.domain import address_of
from reconciler.model.fleet import Desired
from reconciler.model.quantities import printable
from reconciler.records import dataclass
from reconciler.specs.cache import FileMemory, LastResult
from reconciler.specs.commit import commit_of
from reconciler.specs.files import Content, TreeRoot, Unreadable, line_shown
from reconciler.specs.notes import notes_on
from reconciler.specs.resolve import HostFolder, SpecFile, SpecTree, TreeFile, resolve
from reconciler.specs.schema import TreeSpec
from reconciler.specs.schema_errors import Problem
from reconciler.specs.toml import TomlError, parse_toml
from reconciler.specs.value_types import NAME_FORM, is_name

if TYPE_CHECKING:
    from reconciler.specs.positions import Positions

TREE_FILE = "reconciler.toml"
HOST_FILE = "host.toml"
RESERVED_FOLDERS = frozenset({"profiles", "kernels"})

# What a dom0's config_dir holds besides the files of domains (NAME.cfg on Debian, NAME on NetBSD), and dom0 itself.
TAKEN_NAMES = frozenset(
    {
        "Domain-0",
        "README",
        "README.incompatibilities",
        "auto",
        "cpupool",
        "oxenstored.conf",
        "scripts",
        "xenstored.conf",
        "xl.conf",
        "xlexample.hvm",
        "xlexample.pvhlinux",
        "xlexample.pvlinux",
    }
)
TAKEN_ENDINGS = (".rehearsal", "--incoming", "--migratedaway")
"""What a domain's name may not end in: xl and we call domains so that are only there for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeReading:
    """A spec tree, read: what it asks for, what is wrong in it, and which file each domain comes from."""

    desired: Desired
    diagnostics: tuple[Diagnostic, ...]
    files: Mapping[str, str] = field(default_factory=dict)  # address -> path relative to the tree
    digests: Mapping[str, str] = field(default_factory=dict)  # every file that was read, relative -> sha256
    defaults: Mapping[str, Any] = field(default_factory=dict)  # keys that every domain has unless it says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """One TOML file: its text, and its tables or what is wrong with it."""

    content: Content | None = None
    data: Mapping[str, Any] | None = None
    problem: Unreadable | None = None

    def is_whole(self) -> bool:
        return self.content is not None


class TreeCache:
    """Keeps what earlier readings of a tree learned: with it, `read_tree` reads only the files that changed since."""

    def __init__(self) -> None:
        self.specs = FileMemory[_Loaded]()
        self.images = FileMemory[TreeFile]()
        self.reading = LastResult[TreeReading]()


def read_tree(
    root: str | Path,
    cache: TreeCache | None = None,
    contents: Mapping[str, str] | None = None,
    *,
    needs_fleet: bool = False,
) -> TreeReading:
    """Read a whole tree. Whatever is wrong with it is a diagnostic, never an exception.

    `contents` are git's names of what files hold, by path in the tree, for a tree that was laid out from a commit.
    With `needs_fleet`, a tree with real hosts that does not name its fleet is wrong.
    """
    return _Reader(os.fspath(root) or ".", cache or TreeCache(), contents or {}, needs_fleet=needs_fleet).read()


class _Reader:
    """Keeps, while one tree is read, what was found so far."""

    def __init__(self, root: str, cache: TreeCache, contents: Mapping[str, str], *, needs_fleet: bool) -> None:
        self._root = root
        self._needs_fleet = needs_fleet
        self._cache = cache
        self._contents = contents
        self._tree = TreeRoot(root)
        self._texts: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._diagnostics: list[Diagnostic] = []
        self._frozen: set[str] = set()

    def read(self) -> TreeReading:
        try:
            entries = _entries(self._root)
        except OSError as error:
            return _no_tree(self._root, error)
        tree = self._read_files(entries)
        files = {path: self._digest_of(path) for path in sorted(tree.image_paths())}
        self._digests |= {path: file.sha256 for path, file in files.items() if file.problem is None}
        self._cache.specs.forget_the_rest()
        self._cache.images.forget_the_rest()
        everything = (self._root, self._digests, files, self._diagnostics)
        reading = self._cache.reading.recall(everything, lambda: self._judge(tree, files))
        return replace(reading, desired=replace(reading.desired, commit=commit_of(Path(self._root))))

    def _judge(self, tree: SpecTree, files: Mapping[str, TreeFile]) -> TreeReading:
        resolution = resolve(replace(tree, files=files), needs_fleet=self._needs_fleet)
        diagnostics = [*self._diagnostics, *self._placed(resolution.problems)]
        if not diagnostics and not any(folder.domains for folder in tree.hosts.values()):
            diagnostics.append(_empty_tree(self._root))
        desired = resolution.desired
        prune = desired.prune and not diagnostics
        diagnostics += notes_on(desired)  # these are no problems
        desired = replace(
            desired,
            frozen=desired.frozen | self._frozen,
            prune=prune,
            tree_digest=self._tree_digest(),
        )
        addresses = {
            address_of(folder.name, name): file.path
            for folder in tree.hosts.values()
            for name, file in folder.domains.items()
        }
        return TreeReading(
            desired=desired,
            diagnostics=_in_reading_order(diagnostics),
            files=addresses,
            digests=self._digests,
            defaults=resolution.defaults,
        )

    def _read_files(self, entries: list[os.DirEntry[str]]) -> SpecTree:
        settings = SpecFile(path=TREE_FILE, data={})
        profiles: dict[str, SpecFile] = {}
        hosts: dict[str, HostFolder] = {}
        for entry in entries:
            if entry.name == TREE_FILE:
                settings = self._read_spec(TREE_FILE, entry)
            elif entry.name.endswith(".toml"):
                known = f"{TREE_FILE}, HOST/{HOST_FILE}, HOST/DOMAIN.toml and profiles/NAME.toml"
                self._report_unexpected(entry.name, f"Files of a spec tree are {known}.")
            elif entry.name == "profiles" and entry.is_dir():
                profiles = self._read_profiles(entry)
            elif entry.name not in RESERVED_FOLDERS and entry.is_dir():
                folder = self._read_host(entry)
                if folder is not None:
                    hosts[folder.name] = folder
        return SpecTree(settings=settings, profiles=profiles, hosts=hosts)

    def _read_profiles(self, folder: os.DirEntry[str]) -> dict[str, SpecFile]:
        profiles: dict[str, SpecFile] = {}
        for entry in self._entries_of(folder):
            relative = f"{folder.name}/{entry.name}"
            if entry.name.endswith(".toml") and self._is_name(entry.name[:-5], relative, "profile"):
                profiles[entry.name[:-5]] = self._read_spec(relative, entry)
            elif not entry.name.endswith(".toml") and entry.is_dir():
                self._report_strays(relative)
        return profiles

    def _read_host(self, folder: os.DirEntry[str]) -> HostFolder | None:
        """Read the host in a folder of the tree; a folder without any .toml file, however deep, is none."""
        entries = self._entries_of(folder)
        names = [entry.name for entry in entries if entry.name.endswith(".toml")]
        host = folder.name
        if not names:
            if not folder.is_symlink():
                self._report_strays(host)
            return None
        settings: SpecFile | None = None
        domains: dict[str, SpecFile] = {}
        for entry in entries:
            relative = f"{host}/{entry.name}"
            if entry.name == HOST_FILE:
                settings = self._read_spec(relative, entry)
            elif entry.name.endswith(".toml"):
                name = entry.name[:-5]
                if self._is_name(name, relative, "domain", address_of(host, name)):
                    domains[name] = self._read_spec(relative, entry, address_of(host, name))
            elif entry.is_symlink():
                self._report_link_out(entry, relative)
            elif entry.is_dir():
                self._report_strays(relative)
        if HOST_FILE not in names:
            detail = f"{host} holds domains, but no {HOST_FILE} that says what kind of host it is."
            hint = f'Create {host}/{HOST_FILE} with the line: toolstack = "xl"'
            self._report(f"{host}/{HOST_FILE}", Unreadable(summary="Missing host.toml", detail=detail, hint=hint), host)
        if not self._is_name(host, host, "host", host):
            settings = None
        return HostFolder(name=host, settings=settings, domains=domains)

    def _entries_of(self, folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
        """List what a folder of the tree holds; one that cannot be read freezes the host of that name."""
        if self._report_link_out(folder, folder.name, folder.name):
            return []
        try:
            return _entries(folder.path)
        except OSError as error:
            detail = f"{folder.name} cannot be listed: {error.strerror}."
            self._report(folder.name, Unreadable(summary="Unreadable folder", detail=detail), folder.name)
            return []

    def _read_spec(self, relative: str, entry: os.DirEntry[str], address: str | None = None) -> SpecFile:
        """Read and parse one file. A domain's file must not be empty: it may have been cut short."""
        loaded = self._cache.specs.recall(
            relative,
            self._path(relative),
            self._contents.get(relative),
            lambda: self._load(relative, is_link=entry.is_symlink()),
            _Loaded.is_whole,
        )
        content, problem = loaded.content, loaded.problem
        if content is not None:
            self._texts[relative] = content.text
            self._digests[relative] = content.sha256
            if address is not None and not content.text.strip():
                hint = "If its profiles and the defaults say everything, write a comment into it."
                problem = Unreadable(summary="Empty file", detail=f"{relative} is empty.", hint=hint)
        if problem is None:
            return SpecFile(path=relative, data=loaded.data)
        self._report(relative, problem, address)
        return SpecFile(path=relative, data=None, text=content.text if content is not None else "")

    def _load(self, relative: str, *, is_link: bool) -> _Loaded:
        try:
            return self._parsed(relative, is_link=is_link)
        except Exception as error:  # noqa: BLE001 -- what goes wrong with one file must not cost the others
            odd = unforeseen(f"{relative} was read", error)
            return _Loaded(problem=Unreadable(summary=odd.summary, detail=odd.detail, hint=odd.hint, trace=odd.trace))

    def _parsed(self, relative: str, *, is_link: bool) -> _Loaded:
        content = self._tree.read_spec(relative, is_link=is_link)
        if isinstance(content, Unreadable):
            return _Loaded(problem=content)
        try:
            return _Loaded(content=content, data=parse_toml(content.text))
        except TomlError as error:
            line, column = error.line, error.column
            problem = Unreadable(summary="Invalid TOML", detail=str(error), line=line, column=column)
            return _Loaded(content=content, problem=problem)

    def _digest_of(self, relative: str) -> TreeFile:
        """Return the digest of a kernel or ramdisk of the tree."""
        return self._cache.images.recall(
            relative,
            self._path(relative),
            self._contents.get(relative),
            lambda: self._digest_now(relative),
            lambda file: file.problem is None,
        )

    def _digest_now(self, relative: str) -> TreeFile:
        try:
            return self._tree.digest(relative)
        except Exception as error:  # noqa: BLE001 -- what goes wrong with one file must not cost the others
            return TreeFile(problem=unforeseen(f"{relative} was read", error).detail)

    def _is_name(self, name: str, relative: str, kind: str, address: str | None = None) -> bool:
        is_taken = kind == "domain" and (name in TAKEN_NAMES or name.endswith(TAKEN_ENDINGS))
        if is_name(name) and not is_taken:
            return True
        if is_name(name):
            problem = Unreadable(
                summary="Name taken",
                detail=f'A domain cannot be called "{name}": Xen uses that name for something else.',
                hint="Rename the file.",
            )
        else:
            problem = Unreadable(
                summary="Invalid name",
                detail=f'"{name}" cannot be the name of a {kind}.',
                hint=f"A name is {NAME_FORM}.",
            )
        self._report(relative, problem, address)
        return False

    def _report_link_out(self, folder: os.DirEntry[str], relative: str, address: str | None = None) -> bool:
        """Report a link to a folder elsewhere, and return whether it is one: what lies there is not read."""
        if not folder.is_symlink() or not folder.is_dir() or self._tree.holds(folder.path):
            return False
        detail = f"{relative} is a link that leads out of the spec tree."
        hint = "Copy the folder into the tree instead."
        self._report(relative, Unreadable(summary="Link out of the tree", detail=detail, hint=hint), address)
        return True

    def _report_strays(self, folder: str) -> None:
        for parent, folders, names in os.walk(f"{self._root}/{folder}"):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.endswith(".toml") and not name.startswith("."):
                    relative = os.path.relpath(f"{parent}/{name}", self._root)
                    self._report_unexpected(relative, "Only files directly in a host's folder are domains.")

    def _report_unexpected(self, relative: str, hint: str) -> None:
        detail = f"{relative} is no file of a spec tree."
        self._report(relative, Unreadable(summary="Unexpected file", detail=detail, hint=hint))

    def _report(self, relative: str, problem: Unreadable, address: str | None = None) -> None:
        """Report what is wrong with a file as a whole; it freezes `address`, a domain or a host."""
        lines = self._texts.get(relative, "").split("\n")
        text = problem.text or lines[min(problem.line, len(lines)) - 1].rstrip("\r")
        path, detail = _printable(self._path(relative)), _printable(problem.detail)
        if address is not None:
            self._frozen.add(_printable(address))
        self._diagnostics.append(
            Diagnostic(
                kind=Kind.SPEC,
                summary=problem.summary,
                detail=detail,
                hint=problem.hint,
                address=_printable(address) if address is not None else None,
                source=Source(path=path, line=problem.line, column=problem.column, text=line_shown(text)),
                trace=problem.trace,
            )
        )

    def _placed(self, problems: Iterable[Problem]) -> Iterable[Diagnostic]:
        """Give each problem that was found its line and column."""
        indexes: dict[str, Positions] = {}
        for problem in problems:
            complaint = problem.complaint
            if problem.file not in indexes:
                from reconciler.specs.positions import Positions  # tree-sitter: only when there is something to place

                indexes[problem.file] = Positions(self._path(problem.file), self._texts.get(problem.file, ""))
            yield Diagnostic(
                kind=Kind.SPEC,
                summary=complaint.summary,
                detail=_printable(complaint.detail),
                hint=_printable(complaint.hint) if complaint.hint is not None else None,
                address=problem.address,
                source=indexes[problem.file].source(complaint.loc, at_key=complaint.at_key),
                trace=complaint.trace,
            )

    def _path(self, relative: str) -> str:
        """Name a file of the tree as the user would."""
        return f"{self._root.rstrip('/')}/{relative}"

    def _tree_digest(self) -> str:
        lines = "".join(f"{path}\0{sha256}\n" for path, sha256 in sorted(self._digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def _entries(path: str) -> list[os.DirEntry[str]]:
    """List what a folder holds, by name; what starts with a dot is ignored."""
    with os.scandir(path) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _printable(text: str) -> str:
    """Replace what a terminal should not see: file names are bytes, and strings of specs hold anything."""
    return printable(text.encode(errors="surrogateescape").decode(errors="replace"))


def _in_reading_order(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    def place(diagnostic: Diagnostic) -> tuple[str, int, int]:
        source = diagnostic.source
        return (source.path, source.line, source.column) if source is not None else ("", 0, 0)

    return tuple(sorted(diagnostics, key=place))


def _no_tree(root: str, error: OSError) -> TreeReading:
    diagnostic = Diagnostic(
        kind=Kind.SPEC,
        summary="No spec tree",
        detail=f"There is no folder of specs at {_printable(root)}: {error.strerror}.",
        hint="Name the folder on the command line, or set RECONCILER_SPECS.",
    )
    return TreeReading(desired=Desired(fleet=TreeSpec().fleet, hosts={}, prune=False), diagnostics=(diagnostic,))


def _empty_tree(root: str) -> Diagnostic:
    return Diagnostic(
        kind=Kind.NOTE,
        summary="Empty spec tree",
        detail=f"{_printable(root)} defines no domain. An empty tree never destroys anything.",
    )
