"""The lab itself: what the other tests of this folder take for granted about its guests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

CONFIG = """
name = "probe"
kernel = "/boot/guest/vmlinuz-{kernel}"
ramdisk = "/boot/guest/initrd-{kernel}.gz"
cmdline = "console=hvc0 {cmdline}"
memory = 128
maxmem = 192
vcpus = 1
maxvcpus = 2
"""


@pytest.fixture
def no_probe(lab: Lab) -> Iterator[None]:
    yield
    lab.xl("destroy", "probe", check=False)


def start_probe(lab: Lab, kernel: str, cmdline: str = "") -> None:
    lab.put("/srv/probe.cfg", CONFIG.format(kernel=kernel, cmdline=cmdline))
    lab.ssh("rm -f /var/log/xen/console/guest-probe.log")
    lab.xl("create", "/srv/probe.cfg")
    lab.wait_for_guest("probe")


@pytest.mark.usefixtures("no_probe")
def test_a_guest_follows_memory_and_vcpus_and_obeys_shutdown(lab: Lab) -> None:
    start_probe(lab, "amd64")
    assert lab.console("probe", "nproc") == "1"
    before_kib = int(lab.console("probe", "grep MemTotal /proc/meminfo").split()[1])

    lab.xl("vcpu-set", "probe", "2")
    lab.xl("mem-set", "probe", "192m")

    lab.wait_until("the second cpu is online", lambda: lab.console("probe", "nproc") == "2")
    after_kib = int(lab.console("probe", "grep MemTotal /proc/meminfo").split()[1])
    assert after_kib - before_kib == 64 * 1024
    lab.xl("shutdown", "probe")
    lab.wait_until("probe is gone", lambda: "probe" not in lab.domains())


@pytest.mark.usefixtures("no_probe")
def test_the_other_kernel_boots_too_and_a_deaf_guest_stays(lab: Lab) -> None:
    start_probe(lab, "cloud", "deaf")
    assert lab.console("probe", "uname -r").endswith("-cloud-amd64")

    lab.xl("shutdown", "probe")

    assert lab.console("probe", "sleep 3; echo here") == "here"


def test_the_volume_group_can_be_used(lab: Lab) -> None:
    lab.ssh("lvcreate --quiet --size 8M --name probe vg0")
    try:
        assert lab.ssh("blockdev --getsize64 /dev/vg0/probe").stdout.strip() == str(8 * 1024 * 1024)
    finally:
        lab.ssh("lvremove --yes vg0/probe")
