"""Which names hosts, domains and profiles may have: those that xl takes, and that nobody else uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.specs.tree import read_tree

DOMAIN = 'kernel = "/k"\nmemory = 64\n'


def problems(folder: Path, *names: str, host: str = "alpha") -> list[str]:
    (folder / host).mkdir()
    (folder / host / "host.toml").write_text('toolstack = "simulated"\n')
    for name in names:
        (folder / host / f"{name}.toml").write_text(DOMAIN)
    return [one.detail for one in read_tree(folder).diagnostics]


@pytest.mark.parametrize("name", ["3web", "web", "0-a", "1.2", "a" * 63, "A_b.c-d", "9" * 62 + "x"])
def test_a_name_that_xl_takes_is_a_name(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, name) == []
    assert problems(tmp_path, host="3a") == []


@pytest.mark.parametrize("name", ["42", "-a", "_a", "a" * 64, "a b", "ü", "Domain-0", "auto", "scripts", "xl.conf"])
def test_a_name_that_xl_cannot_take_or_that_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    assert len(problems(tmp_path, name)) == 1


@pytest.mark.parametrize("name", ["web.rehearsal", "web--incoming", "web--migratedaway"])
def test_a_name_that_stands_for_a_passing_state_is_refused(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, name)
    assert "uses that name for something else" in problem
