"""The fixtures of a dom0 that is this machine."""

from __future__ import annotations

from tests.fake_dom0 import make_domain, settings, shell, tools, xen

__all__ = ["make_domain", "settings", "shell", "tools", "xen"]
