"""Bad trees and what is said of them: each file of cases/ holds a tree and the diagnostics it gives.

A case is a text of sections: `-- PATH --` begins a file of the tree, `-- expected --` what the reader must say. After a
wanted change of wording, run with RECONCILER_UPDATE_CASES=1 to rewrite the last section, and read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from reconciler.specs import TreeReading, read_tree

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))
_SECTION = re.compile(r"^-- (.+) --\n", re.MULTILINE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, *parts = _SECTION.split(case.read_text())
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    expected = sections.pop("expected", "")
    for name, text in sections.items():
        file = tmp_path / "specs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    said = show(read_tree("specs"))
    if os.environ.get("RECONCILER_UPDATE_CASES"):
        case.write_text(case.read_text().partition("-- expected --\n")[0] + "-- expected --\n" + said)
    assert said == expected


def show(reading: TreeReading) -> str:
    """Everything that is said of a tree: each diagnostic with its place underlined, then what is frozen."""
    lines = []
    for diagnostic in reading.diagnostics:
        source = diagnostic.source
        lines.append(f"{source or 'specs'}: {diagnostic.kind}: {diagnostic.summary}")
        if source is not None:
            lines.append(f"  | {source.text}".rstrip())
            lines.append("  | " + " " * (source.column - 1) + "^" * source.length)
        lines.append(f"  {diagnostic.detail}")
        lines += [f"  hint: {diagnostic.hint}"] if diagnostic.hint else []
        lines += [f"  address: {diagnostic.address}"] if diagnostic.address else []
    desired = reading.desired
    resolved = sorted(f"{host}/{name}" for host, entry in desired.hosts.items() for name in entry.domains)
    lines.append(f"frozen: {' '.join(sorted(desired.frozen))}".rstrip())
    lines.append(f"resolved: {' '.join(resolved)}".rstrip())
    lines.append(f"prune: {str(desired.prune).lower()}")
    return "\n".join(lines) + "\n"
