"""A fleet's life, told in order: each test goes on where the one before it stopped.

What came of it is read with plain `xl` and from inside the guests, never by our own code.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

MIB = 1024 * 1024
KERNEL = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
shutdown_timeout = "60s"
ready = { min_seconds = 1 }
"""
WEB = f"""{KERNEL}
cmdline = "console=hvc0 guest.ip=10.77.0.11"
memory = 128
maxmem = 192
vcpus = 1
maxvcpus = 2
vif = [{{ bridge = "xenbr0" }}]
disk = [{{ vdev = "xvda", path = "/srv/web.img", size = "16MiB" }}]
"""
DB = f"""{KERNEL}
cmdline = "console=hvc0"
memory = 128
disk = [{{ vdev = "xvda", lv = "vg0/db", size = "16MiB" }}]
"""
QUEUE = f"""{KERNEL}
cmdline = "console=hvc0"
memory = 128
autostart = true
"""


def cpus_in(lab: Lab, domain: str) -> int:
    return int(lab.console(domain, "nproc"))


def memory_kib_in(lab: Lab, domain: str) -> int:
    return int(lab.console(domain, "grep MemTotal /proc/meminfo").split()[1])


def disk_bytes_in(lab: Lab, domain: str, vdev: str) -> int:
    # A front end learns of another size with the next answer to a request.
    reading = f"dd if=/dev/{vdev} of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null"
    return 512 * int(lab.console(domain, f"{reading}; cat /sys/block/{vdev}/size"))


def seconds_of(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def interfaces_in(lab: Lab, domain: str) -> set[str]:
    return set(lab.console(domain, "ls /sys/class/net").split()) - {"lo"}


def test_three_domains_are_created_in_one_apply(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", WEB)
    fleet.write("db", DB)
    fleet.write("queue", QUEUE)
    assert fleet.actions() == {"web": "create", "db": "create", "queue": "create"}

    fleet.apply()

    assert {"web", "db", "queue"} <= lab.domains().keys()
    for domain in ("web", "db", "queue"):
        lab.wait_for_guest(domain)
    assert disk_bytes_in(lab, "web", "xvda") == 16 * MIB
    assert disk_bytes_in(lab, "db", "xvda") == 16 * MIB
    lab.ssh("timeout 5 bash -c '< /dev/tcp/10.77.0.11/80'")  # web's network works, too


def test_a_second_plan_finds_nothing_to_do(lab: Lab, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    xl_list_seconds = min(seconds_of(lambda: lab.xl("list")) for _ in range(3))
    plan_seconds = min(seconds_of(fleet.assert_nothing_to_do) for _ in range(3))  # the others were disturbed
    with capsys.disabled():  # a figure to read, not to fail by: it depends on what else the machine does
        print(f"\n  nothing to do, found in {plan_seconds:.1f} s; one `xl list` over ssh takes {xl_list_seconds:.1f} s")  # noqa: T201  # see above

    assert set(fleet.actions().values()) == {"no-op"}
    assert fleet.plan()["unmanaged"] == ["lab/legacy"]


def test_the_config_file_is_one_that_plain_xl_takes(lab: Lab) -> None:
    lab.xl("create", "--dryrun", "/etc/xen/web.cfg")


def test_autostart_is_a_link_of_the_dom0(lab: Lab) -> None:
    links = lab.ssh("for link in /etc/xen/auto/*; do readlink -f $link; done").stdout.split()
    assert links == ["/etc/xen/queue.cfg"]


def test_memory_and_vcpus_grow_while_it_runs(lab: Lab, fleet: Fleet) -> None:
    domid = lab.domains()["web"]
    before_kib = memory_kib_in(lab, "web")
    fleet.edit("web", "memory = 128", "memory = 192")
    fleet.edit("web", "\nvcpus = 1", "\nvcpus = 2")
    assert fleet.actions()["web"] == "update"

    fleet.apply()

    assert lab.domains()["web"] == domid
    assert memory_kib_in(lab, "web") - before_kib == 64 * 1024
    lab.wait_until("the second cpu is online", lambda: cpus_in(lab, "web") == 2)
    assert "192" in lab.xl("list", "web").splitlines()[1].split()
    fleet.assert_nothing_to_do()


def test_memory_shrinks_while_it_runs(lab: Lab, fleet: Fleet) -> None:
    domid = lab.domains()["web"]
    fleet.edit("web", "memory = 192", "memory = 160")

    fleet.apply()

    assert lab.domains()["web"] == domid
    assert lab.xl("list", "web").splitlines()[1].split()[2] == "160"
    fleet.assert_nothing_to_do()


def test_a_file_and_a_volume_grow_under_running_guests(lab: Lab, fleet: Fleet) -> None:
    domids = lab.domains()
    fleet.edit("web", "16MiB", "24MiB")
    fleet.edit("db", "16MiB", "24MiB")

    fleet.apply()

    assert lab.domains() == domids
    lab.wait_until("web sees the new size", lambda: disk_bytes_in(lab, "web", "xvda") == 24 * MIB)
    lab.wait_until("db sees the new size", lambda: disk_bytes_in(lab, "db", "xvda") == 24 * MIB)
    fleet.assert_nothing_to_do()


def test_a_disk_and_a_vif_are_attached_while_it_runs(lab: Lab, fleet: Fleet) -> None:
    domid = lab.domains()["web"]
    fleet.edit(
        "web", 'size = "24MiB" }]', 'size = "24MiB" }, { vdev = "xvdb", path = "/srv/web-b.img", size = "8MiB" }]'
    )
    fleet.edit("web", '{ bridge = "xenbr0" }', '{ bridge = "xenbr0" }, { bridge = "xenbr1" }')

    fleet.apply()

    assert lab.domains()["web"] == domid
    assert disk_bytes_in(lab, "web", "xvdb") == 8 * MIB
    assert interfaces_in(lab, "web") == {"eth0", "eth1"}
    assert f"vif{domid}.1" in lab.ssh("ls /sys/class/net/xenbr1/brif").stdout
    fleet.assert_nothing_to_do()


def test_a_vif_is_detached_while_it_runs(lab: Lab, fleet: Fleet) -> None:
    domid = lab.domains()["web"]
    fleet.edit("web", ', { bridge = "xenbr1" }', "")

    fleet.apply()

    assert lab.domains()["web"] == domid
    assert interfaces_in(lab, "web") == {"eth0"}
    assert len(lab.xl("network-list", "web").splitlines()) == 2, "a heading and one interface"
    fleet.assert_nothing_to_do()


def test_another_kernel_is_a_restart_that_keeps_the_disk(lab: Lab, fleet: Fleet) -> None:
    others = {name: domid for name, domid in lab.domains().items() if name != "web"}
    lab.console("web", "echo written-before-the-update | dd of=/dev/xvda conv=fsync 2>/dev/null")
    old_kernel = lab.console("web", "uname -r")
    fleet.edit("web", "vmlinuz-amd64", "vmlinuz-cloud")
    fleet.edit("web", "initrd-amd64", "initrd-cloud")
    assert fleet.actions() == {"web": "restart", "db": "no-op", "queue": "no-op"}

    fleet.apply()

    lab.wait_for_guest("web", boots=2)
    assert lab.console("web", "uname -r") not in {"", old_kernel}
    assert lab.console("web", "uname -r").endswith("-cloud-amd64")
    assert lab.console("web", "head -n 1 /dev/xvda") == "written-before-the-update"
    assert others.items() <= lab.domains().items(), "the other domains were not restarted"
    fleet.assert_nothing_to_do()


def test_a_reboot_from_inside_is_no_drift(lab: Lab, fleet: Fleet) -> None:
    domid = lab.domains()["queue"]
    lab.xl("reboot", "queue")
    lab.wait_until("queue is back", lambda: lab.domains().get("queue", domid) != domid, timeout_seconds=90)
    lab.wait_for_guest("queue", boots=2)

    fleet.assert_nothing_to_do()


def test_a_domain_is_stopped_and_started(lab: Lab, fleet: Fleet) -> None:
    fleet.edit("db", "memory = 128", 'memory = 128\nstate = "stopped"')
    assert fleet.actions()["db"] == "stop"
    fleet.apply()
    assert "db" not in lab.domains()
    lab.ssh("test -e /etc/xen/db.cfg && test -e /dev/vg0/db")
    fleet.assert_nothing_to_do()

    fleet.edit("db", 'state = "stopped"', 'state = "running"')
    assert fleet.actions()["db"] == "start"
    fleet.apply()
    assert "db" in lab.domains()


def test_a_domain_that_was_powered_off_is_started_again(lab: Lab, fleet: Fleet) -> None:
    lab.xl("destroy", "queue")
    lab.wait_until("queue is gone", lambda: "queue" not in lab.domains())
    assert fleet.actions()["queue"] == "start"

    fleet.apply()

    assert "queue" in lab.domains()
    fleet.assert_nothing_to_do()


def test_a_removed_spec_destroys_its_domain_and_keeps_its_disk(lab: Lab, fleet: Fleet) -> None:
    fleet.remove("web")
    assert fleet.actions()["web"] == "destroy"

    fleet.apply()

    assert lab.domains().keys() == {"db", "queue", "legacy"}
    assert lab.ssh("head -n 1 /srv/web.img").stdout.startswith("written-before-the-update")
    assert lab.ssh("ls -d /etc/xen/web.cfg /var/lib/xen/kernels/web", check=False).stdout == ""
    fleet.assert_nothing_to_do()
