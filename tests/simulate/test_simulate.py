"""The simulation itself: it replays exactly, and finds what is put there to be found.

What it found once is in `scripts/`, which `make simulate` plays first; CI does so with each change.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.simulate.__main__ import play_seed
from tests.simulate.defects import DEFECTS, ROOT
from tests.simulate.play import Player, play_script, prepare
from tests.simulate.script import Event, read_script, written
from tests.simulate.shrink import shrink

SMALL = """
host alpha memory=1024 max_unavailable=2
kernel 1
kernel 2
spec alpha/d1 kernel=1 memory=128 disk=d1
spec alpha/d2 kernel=1 memory=128 depends_on=d1
apply
spec alpha/d1 kernel=2
"""


@pytest.fixture(autouse=True, scope="module")
def all_is_loaded() -> None:
    prepare()


def test_a_script_that_was_written_is_read_as_it_was() -> None:
    script = [Event("spec", "alpha/d1", {"cmdline": "root=/dev/xvda 'x'"}), Event("apply", keys={"at": "alpha@1=odd"})]
    assert read_script(written(script)) == script


def test_a_seed_tells_the_same_story_each_time(tmp_path: Path) -> None:
    first, again = (play_seed(6, tmp_path / "world", rounds=1, size=3) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].faults == again[0].faults
    assert [one for one in first[0].last.told if one["what"] != "ended"] == [
        one for one in again[0].last.told if one["what"] != "ended"
    ]


@pytest.mark.parametrize("turn", [60])
def test_a_killed_controller_leaves_what_the_next_one_ends(tmp_path: Path, turn: int) -> None:
    assert play_script(read_script(f"{SMALL}\napply die={turn}\nrest\nheal"), tmp_path / "world") is None


def test_a_law_that_is_broken_is_found_and_shrinks_to_the_lines_that_break_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Player, "_may_move", lambda *_: False)  # nothing may ever restart
    script = read_script(f"{SMALL}\nspec alpha/d3 memory=64\napply die=5\napply\nheal")

    def breaks(attempt: list[Event]) -> bool:
        found = play_script(attempt, tmp_path / "world")
        return found is not None and found.law == "domids are kept"

    assert breaks(script)
    assert len(shrink(script, breaks, seconds=5)) < len(script)


@pytest.mark.parametrize("patch", sorted(DEFECTS.glob("*.patch")), ids=lambda path: path.stem)
def test_a_fault_of_the_past_can_still_be_put_back(patch: Path) -> None:
    """Where the code around it has changed, the patch is made anew; `make simulate-defects` sees that it is found."""
    run = subprocess.run(["git", "apply", "--check", patch], cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
