"""Holds what a dom0 tells of itself besides its domains: what the checks of `doctor` judge.

An observer fills it in. None stands for what could not be found out, which is never taken for right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from reconciler.model.diagnostics import Diagnostic
from reconciler.model.host import Host
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AtBoot:
    """One entry of what a dom0 starts by itself: its name there, and the domain whose config file it leads to.

    `domain` is None for an entry that leads to no config file of config_dir.
    """

    name: str
    domain: str | None = None
    is_link: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The file system of kernel_dir, or of the next folder above it that is there. KiB."""

    folder: str
    free_kib: int
    used_kib: int = 0  # by what lies in kernel_dir now
    kind: str = ""  # as `stat -f` names it, where that is known
    writable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDevices:
    """The devices that disks in files are attached to: loop devices on Linux, vnd on NetBSD."""

    total: int
    used: int
    more_on_demand: bool = False  # the kernel makes another one when it is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """The way to a host that is reached through ssh."""

    max_sessions: int | None = None  # how many commands sshd lets one connection carry
    shares_connection: bool = True  # later commands go through the connection that is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. None: not known; `ssh` is None for a host that is this machine."""

    flavour: Literal["linux", "netbsd"] = "linux"
    tool: str = "xl"  # or xm: what it is spoken to with
    xen_dir: str = "/etc/xen"  # where xl.conf and auto/ are
    autoballoon: Literal["on", "off", "auto"] | None = None
    dom0_mem: bool | None = None  # on Xen's command line
    dom0_kib: int | None = None  # what dom0 has now
    has_grub: bool = False  # Debian's, which update-grub configures
    saves_to: str | None = None  # where xendomains saves domains at a shutdown; "": it does not
    xendomains_file: str = ""  # the settings that say so
    at_boot: tuple[AtBoot, ...] | None = None
    has_lvm: bool | None = None
    room: Room | None = None
    clock_ahead_seconds: float | None = None  # of this machine's
    toolstacks: tuple[str, ...] | None = None  # names of processes that belong to another one
    file_devices: FileDevices | None = None
    in_roots: Mapping[str, int] | None = None  # what lies in disk_roots, files and volumes -> bytes
    limits: Mapping[str, float] | None = None  # letter of `ulimit` -> limit, in its unit; those that are known
    ssh: Ssh | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What one look at a host brought: the host, or why it could not be observed, and the facts about its dom0."""

    host: Host | Diagnostic
    facts: Facts
