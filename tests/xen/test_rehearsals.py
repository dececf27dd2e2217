"""Rehearsals on a real Xen: what a bad kernel costs a running domain with one and without, side by side.

The running guest counts by itself, ten times a second: that it went on is seen from inside.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterator

import pytest

from tests.xen.fleet import HOST_TOML, Fleet
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

FAILED = 1
GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
shutdown_timeout = "60s"
rehearse = "required"
ready = { min_seconds = 1, timeout = "60s", console = "GUEST-READY" }
"""
DISKS = {
    "volume": 'disk = [{ vdev = "xvda", lv = "vg0/reh", size = "64MiB" }]\n',
    "file": 'disk = [{ vdev = "xvda", path = "/srv/reh.img", size = "32MiB" }]\n',
}
BAD = {
    "panics": "console=hvc0 rdinit=/no/such/init",
    "reboots": "console=hvc0 rdinit=/sbin/reboot",
    "hangs": "console=hvc0 rdinit=/bin/cat",
}


@pytest.fixture(params=DISKS)
def disk(request: pytest.FixtureRequest, lab: Lab, fleet: Fleet) -> Iterator[str]:
    """web runs, with a disk of this kind."""
    host = fleet.specs / "lab" / "host.toml"
    host.write_text(HOST_TOML + '[rehearsal]\npause = true\ncopy_limit = "64MiB"\n')
    fleet.write("reh", GUEST + DISKS[request.param])
    fleet.apply()
    yield request.param
    fleet.tear_down("reh")
    host.write_text(HOST_TOML)


def domid_of(lab: Lab) -> str:
    return lab.domains()["reh"]


def begin_to_count(lab: Lab) -> None:
    """Let the guest count. On a busy machine its console answers only after a while."""
    count = "(n=0; while true; do n=$((n+1)); echo $n >/tmp/count; sleep 0.1; done) >/dev/null 2>&1 &"

    def counts() -> bool:
        if count_of(lab) == 0:
            lab.ssh(shlex.join(["guest-says", "reh", count]), check=False)
        return count_of(lab) > 0

    lab.wait_until("reh counts", counts, timeout_seconds=180)


def count_of(lab: Lab) -> int:
    answer = lab.ssh(shlex.join(["guest-says", "reh", "cat /tmp/count"]), check=False).stdout.strip()
    return int(answer) if answer.isdecimal() else 0


def assert_nothing_is_left(lab: Lab) -> None:
    assert not [name for name in lab.domains() if name.endswith(".rehearsal")]
    assert lab.ssh("lvs --noheadings -o lv_name @reconciler.rehearsal", check=False).stdout.strip() == ""
    assert lab.ssh("ls /srv | grep rehearsal", check=False).stdout == ""
    assert lab.ssh("ls /var/lib/xen/kernels/.rehearsals 2>/dev/null", check=False).stdout == ""
    assert lab.ssh("ls /sys/class/net | grep '^rr'", check=False).stdout == ""
    assert lab.ssh("losetup -a | grep rehearsal", check=False).stdout == ""


@pytest.mark.parametrize("how", BAD)
def test_a_bad_kernel_costs_nothing_with_a_rehearsal(lab: Lab, fleet: Fleet, disk: str, how: str) -> None:
    domid = domid_of(lab)
    begin_to_count(lab)
    before = count_of(lab)
    fleet.edit("reh", "console=hvc0", BAD[how])
    began = time.monotonic()
    said = fleet.apply(exit_code=FAILED)
    took = time.monotonic() - began
    assert "In its rehearsal reh did not get ready" in said.stdout + said.stderr
    assert domid_of(lab) == domid
    assert count_of(lab) > before  # the same guest goes on
    assert_nothing_is_left(lab)
    sys.stdout.write(f"{disk}, {how}: down for 0 s with a rehearsal, which took {took:.0f} s\n")
    fleet.edit("reh", BAD[how], "console=hvc0")
    fleet.edit("reh", 'rehearse = "required"', 'rehearse = "off"')
    fleet.edit("reh", "console=hvc0", BAD[how])
    fallen = fleet.apply("--retry", "lab/reh", exit_code=FAILED)
    down = re.search(r"down for ([^.]+)\.", fallen.stdout)
    sys.stdout.write(f"{disk}, {how}: down for {down[1] if down else '?'} without\n")


def test_a_good_kernel_is_rehearsed_and_then_run(lab: Lab, fleet: Fleet, disk: str) -> None:
    fleet.edit("reh", "vmlinuz-amd64", "vmlinuz-cloud-amd64")
    fleet.edit("reh", "initrd-amd64", "initrd-cloud-amd64")
    steps = [step["kind"] for step in fleet.plan()["steps"] if step["address"] == "lab/reh"]
    assert steps.index("rehearse") < steps.index("shutdown")
    fleet.apply()
    assert_nothing_is_left(lab)
    fleet.assert_nothing_to_do()


def test_what_a_killed_controller_left_goes_in_the_next_run(lab: Lab, fleet: Fleet, disk: str) -> None:
    domid = domid_of(lab)
    fleet.edit("reh", "console=hvc0", BAD["hangs"])
    process = fleet.start("apply", "--yes")
    lab.wait_until("the throwaway is there", lambda: "reh.rehearsal" in lab.domains(), timeout_seconds=120)
    process.kill()
    process.wait()
    fleet.edit("reh", BAD["hangs"], "console=hvc0")
    fleet.apply_after_a_kill()
    assert_nothing_is_left(lab)
    assert domid_of(lab) == domid
