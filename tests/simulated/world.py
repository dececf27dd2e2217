"""A simulated host to do things to, with short ways to say them."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.apply.follow import carry_out
from reconciler.model.diagnostics import Diagnostic, ReconcilerError
from reconciler.model.domain import Disk, Domain, Image, Ready, Vif
from reconciler.model.fleet import HostSettings, Simulated
from reconciler.model.host import Guest, Host, Look
from reconciler.plan.steps import AwaitReady, CreateDisk, Shutdown, StageImage, Start, Step, WriteConfig
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedExecutor, SimulatedObserver
from reconciler.toolstack import Question

UUID = "11111111-1111-4111-8111-111111111111"
GIB_KIB = 1024 * 1024


def image(content: bytes = b"/boot/vmlinuz", source: str = "/boot/vmlinuz", domain: str = "web") -> Image:
    """An image of these bytes. A source that nobody put on the host holds its own path."""
    digest = hashlib.sha256(content).hexdigest()
    name = source.rpartition("/")[2]
    return Image(sha256=digest, path=f"/var/lib/xen/kernels/{domain}/{name}.{digest[:12]}", source=source)


def domain(name: str = "web", **changes: Any) -> Domain:
    plain = Domain(
        name=name,
        uuid=UUID,
        kernel=image(domain=name),
        memory_kib=GIB_KIB // 2,
        maxmem_kib=GIB_KIB,
        disks=(Disk(vdev="xvda", devid=51712, kind="file", target=f"/srv/{name}", size_bytes=1 << 30),),
        vifs=(Vif(devid=0, mac="00:16:3e:00:00:01"),),
    )
    return replace(plain, **changes)


@dataclass(frozen=True)
class World:
    """One simulated host and everything that reaches it. A second World of the same folder is another process."""

    folder: Path
    settings: HostSettings
    fleet: str = "default"
    commit: str | None = None

    @property
    def observer(self) -> SimulatedObserver:
        return SimulatedObserver(self.settings, self.fleet, self.folder)

    @property
    def executor(self) -> SimulatedExecutor:
        return SimulatedExecutor(self.settings, self.fleet, self.commit, self.folder / "specs", self.folder)

    @property
    def hand(self) -> Hand:
        return Hand(settings=self.settings, fleet=self.fleet, state_dir=self.folder)

    @property
    def host_folder(self) -> Path:
        return self.folder / "hosts" / self.settings.name

    def observe(self, question: Question | None = None) -> Host:
        return asyncio.run(self.observer.observe(question or Question()))

    def guest(self, name: str = "web") -> Guest:
        return self.observe().guests[name]

    def do(self, *steps: Step) -> list[str]:
        """Carry out steps one after the other; what they reported."""
        reports: list[str] = []

        async def all_of_them() -> None:
            executor = self.executor
            for step in steps:
                await carry_out(executor, step, reports.append)

        asyncio.run(all_of_them())
        return reports

    def fail(self, *steps: Step) -> Diagnostic:
        """Carry out steps of which one fails; why."""
        with pytest.raises(ReconcilerError) as caught:
            self.do(*steps)
        return caught.value.diagnostics[0]

    def look(self, name: str = "web") -> Look:
        return asyncio.run(self.executor.look(name))

    def wait(self, seconds: float) -> None:
        asyncio.run(self.executor.sleep(seconds))

    def put_kernel(self, toml: str, path: str = "/boot/special") -> Image:
        """A kernel that behaves like this, on the host; the image to boot it by."""
        content = f"#!simulated-kernel\n{toml}\n".encode()
        self.hand.put(path, content)
        return image(content, path)

    def start(self, definition: Domain) -> None:
        """Everything up to a started domain; not yet ready."""
        self.do(
            *(StageImage(domain=definition.name, image=each) for each in definition.images),
            *(CreateDisk(domain=definition.name, disk=disk) for disk in definition.disks),
            WriteConfig(definition=definition),
            Start(definition=definition),
        )


def ready(definition: Domain, **wanted: Any) -> AwaitReady:
    return AwaitReady(domain=definition.name, uuid=definition.uuid, ready=Ready(**wanted))


def shutdown(definition: Domain, on_timeout: Any = "fail", seconds: float = 90) -> Shutdown:
    return Shutdown(domain=definition.name, uuid=definition.uuid, timeout_seconds=seconds, on_timeout=on_timeout)


def make_world(folder: Path, **simulated: Any) -> World:
    settings = HostSettings(name="alpha", toolstack="simulated", disk_roots=("/srv",), simulated=Simulated(**simulated))
    (folder / "specs").mkdir(exist_ok=True)
    return World(folder, settings)
