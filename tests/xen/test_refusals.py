"""What must not happen, tried on a real host: each test shows a promise being kept, and nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.xen.fleet import REFUSED, Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 128
shutdown_timeout = "60s"
ready = { min_seconds = 1 }
"""


@pytest.fixture(autouse=True)
def _empty_again(fleet: Fleet) -> Iterator[None]:
    """Each test begins with no domain of ours."""
    yield
    fleet.tear_down()
    for file in (fleet.specs / "lab").glob("*.toml"):
        if file.stem != "host":
            file.unlink()


def test_a_domain_named_like_an_unmanaged_one_is_blocked(lab: Lab, fleet: Fleet) -> None:
    fleet.write("legacy2", GUEST)
    fleet.write("web", GUEST)
    # `legacy` itself is watched over by a fixture; a file that nobody runs is as little ours.
    lab.put("/etc/xen/legacy2.cfg", 'name = "legacy2"\n')
    assert fleet.actions(exit_code=REFUSED) == {"legacy2": "blocked", "web": "create"}

    fleet.apply(exit_code=REFUSED)

    assert "legacy2" not in lab.domains()
    assert lab.ssh("cat /etc/xen/legacy2.cfg").stdout == 'name = "legacy2"\n'
    assert "web" in lab.domains(), "a blocked domain holds back only itself"


def test_a_guest_that_ignores_shutdown_keeps_running(lab: Lab, fleet: Fleet) -> None:
    fleet.write("deaf", GUEST.replace("console=hvc0", "console=hvc0 deaf").replace("60s", "4s"))
    fleet.apply()
    lab.wait_for_guest("deaf")
    domid = lab.domains()["deaf"]
    fleet.edit("deaf", "memory = 128", "memory = 128\nmaxmem = 160")
    assert fleet.actions() == {"deaf": "restart"}

    result = fleet.apply(exit_code=1)

    assert lab.domains()["deaf"] == domid
    assert lab.console("deaf", "echo here") == "here"
    assert "deaf" in result.stdout + result.stderr


def test_a_definition_that_does_not_boot_falls_back_and_is_not_tried_again(lab: Lab, fleet: Fleet) -> None:
    # What the console said at earlier boots must not count.
    fleet.write("web", GUEST.replace("min_seconds = 1", 'min_seconds = 1, console = "GUEST-READY", timeout = "40s"'))
    fleet.apply()
    # A kernel that finds no init panics, and the domain is destroyed as on_crash says.
    fleet.edit("web", "console=hvc0", "console=hvc0 rdinit=/nothing init=/nothing panic=-1")
    assert fleet.actions() == {"web": "restart"}

    result = fleet.apply(exit_code=1)

    lab.wait_until("the old definition runs", lambda: "nothing" not in lab.console("web", "cat /proc/cmdline"))
    assert "panic" in (result.stdout + result.stderr).lower(), "the console's last lines are shown"
    domid = lab.domains()["web"]
    fleet.run("apply", "--yes", exit_code=REFUSED)
    assert lab.domains()["web"] == domid, "what failed is not tried again"


def test_what_does_not_fit_into_memory_is_refused_whole(lab: Lab, fleet: Fleet) -> None:
    fleet.write("small", GUEST)
    fleet.write("huge", GUEST.replace("memory = 128", 'memory = "64GiB"'))
    before = lab.domains()

    result = fleet.apply(exit_code=REFUSED)

    assert lab.domains() == before
    assert "huge" in result.stdout + result.stderr


def test_without_consent_nothing_is_done(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST)

    fleet.run("apply", exit_code=REFUSED)

    assert "web" not in lab.domains()
    assert lab.ssh("ls /etc/xen/web.cfg", check=False).returncode != 0


def test_only_one_apply_works_on_a_host(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST)
    first = fleet.start("apply", "--yes")
    try:
        lab.wait_until("the first one works", lambda: lab.ssh("ls /etc/xen/web.cfg", check=False).returncode == 0)
        ended: list[int] = []
        while first.poll() is None and REFUSED not in ended:  # who sees web paused, as xl makes it, has nothing to do
            second = fleet.start("apply", "--yes")
            second.communicate(timeout=120)
            ended.append(second.returncode)
        assert ended[-1] == REFUSED
        assert {*ended} <= {0, REFUSED}
    finally:
        first.communicate(timeout=120)
    assert first.returncode == 0
    assert "web" in lab.domains()
    fleet.assert_nothing_to_do()


def test_an_apply_that_was_killed_is_finished_by_the_next_one(lab: Lab, fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.write(name, GUEST + f'disk = [{{ vdev = "xvda", path = "/srv/{name}.img", size = "8MiB" }}]\n')
    first = fleet.start("apply", "--yes")
    # In the middle of it: one has been started, the other perhaps not.
    lab.wait_until("a domain is being made", lambda: bool({"one", "two"} & lab.domains().keys()))
    first.kill()
    first.communicate(timeout=10)

    lab.wait_until("the lock of the dead is gone", lambda: _applied(fleet), timeout_seconds=90)

    assert lab.domains().keys() == {"one", "two", "legacy"}
    fleet.assert_nothing_to_do()


def _applied(fleet: Fleet) -> bool:
    process = fleet.start("apply", "--yes", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode in {0, REFUSED}, out + err
    if process.returncode == 0:
        assert json.loads(out)["failed"] == []
    return process.returncode == 0


def test_a_saved_plan_is_followed_once(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST)
    plan = str(fleet.folder / "web.plan")
    fleet.run("plan", "--out", plan)

    fleet.apply(plan)
    assert "web" in lab.domains()
    domid = lab.domains()["web"]

    fleet.apply(plan, exit_code=REFUSED)
    assert lab.domains()["web"] == domid


def test_a_host_that_does_not_answer_is_an_error_and_not_an_empty_host(fleet: Fleet) -> None:
    fleet.write("web", GUEST)
    host = fleet.specs / "lab" / "host.toml"
    text = host.read_text()
    host.write_text(text.replace("ssh://root@lab", "ssh://root@127.0.0.1:1"))
    try:
        document = fleet.plan(exit_code=1)
    finally:
        host.write_text(text)
    assert document["hosts"]["lab"]["observed"] is False
    assert document["steps"] == []
