"""The fixtures of a dom0 that is this machine, and of steps on it that wait thirty times less."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from reconciler.model.fleet import HostSettings
from reconciler.xl.execute import XlExecutor
from reconciler.xl.patience import PATIENT, Patience
from tests.fake_dom0 import make_domain, settings, shell, tools, xen
from tests.xl.fake_guests import Guests

__all__ = ["make_domain", "settings", "shell", "tools", "xen"]

IMPATIENT = Patience(**{name: seconds / 30 for name, seconds in asdict(PATIENT).items()})


@pytest.fixture
def executor(xen: Path, settings: HostSettings, tmp_path: Path) -> XlExecutor:
    return XlExecutor(settings, "default", None, tmp_path, patience=IMPATIENT)


@pytest.fixture
def guests(xen: Path) -> Guests:
    return Guests(xen)
