"""The definition of a running domain: xl's JSON laid over the file that it was started from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.texts.running import overlay
from tests.texts.recorded import UUID, running_json

KERNEL = Image(sha256="ab" * 32, path="/boot/guest/vmlinuz")
RAMDISK = Image(sha256="cd" * 32, path="/boot/guest/initrd.gz")
FILE = Domain(
    name="g2",
    uuid=UUID,
    kernel=KERNEL,
    ramdisk=RAMDISK,
    cmdline="console=hvc0 quiet",
    memory_kib=96 * 1024,
    maxmem_kib=160 * 1024,
    vcpus=1,
    maxvcpus=2,
    cpus="0-1",
    disks=(
        Disk(vdev="0xca00", devid=51712, kind="file", target="/srv/g2.img", on_delete="delete", size_bytes=1 << 30),
    ),
    vifs=(Vif(devid=0, mac="00:16:3e:00:00:02", named=True),),
    on_crash="preserve",
    xl=(("serial", "pty"),),
    prevent_destroy=True,
    depends_on=("db",),
)


def test_without_a_file_the_json_is_taken_as_it_is() -> None:
    assert overlay(running_json(), None, {"/boot/guest/vmlinuz": "ab" * 32}) == Domain(
        name="g2",
        uuid=UUID,
        kernel=KERNEL,
        ramdisk=Image(sha256=""),
        cmdline="console=hvc0 quiet",
        memory_kib=96 * 1024,
        maxmem_kib=160 * 1024,
        vcpus=1,
        maxvcpus=2,
        cpu_weight=256,
        cap=0,
        disks=(Disk(vdev="xvda", devid=51712, kind="file", target="/srv/g2.img"),),
        vifs=(Vif(devid=0, mac="00:16:3e:00:00:02", bridge="xenbr0"),),  # of the usual type, which says nothing
        on_crash="preserve",
    )


def test_an_unchanged_domain_runs_what_its_file_says() -> None:
    found = overlay(running_json(), FILE, {})
    assert found == FILE
    assert found.disks[0].size_bytes == 1 << 30
    assert found.vifs[0].named


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"target_memkb": 184320}, {"memory_kib": 184320}),
        ({"max_memkb": 204800}, {"maxmem_kib": 204800}),
        ({"avail_vcpus": [0, 1]}, {"vcpus": 2}),
        ({"cmdline": "single"}, {"cmdline": "single"}),
        ({"ramdisk": None}, {"ramdisk": None}),
        ({"bootloader": "pygrub"}, {"bootloader": "pygrub"}),
        ({"kernel": "/boot/other"}, {"kernel": Image(sha256="")}),
        ({"sched_params": {"weight": 512, "cap": 50}}, {}),  # the file leaves them open
    ],
)
def test_what_was_changed_in_the_running_domain_shows(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert overlay(running_json(**changes), FILE, {}) == replace(FILE, **expected)


def test_the_share_of_cpus_shows_where_the_file_sets_it() -> None:
    file = replace(FILE, cpu_weight=300, cap=10)
    found = overlay(running_json(sched_params={"weight": 512, "cap": 50}), file, {})
    assert (found.cpu_weight, found.cap) == (512, 50)


def test_the_digest_of_a_kernel_is_that_of_the_staged_file_and_else_what_the_file_knows() -> None:
    assert overlay(running_json(), FILE, {KERNEL.path: "99" * 32}).kernel == Image(sha256="99" * 32)
    elsewhere = replace(FILE, kernel=replace(KERNEL, path="/boot/old"))
    assert overlay(running_json(), elsewhere, {}).kernel == Image(sha256="")


def test_a_domain_that_has_shut_down_keeps_its_number_of_cpus() -> None:
    config = running_json()
    del config["b_info"]["avail_vcpus"]
    assert overlay(config, FILE, {}).vcpus == 1
    del config["b_info"]["max_vcpus"]
    assert overlay(config, None, {}).maxvcpus == 1


@pytest.mark.parametrize(
    ("file", "disk", "found"),
    [
        ({}, {"readwrite": 0}, {"access": "ro"}),
        ({}, {"format": "qcow2"}, {"format": "qcow2"}),
        ({}, {"pdev_path": "/srv/other.img"}, {"target": "/srv/other.img", "on_delete": "keep"}),
        ({"kind": "device", "target": "/dev/vg0/g2"}, {"pdev_path": "/dev/vg0/g2"}, {}),
    ],
)
def test_disks(file: dict[str, Any], disk: dict[str, Any], found: dict[str, Any]) -> None:
    config = running_json()
    config["disks"][0].update(disk)
    base = replace(FILE, disks=(replace(FILE.disks[0], **file),))
    assert overlay(config, base, {}).disks == (replace(base.disks[0], **found),)


@pytest.mark.parametrize(
    ("file", "nic", "found"),
    [
        ({}, {"script": "/etc/xen/scripts/vif-bridge", "model": "rtl8139"}, {}),
        ({"bridge": "xenbr0"}, {"bridge": "xenbr1"}, {"bridge": "xenbr1"}),
        ({"bridge": "xenbr0"}, {"bridge": None}, {"bridge": None}),
        ({"script": "vif-ip"}, {"script": "/etc/xen/scripts/vif-ip"}, {}),
        ({"script": "vif-ip"}, {"script": "/etc/xen/scripts/vif-bridge"}, {"script": "/etc/xen/scripts/vif-bridge"}),
        ({"type": "ioemu", "vifname": "v0"}, {"nictype": "vif_ioemu", "ifname": "v0"}, {}),
        ({"rate": "10Mb/s"}, {"rate_bytes_per_interval": 62500, "rate_interval_usecs": 50000}, {}),
        (
            {"rate": "10Mb/s"},
            {"rate_bytes_per_interval": 50000, "rate_interval_usecs": 50000},
            {"rate": "1000000B/s@50000us"},
        ),
        ({}, {"mac": "00:16:3E:00:00:09"}, {"mac": "00:16:3e:00:00:09"}),
    ],
)
def test_vifs(file: dict[str, Any], nic: dict[str, Any], found: dict[str, Any]) -> None:
    config = running_json()
    config["nics"][0].update(nic)
    base = replace(FILE, vifs=(replace(FILE.vifs[0], **file),))
    assert overlay(config, base, {}).vifs == (replace(base.vifs[0], **found),)


def test_a_vif_that_the_file_does_not_have_is_shown_in_full() -> None:
    config = running_json()
    config["nics"].append({"devid": 3, "mac": "00:16:3e:00:00:07", "bridge": "xenbr1"})
    assert overlay(config, FILE, {}).vifs[1] == Vif(devid=3, mac="00:16:3e:00:00:07", bridge="xenbr1")


def test_pci_devices_are_compared_by_address() -> None:
    config = running_json()
    config["pcidevs"] = [{"bus": 1, "vfunc_mask": 1, "permissive": True}, {"domain": 1, "dev": 31, "func": 3}]
    file = replace(FILE, pci=("01:00.0,permissive=1",))
    assert overlay(config, file, {}).pci == ("01:00.0,permissive=1", "0001:00:1f.3")


@pytest.mark.parametrize(
    ("told", "action"),
    [
        (None, "destroy"),
        ("restart_rename", "rename-restart"),
        ("coredump_restart", "coredump-restart"),
        ("soft_reset", "soft-reset"),
        ("preserve", "preserve"),
    ],
)
def test_events_in_the_words_of_xl_cfg(told: str | None, action: str) -> None:
    config = running_json()
    config.pop("on_reboot")
    if told is not None:
        config["on_reboot"] = told
    assert overlay(config, FILE, {}).on_reboot == action


def test_the_layout_of_older_releases() -> None:
    config = running_json()
    moved = {key: config["b_info"].pop(key) for key in ("kernel", "ramdisk", "cmdline")}
    config["b_info"]["type.pv"] = moved
    assert overlay(config, FILE, {}) == FILE


def test_a_kernel_that_firmware_stands_for_is_no_kernel() -> None:
    file = replace(FILE, kernel=None, ramdisk=None, firmware="pvgrub64")
    found = overlay(running_json(kernel="/usr/lib/xen/boot/pv-grub-x86_64.gz", ramdisk=None), file, {})
    assert found == file


def test_json_of_another_shape_raises_nothing_but_valueerror() -> None:
    for config in ({"c_info": 5, "b_info": {}, "disks": None, "nics": [1, None]}, {"b_info": {"kernel": 1}}):
        assert overlay(config, FILE, {}).name == "g2"
    with pytest.raises(ValueError, match="names no virtual disk"):
        overlay({"b_info": {}, "disks": [{"vdev": "floppy"}]}, None, {})


@pytest.mark.parametrize("config", [{}, {"b_info": []}, {"b_info": {}, "disks": {}}, {"b_info": {}, "nics": "none"}])
def test_json_without_a_part_that_xl_always_tells_is_not_read_as_if_nothing_were_there(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"b_info|is no list"):
        overlay(config, FILE, {})
