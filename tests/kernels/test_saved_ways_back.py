"""A saved plan carries its ways back: they are read back equal, sealed with it, and followed."""

from __future__ import annotations

import json

from reconciler.cli import saved_plan

from .fleet import GOOD, PANICKED, Fleet


def test_they_are_read_back_as_saved_and_followed(running: Fleet) -> None:
    running.kernel("web", 'boot = "panic"')
    assert running.run("plan", "--out", "web.plan").code == 0
    path = running.folder / "web.plan"
    (way,) = saved_plan.load(path).plan.ways_back
    assert way.address == "alpha/web"
    assert [planned.step.kind for planned in way.steps] == ["set_quarantine", "shutdown", "start", "await_ready"]
    failed = running.run("apply", "web.plan", "--yes")
    assert failed.code == 1
    assert "fell back: alpha/web" in failed.out
    assert running.runs() == GOOD
    assert running.guest().quarantine[0].reason == f"web did not get ready: {PANICKED}"


def test_a_plan_whose_way_back_was_cut_out_is_refused(running: Fleet) -> None:
    running.kernel("web", 'boot = "panic"')
    running.run("plan", "--out", "web.plan")
    path = running.folder / "web.plan"
    document = json.loads(path.read_text())
    document["saved"]["plan"]["ways_back"] = []
    path.write_text(json.dumps(document))
    before = running.boot()
    assert running.run("apply", "web.plan", "--yes").code == 3
    assert running.boot() == before
