"""Two applies at once, and xl by hand between the steps of one.

What came of it is read with plain `xl` and from inside the guests, never by our own code.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial

import pytest

from tests.xen.fleet import GUEST, REFUSED, RUN_SECONDS, Fleet, rows_of, until_done
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

NAMES = ("one", "two")


@pytest.fixture(autouse=True)
def _empty_again(fleet: Fleet) -> Iterator[None]:
    """Each test begins with no domain of ours."""
    yield
    fleet.tear_down(*NAMES)


def runs_the_new_one(lab: Lab, domain: str) -> bool:
    said = lab.ssh(shlex.join(["guest-says", domain, "uname -r"]), check=False).stdout
    return "cloud" in said


def test_of_two_users_who_apply_at_once_one_waits_or_is_refused_and_nothing_is_made_twice(
    lab: Lab, fleet: Fleet
) -> None:
    for name in NAMES:
        fleet.write(name, GUEST)

    both = [fleet.start("apply", "--yes", "--state-dir", str(fleet.folder / user)) for user in ("anna", "bert")]
    ended = [process.communicate(timeout=RUN_SECONDS) for process in both]

    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0 and codes[1] in (0, REFUSED), ended
    assert {name: rows_of(lab, name) for name in NAMES} == dict.fromkeys(NAMES, 1)
    assert {name: lab.console_log(name).count("GUEST-READY") for name in NAMES} == dict.fromkeys(NAMES, 1)
    fleet.assert_nothing_to_do()


def test_what_somebody_does_with_xl_between_two_steps_is_seen(lab: Lab, fleet: Fleet) -> None:
    for name in NAMES:
        fleet.write(name, GUEST)
    fleet.apply()
    for name in NAMES:
        fleet.write(name, GUEST.replace("-amd64", "-cloud"))

    process = fleet.start("apply", "--yes")
    until_done(process, "lab/one: shut down")
    lab.xl("mem-set", "two", "88m")  # which is to restart next
    lab.xl("create", "/etc/xen/one.cfg", check=False)  # which is just being started
    process.communicate(timeout=RUN_SECONDS)
    fleet.apply_after_a_kill()

    assert {name: rows_of(lab, name) for name in NAMES} == dict.fromkeys(NAMES, 1)
    for name in NAMES:
        lab.wait_until(f"{name} runs the new one", partial(runs_the_new_one, lab, name), 120)
    fleet.assert_nothing_to_do()
