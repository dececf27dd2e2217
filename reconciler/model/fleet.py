"""Holds what the spec tree asks for, resolved: settings of hosts, their domains, and rules of the whole fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Literal

from reconciler.model.domain import Domain
from reconciler.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The things that specs of a host are allowed to use. Each of these runs as root in dom0 or reaches hardware."""

    bootloaders: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    xl_keys: tuple[str, ...] = ()
    pci: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The `[simulated]` table: the size and temper of a simulated host."""

    memory_kib: int = 8 * 1024 * 1024
    cpus: int = 8
    seed: int = 0
    latency_seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalSettings:
    """The `[rehearsal]` table. A size is in bytes, a share is a float (0.2 is 20 %); None: as the domain has it."""

    memory_kib: int | None = None
    bridge: str | None = None  # None: one of its own
    timeout_seconds: float | None = None
    snapshot_size: int | float = 0.2
    keep_free: int | float = 0.1
    copy_limit_bytes: int = 0
    pause: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A `[[window]]`: when some actions may happen (allow), or may not (deny). `schedule` has the five fields of cron.

    `domains` are globs over addresses, or over names where they have no slash; `host` is set for one of host.toml.
    """

    kind: Literal["allow", "deny"]
    schedule: str
    duration_seconds: float
    timezone: str = "UTC"
    actions: tuple[str, ...] = ("restart", "destroy")
    domains: tuple[str, ...] = ("*",)
    reason: str = ""
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A `[[notify]]`: who is told of which events, and how. Relative paths are files of the tree."""

    url: str | None = None
    url_file: str | None = None
    events: tuple[str, ...] = ()
    format: Literal["json", "github", "gitlab", "forgejo", "alertmanager"] = "json"
    secret_file: str | None = None
    token_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """A resolved host.toml. With `config_dir` None the flavour of the dom0 decides."""

    name: str
    toolstack: Literal["xl", "simulated", "xm"]
    connect: str = "local"
    config_dir: str | None = None
    kernel_dir: str = "/var/lib/xen/kernels"
    kernel_roots: tuple[str, ...] = ()
    disk_roots: tuple[str, ...] = ()
    allow: Allow = Allow()
    keep_free_kib: int = 0
    overcommit_vcpus: bool = True
    parallel: int = 4
    max_unavailable: int = 1
    reconcile: bool = True
    windows: tuple[Window, ...] = ()
    rehearsal: RehearsalSettings = RehearsalSettings()
    simulated: Simulated = Simulated()

    @property
    def is_simulated(self) -> bool:
        return self.toolstack == "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """Limits how much one run may destroy or restart: a count, or a share of our domains (0.2 is 20 %)."""

    max_destroy: int | float = 0.2
    max_restart: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredHost:
    """What the specs ask of one host. `renamed_from` has the name that a domain was made under, by its name now."""

    settings: HostSettings
    domains: Mapping[str, Domain]
    renamed_from: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why nothing shows that this tree ever asked for a domain that has our mark, and what can be done."""

    why: str
    waits_for: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The git repository that holds the commits of a tree, and the folder of the tree in it."""

    repository: str
    folder: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The whole spec tree, resolved.

    `frozen` are addresses ("host/domain", or "host" for all of a host) whose file could not be read: left alone.
    `waves_of_frozen` has the waves by spec of the domains on hosts that are frozen as a whole, without those that are
    left alone; None: the file of that domain cannot be read either.
    `on_frozen_hosts` are the addresses of all domains on hosts that are frozen as a whole.
    With `is_frozen_by_tree` all is, since reconciler.toml cannot be read; `to_keep_running` are the addresses that are
    frozen for that alone, and are started from their proven config files where they are down.
    `unusable` are addresses whose spec asks for a kernel or ramdisk that cannot be used, with all that it asks for; the
    domain under that address is then the one that goes on as it last worked.
    `left_alone` are addresses that the last accepted commit which named them said to leave alone, `kept` those that it
    said not to destroy.
    `doubts` are addresses of ours of which nothing shows that this tree asked for them: they are not destroyed.
    `origin` is where `commit` is, of a tree that was laid out from one; None: the tree is its own work tree, if any.
    `prune` is False when anything could not be read, since a missing domain may only have moved.
    """

    fleet: str
    hosts: Mapping[str, DesiredHost]
    brake: Brake = Brake()
    max_unavailable: int | None = None  # domains of the whole fleet down at once for a restart
    windows: tuple[Window, ...] = ()
    receivers: tuple[Receiver, ...] | None = ()  # None: reconciler.toml could not be read, so nobody knows
    at: datetime | None = None  # the moment for which windows are judged; None: they are ignored
    frozen: frozenset[str] = frozenset()
    waves_of_frozen: Mapping[str, int | None] = field(default_factory=dict)
    on_frozen_hosts: frozenset[str] = frozenset()
    is_frozen_by_tree: bool = False
    to_keep_running: frozenset[str] = frozenset()
    left_alone: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    unusable: Mapping[str, Domain] = field(default_factory=dict)
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    origin: Origin | None = None
    forgotten: frozenset[str] = frozenset()  # hosts that were given up and do not answer: they hold nobody
    prune: bool = True
    postponed: Mapping[str, str] = field(default_factory=dict)  # addresses that this run leaves alone -> why
    commit: str | None = None
    tree_digest: str = ""
