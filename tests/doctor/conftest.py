"""The fixture of a dom0 that is as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.fleet import HostSettings
from reconciler.xl import observe
from tests.doctor.dom0 import Dom0
from tests.fake_dom0 import make_domain, settings, tools, xen

__all__ = ["make_domain", "settings", "tools", "xen"]


@pytest.fixture
def dom0(xen: Path, tools: Path, settings: HostSettings, monkeypatch: pytest.MonkeyPatch) -> Dom0:
    monkeypatch.setattr(observe, "_ROOT", str(xen))
    dom0 = Dom0(xen, tools, settings)
    dom0.write("/dev/loop-control")
    dom0.write("/proc/1/comm", "init\n")
    dom0.write("/etc/xen/xl.conf", "# as it came\n#autoballoon=1\n")
    dom0.has_room(free_kib=5_000_000)
    return dom0
