"""A few short plays of `chaos`; `make chaos` plays longer ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [3, 9])
def test_everything_comes_true_in_the_end(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RECONCILER_SPECS", str(tmp_path / "specs"))
    Chaos(seed=seed, folder=tmp_path).play(rounds=2)
