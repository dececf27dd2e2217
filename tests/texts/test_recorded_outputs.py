"""Output of many versions of Xen, of libvirt and of xend: each is read whole, or refused with a sentence.

The texts below were written after what each version prints. What other projects have recorded lies outside of this
repository, and is read too where RECONCILER_CORPUS says where it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.texts.listing import Info, Row, XlOutputError, parse_info, parse_list, parse_list_long, parse_whole_list
from reconciler.texts.running import overlay
from reconciler.texts.xm_listing import parse_xm_configs, parse_xm_rows

UUID = "00000002-1111-2222-3333-444444444444"
ZERO = "00000000-0000-0000-0000-000000000000"


def info(*version: str) -> str:
    head = ("host : xenhost", "nr_cpus : 4", "total_memory : 16378", "free_memory : 8004")
    return "\n".join((*head, *version, "xen_scheduler : credit", "xen_commandline : placeholder dom0_mem=1024M")) + "\n"


INFOS = {
    "4.0.1": (info("xen_major : 4", "xen_minor : 0", "xen_extra : .1"), "4.0.1"),
    "4.2 to 4.10": (info("xen_major : 4", "xen_minor : 4", "xen_extra : .1", "xen_version : 4.4.1"), "4.4.1"),
    "4.17": (info("xen_major : 4", "xen_version : 4.17.7", "outstanding_claims : 0"), "4.17.7"),
    "4.20": (info("xen_version : 4.20.0", "sharing_freed_memory : 0", "cpu_topology :", "  0:  0  0  0"), "4.20.0"),
    "of no version": (info(), ""),
}
PLAIN = "Name                                        ID   Mem VCPUs{tab}State{tab}Time(s)\n"
TABLES = {  # what `xl list -v` puts behind the columns of `xl list`
    "4.1 and 4.2": ("      ", "{uuid}        -"),
    "4.4": ("\t", "{uuid}        -                -"),
    "4.17": ("\t", "{uuid}        -                -"),
    "4.20 with a label": ("\t", "{uuid}        0    system_u:system_r:domU_t"),
}


@pytest.mark.parametrize("version", INFOS)
def test_info(version: str) -> None:
    text, expected = INFOS[version]
    found = parse_info(text)
    assert isinstance(found, Info)
    assert (found.xen_version, found.total_kib, found.dom0_mem) == (expected, 16378 * 1024, True)


@pytest.mark.parametrize("version", TABLES)
def test_list(version: str) -> None:
    tab, rest = TABLES[version]
    rows = (("Domain-0", 0, "r-----", ZERO), ("web.example.org", 7, "-b----", UUID))
    lines = (
        f"{name:40} {domid:5}   128     1 {state:>10} 24.1 {rest.format(uuid=uuid)}\n"
        for name, domid, state, uuid in rows
    )
    found = parse_whole_list(PLAIN.format(tab=tab) + "".join(lines))
    assert [(row.name, row.domid, row.uuid) for row in found] == [(name, domid, uuid) for name, domid, _, uuid in rows]


def entry(built: Mapping[str, Any], **more: Any) -> str:
    config = {"c_info": {"type": "pv", "name": "web", "uuid": UUID}, "b_info": built, **more}
    return json.dumps([{"domid": 7, "config": config}])


SIZES = {"max_vcpus": 2, "avail_vcpus": [0, 1], "max_memkb": 262144, "target_memkb": 131072}
BOOTED = {"kernel": "/boot/vmlinuz", "cmdline": "root=/dev/xvda1"}
LONG = {
    "4.2 to 4.9: in the part of its type": entry({**SIZES, "type.pv": BOOTED}),
    "4.10 and later: beside its sizes": entry({**SIZES, **BOOTED, "type.pv": {}, "arch_arm": {}}),
    "a single entry is no list": entry({**SIZES, **BOOTED})[1:-1],
}


@pytest.mark.parametrize("version", LONG)
def test_long_list(version: str) -> None:
    ((domid, config),) = parse_list_long(LONG[version])
    domain = overlay(config, None, {})
    assert (domid, domain.name, domain.uuid) == (7, "web", UUID)
    assert (domain.vcpus, domain.memory_kib, domain.maxmem_kib) == (2, 131072, 262144)
    assert domain.kernel is not None
    assert (domain.kernel.path, domain.cmdline) == ("/boot/vmlinuz", "root=/dev/xvda1")


@pytest.mark.parametrize(
    "text",
    [
        "(domain\n\t(domid 7)\n\t(create_info)\n\t(hvm 0)\n\t(name web)\n)\n",
        " (domain (domid 0))",
    ],
)
def test_s_expressions_of_xl_are_named_with_a_way_out(text: str) -> None:
    with pytest.raises(XlOutputError, match="S-expressions") as raised:
        parse_list_long(text)
    assert raised.value.hint is not None
    assert "output_format" in raised.value.hint
    assert 'toolstack = "xm"' in raised.value.hint


READERS: dict[str, Callable[[str], object]] = {
    "xl-info": parse_info,
    "xm-info": parse_info,
    "xl-list-long": parse_xm_configs,  # recorded of xend, whatever its name says
    "xl-list": parse_list,
    "xm-list": parse_list,
}


def test_what_ganeti_recorded(corpus: Path) -> None:
    files = sorted((corpus / "ganeti-test-data").glob("xen-*.txt"))
    assert files
    for file in files:
        reader = next(reader for name, reader in READERS.items() if file.name.startswith(f"xen-{name}"))
        found = reader(file.read_text())
        assert found, file
        if reader is parse_list:
            assert isinstance(found, tuple)
            assert len(found) == len(file.read_text().splitlines()) - 1
            assert all(isinstance(row, Row) for row in found)
        if reader is parse_xm_configs:
            assert len(parse_xm_rows(file.read_text())) == file.read_text().count("(domid ")


def test_what_libvirt_asks_of_libxl_is_read_whole(corpus: Path) -> None:
    files = sorted((corpus / "libvirt-libxlxml2domconfigdata").glob("*.json"))
    assert files
    for file in files:
        config = json.loads(file.read_text())
        ((_, read),) = parse_list_long(json.dumps([{"domid": 7, "config": config}]))
        domain, built = overlay(read, None, {}), config["b_info"]
        of_type = built.get(f"type.{config['c_info']['type']}", {})
        assert (domain.name, domain.type) == (config["c_info"]["name"], config["c_info"]["type"])
        assert (domain.memory_kib, domain.maxmem_kib) == (built["target_memkb"], built["max_memkb"])
        assert (domain.vcpus, domain.maxvcpus) == (len(built["avail_vcpus"]), built["max_vcpus"])
        assert domain.bootloader == of_type.get("bootloader", built.get("bootloader"))
        assert (domain.kernel and domain.kernel.path) == of_type.get("kernel", built.get("kernel"))
        assert domain.cpu_weight == built["sched_params"].get("weight")
        assert [disk.target for disk in domain.disks] == [disk["pdev_path"] for disk in config.get("disks", ())]
        assert [vif.mac for vif in domain.vifs] == [nic["mac"] for nic in config.get("nics", ())]
