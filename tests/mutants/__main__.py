"""`make mutants`: how many small changes of the rooms that decide are noticed by tests, in percent for each room.

Survivors that were looked at and are harmless stand in harmless.toml, each with the reason; they are not counted.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from tests.mutants.mutations import Mutant, mutants_of
from tests.mutants.running import Fate, Mutating

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("decide", "plan", "model")
TESTS = (
    *("tests/decide", "tests/plan", "tests/model", "tests/rules/test_not_known.py", "tests/laws", "tests/kernels"),
    *("tests/simulated/test_meaning_of_steps.py", "tests/specs", "tests/texts"),
)
HARMLESS = Path(__file__).with_name("harmless.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    chosen = list(sample(options.rooms.split(","), options.number, options.seed, options.only))
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(options.notes or folder, "notes")
        mutating = Mutating(ROOT, chosen, notes, _tell)
        flags = ("-q", "-p", "no:xdist", "--hypothesis-profile", "mutants", "--no-header", "-s")
        marks = (
            "-m",
            "not xen and not services and not flavours",
            "--ignore=tests/plan/test_scale.py",
            "--deselect=tests/model/test_keys.py::test_the_word_of_a_key_stands_in_few_modules",  # it reads the source
            "-o",
            "tmp_path_retention_policy=none",
        )
        settings.register_profile("mutants", deadline=None, derandomize=True, max_examples=20)
        pytest.main([*flags, *marks, *(options.tests or TESTS)], plugins=[mutating])
    return _figures(chosen, mutating.fates, options.least)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--rooms", default=",".join(ROOMS))
    parser.add_argument("--number", type=int, default=100, help="mutants of each room; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="mutants whose name has this text")
    parser.add_argument(
        "--notes", default="", help="folder that keeps which test calls what, for runs of the same code"
    )
    parser.add_argument("--least", type=float, default=0, help="fail where a room has less than this, in percent")
    parser.add_argument("tests", nargs="*")
    return parser.parse_args(arguments)


def harmless() -> dict[str, str]:
    """Return the reason for each mutant that does no harm, by name."""
    return {entry["mutant"]: entry["reason"] for entry in tomllib.loads(HARMLESS.read_text())["harmless"]}


def of_room(room: str) -> list[Mutant]:
    """List all mutants of a room but the harmless ones."""
    files = sorted((ROOT / "reconciler" / room).rglob("*.py"))
    known = harmless()
    return [
        mutant
        for file in files
        for mutant in mutants_of(str(file.relative_to(ROOT)), file.read_text())
        if mutant.name not in known
    ]


def sample(rooms: Iterable[str], number: int, seed: int, only: str = "") -> Iterable[Mutant]:
    for room in rooms:
        found = [mutant for mutant in of_room(room) if only in mutant.name]
        yield from random.Random(seed).sample(found, min(number, len(found))) if number else found


def _tell(mutant: Mutant, fate: Fate) -> None:
    if fate != "killed":
        _say(f"{fate}: {mutant.name} (line {mutant.line})")


def _figures(chosen: Sequence[Mutant], fates: dict[str, Fate], least: float) -> int:
    """Print the figure of each room; return 1 where one is lower than it has to be, or nothing was tried."""
    low = not chosen
    for room in sorted({_room(mutant) for mutant in chosen}):
        found = [fates.get(mutant.name) for mutant in chosen if _room(mutant) == room]
        killed = found.count("killed")
        share = 100 * killed / len(found)
        low = low or share < least
        told = f"{found.count('survived')} survived, {found.count('not reached')} that no test reaches"
        _say(f"{room}: {killed} of {len(found)} mutants killed, {share:.0f} %; {told}")
    return 1 if low else 0


def _room(mutant: Mutant) -> str:
    return Path(mutant.file).parts[1]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
