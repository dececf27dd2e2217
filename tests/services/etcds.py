"""Three real etcd processes on loopback, which can be stopped, killed and emptied. They end with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.cluster.etcd import Etcd, Login, Put
from reconciler.model.diagnostics import ReconcilerError

_START_SECONDS = 30.0


@dataclass
class Etcds:
    """A cluster of etcd. `more` are further flags of each member."""

    folder: Path
    ports: list[tuple[int, int]]  # of clients, of peers
    more: tuple[str, ...] = ()
    processes: list[subprocess.Popen[bytes] | None] = field(default_factory=list)
    scheme: str = "http"
    address: str = "127.0.0.1"
    within: Sequence[str] = ()  # what each member is run in

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"{self.scheme}://{self.address}:{client}" for client, _ in self.ports)

    @property
    def peers(self) -> str:
        return ",".join(f"m{number}=http://{self.address}:{port}" for number, (_, port) in enumerate(self.ports))

    def start(self, index: int) -> None:
        client, peer = self.ports[index]
        flags = {
            "name": f"m{index}",
            "data-dir": str(self.folder / f"m{index}"),
            "listen-client-urls": f"{self.scheme}://{self.address}:{client}",
            "advertise-client-urls": f"{self.scheme}://{self.address}:{client}",
            "listen-peer-urls": f"http://{self.address}:{peer}",
            "initial-advertise-peer-urls": f"http://{self.address}:{peer}",
            "initial-cluster": self.peers,
            "logger": "zap",
        }
        words = [f"--{name}={value}" for name, value in flags.items()]
        with (self.folder / f"m{index}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.within, "etcd", *words, *self.more],
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS": "1"},
            )
        self.processes[index] = process

    def start_all(self) -> None:
        for index in range(len(self.ports)):
            self.start(index)

    def kill(self, index: int) -> None:
        process, self.processes[index] = self.processes[index], None
        if process is not None:
            process.kill()
            process.wait()

    def signal(self, index: int, number: signal.Signals) -> None:
        process = self.processes[index]
        assert process is not None
        process.send_signal(number)

    def wipe(self) -> None:
        """Lose all data, and begin anew with the same flags."""
        for index in range(len(self.ports)):
            self.kill(index)
            shutil.rmtree(self.folder / f"m{index}")
        self.start_all()

    def restore(self, snapshot: Path) -> None:
        """Have all members begin anew with what they had when a snapshot was made."""
        for index, (_, peer) in enumerate(self.ports):
            self.kill(index)
            folder = self.folder / f"m{index}"
            shutil.rmtree(folder)
            words = ["--name", f"m{index}", "--data-dir", str(folder), "--initial-cluster", self.peers]
            words += ["--initial-advertise-peer-urls", f"http://{self.address}:{peer}"]
            command = ["etcdctl", "snapshot", "restore", str(snapshot), *words]
            subprocess.run(command, env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, check=True)
        self.start_all()

    async def until_up(self, login: Login | None = None) -> None:
        """Wait until a put is accepted: a port that is open, or a member that is healthy, says little."""
        etcd, deadline = Etcd(self.endpoints, login or Login()), time.monotonic() + _START_SECONDS
        try:
            while True:
                with suppress(ReconcilerError):
                    await etcd.commit([], [Put("/up", "yes")])
                    return
                assert time.monotonic() < deadline, "etcd does not come up"
                time.sleep(0.1)
        finally:
            etcd.close()


@contextmanager
def etcds(folder: Path, count: int = 3, *more: str, scheme: str = "http") -> Iterator[Etcds]:
    if shutil.which("etcd") is None:
        pytest.skip("there is no etcd: apt install etcd-server")
    folder.mkdir(parents=True, exist_ok=True)
    made = Etcds(folder, [(_free_port(), _free_port()) for _ in range(count)], more, [None] * count, scheme)
    try:
        made.start_all()
        yield made
    finally:
        for index in range(count):
            made.kill(index)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
