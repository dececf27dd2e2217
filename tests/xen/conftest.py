"""Fixtures of the real-Xen tests. Nothing here runs unless pytest is asked for them: `-m xen`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xen.fleet import Fleet
from tests.xen.lab import Lab, booted

LEGACY_CONFIG = """# made by hand, long before anything was reconciled
name = "legacy"
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 128
"""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless a `-m` expression names them: a plain `pytest` must not boot a machine."""
    return True if "xen" not in config.option.markexpr else None


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A booted dom0, shared by all tests; RECONCILER_LAB names the folder of one that was booted by hand."""
    if folder := os.environ.get("RECONCILER_LAB"):
        yield Lab(Path(folder))
        return
    with booted() as lab:
        yield lab


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An empty spec tree for the lab; what a module's tests make of it is removed after the last one."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.tear_down()


@pytest.fixture(scope="session")
def legacy_domid(lab: Lab) -> str:
    """The domid of `legacy`, a domain that somebody made with plain xl, with its config file where ours are."""
    if "legacy" not in lab.domains():
        lab.put("/etc/xen/legacy.cfg", LEGACY_CONFIG)
        lab.xl("create", "/etc/xen/legacy.cfg")
        lab.wait_for_guest("legacy")
    return lab.domains()["legacy"]


@pytest.fixture(autouse=True)
def _legacy_is_left_alone(lab: Lab, legacy_domid: str) -> Iterator[None]:
    """Whatever a test does, the domain that is not ours keeps running, and its file is not touched."""
    yield
    assert lab.domains()["legacy"] == legacy_domid
    assert lab.ssh("cat /etc/xen/legacy.cfg").stdout == LEGACY_CONFIG
    assert lab.xl("list", "legacy").split()[-2] in {"r-----", "-b----", "------"}
