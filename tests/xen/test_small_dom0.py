"""A dom0 of 384 MiB that for a while has too much to do: creates run out of time and memory, and no kernel is to blame.

It boots a lab of its own, beside the one that the other tests share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab, booted

pytestmark = [pytest.mark.xen, pytest.mark.long]

DOM0_MEMORY_MIB = 384
NAMES = ("one", "two", "three")
APPLIES = 2  # once it has time again
APPLY_SECONDS = 900
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
    with booted(DOM0_MEMORY_MIB, cpus=1) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _legacy_is_left_alone() -> None:
    """There is no such domain here."""


@contextmanager
def busy(lab: Lab) -> Iterator[None]:
    """Keep the processor of the dom0 busy, and most of its memory in use."""
    lab.ssh(
        "for i in 1 2 3 4; do (while :; do :; done) >/dev/null 2>&1 & echo $! >>/root/busy; done; "
        "mkdir -p /root/full && mount -t tmpfs -o size=128M full /root/full && "
        "dd if=/dev/zero of=/root/full/zeros bs=1M count=96 2>/dev/null"
    )
    try:
        yield
    finally:
        lab.ssh("kill $(cat /root/busy); rm /root/busy; umount /root/full", check=False, timeout_seconds=300)


def apply_and_see_that_no_kernel_is_blamed(lab: Lab, fleet: Fleet) -> int:
    process = fleet.start("apply", "--yes")
    out, err = process.communicate(timeout=APPLY_SECONDS)
    assert "Traceback" not in err
    assert lab.ssh("ls /var/lib/xen/kernels/*/quarantine.json", check=False).stdout == "", out + err
    return process.returncode


@pytest.mark.timeout(APPLY_SECONDS * 4)
def test_creates_that_fail_on_a_busy_dom0_are_held_against_no_kernel(lab: Lab, fleet: Fleet) -> None:
    for name in NAMES:
        fleet.write(name, GUEST.format(name=name))

    with busy(lab):
        apply_and_see_that_no_kernel_is_blamed(lab, fleet)
    codes = [apply_and_see_that_no_kernel_is_blamed(lab, fleet) for _ in range(APPLIES)]

    assert 0 in codes
    assert set(NAMES) <= lab.domains().keys()
    fleet.assert_nothing_to_do()
