"""A dom0 of 384 MiB with too much to do: creates run out of time and memory there, and no kernel is to blame.

It boots a lab of its own, beside the one that the other tests share.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab, booted

pytestmark = [pytest.mark.xen, pytest.mark.long]

DOM0_MEMORY_MIB = 384
NAMES = ("one", "two", "three")
APPLIES = 5
GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
vif = [{{ bridge = "xenbr0" }}]
disk = [{{ vdev = "xvda", path = "/srv/{name}.img", size = "8MiB" }}]
ready = {{ min_seconds = 1, timeout = "180s" }}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with booted(DOM0_MEMORY_MIB) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _legacy_is_left_alone() -> None:
    """There is no such domain here."""


@pytest.fixture
def busy(lab: Lab) -> Iterator[None]:
    """Keep both processors of the dom0 busy, and most of its memory in use."""
    lab.ssh(
        "for i in 1 2 3 4; do (while :; do :; done) >/dev/null 2>&1 & echo $! >>/root/busy; done; "
        "mkdir -p /root/full && mount -t tmpfs -o size=128M full /root/full && "
        "dd if=/dev/zero of=/root/full/zeros bs=1M count=96 2>/dev/null"
    )
    yield
    lab.ssh("kill $(cat /root/busy); rm /root/busy; umount /root/full", check=False)


@pytest.mark.usefixtures("busy")
def test_creates_that_fail_on_a_busy_dom0_are_held_against_no_kernel(lab: Lab, fleet: Fleet) -> None:
    for name in NAMES:
        fleet.write(name, GUEST.format(name=name))

    for _ in range(APPLIES):
        process = fleet.start("apply", "--yes")
        out, err = process.communicate(timeout=900)
        assert "Traceback" not in err
        assert lab.ssh("ls /var/lib/xen/kernels/*/quarantine.json", check=False).stdout == "", out + err
        if process.returncode == 0:
            break

    assert set(NAMES) <= lab.domains().keys()
    fleet.assert_nothing_to_do()
