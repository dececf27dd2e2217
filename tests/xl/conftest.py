"""The fixtures of a dom0 that is this machine, and of steps on it by a clock that is thirty times as fast."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.fleet import HostSettings
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import FastClock, make_domain, settings, shell, tools, xen
from tests.xl.fake_guests import Guests

__all__ = ["make_domain", "settings", "shell", "tools", "xen"]


@pytest.fixture
def executor(xen: Path, settings: HostSettings, tmp_path: Path) -> XlExecutor:
    return XlExecutor(settings, "default", None, tmp_path, clock=FastClock())


@pytest.fixture
def guests(xen: Path) -> Guests:
    return Guests(xen)
