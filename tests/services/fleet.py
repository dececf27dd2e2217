"""Three simulated hosts, and real controllers that divide them on real etcds.

The hosts have a latency, so that an update takes some seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.fence import Line
from reconciler.simulated.store import Store
from tests.services.etcds import Etcds

LEASE = 3
TAKE_OVER_SECONDS = 3 * LEASE
PROGRAM = ("-m", "reconciler")
HOSTS = ("alpha", "beta", "gamma")
KERNEL = "#!simulated-kernel\nboot_seconds = 1\n# version {}\n"


def tell(text: str) -> None:
    """Show a figure with `pytest -s`."""
    sys.stdout.write(f"{text}\n")


@dataclass
class Fleet:
    """Three hosts with a domain each, on the etcds, and the controllers that were started."""

    root: Path
    etcds: Etcds
    watches: list[subprocess.Popen[bytes]] = field(default_factory=list)
    more: Mapping[str, str] = field(default_factory=dict)  # of the environment
    within: Sequence[str] = ()  # what a person's commands are run in

    @property
    def environment(self) -> dict[str, str]:
        ours = {"RECONCILER_CLUSTER": ",".join(self.etcds.endpoints), "RECONCILER_SPECS": str(self.root / "specs")}
        return {**os.environ, **ours, "RECONCILER_STATE_DIR": str(self.root / "state"), **self.more}

    def write(self, version: int) -> None:
        kernels = self.root / "specs/kernels"
        kernels.mkdir(parents=True, exist_ok=True)
        (kernels / "new").write_text(KERNEL.format(version))
        (kernels / "new").replace(kernels / "linux")

    def begin(self, count: int = 3) -> None:
        self.make_specs()
        for _ in range(count):
            self.start()
        self.until_begun()

    def make_specs(self) -> None:
        specs = self.root / "specs"
        self.write(1)
        (specs / "reconciler.toml").write_text('fleet = "prod"\n')
        for host in HOSTS:
            (specs / host).mkdir()
            (specs / host / "host.toml").write_text('toolstack = "simulated"\n[simulated]\nlatency = "400ms"\n')
            (specs / host / f"of-{host}.toml").write_text('kernel = "kernels/linux"\nmemory = "256MiB"\n')

    def until_begun(self) -> None:
        self.until(lambda: all(self.domid(host) == 1 for host in HOSTS), 60, "all domains run")
        self.until(self.all_have_one, TAKE_OVER_SECONDS, "each host has a controller")
        self.until_settled()

    def until_settled(self) -> None:
        """Wait until all is as specified, and no host moves any more: the first of the three had them all at first."""
        self.until(self.is_ready, 60, "all domains are ready")
        lines, since = {host: self.line(host) for host in HOSTS}, time.monotonic()

        def rests() -> bool:
            nonlocal lines, since
            now = {host: self.line(host) for host in HOSTS}
            if now != lines:
                lines, since = now, time.monotonic()
            return time.monotonic() - since > 2 * LEASE

        self.until(rests, 60, "no host moves any more")

    def start(
        self, program: Sequence[str] = PROGRAM, *more: str, within: Sequence[str] = (), interval: int = 30
    ) -> None:
        """Start a controller, as a Python `program`, perhaps `within` what another command makes for it."""
        words = ["watch", "--lease", f"{LEASE}s", "--interval", f"{interval}s", *more]
        command = [*within, sys.executable, *program, *words]
        with (self.root / f"{len(self.watches)}.log").open("wb") as log:
            environment = self.environment
            if "--git" in more:
                del environment["RECONCILER_SPECS"]
            self.watches.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def log(self, index: int) -> str:
        return (self.root / f"{index}.log").read_text()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self.within, sys.executable, "-m", "reconciler", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def report(self) -> dict[str, Any]:
        return json.loads(self.run("cluster", "--json").stdout)  # type: ignore[no-any-return]

    def line(self, host: str) -> Line:
        file = self.root / "state/hosts" / host / "line"
        return Line.parse(file.read_text() if file.exists() else "")

    def holder(self, host: str) -> int:
        """The controller whose line the host has, by its place in `watches`."""
        pid = int(self.line(host).who.rpartition(":")[2] or 0)
        return next((at for at, one in enumerate(self.watches) if one.pid == pid), -1)

    def all_have_one(self) -> bool:
        return all(self.holder(host) >= 0 for host in HOSTS)

    def domid(self, host: str) -> int:
        """How often a domain was created on the host: each gets the next number. 0 while there is none."""
        instance = Store(self.root / "state", host).read().instances.get(f"of-{host}")
        return instance.domid if instance is not None and instance.exists else 0

    def is_ready(self) -> bool:
        time.sleep(0.5)  # a command costs what the controllers need
        return self.run("status", "--exit-code").returncode == 0

    def until(self, holds: Callable[[], bool], seconds: float, what: str) -> float:
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                logs = "\n".join(f"--- {index}\n{self.log(index)[-4000:]}" for index in range(len(self.watches)))
                raise AssertionError(f"not within {seconds} s: {what}\n{logs}")
            time.sleep(0.05)
        return time.monotonic() - began

    def end(self) -> None:
        for watch in self.watches:
            watch.send_signal(signal.SIGCONT)
            watch.kill()
            watch.wait()

    def until_amid_update(self, host: str) -> int:
        """Wait until the controller of the host has taken its domain down. Returns which one that is."""
        self.until(
            lambda: any(
                f'address={host}/of-{host} step="start from' in self.log(at) for at in range(len(self.watches))
            ),
            30,
            "an update is under way",
        )
        return self.holder(host)
