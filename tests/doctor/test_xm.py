"""`doctor` on a dom0 of Xen 4.1, whose toolstack is xm: what it finds there, and what it does not look for."""

from __future__ import annotations

import py_compile
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.domain import Domain, Vif
from reconciler.xl.dialect import XM
from tests.both import fake_xm
from tests.doctor.dom0 import Dom0
from tests.doctor.test_dom0 import CHECKS
from tests.fake_dom0 import write_tool

pytestmark = pytest.mark.anyio

AS_IT_COMES = "(dom0-min-mem 196)\n(enable-dom0-ballooning yes)\n(total_available_memory 0)\n"
SAFE = "# (enable-dom0-ballooning yes)\n(enable-dom0-ballooning no)\n"


@pytest.fixture
def of_xm(dom0: Dom0, xen: Path, tools: Path) -> Dom0:
    """The same, with a fake xm that keeps its domains in a file, and xend at work."""
    for name in ("fake_xl", "fake_xm"):
        source = Path(fake_xm.__file__).with_name(f"{name}.py")
        py_compile.compile(str(source), f"{xen}/{name}.pyc", doraise=True)
    fake = f"{sys.executable} -IS {xen}/fake_xm.pyc"
    (tools / "xl").unlink()
    write_tool(tools, "xm", f'exec {fake} "$@"')
    for what in ("read", "list"):
        write_tool(tools, f"xenstore-{what}", f'exec {fake} store {what} "$1"')
    write_tool(tools, "xenstore-ls", "exit 0")
    dom0.write("/proc/2/comm", "xend\n")
    dom0.write("/etc/xen/xl.conf", "autoballoon = 1\n")  # which nobody reads there
    dom0.write("/etc/xen/xend-config.sxp", SAFE)
    dom0.settings = replace(dom0.settings, toolstack="xm")
    dom0.dialect = XM
    return dom0


async def test_one_that_is_as_it_should_be_has_no_finding(of_xm: Dom0) -> None:
    verdict = await of_xm.verdict()
    assert verdict.findings == ()
    assert set(verdict.ok) == CHECKS - {"xen-version", "daemons"}  # xend looks after all, and validate after the words


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        (AS_IT_COMES, True),
        ("(dom0-min-mem 196)\n", True),
        ("(dom0-min-mem 0)\n", False),
        ("", False),
        ("(enable-dom0-ballooning no)\n(enable-dom0-ballooning yes)\n", False),  # the first one counts
    ],
)
async def test_xend_that_takes_memory_from_dom0(of_xm: Dom0, text: str, takes: bool) -> None:
    conf = of_xm.write("/etc/xen/xend-config.sxp", text)
    if not takes:
        assert await of_xm.findings() == {}
        return
    finding = await of_xm.only("autoballoon")
    assert finding.what == f"{conf} lets xend take memory from dom0"
    subprocess.run(["sh", "-c", str(finding.hint).partition(" (counts")[0]], check=True)
    assert await of_xm.findings() == {}
    assert "(enable-dom0-ballooning no)\n" in conf.read_text()


async def test_another_toolstack_beside_xend(of_xm: Dom0) -> None:
    of_xm.write("/proc/3/comm", "libvirtd\n")
    assert (await of_xm.only("toolstack")).what == "libvirtd runs there, which is the toolstack libvirt"


async def test_a_mac_of_a_domain_of_somebody_else(of_xm: Dom0, xen: Path, make_domain: Callable[..., Domain]) -> None:
    vif = Vif(devid=0, mac="00:16:3e:00:00:02", bridge="xenbr0")
    nic = {"devid": 0, "mac": vif.mac, "bridge": "xenbr0"}
    built = {"kernel": "/k", "max_vcpus": 1, "avail_vcpus": [0], "max_memkb": 65536, "target_memkb": 65536}
    legacy = {"name": "legacy", "uuid": "00000000-0000-4000-8000-000000000009", "domid": 3, "mib": 64, "vcpus": 1}
    config = {"b_info": built, "disks": [], "nics": [nic]}
    (xen / "domains").write_text(repr([{**legacy, "state": "-b----", "behaviour": {}, "config": config}]))
    of_xm.write("/sys/class/net/xenbr0/bridge/x")
    of_xm.domains["web"] = make_domain(disks=(), vifs=(vif,))
    found = await of_xm.findings()
    assert str(found["shared"][0].hint).endswith("those of legacy: xm network-list legacy")


async def test_xend_that_is_silent_is_told_and_the_rest_is_looked_at(of_xm: Dom0, tools: Path) -> None:
    write_tool(tools, "xm", "echo 'Error: Unable to connect to xend: Connection refused' >&2; exit 1")
    found = await of_xm.findings()
    assert "Unable to connect to xend" in found["observed"][0].what
    assert "kernel-dir" not in found
