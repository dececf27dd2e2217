"""What `xl list -l` of Xen 4.17 prints for a running domain, to build tests on."""

from __future__ import annotations

from typing import Any

UUID = "00000002-1111-2222-3333-444444444444"


def running_json(**changes: Any) -> dict[str, Any]:
    """The recorded configuration of a PV guest with a disk and a vif; `changes` replace keys of its b_info."""
    return {
        "c_info": {
            "type": "pv",
            "name": "g2",
            "domid": 4294967295,
            "uuid": UUID,
            "run_hotplug_scripts": "True",
        },
        "b_info": {
            "max_vcpus": 2,
            "avail_vcpus": [0],
            "max_memkb": 163840,
            "target_memkb": 98304,
            "video_memkb": 0,
            "sched_params": {"sched": "credit2", "weight": 256, "cap": 0},
            "claim_mode": "True",
            "kernel": "/boot/guest/vmlinuz",
            "cmdline": "console=hvc0 quiet",
            "ramdisk": "/boot/guest/initrd.gz",
            "type.pv": {},
            "arch_arm": {},
            "arch_x86": {"msr_relaxed": "False"},
            **changes,
        },
        "disks": [
            {
                "pdev_path": "/srv/g2.img",
                "vdev": "xvda",
                "format": "raw",
                "readwrite": 1,
                "colo_restore_enable": "False",
            }
        ],
        "nics": [{"devid": 0, "mac": "00:16:3e:00:00:02", "bridge": "xenbr0", "nictype": "vif"}],
        "on_reboot": "restart",
        "on_crash": "preserve",
        "on_soft_reset": "soft_reset",
    }
