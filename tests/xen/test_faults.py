"""What goes wrong on a dom0 for a passing cause, or was left there by others, tried on a real Xen.

No kernel is at fault in any of it: when the cause has gone, the next apply makes all as specified.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.xen.fleet import REFUSED, Fleet
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

FAILED = 1
INTERRUPTED = 130
GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
maxmem = 128
shutdown_timeout = "60s"
ready = { min_seconds = 1, timeout = "180s" }
"""
WITH_FILE = GUEST + 'disk = [{ vdev = "xvda", path = "/srv/web.img", size = "8MiB" }]\n'
MAC = "00:16:3e:77:00:01"
WITH_SLOW_SCRIPT = GUEST + f'vif = [{{ bridge = "xenbr0", mac = "{MAC}", script = "vif-slow" }}]\n'
LOOP_DEVICES = 8


@pytest.fixture(autouse=True)
def _empty_again(fleet: Fleet) -> Iterator[None]:
    """Each test begins with no domain of ours."""
    host = fleet.specs / "lab" / "host.toml"
    if "scripts" not in host.read_text():
        host.write_text(host.read_text() + '\n[allow]\nscripts = ["vif-slow"]\n')
    yield
    fleet.tear_down()
    for file in (fleet.specs / "lab").glob("*.toml"):
        if file.stem != "host":
            file.unlink()


@contextmanager
def no_free_loop_device(lab: Lab) -> Iterator[None]:
    """Take all loop devices, and the file by which the kernel makes new ones."""
    lab.ssh(
        "mv /dev/loop-control /root/; "
        f"for i in $(seq 0 {LOOP_DEVICES - 1}); do "
        "truncate -s 1M /srv/taken$i; [ ! -b /dev/loop$i ] || losetup /dev/loop$i /srv/taken$i 2>/dev/null; done"
    )
    try:
        yield
    finally:
        lab.ssh(
            "for loop in $(losetup -n -O NAME,BACK-FILE | awk '/taken/ { print $1 }'); do losetup -d $loop; done; "
            "mv /root/loop-control /dev/; rm /srv/taken*"
        )


@contextmanager
def slow_script(lab: Lab) -> Iterator[None]:
    """A hotplug script that sleeps for longer than libxl waits for it, until the context ends."""
    lab.ssh(
        "cd /etc/xen/scripts && cp vif-bridge vif-slow && "
        "sed -i '1a [ \"$1\" != online ] || [ ! -e /root/slow ] || sleep 120' vif-slow && touch /root/slow"
    )
    try:
        yield
    finally:
        lab.ssh("rm /root/slow; pkill -x sleep", check=False)


def status_of(fleet: Fleet, address: str, exit_code: int = 0) -> tuple[str, str]:
    """The one word that `status` has for a domain, and why."""
    document = json.loads(fleet.run("status", "--json", exit_code=exit_code).stdout)
    (entry,) = (entry for entry in document["domains"] if entry["address"] == address)
    return entry["status"], entry["reason"]


def assert_as_specified_and_not_quarantined(lab: Lab, fleet: Fleet, domain: str) -> None:
    fleet.apply()
    assert domain in lab.domains()
    assert lab.ssh(f"ls /var/lib/xen/kernels/{domain}/quarantine.json", check=False).returncode != 0
    fleet.assert_nothing_to_do()


def test_loop_devices_that_are_used_up_are_not_held_against_the_kernel(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", WITH_FILE)
    with no_free_loop_device(lab):
        failed = fleet.apply(exit_code=FAILED)
        assert "loop" in failed.stdout + failed.stderr, "xl's own reason is told"
        assert "web" not in lab.domains()

    assert_as_specified_and_not_quarantined(lab, fleet, "web")


def test_a_hotplug_script_that_hangs_is_not_held_against_the_kernel(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", WITH_SLOW_SCRIPT)
    with slow_script(lab):
        failed = fleet.apply(exit_code=FAILED)
        assert "vif-slow" in failed.stdout + failed.stderr, "xl's own reason is told"
        assert "web" not in lab.domains(), "xl clears away what it could not finish"

    assert_as_specified_and_not_quarantined(lab, fleet, "web")


def test_an_update_that_meets_a_hanging_script_comes_back_and_is_tried_again(lab: Lab, fleet: Fleet) -> None:
    with slow_script(lab):
        lab.ssh("rm /root/slow")
        fleet.write("web", WITH_SLOW_SCRIPT)
        fleet.apply()
        lab.wait_for_guest("web")
        fleet.edit("web", "console=hvc0", "console=hvc0 quiet")
        # It hangs at the new start, and no longer when the old definition is started again.
        lab.ssh("sed -i '2s/sleep 120/{ rm \\/root\\/slow; sleep 120; }/' /etc/xen/scripts/vif-slow")
        lab.ssh("touch /root/slow")
        fleet.apply(exit_code=FAILED)
        lab.wait_until("the old one is back", lambda: "web" in lab.domains())
    assert_as_specified_and_not_quarantined(lab, fleet, "web")
    assert "quiet" in lab.console("web", "cat /proc/cmdline")


def test_a_mib_more_is_reached(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST)
    fleet.apply()
    lab.wait_for_guest("web")
    domid = lab.domains()["web"]
    fleet.edit("web", "memory = 96", "memory = 97")

    fleet.apply()

    assert lab.domains()["web"] == domid
    fleet.assert_nothing_to_do()


def test_an_interface_attached_by_hand_is_taken_over(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST)
    fleet.apply()
    lab.wait_for_guest("web")
    domid = lab.domains()["web"]
    lab.xl("network-attach", "web", f"mac={MAC}", "bridge=xenbr0")
    fleet.write("web", GUEST + f'vif = [{{ mac = "{MAC}", bridge = "xenbr0" }}]\n')
    assert fleet.actions() == {"web": "update"}

    fleet.apply()

    assert lab.domains()["web"] == domid
    fleet.assert_nothing_to_do()


def test_an_interface_whose_script_was_cut_short_is_attached_anew(lab: Lab, fleet: Fleet) -> None:
    with slow_script(lab):
        fleet.write("web", GUEST)
        fleet.apply()
        lab.wait_for_guest("web")
        domid = lab.domains()["web"]
        lab.ssh(f"nohup xl network-attach web mac={MAC} bridge=xenbr0 script=vif-slow >/dev/null 2>&1 & sleep 0.1")
        lab.wait_until("the guest has it", lambda: "eth0" in lab.console("web", "ls /sys/class/net"))
        lab.ssh("pkill -9 -f '[x]l network-attach'")
    assert MAC in lab.xl("list", "-l", "web"), "xl takes it for whole"
    assert lab.ssh("ls /sys/class/net/xenbr0/brif").stdout == ""
    fleet.write("web", WITH_SLOW_SCRIPT)
    assert fleet.actions() == {"web": "update"}

    fleet.apply()

    assert lab.domains()["web"] == domid
    assert lab.ssh("ls /sys/class/net/xenbr0/brif").stdout == f"vif{domid}.0\n"
    fleet.assert_nothing_to_do()


def test_a_paused_domain_is_left_alone_until_somebody_asks(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST)
    fleet.apply()
    lab.wait_for_guest("web")
    domid = lab.domains()["web"]
    lab.xl("pause", "web")

    status, reason = status_of(fleet, "lab/web")
    assert "paused" in status + reason
    fleet.apply()
    assert lab.xl("list", "web").split()[-2] == "--p---"

    fleet.apply("--restart", "lab/web")
    assert lab.domains()["web"] == domid
    assert lab.xl("list", "web").split()[-2] in {"r-----", "-b----", "------"}
    fleet.assert_nothing_to_do()


def test_a_domain_that_was_left_half_made_is_cleared_away_and_started(lab: Lab, fleet: Fleet) -> None:
    with slow_script(lab):
        lab.ssh("rm /root/slow")
        fleet.write("web", WITH_SLOW_SCRIPT)
        fleet.apply()
        domid = lab.domains()["web"]
        lab.xl("destroy", "web")
        lab.ssh("touch /root/slow")
        lab.ssh("nohup xl create /etc/xen/web.cfg >/dev/null 2>&1 & sleep 0.1")
        lab.wait_until("it is being made", lambda: "web" in lab.domains())

        fleet.apply(exit_code=REFUSED)
        assert lab.domains()["web"] != domid, "nobody touches what xl still makes"

        lab.ssh("pkill -9 -f '[x]l create /etc/xen/web.cfg'")
        half_made = lab.domains()["web"]
        assert lab.xl("list", "web").split()[-2] == "--p---"

    fleet.apply()
    assert lab.domains()["web"] != half_made
    lab.wait_for_guest("web", boots=2)
    fleet.assert_nothing_to_do()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_apply_that_is_stopped_brings_back_what_is_down(lab: Lab, fleet: Fleet, how: signal.Signals) -> None:
    fleet.write("web", GUEST)
    fleet.apply()
    lab.wait_for_guest("web")
    domid = lab.domains()["web"]
    fleet.edit("web", "console=hvc0", "console=hvc0 quiet")

    process = fleet.start("apply", "--yes")
    try:
        lab.wait_until("it goes down", lambda: lab.domains().get("web") != domid)
        process.send_signal(how)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()

    assert process.returncode == 128 + how, out + err
    assert "Traceback" not in err
    assert lab.domains().get("web", domid) != domid, "it runs again"
    assert lab.ssh("pgrep -f reconciler", check=False).stdout == "", "nothing of it stays on the host"
    fleet.apply()
    fleet.assert_nothing_to_do()


def test_a_crash_that_is_kept_for_its_dump_is_left_until_somebody_asks(lab: Lab, fleet: Fleet) -> None:
    fleet.write("web", GUEST + 'on_crash = "preserve"\n')
    fleet.apply()
    lab.wait_for_guest("web")
    domid = lab.domains()["web"]
    lab.console("web", "(sleep 1; echo c > /proc/sysrq-trigger) & true")
    lab.wait_until("it has crashed", lambda: "c" in lab.xl("list", "web").split()[-2])

    status, reason = status_of(fleet, "lab/web")
    assert status == "stalled"
    assert "preserve" in reason
    fleet.apply(exit_code=REFUSED)
    assert lab.domains()["web"] == domid

    fleet.apply("--restart", "lab/web")
    assert lab.domains()["web"] != domid
    fleet.assert_nothing_to_do()
