"""A plan is cut short in its steps, on a real Xen; the next runs leave what an undisturbed one does.

It has a machine of its own, which goes back to the moment before the plan for each test.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator

import pytest

from tests.xen.cut_short import MARKER, Cut, Stage, boots, left, staged

pytestmark = [pytest.mark.xen, pytest.mark.long]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("fleet")) as stage:
        yield stage


@pytest.fixture(autouse=True)
def _legacy_is_left_alone() -> None:
    """There is no such domain here."""


def told(cuts: Iterable[Cut], capsys: pytest.CaptureFixture[str]) -> list[Cut]:
    """All cuts, each printed as it happens: it takes a while."""
    done = []
    for cut in cuts:
        done.append(cut)
        with capsys.disabled():
            print(f"\n  cut in: {cut.step}; the next run went on with: {cut.went_on_with}", end="", flush=True)  # noqa: T201  # what was seen
    return done


@pytest.mark.timeout(3600)
def test_a_controller_that_is_killed_in_each_step_leaves_what_an_undisturbed_one_does(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each run ends a step before the next one is cut short, so that it takes two rounds or three to cut all of them.
    to_cut = {step.title for step in stage.steps[1:]}
    while to_cut:
        stage.machine.go_back()

        cuts = told(stage.apply_cut_in(to_cut, subprocess.Popen.kill), capsys)

        assert left(stage.lab) == stage.left
        assert boots(stage.lab) == stage.boots, "each guest booted as often as without the kills"
        assert stage.lab.console("web", "head -n 1 /dev/xvda") == MARKER
        stage.fleet.assert_nothing_to_do()
        assert cuts
        to_cut -= {cut.step for cut in cuts}
