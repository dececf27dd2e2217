"""A controller is killed in the middle of a create, again and again; what it was making is made once, and whole.

test_cut_short.py does so in each step of a longer plan, and with the power of the dom0.
"""

from __future__ import annotations

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

GOLDEN = "/srv/fresh-golden.img"
FRESH = f"""
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
disk = [{{ vdev = "xvda", path = "/srv/fresh.img", source = "{GOLDEN}" }}]
ready = {{ min_seconds = 1, timeout = "120s", console = "GUEST-READY" }}
"""


def test_a_create_whose_controller_is_killed_three_times_is_made_once_and_whole(lab: Lab, fleet: Fleet) -> None:
    lab.ssh(f"dd if=/dev/urandom of={GOLDEN} bs=1M count=24 2>/dev/null; sync", timeout_seconds=300)
    fleet.write("fresh", FRESH)

    # Each is killed as the step after this one begins: while the disk is copied, while xl creates, while it boots.
    for ended in ("stage /boot/guest/initrd", "write the config", "start"):
        fleet.kill_an_apply_after(f"lab/fresh: {ended}")
    fleet.apply_after_a_kill()

    assert [line.split()[0] for line in lab.xl("list").splitlines()].count("fresh") == 1
    assert lab.console_log("fresh").count("GUEST-READY") == 1, "it was started once"
    digests = lab.ssh(f"sha256sum {GOLDEN} /srv/fresh.img", timeout_seconds=300).stdout.split()
    assert digests[0] == digests[2], "the disk is a whole copy"
    assert lab.ssh("ls /srv | grep fresh").stdout.split() == ["fresh-golden.img", "fresh.img"], "and no other is left"
    fleet.assert_nothing_to_do()
