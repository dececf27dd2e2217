"""A real dom0 with a fake xl, and the simulated host, behind one face: the same steps, and the same person's hand.

`Side` is what both can do. To add something that is done by hand, add a method to it and to both sides.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import py_compile
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

import pytest

from reconciler.apply.follow import carry_out
from reconciler.dom0.connection import Connection
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.fleet import HostSettings, Simulated
from reconciler.model.host import Guest, Host, Power
from reconciler.plan.steps import CreateDisk, StageImage, Start, Step, WriteConfig
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver
from reconciler.simulated.store import Store
from reconciler.toolstack import Executor, Observer, Question
from reconciler.xl import observe, processes
from reconciler.xl.dialect import XL, XM, Dialect
from reconciler.xl.execute import XlExecutor
from reconciler.xl.observe import XlObserver
from tests.both import fake_xl
from tests.fake_dom0 import FastClock, tools_on_path, write_tool

MIB_KIB = 1024
FLEET = "default"
REBOOT_SECONDS = 2.0
PRESERVED = "-19700101T0000Z"  # behind the name of what `rename-restart` keeps: by the clock of a simulated host
_STATES = {
    Power.RUNNING: "-b----",
    Power.PAUSED: "--p---",
    Power.STARTING: "--p---",
    Power.UNFINISHED: "--p---",
    Power.SHUTDOWN: "---s--",
    Power.CRASHED: "---sc-",
    Power.REBOOTING: "---sr-",
    Power.DYING: "--ps-d",
}


class Reachable(Protocol):
    """One host."""

    @property
    def settings(self) -> HostSettings: ...

    def executor(self) -> Executor: ...

    def observer(self) -> Observer: ...


class Side(Reachable, Protocol):
    """One host, and what a person, a guest or a mishap does to it."""

    def set_power(self, name: str, power: Power) -> None: ...

    def set_guest(self, name: str, key: str, value: str) -> None:
        """How its guest behaves: `shutdown` is `ok` or `ignore`, `balloon` is `ok`, `refuse` or `almost`."""

    def reboot_guest(self, name: str) -> None:
        """It is between two lives for a moment, and comes back by itself."""

    def end_guest(self, name: str, how: str) -> None:
        """It ends by itself, by `reboot`, `poweroff` or `crash`, and xl does as its on_* says."""

    def rename(self, name: str, other: str) -> None:
        """As by `xl rename`; "(null)": the host has lost its name."""

    def save(self, name: str) -> None:
        """As xendomains does when the dom0 goes down."""

    def put(self, path: str) -> None:
        """A file appears."""


@dataclass(frozen=True)
class XenSide:
    """The scripts run for real on this machine; xl is `fake_xl`, thirty times as fast as a real one."""

    settings: HostSettings
    folder: Path
    clock: FastClock
    xl_lock: IO[str]
    dialect: Dialect = XL

    def executor(self) -> XlExecutor:
        connection = Connection(self.settings.name)
        return XlExecutor(
            self.settings, FLEET, None, self.folder, connection=connection, clock=self.clock, dialect=self.dialect
        )

    def observer(self) -> XlObserver:
        return XlObserver(self.settings, FLEET, None, clock=self.clock, dialect=self.dialect)

    def set_power(self, name: str, power: Power) -> None:
        """xl has never let run, and does not tell of, what is half made; while it makes that, it holds its lock."""
        made = power not in (Power.STARTING, Power.UNFINISHED)
        self._change(name, {"state": _STATES[power], "seconds": 8.0 if made else 0.0, "told": made})
        fcntl.lockf(self.xl_lock, fcntl.LOCK_EX if power is Power.STARTING else fcntl.LOCK_UN)

    def set_guest(self, name: str, key: str, value: str) -> None:
        self._change(name, lambda one: one["behaviour"].update({key: value}))

    def reboot_guest(self, name: str) -> None:
        self._change(name, {"back_at": time.time() + REBOOT_SECONDS / self.clock.speed})

    def end_guest(self, name: str, how: str) -> None:
        """As handle_domain_death of tools/xl/xl_vmcontrol.c."""
        (one,) = (one for one in self._read() if one["name"] == name)
        action = one["config"][f"on_{how}"]
        kept = {"state": {"reboot": "---sr-", "poweroff": "---s--", "crash": "---sc-"}[how], "kept": True}
        if action == "preserve":
            self._change(name, kept)
        elif action.endswith("restart") or action == "soft-reset":
            self.reboot_guest(name)
            if action.startswith("rename"):
                self._preserve(one, kept)
        else:
            self.write([one for one in self._read() if one["name"] != name])

    def _preserve(self, one: dict[str, Any], kept: dict[str, Any]) -> None:
        """As preserve_domain there: it is another domain from now on, whose disks the block script guards."""
        named = {"name": one["name"] + PRESERVED, "uuid": "00000000-0000-4000-8000-0000000000ff"}
        config = {**one["config"], "c_info": {**one["config"]["c_info"], **named}}
        comes_back = not any(disk["readwrite"] for disk in one["config"]["disks"])
        others = [other for other in self._read() if other["name"] != one["name"] or comes_back]
        self.write([*others, {**one, **named, **kept, "config": config}])

    def rename(self, name: str, other: str) -> None:
        self._change(name, {"name": other})

    def put(self, path: str) -> None:
        Path(path).touch()

    def save(self, name: str) -> None:
        self.write([one for one in self._read() if one["name"] != name])
        folder = self.folder / "var/lib/xen/save"
        folder.mkdir(parents=True)
        (folder / name).touch()

    def _change(self, name: str, change: dict[str, Any] | Callable[[dict[str, Any]], None]) -> None:
        domains = self._read()
        for one in domains:
            if one["name"] == name:
                one.update(change) if isinstance(change, dict) else change(one)
        self.write(domains)

    def write(self, domains: fake_xl.Domains) -> None:
        """Say what runs on it."""
        (self.folder / "xen" / "domains").write_text(repr(domains))

    def _read(self) -> fake_xl.Domains:
        domains: fake_xl.Domains = ast.literal_eval((self.folder / "xen" / "domains").read_text())
        return domains


@dataclass(frozen=True)
class SimulatedSide:
    """The simulated host, whose paths are those of the other side, although nothing is there."""

    settings: HostSettings
    folder: Path

    def executor(self) -> SimulatedExecutor:
        return SimulatedExecutor(self.settings, FLEET, None, self.folder, self.folder / ".state")

    def observer(self) -> SimulatedObserver:
        return SimulatedObserver(self.settings, FLEET, self.folder / ".state")

    def set_power(self, name: str, power: Power) -> None:
        self._hand.set(name, {"power": str(power)})

    def set_guest(self, name: str, key: str, value: str) -> None:
        self._hand.set(name, {key: value})

    def reboot_guest(self, name: str) -> None:
        self._hand.reboot_guest(name)

    def end_guest(self, name: str, how: str) -> None:
        ends = {"reboot": self._hand.reboot_guest, "poweroff": self._hand.power_off, "crash": self._hand.crash}
        ends[how](name)
        store = Store(self.folder / ".state", self.settings.name)
        store.write_clock(store.read_clock() + REBOOT_SECONDS)  # an observer of a real host looks again after that

    def rename(self, name: str, other: str) -> None:
        self._hand.set(name, {"name": other})

    def put(self, path: str) -> None:
        self._hand.put(path, b"")

    def save(self, name: str) -> None:
        self._hand.save(name)

    @property
    def _hand(self) -> Hand:
        return Hand(settings=self.settings, fleet=FLEET, state_dir=self.folder / ".state")


def make_sides(folder: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect = XL) -> tuple[XenSide, SimulatedSide]:
    """Both, empty. Their files have the same names, so a step is the same value for both."""
    monkeypatch.setattr(observe, "_ROOT", str(folder))
    for name in ("etc", "kernels", "disks", "boot", "xen"):
        (folder / name).mkdir()
    kernel = folder / "boot" / "vmlinuz"
    kernel.write_text(str(kernel))  # what the simulated host takes a file to hold that nobody put there
    tools = tools_on_path(folder, monkeypatch)
    for name in ("fake_xl", "fake_xm"):
        py_compile.compile(f"{Path(__file__).with_name(name)}.py", f"{folder}/xen/{name}.pyc", doraise=True)
    fake = folder / "xen" / f"fake_{dialect.tool}.pyc"
    write_tool(tools, dialect.tool, f'exec {sys.executable} -IS {fake} "$@"')
    write_tool(tools, "ps", f"exec {sys.executable} -IS {fake} daemons" if dialect.leaves_processes else "echo xend")
    write_tool(tools, "xenstore-read", "case $1 in */state) echo 4 ;; *) echo /path ;; esac")
    if dialect is XM:
        for what in ("read", "list"):
            write_tool(tools, f"xenstore-{what}", f'exec {sys.executable} -IS {fake} store {what} "$1"')
    write_tool(tools, "xenstore-ls", "exit 0")
    write_tool(tools, "id", 'case $1 in -u) echo 0 ;; *) exec /usr/bin/id "$@" ;; esac')
    settings = HostSettings(
        name="alpha",
        toolstack="xl",
        config_dir=str(folder / "etc"),
        kernel_dir=str(folder / "kernels"),
        disk_roots=(str(folder / "disks"),),
        simulated=Simulated(memory_kib=4096 * MIB_KIB, cpus=8),
    )
    lock = folder / "xen" / "xl.lock"
    monkeypatch.setattr(processes, "XL_LOCKS", (str(lock),))
    return XenSide(settings, folder, FastClock(), lock.open("w"), dialect), SimulatedSide(
        replace(settings, toolstack="simulated"), folder
    )


def make_domain(settings: HostSettings, name: str = "web", number: int = 1, **changes: Any) -> Domain:
    """A domain of 128 MiB with a disk and an interface, which can have up to 512 MiB and 4 vcpus."""
    source = f"{settings.config_dir}".removesuffix("/etc") + "/boot/vmlinuz"
    digest = hashlib.sha256(source.encode()).hexdigest()
    disk = Disk(
        vdev="xvda", devid=51712, kind="file", target=f"{settings.disk_roots[0]}/{name}.img", size_bytes=1 << 20
    )
    domain = Domain(
        name=name,
        uuid=f"00000000-0000-4000-8000-{number:012}",
        kernel=Image(sha256=digest, path=f"{settings.kernel_dir}/{name}/vmlinuz.{digest[:12]}", source=source),
        memory_kib=128 * MIB_KIB,
        maxmem_kib=512 * MIB_KIB,
        vcpus=1,
        maxvcpus=4,
        disks=(disk,),
        vifs=(Vif(devid=0, mac=f"00:16:3e:00:00:{number:02}", bridge="xenbr0"),),
    )
    return replace(domain, **changes)


def started(domain: Domain) -> tuple[Step, ...]:
    """The steps from nothing to a started domain."""
    return (
        *(StageImage(domain=domain.name, image=image) for image in domain.images),
        *(CreateDisk(domain=domain.name, disk=disk) for disk in domain.disks if disk.size_bytes is not None),
        WriteConfig(definition=domain),
        Start(definition=domain),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the steps failed, and what is there afterwards, as an observer of that side sees it."""

    failed: bool
    why: str
    guests: dict[str, tuple[object, ...]]


async def outcome_of(side: Side, steps: tuple[Step, ...]) -> Outcome:
    """Carry out steps up to the first that fails, then look."""
    executor, why = side.executor(), ""
    try:
        for step in steps:
            await carry_out(executor, step, lambda _: None)
    except ReconcilerError as error:
        why = f"{error.diagnostics[0].summary}: {error.diagnostics[0].detail}"
    host = await side.observer().observe(Question(files=disk_paths(side)))
    return Outcome(bool(why), why, {name: seen(guest) for name, guest in sorted(host.guests.items())} | files(host))


def disk_paths(side: Side) -> tuple[str, ...]:
    return tuple(f"{side.settings.disk_roots[0]}/{name}.img" for name in ("web", "db", "more"))


def files(host: Host) -> dict[str, tuple[object, ...]]:
    return {path: (fact.kind, fact.size_bytes) for path, fact in sorted(host.files.items())}


def seen(guest: Guest) -> tuple[object, ...]:
    """What has to be the same on both sides, field by field."""
    running = guest.running
    return (
        guest.power,
        guest.listed_as,
        guest.owner,
        guest.config,
        guest.candidate,
        guest.quarantine,
        None
        if running is None
        else (
            running.memory_kib,
            running.vcpus,
            [(disk.vdev, disk.target, disk.access) for disk in running.disks],
            [(vif.devid, vif.mac, vif.bridge) for vif in running.vifs],
            running.kernel,
        ),
    )
