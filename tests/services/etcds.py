"""Three real etcd processes on loopback, which can be stopped, killed and emptied. They end with the test."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.cluster.etcd import Etcd, Put
from reconciler.model.diagnostics import ReconcilerError

_START_SECONDS = 30.0


@dataclass
class Etcds:
    """A cluster of etcd. `more` are further flags of each member."""

    folder: Path
    ports: list[tuple[int, int]]  # of clients, of peers
    more: tuple[str, ...] = ()
    processes: list[subprocess.Popen[bytes] | None] = field(default_factory=list)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{client}" for client, _ in self.ports)

    def start(self, index: int) -> None:
        client, peer = self.ports[index]
        peers = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, (_, port) in enumerate(self.ports))
        flags = {
            "name": f"m{index}",
            "data-dir": str(self.folder / f"m{index}"),
            "listen-client-urls": f"http://127.0.0.1:{client}",
            "advertise-client-urls": f"http://127.0.0.1:{client}",
            "listen-peer-urls": f"http://127.0.0.1:{peer}",
            "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
            "initial-cluster": peers,
            "logger": "zap",
        }
        words = [f"--{name}={value}" for name, value in flags.items()]
        with (self.folder / f"m{index}.log").open("ab") as log:
            process = subprocess.Popen(
                ["etcd", *words, *self.more], stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin", "GOMAXPROCS": "1"}
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

    async def until_up(self) -> None:
        """Wait until a put is accepted: a port that is open, or a member that is healthy, says little."""
        etcd, deadline = Etcd(self.endpoints), time.monotonic() + _START_SECONDS
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
def etcds(folder: Path, count: int = 3, *more: str) -> Iterator[Etcds]:
    if shutil.which("etcd") is None:
        pytest.skip("there is no etcd: apt install etcd-server")
    folder.mkdir(parents=True, exist_ok=True)
    made = Etcds(folder, [(_free_port(), _free_port()) for _ in range(count)], more, [None] * count)
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
