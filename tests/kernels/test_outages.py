"""What is told of domains that were down: by the host's clock, waits included, and never of a way back as a measure."""

from __future__ import annotations

import json

import pytest

from .fleet import BETTER, GOOD, Fleet


def downtime(fleet: Fleet) -> float | None:
    """What a plan expects of web's next restart."""
    changes = json.loads(fleet.run("plan", "--json").out)["changes"]
    expected = next(change["downtime_seconds"] for change in changes if change["address"] == "alpha/web")
    return None if expected is None else float(expected)


def test_what_was_measured_is_what_the_next_plan_expects(running: Fleet) -> None:
    running.kernel("web", f"{BETTER}\nboot_seconds = 11")
    (outage,) = json.loads(running.apply("--json").out)["outages"]
    assert outage["outcome"] == "restarted"
    assert 11 + 5 <= outage["down_seconds"] < 20  # the boot and its min_seconds
    running.kernel("web", BETTER)
    assert downtime(running) == outage["down_seconds"]


def test_a_way_back_is_told_and_is_no_measure(running: Fleet) -> None:
    running.kernel("web", 'boot = "hang"')
    (outage,) = json.loads(running.apply("--json").out)["outages"]
    assert outage["outcome"] == "fell back"
    assert outage["down_seconds"] > 120  # the timeout of the new kernel is part of it
    assert "not connected" in outage["problem"]
    assert outage["way_back_problem"] is None
    running.kernel("web", BETTER)
    assert downtime(running) is None


def test_a_wait_for_what_it_depends_on_counts(fleet: Fleet) -> None:
    fleet.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nmax_unavailable = 2\n')
    fleet.write("alpha/db.toml", 'kernel = "kernels/db"\nmemory = 256\ndepends_on = ["web"]\n')
    fleet.apply()
    fleet.kernel("web", f"{BETTER}\nboot_seconds = 30")
    outages = {outage["address"]: outage for outage in json.loads(fleet.apply("--json").out)["outages"]}
    assert outages["alpha/db"]["down_seconds"] > outages["alpha/web"]["down_seconds"] > 30


def test_a_domain_that_goes_down_twice_is_expected_down_for_both_times_and_then_for_one(fleet: Fleet) -> None:
    """First with what it depends on, then for its own sake in its own wave: what is remembered is one time."""
    fleet.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nmax_unavailable = 2\n')
    fleet.write("alpha/db.toml", 'kernel = "kernels/db"\nmemory = 256\nwave = -1\n')
    fleet.write("alpha/web.toml", 'kernel = "kernels/web"\nmemory = 256\ndepends_on = ["db"]\n')
    fleet.apply()
    measured = []
    for behaviour in (BETTER, GOOD):
        for name in ("db", "web"):
            fleet.kernel(name, f"{behaviour}\nboot_seconds = 10")
        expected = downtime(fleet)
        outages = {outage["address"]: outage for outage in json.loads(fleet.apply("--json").out)["outages"]}
        measured.append(outages["alpha/web"]["down_seconds"])
    assert expected == pytest.approx(measured[0], rel=0.2), "twice, each as long as it was"
    fleet.kernel("web", BETTER)
    assert downtime(fleet) == pytest.approx(measured[1] / 2, rel=0.3), "once"


def test_a_first_boot_and_a_live_change_are_no_outages(fleet: Fleet) -> None:
    assert json.loads(fleet.apply("--json").out)["outages"] == []
    fleet.run("sim", "alpha", "set", "web", "memory=200")
    assert json.loads(fleet.apply("--json").out)["outages"] == []
