"""What xl prints: recorded from Xen 4.17, trimmed, and the states that other people's toolstacks met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.model.host import Power
from reconciler.texts.listing import (
    Info,
    Row,
    XlOutputError,
    parse_info,
    parse_list,
    parse_list_long,
    parse_whole_list,
    power_of,
)

INFO = """\
host                   : xenhost-a
nr_cpus                : 2
total_memory           : 1023
free_memory            : 626
sharing_freed_memory   : 0
outstanding_claims     : 4
cpu_topology           :
cpu:    core    socket     node
  0:       0        0        0
numa_info              :
node:    memsize    memfree    distances
   0:      1023        626      10
xen_version            : 4.17.7
xen_caps               : xen-3.0-x86_64 hvm-3.0-x86_32
xen_scheduler          : credit2
xen_commandline        : com1=115200,8n1 console=com1 dom0_mem=384M,max:384M loglvl=info
"""
HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
LIST = f"""\
{HEADER}   UUID                            Reason-Code\tSecurity Label
Domain-0                                     0   384     2     r-----     308.9 00000000-0000-0000-0000-000000000000        -                -
g2                                           4    96     1     -b----      10.0 00000002-1111-2222-3333-444444444444        -                -
g5                                           7    96     1     ---s--       7.5 1a688ef1-ed8b-484c-99e2-6113f588a26e        0                -
(null)                                       8     0     1     --p--d       0.0 f82241a6-65f1-4648-80f8-27ae9dce4b21        -                -
"""  # noqa: E501  as xl prints it


def test_info() -> None:
    assert parse_info(INFO) == Info(
        total_kib=1023 * 1024,
        free_kib=626 * 1024,
        cpus=2,
        xen_version="4.17.7",
        scheduler="credit2",
        dom0_mem=True,
    )


@pytest.mark.parametrize(
    ("commandline", "given"),
    [("dom0_mem=1G", True), ("loglvl=all dom0_mem=min:1G", True), ("xdom0_mem=1G", False), ("dom0_max_vcpus=2", False)],
)
def test_whether_dom0_has_fixed_memory(commandline: str, given: bool) -> None:
    lines = [line for line in INFO.splitlines() if not line.startswith("xen_commandline")]
    assert parse_info("\n".join([*lines, f"xen_commandline : {commandline}"])).dom0_mem is given


@pytest.mark.parametrize(
    "text", ["", "xl: command not found", INFO.replace("total_memory", "total"), "free_memory: lots"]
)
def test_info_without_what_is_needed_is_an_error(text: str) -> None:
    with pytest.raises(XlOutputError, match="does not tell"):
        parse_info(text)


def test_list_with_uuids() -> None:
    dom0, running, stopped, remains = parse_list(LIST)
    assert dom0.domid == 0
    assert running == Row(
        name="g2",
        domid=4,
        memory_kib=96 * 1024,
        vcpus=1,
        power=Power.RUNNING,
        uuid="00000002-1111-2222-3333-444444444444",
    )
    assert (stopped.name, stopped.power) == ("g5", Power.SHUTDOWN)
    assert (remains.name, remains.power) == (None, Power.DYING)


@pytest.mark.parametrize(
    "name",
    ["web", "a" * 60, "two words", "x  5 96 1 -b---- 9.1", "tab\tname", "12", "ünï", "name  "],
)
def test_names_are_what_the_columns_leave(name: str) -> None:
    line = f"{name:<40} {12:5d} {2048:5d} {3:5d}     r-----  {1234.5:8.1f}"
    (row,) = parse_list(f"{HEADER}\n{line}\n")
    assert (row.name, row.domid, row.memory_kib, row.vcpus, row.uuid) == (name.rstrip(), 12, 2048 * 1024, 3, "")


def test_an_empty_list() -> None:
    assert parse_list(HEADER + "\n") == ()


@pytest.mark.parametrize("text", ["", "error: no domains", f"{HEADER}\nweb 1 96\n"])
def test_a_list_that_is_not_understood_is_an_error_not_an_absence(text: str) -> None:
    with pytest.raises(XlOutputError, match="xl list"):
        parse_list(text)


@pytest.mark.parametrize(
    ("state", "power"),
    [
        ("r-----", Power.RUNNING), ("-b----", Power.RUNNING), ("------", Power.RUNNING), ("rb----", Power.RUNNING),
        ("--p---", Power.PAUSED), ("r-p---", Power.RUNNING), ("-bp---", Power.RUNNING),
        ("---s--", Power.SHUTDOWN), ("--ps--", Power.SHUTDOWN), ("-b-s--", Power.SHUTDOWN),
        ("---sc-", Power.CRASHED), ("--psc-", Power.CRASHED), ("----c-", Power.CRASHED), ("---sw-", Power.CRASHED),
        ("---sr-", Power.REBOOTING), ("---sS-", Power.REBOOTING), ("---ss-", Power.SUSPENDED),
        ("-----d", Power.DYING), ("--p--d", Power.DYING), ("--psrd", Power.DYING), ("---s-d", Power.DYING),
    ],
)  # fmt: skip
def test_the_six_letters(state: str, power: Power) -> None:
    assert power_of(state) is power


def test_the_long_list() -> None:
    entries = [{"domid": 0, "config": {}}, {"domid": 4, "config": {"c_info": {"name": "g2"}}}]
    found = parse_list_long(json.dumps(entries) + "\n")
    assert found == ((0, {}), (4, {"c_info": {"name": "g2"}}))
    assert parse_list_long(json.dumps(entries) + "\nlibxl: warning: something\n") == found
    assert parse_list_long("\n") == ()
    assert parse_list_long("[\n\n]\n") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(domain\n (domid 4)", "S-expressions"),
        ('[{"domid": 4,', "no JSON"),
        ("xl: error", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('[{"config": {}}]', "without domid"),
        ('[{"domid": 4}]', "without domid or config"),
        ("[5]", "without domid"),
    ],
)
def test_a_long_list_that_is_not_understood_is_an_error(text: str, message: str) -> None:
    with pytest.raises(XlOutputError, match=message):
        parse_list_long(text)


def test_lists_that_other_people_recorded(corpus: Path) -> None:
    (dom0,) = parse_list((corpus / "ganeti-test-data/xen-xl-list-4.0.1-dom0-only.txt").read_text())
    assert dom0.memory_kib == 1023 * 1024
    rows = parse_list((corpus / "ganeti-test-data/xen-xl-list-4.4-crashed-instances.txt").read_text())
    assert [(row.name, row.power) for row in rows[1:]] == [
        ("server01.example.com", Power.RUNNING),
        (None, Power.CRASHED),
        ("alsodying.example.com", Power.CRASHED),
    ]
    assert parse_info((corpus / "ganeti-test-data/xen-xl-info-4.0.1.txt").read_text()).cpus == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\n".join(line for line in LIST.split("\n") if "Domain-0" not in line), "without Domain-0"),
        (LIST.split("\n")[0] + "\n", "without Domain-0"),
        (LIST.rstrip("\n"), "cut short"),
        (LIST[: LIST.index("00000002") - 2] + "\n", "cut short"),
        (LIST[: LIST.index("1a688ef1") + 30] + "\n", "no row"),
    ],
)
def test_a_list_that_is_not_all_there_is_no_list(text: str, why: str) -> None:
    parse_whole_list(LIST)
    with pytest.raises(XlOutputError, match=why):
        parse_whole_list(text)
