"""What it takes to understand a dom0 with 500 domains of ours, against reading and json-parsing the same bytes.

The output is what Xen 4.17 printed for a running domain, once for each; the config files are ours. How they get here is
the network's time and not ours. Here work and floor run by turns in one process, in which all is loaded: what it takes
to start is measured elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import Figure

_DOMAINS = 500
_ROUNDS = 9
_HEAD = "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n"  # noqa: E501
_DOM0 = "Domain-0  0  384  2  r-----  308.9  00000000-0000-0000-0000-000000000000  -  -\n"
_ROW = "{name:<40} {domid:>5} {mib:>5} {vcpus:>5}     -b----       8.0 {uuid}        -                -\n"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a dom0 tells of its domains: two outputs of xl, and the config files by domain."""

    table: str
    long: str
    configs: dict[str, str]
    images: dict[str, str]


def recorded(domains: int) -> Recorded:
    from reconciler.model.domain import Disk, Domain, Image, Vif
    from reconciler.texts.config_file import render_file

    digest = "3f2a" * 16
    made = [
        Domain(
            name=f"d{number:06}",
            uuid=f"00000002-1111-2222-3333-{number:012}",
            kernel=Image(sha256=digest, path=f"/var/lib/xen/kernels/d{number:06}/linux.{digest[:12]}"),
            memory_kib=96 * 1024,
            maxmem_kib=160 * 1024,
            vcpus=1,
            maxvcpus=2,
            cmdline="console=hvc0 quiet",
            on_crash="preserve",
            disks=(Disk(vdev="xvda", devid=51712, kind="file", target=f"/srv/d{number:06}.img"),),
            vifs=(Vif(devid=0, mac=f"00:16:3e:00:{number // 256:02x}:{number % 256:02x}", bridge="xenbr0"),),
        )
        for number in range(1, domains + 1)
    ]
    rows = [
        _ROW.format(name=one.name, domid=domid, mib=96, vcpus=1, uuid=one.uuid)
        for domid, one in enumerate(made, start=1)
    ]
    long = [{"domid": domid, "config": _config(one)} for domid, one in enumerate(made, start=1)]
    return Recorded(
        table=_HEAD + _DOM0 + "".join(rows),
        long=json.dumps(long, indent=4),
        configs={one.name: render_file(one, "default", None) for one in made},
        images={image.path: image.sha256 for one in made for image in one.images},
    )


def _config(domain: Any) -> dict[str, Any]:
    """Return what `xl list -l` of Xen 4.17 prints for a domain like this one."""
    disk, vif = domain.disks[0], domain.vifs[0]
    return {
        "c_info": {"type": "pv", "name": domain.name, "uuid": domain.uuid, "run_hotplug_scripts": "True"},
        "b_info": {
            "max_vcpus": 2,
            "avail_vcpus": [0],
            "max_memkb": domain.maxmem_kib,
            "target_memkb": domain.memory_kib,
            "video_memkb": 0,
            "sched_params": {"sched": "credit2", "weight": 256, "cap": 0},
            "claim_mode": "True",
            "kernel": domain.kernel.path,
            "cmdline": domain.cmdline,
            "type.pv": {},
            "arch_arm": {},
            "arch_x86": {"msr_relaxed": "False"},
        },
        "disks": [
            {
                "pdev_path": disk.target,
                "vdev": "xvda",
                "format": "raw",
                "readwrite": 1,
                "colo_restore_enable": "False",
            }
        ],
        "nics": [{"devid": 0, "mac": vif.mac, "bridge": "xenbr0", "nictype": "vif"}],
        "on_reboot": "restart",
        "on_crash": "preserve",
        "on_soft_reset": "soft_reset",
    }


def real(folder: Path) -> Iterator[Figure]:
    """Measure how a dom0's output becomes the guests of a host."""
    from reconciler.texts import config_file
    from reconciler.texts.guests import assemble_guests, live_domains_of
    from reconciler.xl.dialect import XL

    told = recorded(_DOMAINS)
    (folder / "told.json").write_text(json.dumps([json.loads(told.long), told.table, told.configs], indent=4))
    assert config_file

    def work() -> None:
        config_file._images_named.cache_clear()  # nothing may be kept from the round before
        config_file._read.cache_clear()
        live = live_domains_of(XL.rows(told.table), dict(XL.configs(told.long)))
        guests, _ = assemble_guests(
            fleet="default", configs=told.configs, candidates={}, instances=live, images=told.images, autostart={}
        )
        assert len(guests) == _DOMAINS
        assert all(guest.running == guest.config for guest in guests.values())

    def floor() -> None:
        json.loads((folder / "told.json").read_bytes())

    pairs = [(_seconds(floor), _seconds(work)) for _ in range(_ROUNDS)]
    yield Figure(
        what=f"understand a dom0 with {_DOMAINS} domains",
        seconds=median(work for _, work in pairs),
        floor=median(floor for floor, _ in pairs),
        ratio=median(work / floor for floor, work in pairs),
        at_most=3,
    )


def _seconds(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before
