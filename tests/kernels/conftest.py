"""The fleet of these tests: web, which is updated, beside db, which nobody must touch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kernels.fleet import DB, GOOD, WEB, Fleet
from tests.transcript import isolate


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fleet:
    """Written down, and not yet applied."""
    made = Fleet(tmp_path, capsys)
    made.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n')
    made.write("alpha/web.toml", WEB)
    made.write("alpha/db.toml", DB)
    made.kernel("web", GOOD)
    made.kernel("db", GOOD)
    isolate(tmp_path, monkeypatch)
    return made


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory after the first apply, once a test has made it."""
    return tmp_path_factory.mktemp("applied") / "state"


@pytest.fixture
def running(fleet: Fleet, applied: Path) -> Fleet:
    """Both domains run the good kernel."""
    if applied.exists():
        shutil.copytree(applied, fleet.folder / ".state")
    else:
        assert fleet.apply().code == 0
        shutil.copytree(fleet.folder / ".state", applied)
    return fleet
