"""Rehearsals on a real Xen: what a bad kernel costs a running domain with one and without, side by side.

The running guest measures by itself for how long it stood still: that it went on is seen from inside.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.xen.fleet import HOST_TOML, REFUSED, Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

FAILED = 1
GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
shutdown_timeout = "120s"
rehearse = "required"
ready = { min_seconds = 1, timeout = "120s", console = "GUEST-READY" }
"""
DISKS = {
    "volume": 'disk = [{ vdev = "xvda", lv = "vg0/reh", size = "64MiB" }]\nvif = [{ bridge = "xenbr0" }]\n',
    "file": 'disk = [{ vdev = "xvda", path = "/srv/reh.img", size = "32MiB" }]\n',
}
BAD = {
    "panics": "console=hvc0 rdinit=/bin/echo",
    "finds no root": "console=hvc0 rdinit=/no/such/init root=/dev/xvda",
    "reboots": "console=hvc0 rdinit=/sbin/reboot",
    "hangs": "console=hvc0 rdinit=/bin/cat",
}
# In hundredths of a second since it booted: the time, and the longest that it ever stood still.
COUNT = (
    "(last=0; most=0; while :; do IFS='. ' read -r s c _ </proc/uptime; now=$((s*100+${c#0})); "
    '[ $last = 0 ] || [ $((now-last)) -le $most ] || most=$((now-last)); last=$now; echo "$now $most" >/tmp/count; '
    "sleep 0.1; done) >/dev/null 2>&1 & :"
)
STOOD_STILL_AT_MOST = 10.0  # seconds beyond the pause that the plan shows: a longer one is ended on the host
HOG = """
name = "hog"
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = {mib}
"""


@dataclass(frozen=True, slots=True)
class Count:
    """What the guest has seen by itself since it began to count."""

    seconds: float  # since it booted
    stood_still: float


@pytest.fixture
def host(lab: Lab, fleet: Fleet) -> Iterator[None]:
    """reh is gone in the end, and what the next tests find is an empty host that may pause."""
    file = fleet.specs / "lab" / "host.toml"
    file.write_text(HOST_TOML + '[rehearsal]\npause = true\ncopy_limit = "64MiB"\n')
    yield
    fleet.tear_down("reh")
    file.write_text(HOST_TOML)


def on(fleet: Fleet, disk: str) -> None:
    """reh runs, with a disk of this kind, and counts."""
    fleet.write("reh", GUEST + DISKS[disk])
    fleet.apply()
    begin_to_count(fleet.lab)


def domid_of(lab: Lab) -> str:
    return lab.domains()["reh"]


def begin_to_count(lab: Lab) -> None:
    """Let the guest count. On a busy machine its console answers only after a while."""

    def counts() -> bool:
        if count_of(lab) is None:
            lab.ssh(shlex.join(["guest-says", "reh", COUNT]), check=False)
        return count_of(lab) is not None

    lab.wait_until("reh counts", counts, timeout_seconds=180)


def count_of(lab: Lab) -> Count | None:
    answer = lab.ssh(shlex.join(["guest-says", "reh", "cat /tmp/count"]), check=False).stdout.split()
    return Count(*(int(number) / 100 for number in answer)) if len(answer) == 2 else None


def counted(lab: Lab) -> Count:
    """What it has counted up to now: it is asked until it answers."""
    found: list[Count] = []

    def answers() -> bool:
        found.extend(filter(None, [count_of(lab)]))
        return bool(found)

    lab.wait_until("reh tells its count", answers, timeout_seconds=120)
    return found[-1]


def assert_nothing_is_left(lab: Lab) -> None:
    assert not [name for name in lab.domains() if name.endswith(".rehearsal")]
    assert lab.ssh("lvs --noheadings -o lv_name @reconciler.rehearsal").stdout.strip() == ""
    assert lab.ssh("ls /srv | grep rehearsal", check=False).stdout == ""
    assert lab.ssh("ls /var/lib/xen/kernels/.rehearsals", check=False).stdout == ""
    assert lab.ssh("ls /sys/class/net | grep '^rr'", check=False).stdout == ""
    assert lab.ssh("losetup -a | grep rehearsal", check=False).stdout == ""


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}", end="", flush=True)  # noqa: T201  # figures to read


def see_a_bad_kernel_cost_nothing(
    lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str], disk: str, how: str
) -> None:
    """What runs is left running; and what the spec asks for, in the end, is what runs."""
    domid, before = domid_of(lab), counted(lab)
    fleet.edit("reh", "console=hvc0", BAD[how])
    (planned,) = (step["pause_seconds"] for step in fleet.plan()["steps"] if step["kind"] == "rehearse")

    began = time.monotonic()
    failed = fleet.apply(exit_code=FAILED)
    took = time.monotonic() - began

    assert "In its rehearsal reh did not get ready" in failed.stdout, failed.stdout
    assert domid_of(lab) == domid
    after = counted(lab)
    assert after.seconds > before.seconds, "the same guest goes on"
    assert after.stood_still < planned + STOOD_STILL_AT_MOST, failed.stdout
    assert_nothing_is_left(lab)
    tell(capsys, f"{disk}, {how}: with a rehearsal (of {took:.0f} s) it stood still for {after.stood_still:.2f} s")


def see_what_it_costs_without(lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str], disk: str, how: str) -> None:
    domid = domid_of(lab)
    fleet.apply(exit_code=REFUSED)
    assert domid_of(lab) == domid, "what failed its rehearsal is not tried again"
    fleet.edit("reh", 'rehearse = "required"', 'rehearse = "off"')

    fallen = fleet.apply("--retry", "lab/reh", exit_code=FAILED)

    down = re.search(r"runs its last proven definition again, down for (.+)\.", fallen.stdout)
    assert down, fallen.stdout
    tell(capsys, f"{disk}, {how}: without a rehearsal it was down for {down[1]}")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("host")
def test_a_kernel_that_panics_costs_nothing_and_a_good_one_is_run_after_its_rehearsal(
    lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    on(fleet, "volume")
    see_a_bad_kernel_cost_nothing(lab, fleet, capsys, "volume", "panics")

    see_a_good_kernel_run(lab, fleet, capsys, "volume")


def see_a_good_kernel_run(lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str], disk: str) -> None:
    fleet.write("reh", (GUEST + DISKS[disk]).replace("-amd64", "-cloud"))
    steps = [step["kind"] for step in fleet.plan()["steps"] if step["address"] == "lab/reh"]
    assert steps.index("rehearse") < steps.index("shutdown")

    done = fleet.apply()

    down = re.search(r"lab/reh was down for (.+)\.", done.stdout)
    tell(capsys, f"{disk}, good: rehearsed, and down for {down[1] if down else '?'} to restart")
    assert lab.console("reh", "uname -r").endswith("-cloud-amd64")
    assert_nothing_is_left(lab)
    fleet.assert_nothing_to_do()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("disk", "hows"), [("file", ["panics"]), ("volume", ["finds no root", "reboots", "hangs"])], ids=["file", "volume"]
)
def test_a_bad_kernel_costs_nothing_with_a_rehearsal_and_down_time_without(
    lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str], disk: str, hows: list[str]
) -> None:
    on(fleet, disk)
    for how in hows[:-1]:
        see_a_bad_kernel_cost_nothing(lab, fleet, capsys, disk, how)
        fleet.edit("reh", BAD[how], "console=hvc0")
    see_a_bad_kernel_cost_nothing(lab, fleet, capsys, disk, hows[-1])
    see_what_it_costs_without(lab, fleet, capsys, disk, hows[-1])


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("host")
def test_a_good_kernel_on_a_file_is_run_after_its_rehearsal(
    lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    on(fleet, "file")
    see_a_good_kernel_run(lab, fleet, capsys, "file")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("disk", "seconds"), [("volume", 0), ("file", 2), ("volume", 8)])
def test_what_a_killed_controller_left_goes_in_the_next_run(lab: Lab, fleet: Fleet, disk: str, seconds: float) -> None:
    on(fleet, disk)
    domid, before = domid_of(lab), counted(lab)
    fleet.edit("reh", "console=hvc0", BAD["hangs"])
    process = fleet.start("apply", "--yes")
    lab.wait_until("the throwaway is there", lambda: "reh.rehearsal" in lab.domains(), timeout_seconds=180)
    time.sleep(seconds)  # while xl still makes it, or it boots
    process.kill()
    process.communicate()
    fleet.edit("reh", BAD["hangs"], "console=hvc0")

    fleet.apply_after_a_kill()

    assert_nothing_is_left(lab)
    assert domid_of(lab) == domid
    assert counted(lab).seconds > before.seconds, "the same guest goes on"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("host")
def test_a_host_without_memory_for_a_rehearsal(lab: Lab, fleet: Fleet) -> None:
    on(fleet, "volume")
    domid = domid_of(lab)
    free = int(lab.ssh("xl info free_memory").stdout)
    lab.put("/root/hog.cfg", HOG.format(mib=free - 60))
    lab.xl("create", "-p", "/root/hog.cfg")
    try:
        fleet.write("reh", (GUEST + DISKS["volume"]).replace("-amd64", "-cloud"))

        refused = fleet.apply(exit_code=REFUSED)

        assert re.search(r"its restart has to be rehearsed, and cannot be: .*memory", refused.stdout), refused.stdout
        assert domid_of(lab) == domid
        fleet.edit("reh", 'rehearse = "required"', 'rehearse = "if-possible"')

        done = fleet.apply()

        assert re.search("is restarted without a rehearsal: .*memory", done.stdout), done.stdout
        assert domid_of(lab) != domid
        assert lab.console("reh", "uname -r").endswith("-cloud-amd64")
        assert_nothing_is_left(lab)
    finally:
        lab.xl("destroy", "hog")
