"""Each defect that doctor looks for, made for real in the dom0 and undone afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 128
"""


@contextmanager
def made(lab: Lab, make: str, undo: str) -> Iterator[None]:
    """A defect, made by one shell command in the dom0 and undone by another."""
    try:
        lab.ssh(make)
        yield
    finally:
        lab.ssh(undo, check=False)


def findings(fleet: Fleet, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    """The last finding of each check."""
    document = json.loads(fleet.run("doctor", "--json", exit_code=exit_code).stdout)
    return {finding["check"]: finding for finding in document["findings"]}


@pytest.fixture
def spec(fleet: Fleet) -> Iterator[Fleet]:
    """A tree with a domain that nobody applies."""
    yield fleet
    for file in (fleet.specs / "lab").glob("*.toml"):
        if file.stem != "host":
            file.unlink()


def test_nothing_of_the_dom0_itself_is_unknown(fleet: Fleet) -> None:
    assert {check for check, one in findings(fleet).items() if one["state"] == "unknown"} == set()


@pytest.mark.parametrize(
    ("check", "make", "undo", "part"),
    [
        (
            "autoballoon",
            "cp -p /etc/xen/xl.conf /tmp/xl.conf; echo 'autoballoon=\"on\"' >>/etc/xen/xl.conf",
            "mv /tmp/xl.conf /etc/xen/xl.conf",
            'autoballoon = "on"',
        ),
        (
            "xendomains-save",
            "cp -p /etc/default/xendomains /tmp/xendomains; mkdir -p /etc/rc3.d; [ -e /etc/rc3.d/S99xendomains ] ||"
            " ln -s ../init.d/xendomains /etc/rc3.d/S99xendomains;"
            " echo XENDOMAINS_SAVE=/var/lib/xen/elsewhere >>/etc/default/xendomains",
            "mv /tmp/xendomains /etc/default/xendomains; rm -f /etc/rc3.d/S99xendomains",
            "/var/lib/xen/elsewhere",
        ),
        ("autostart", "ln -s ../legacy.cfg /etc/xen/auto/legacy", "rm -f /etc/xen/auto/legacy", "/etc/xen/auto/legacy"),
        (
            "kernel-dir",
            "mkdir -p /var/lib/xen/kernels && mount -t tmpfs -o size=1m tmpfs /var/lib/xen/kernels",
            "umount /var/lib/xen/kernels",
            "MiB are free",
        ),
        (
            "toolstack",
            "cp /bin/sleep /tmp/libvirtd; /tmp/libvirtd 300 </dev/null >/dev/null 2>&1 &",
            'for process in /proc/[0-9]*; do [ "$(cat $process/comm)" != libvirtd ] || kill ${process#/proc/}; done',
            "libvirtd runs there",
        ),
        (
            "ulimit",
            "touch /root/.bashrc; cp -p /root/.bashrc /tmp/bashrc;"
            " { echo 'ulimit -n 48'; cat /tmp/bashrc; } >/root/.bashrc",
            "mv /tmp/bashrc /root/.bashrc",
            "48 files open at once",
        ),
        (
            "ssh",
            "sed -i.orig '1i MaxSessions 2' /etc/ssh/sshd_config",
            "mv /etc/ssh/sshd_config.orig /etc/ssh/sshd_config",
            "carry 2 commands at once",
        ),
        ("clock", "date -s '+90 seconds'", "date -s '-90 seconds'", "s ahead of this machine's"),
    ],
)
def test_a_defect_of_the_dom0(lab: Lab, fleet: Fleet, check: str, make: str, undo: str, part: str) -> None:
    before = findings(fleet).get(check, {"what": ""})["what"]
    assert part not in before
    with made(lab, make, undo):
        finding = findings(fleet)[check]
    assert (finding["state"], part in finding["what"]) == ("found", True), finding
    assert finding["breaks"] and finding["hint"]
    assert findings(fleet).get(check, {"what": ""})["what"] == before


def test_a_bridge_and_a_volume_group_that_are_not_there(spec: Fleet) -> None:
    disk = 'disk = [{ vdev = "xvda", lv = "vg7/web", size = "8MiB" }]\n'
    spec.write("web", f'{GUEST}{disk}vif = [{{ bridge = "xenbr7" }}]\n')
    host = spec.specs / "lab" / "host.toml"
    text = host.read_text()
    host.write_text(text.replace('"vg0"', '"vg7"'))
    try:
        found = findings(spec)
    finally:
        host.write_text(text)
    assert "xenbr7" in found["bridges"]["what"]
    assert "xenbr0" in found["bridges"]["what"]
    assert "vg7" in found["lvm"]["what"]


def test_a_key_that_this_xl_does_not_know(spec: Fleet) -> None:
    host = spec.specs / "lab" / "host.toml"
    text = host.read_text()
    host.write_text(text + '[allow]\nxl_keys = ["llc_colors"]\n')
    spec.write("web", GUEST + '[xl]\nllc_colors = "0-1"\n')
    try:
        found = findings(spec)
    finally:
        host.write_text(text)
    assert "llc_colors, which xl knows since Xen 4.20; the host has 4.17" in found["xen-version"]["what"]


def test_a_disk_and_a_mac_of_a_domain_that_is_not_ours(lab: Lab, spec: Fleet) -> None:
    devices = 'disk = ["/srv/theirs.img,raw,xvda,rw"]\nvif = ["mac=00:16:3e:77:77:77,bridge=xenbr0"]\n'
    spec.write(
        "web",
        f'{GUEST}disk = [{{ vdev = "xvda", path = "/srv/theirs.img", size = "8MiB" }}]\n'
        'vif = [{ bridge = "xenbr0", mac = "00:16:3e:77:77:77" }]\n',
    )
    lab.put("/etc/xen/theirs.cfg", f'name = "theirs"\nmemory = 96\nkernel = "/boot/guest/vmlinuz-amd64"\n{devices}')
    with made(lab, "truncate -s 8M /srv/theirs.img", "rm -f /etc/xen/theirs.cfg /srv/theirs.img"):
        document = json.loads(spec.run("doctor", "--json").stdout)
    told = [one["what"] for one in document["findings"] if one["check"] == "shared"]
    assert any("/srv/theirs.img is a disk of web" in what for what in told)
    assert any("00:16:3e:77:77:77 is a mac of web" in what for what in told)


def test_loop_devices_that_run_out(lab: Lab, spec: Fleet) -> None:
    spec.write("web", GUEST + 'disk = [{ vdev = "xvda", path = "/srv/web.img", size = "8MiB" }]\n')
    take = (
        "mv /dev/loop-control /dev/loop-control.away; truncate -s 1M /srv/taken.img; "
        "for node in /dev/loop[0-9]*; do losetup $node /srv/taken.img 2>/dev/null; done; true"
    )
    give_back = (
        "for node in $(losetup -n -O NAME -j /srv/taken.img); do losetup -d $node; done; "
        "mv /dev/loop-control.away /dev/loop-control; rm -f /srv/taken.img"
    )
    with made(lab, take, give_back):
        finding = findings(spec)["file-devices"]
    assert finding["what"].startswith("0 of ")
    assert "file-devices" not in findings(spec)


def test_a_host_that_does_not_answer_is_one_finding(fleet: Fleet) -> None:
    host = fleet.specs / "lab" / "host.toml"
    text = host.read_text()
    host.write_text(text.replace("ssh://root@lab", "ssh://root@127.0.0.1:1"))
    try:
        found = findings(fleet, exit_code=1)
    finally:
        host.write_text(text)
    assert set(found) == {"observed"}
