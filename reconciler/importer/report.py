"""What an import has made and what is to be told of it, for people and as the document of `import --json`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any

from reconciler.importer.tables import Imported, host_needs
from reconciler.model.diagnostics import Diagnostic, Kind, Source
from reconciler.model.fleet import HostSettings
from reconciler.model.quantities import quoted
from reconciler.records import dataclass

FORMAT = 1


@dataclass(slots=True)
class Report:
    """Collects problems, notes and specs in the order met."""

    problems: list[Diagnostic] = field(default_factory=list)
    notes: list[Diagnostic] = field(default_factory=list)
    written: list[str] = field(default_factory=list)  # paths
    printed: list[tuple[str, str]] = field(default_factory=list)  # name and text of each spec that went to no file
    held: list[str] = field(default_factory=list)  # addresses
    kernels: list[str] = field(default_factory=list)  # paths to bring
    made: list[Imported] = field(default_factory=list)

    def failed(self, subject: str, detail: str, hint: str | None = None, path: str | None = None) -> None:
        """Note that something is not imported, and why; of a file, at its beginning."""
        source = None if path is None else Source(path=path)
        summary = f"{subject} is not imported"
        self.problems.append(Diagnostic(kind=Kind.WORLD, summary=summary, detail=detail, hint=hint, source=source))

    def add(self, imported: Imported, subject: str, address: str) -> None:
        """Note a spec that was made: what it lacks, what it leaves out, what it passes on unread."""
        self.made.append(imported)
        self.notes += _notes(imported, subject)
        if imported.unsaid:
            self.held.append(address)
        self.kernels += [image for image in dict.fromkeys(imported.to_bring) if image not in self.kernels]


def _notes(imported: Imported, subject: str) -> Iterator[Diagnostic]:
    if imported.unsaid:
        yield Diagnostic(
            kind=Kind.NOTE,
            summary=f"{subject} has what a spec cannot say",
            detail="\n".join(imported.unsaid),
            hint="Its spec says reconcile = false: shown, never changed. Without that line, apply drops these things.",
        )
    if imported.ignored:
        yield Diagnostic(
            kind=Kind.NOTE, summary=f"{subject} has what makes no difference", detail="\n".join(imported.ignored)
        )
    for path in imported.to_bring:
        yield Diagnostic(
            kind=Kind.NOTE,
            summary=f"{subject} has what is to be brought",
            detail=f"xl looks for {quoted(path)} in the folder that it is called in, and in / when the guest reboots;"
            " in a spec it is a file of the spec tree, and without it the domain is only shown.",
            hint=f"Copy the one that it boots to {quoted(path)} in the spec tree, or write the absolute path.",
        )


def paste_of(report: Report, settings: HostSettings) -> str:
    """Return the lines that host.toml needs for all specs that were made; "" when it allows everything already."""
    needs = host_needs((imported.spec for imported in report.made), settings)
    lines = [_line(key, value) for key, value in needs.items() if not isinstance(value, dict)]
    if allow := needs.get("allow"):
        lines += ["", "[allow]", *(_line(key, value) for key, value in allow.items())]
    return "\n".join(lines).lstrip("\n") + ("\n" if lines else "")


def _line(key: str, values: list[str]) -> str:
    """Write one key on one line, however many values it has."""
    import tomli_w

    each = [tomli_w.dumps({"x": value}).partition(" = ")[2].strip() for value in values]
    return f"{key} = [{', '.join(each)}]"


def document(report: Report, settings: HostSettings) -> dict[str, Any]:
    """Make the document of `import --json`."""
    return {
        "format": FORMAT,
        "written": report.written,
        "specs": [{"name": name, "text": text} for name, text in report.printed],
        "host_toml": paste_of(report, settings),
        "kernels": report.kernels,
        "notes": [_note(note) for note in report.notes],
        "held": report.held,
    }


def _note(note: Diagnostic) -> dict[str, Any]:
    source = note.source
    text = note.detail or note.summary
    return {
        "path": source.path if source is not None else note.summary.partition(" has what ")[0],
        "line": source.line if source is not None else 1,
        "text": text,
        "hint": note.hint,
    }
