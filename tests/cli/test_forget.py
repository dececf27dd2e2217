"""`forget`: a host that left the specs, or is lost, holds nothing until it answers again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.transcript import write_files


@pytest.fixture
def two(run: Run, tree: Path) -> Path:
    """A second host, beta, with the canary of wave -1; `web` on alpha waits for it."""
    canary = 'kernel = "/boot/vmlinuz"\nmemory = 256\nwave = -1\n'
    write_files({"specs/beta/host.toml": 'toolstack = "simulated"\n', "specs/beta/canary.toml": canary}, tree)
    assert run("apply", "--yes").code == 0
    return tree


def actions(run: Run) -> dict[str, str]:
    return {one["address"]: one["action"] for one in json.loads(run("plan", "--json").out)["changes"]}


def test_a_lost_host_holds_no_wave_until_it_answers_again(run: Run, two: Path) -> None:
    web = two / "specs/alpha/web.toml"
    web.write_text(web.read_text().replace("256", "700"))
    run("sim", "beta", "fault", "unreachable", "--times", "100")
    assert actions(run)["alpha/web"] != "restart"
    ran = run("forget", "beta")
    assert ran.code == 3
    assert "beta/canary may still run there" in ran.out
    assert run("forget", "beta", "--yes").code == 0
    assert actions(run)["alpha/web"] == "restart"
    run("sim", "beta", "fault", "unreachable", "--times", "0")
    run("status")
    run("sim", "beta", "fault", "unreachable", "--times", "100")
    assert actions(run)["alpha/web"] != "restart"


def test_a_host_that_left_the_specs_is_told_of_no_more(run: Run, two: Path) -> None:
    shutil.rmtree(two / "specs/beta")
    assert "reconciler forget beta" in run("status").err
    assert run("forget", "beta", "--yes").code == 0
    assert "beta" not in run("status").err


def test_what_answers_or_is_not_there_is_not_forgotten(run: Run, two: Path) -> None:
    assert run("forget", "beta", "--yes").code == 3
    ran = run("forget", "bata", "--yes")
    assert ran.code == 1
    assert "beta" in ran.err
