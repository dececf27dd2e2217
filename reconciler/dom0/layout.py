"""Knows the paths of a dom0, Debian's or NetBSD's. Pure; the observer and the executor of xl hosts share it."""

from __future__ import annotations

import posixpath
from typing import Literal

from reconciler.model.fleet import HostSettings
from reconciler.model.host import WHOLE_HOST
from reconciler.records import dataclass

_CONFIG_DIRS = {"debian": "/etc/xen", "netbsd": "/usr/pkg/etc/xen"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dom0:
    """The paths on one host. A config file is named NAME.cfg on Debian, NAME on NetBSD."""

    flavour: Literal["debian", "netbsd"]
    config_dir: str
    kernel_dir: str

    @property
    def auto_dir(self) -> str:
        """Return the folder whose links Debian's xendomains starts. Elsewhere it is not used."""
        return f"{_CONFIG_DIRS['debian']}/auto"

    @property
    def lock_path(self) -> str:
        return "/var/run/reconciler.lock" if self.flavour == "netbsd" else "/run/reconciler.lock"

    @property
    def steps_lock_path(self) -> str:
        """Return the lock that a command which changes the host is run under, until it has ended."""
        return f"{self.lock_path}.steps"

    @property
    def line_path(self) -> str:
        """Return the file that says which session may act on the host. It outlives reboots."""
        return f"{self.kernel_dir}/.line"

    def config_path(self, domain: str) -> str:
        return f"{self.config_dir}/{domain}{self._suffix}"

    def candidate_path(self, domain: str) -> str:
        return f"{self.kernel_dir}/{domain}/candidate.cfg"

    def previous_path(self, domain: str) -> str:
        return f"{self.kernel_dir}/{domain}/previous.cfg"

    def quarantine_path(self, domain: str) -> str:
        return f"{self.kernel_dir}/{domain}/quarantine.json"

    def hold_path(self, domain: str) -> str:
        """Return the file that says that nothing is to be begun with a domain, or (WHOLE_HOST) with any."""
        return f"{self.kernel_dir}/.holds/{domain or '@host'}.json"

    def held_by(self, path: str) -> str | None:
        """Return what the hold in this file is for; None for any other path."""
        name = posixpath.basename(path).removesuffix(".json")
        held = WHOLE_HOST if name == "@host" else name
        return held if path == self.hold_path(held) else None

    def console_mark_path(self, domain: str) -> str:
        """Return the file that notes how long the console's log was when the domain was last started."""
        return f"{self.kernel_dir}/{domain}/console.begins"

    def started_path(self, domain: str) -> str:
        """Return the file that notes our last start of the domain.

        It holds the boot of the dom0 in which that was, and the text of the config file that was used.
        """
        return f"{self.kernel_dir}/{domain}/started"

    def domain_of_config(self, path: str) -> str | None:
        """Return the domain whose config file this is; None for any other path."""
        folder, name = posixpath.split(posixpath.normpath(path))
        if folder != posixpath.normpath(self.config_dir) or not name.endswith(self._suffix):
            return None
        return name.removesuffix(self._suffix) if self._suffix else name

    def domain_of_candidate(self, path: str) -> str | None:
        domain = posixpath.basename(posixpath.dirname(path))
        return domain if path == self.candidate_path(domain) else None

    @property
    def _suffix(self) -> str:
        return "" if self.flavour == "netbsd" else ".cfg"


def dom0_of(system: str, settings: HostSettings) -> Dom0:
    """Return the layout of a host by its `uname -s`: NetBSD's, else Debian's."""
    flavour: Literal["debian", "netbsd"] = "netbsd" if system == "NetBSD" else "debian"
    config_dir = (settings.config_dir or _CONFIG_DIRS[flavour]).rstrip("/")
    return Dom0(flavour=flavour, config_dir=config_dir, kernel_dir=settings.kernel_dir.rstrip("/"))
