"""What watch logs of a step that goes on."""

from __future__ import annotations

from io import StringIO

from reconciler.apply.result import StepResult
from reconciler.plan.steps import PlannedStep, SetVcpus
from reconciler.watch.logs import Log, LoggedSteps

STEP = PlannedStep(id="s1", host="alpha", step=SetVcpus(domain="web", uuid="", vcpus=2))


def test_a_count_that_goes_on_is_logged_once_and_every_other_news() -> None:
    stream, signs = StringIO(), []
    steps = LoggedSteps(Log(stream, as_json=False, now=lambda: 0.0), lambda: signs.append(1))
    for text in ("300 of 2048 MiB, 75 MiB/s", "310 of 2048 MiB, 900 KiB/s", "its host does not answer"):
        steps.noted(STEP, text)
    steps.finished(StepResult(step=STEP, seconds=1))
    steps.noted(STEP, "its host does not answer")
    logged = [line for line in stream.getvalue().splitlines() if "step goes on" in line]
    assert ["300 of 2048" in line for line in logged] == [True, False, False]
    assert len(signs) == 5
