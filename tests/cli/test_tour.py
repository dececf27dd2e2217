"""The tour is true from its first command to the last: its files are written, its sessions run, in one folder.

After a wanted change of output, run with RECONCILER_UPDATE_CASES=1 and read the difference.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.decide.windows import Shut
from reconciler.model.fleet import Desired
from tests.transcript import UPDATE, isolate, replay, write_files

PAGE = Path(__file__).parents[2] / "docs/tour.md"
_BLOCK = re.compile(
    r"^`(?P<file>[^`\n]+)`[^`\n]*:\n\n```\w+\n(?P<text>.*?)^```$|(?<=^```console\n)(?P<session>.*?)(?=^```$)",
    re.MULTILINE | re.DOTALL,
)
_CLOCK = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(Z|\+00:00)?|(?<=hosts is )\d+ s old")
AUTHOR = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "init.defaultBranch",
    "GIT_CONFIG_VALUE_0": "main",
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
       (("NAME", "Ann"), ("EMAIL", "ann@example.org"), ("DATE", "2026-03-02T09:30:00Z"))},
}  # fmt: skip


WEDNESDAY = datetime(2026, 3, 4, 12, tzinfo=UTC)  # for windows, so that the one of the tour is shut


def at_noon(cls: type[Shut], desired: Desired) -> Shut | None:
    return cls(desired.windows, WEDNESDAY) if desired.windows and desired.at is not None else None


def test_the_tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)
    monkeypatch.setattr(Shut, "of", classmethod(at_noon))
    monkeypatch.setenv("RECONCILER_STATE_DIR", str(tmp_path / "state"))
    for name, value in AUTHOR.items():
        monkeypatch.setenv(name, value)
    text = PAGE.read_text()
    walked = _BLOCK.sub(lambda block: _walk(block, monkeypatch), text)
    if UPDATE:
        PAGE.write_text(walked)
    assert _CLOCK.sub("then", walked) == _CLOCK.sub("then", text)


def _walk(block: re.Match[str], monkeypatch: pytest.MonkeyPatch) -> str:
    if block["file"] is None:
        return replay(block["session"], monkeypatch)
    write_files({block["file"]: block["text"]}, Path.cwd())
    return block[0]
