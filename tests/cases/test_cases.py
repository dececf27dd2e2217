"""Whole sessions on a simulated host, as data: a case is a file with a tree, commands, and what they print.

`-- PATH --` begins a file of the tree, `-- session --` the commands. After a wanted change of output, run with
RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.transcript import UPDATE, isolate, replay, write_files

CASES = sorted(Path(__file__).parent.glob("*.txt"))
_SECTION = re.compile(r"^-- (.+) --\n", re.MULTILINE)
_SESSION = "session"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = case.read_text()
    _, *parts = _SECTION.split(text)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    session = sections.pop(_SESSION)
    write_files(sections, tmp_path)
    isolate(tmp_path, monkeypatch)
    replayed = replay(session, monkeypatch)
    if UPDATE:
        head = text[: text.index(f"-- {_SESSION} --\n")]
        case.write_text(f"{head}-- {_SESSION} --\n{replayed}")
    assert replayed == session
