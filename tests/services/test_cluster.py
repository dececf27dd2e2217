"""Three real controllers on three real etcds: what becomes of the hosts when one of them is killed, stopped or emptied.

The hosts are simulated, with a latency, so that an update takes some seconds. Bounds are upper ones: three leases.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.fence import Line
from tests.services.etcds import Etcds, etcds

pytestmark = pytest.mark.services

LEASE = 3
TAKE_OVER_SECONDS = 3 * LEASE
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

    @property
    def environment(self) -> dict[str, str]:
        ours = {"RECONCILER_CLUSTER": ",".join(self.etcds.endpoints), "RECONCILER_SPECS": str(self.root / "specs")}
        return {**os.environ, **ours, "RECONCILER_STATE_DIR": str(self.root / "state")}

    def write(self, version: int) -> None:
        kernels = self.root / "specs/kernels"
        kernels.mkdir(parents=True, exist_ok=True)
        (kernels / "new").write_text(KERNEL.format(version))
        (kernels / "new").replace(kernels / "linux")

    def begin(self) -> None:
        specs = self.root / "specs"
        self.write(1)
        (specs / "reconciler.toml").write_text('fleet = "prod"\n')
        for host in HOSTS:
            (specs / host).mkdir()
            (specs / host / "host.toml").write_text('toolstack = "simulated"\n[simulated]\nlatency = "400ms"\n')
            (specs / host / f"of-{host}.toml").write_text('kernel = "kernels/linux"\nmemory = "256MiB"\n')
        for _ in range(3):
            self.start()
        self.until(lambda: all(self.domid(host) == 1 for host in HOSTS), 60, "all domains run")
        self.until(self.all_have_one, TAKE_OVER_SECONDS, "each host has a controller")
        self.until_settled()

    def until_settled(self) -> None:
        """Wait until all is as specified, and no host moves any more: the first of the three had them all at first."""
        self.until(lambda: self.run("status", "--exit-code").returncode == 0, 60, "all domains are ready")
        lines, since = {host: self.line(host) for host in HOSTS}, time.monotonic()

        def rests() -> bool:
            nonlocal lines, since
            now = {host: self.line(host) for host in HOSTS}
            if now != lines:
                lines, since = now, time.monotonic()
            return time.monotonic() - since > 2 * LEASE

        self.until(rests, 60, "no host moves any more")

    def start(self) -> None:
        command = [sys.executable, "-m", "reconciler", "watch", "--lease", f"{LEASE}s", "--interval", "30s"]
        with (self.root / f"{len(self.watches)}.log").open("wb") as log:
            self.watches.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def log(self, index: int) -> str:
        return (self.root / f"{index}.log").read_text()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reconciler", *words]
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
        """How often a domain was created on the host: each gets the next number."""
        listed = self.run("sim", host, "list").stdout
        found = re.search(rf"^of-{host} +([0-9]+)", listed, re.MULTILINE)
        return int(found[1]) if found is not None else 0

    def until(self, holds: Callable[[], bool], seconds: float, what: str) -> float:
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                logs = "\n".join(f"--- {index}\n{self.log(index)[-4000:]}" for index in range(len(self.watches)))
                raise AssertionError(f"not within {seconds} s: {what}\n{logs}")
            time.sleep(0.05)
        return time.monotonic() - began

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


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with etcds(tmp_path / "etcd") as made:
        asyncio.run(made.until_up())
        one = Fleet(tmp_path, made)
        try:
            one.begin()
            yield one
        finally:
            for watch in one.watches:
                watch.send_signal(signal.SIGCONT)
                watch.kill()
                watch.wait()


def test_a_controller_killed_amid_a_kernel_update_is_followed_by_another(fleet: Fleet) -> None:
    """The other one finishes it, and starts the domain no second time."""
    fleet.write(2)
    killed = fleet.until_amid_update("alpha")
    token = fleet.line("alpha").number
    fleet.watches[killed].kill()
    took = fleet.until(lambda: fleet.line("alpha").number > token, TAKE_OVER_SECONDS, "another one has alpha")
    tell(f"alpha was taken over {took:.1f} s after the kill, with a lease of {LEASE} s")
    ready = fleet.until(lambda: fleet.run("status", "--exit-code").returncode == 0, 60, "the update is done")
    tell(f"and was as specified {ready:.1f} s later")
    assert fleet.holder("alpha") not in (killed, -1)
    assert [fleet.domid(host) for host in HOSTS] == [2, 2, 2]


def test_a_controller_stopped_past_its_lease_does_nothing_when_it_goes_on(fleet: Fleet) -> None:
    fleet.write(2)
    stopped = fleet.until_amid_update("alpha")
    token = fleet.line("alpha").number
    fleet.watches[stopped].send_signal(signal.SIGSTOP)
    took = fleet.until(lambda: fleet.line("alpha").number > token, TAKE_OVER_SECONDS, "another one has alpha")
    tell(f"alpha was taken over {took:.1f} s after the stop, with a lease of {LEASE} s")
    fleet.until(lambda: fleet.run("status", "--exit-code").returncode == 0, 60, "the update is done")
    fleet.watches[stopped].send_signal(signal.SIGCONT)
    time.sleep(LEASE)
    assert [fleet.domid(host) for host in HOSTS] == [2, 2, 2]
    assert fleet.watches[stopped].poll() is None
    refused = ("lock of alpha was ended", "alpha has refused the step", "nothing is begun here")
    assert any(words in fleet.log(stopped) for words in refused)


def test_one_etcd_of_three_is_not_missed_and_all_three_end_nothing_that_runs(fleet: Fleet) -> None:
    tokens = {host: fleet.line(host).number for host in HOSTS}
    fleet.etcds.kill(0)
    fleet.write(2)
    fleet.until(lambda: all(fleet.domid(host) == 2 for host in HOSTS), 60, "an update is done with two etcds")
    assert {host: fleet.line(host).number for host in HOSTS} == tokens, "no host has moved"
    for index in (1, 2):
        fleet.etcds.kill(index)
    time.sleep(2 * LEASE)
    fleet.write(3)
    time.sleep(LEASE)
    assert [fleet.domid(host) for host in HOSTS] == [2, 2, 2], "nothing is begun without etcd"
    assert all(watch.poll() is None for watch in fleet.watches)
    fleet.etcds.start_all()
    fleet.until(lambda: all(fleet.domid(host) == 3 for host in HOSTS), 60, "they go on when it is back")


def test_an_etcd_that_was_emptied_refuses_nobody_for_long(fleet: Fleet) -> None:
    tokens = {host: fleet.line(host).number for host in HOSTS}
    fleet.etcds.wipe()
    asyncio.run(fleet.etcds.until_up())
    fleet.write(2)
    took = fleet.until(
        lambda: all(fleet.line(host).number > tokens[host] for host in HOSTS), TAKE_OVER_SECONDS, "all have lines"
    )
    tell(f"all hosts had a controller again {took:.1f} s after etcd was back, empty")
    fleet.until(lambda: all(fleet.domid(host) == 2 for host in HOSTS), 60, "an update is done")
    assert set(fleet.report()["hosts"]) == set(HOSTS)


def test_a_member_that_is_stopped_costs_a_second_a_call(fleet: Fleet) -> None:
    tokens = {host: fleet.line(host).number for host in HOSTS}
    fleet.etcds.signal(2, signal.SIGSTOP)
    try:
        fleet.write(2)
        fleet.until(lambda: all(fleet.domid(host) == 2 for host in HOSTS), 60, "an update is done")
        moved = [host for host in HOSTS if fleet.line(host).number > tokens[host] + 1]
        assert moved == []
    finally:
        fleet.etcds.signal(2, signal.SIGCONT)


def test_apply_takes_a_host_in_an_emergency_and_the_controller_goes_on_after_it(fleet: Fleet) -> None:
    token = fleet.line("alpha").number
    fleet.run("sim", "alpha", "destroy", "of-alpha")
    ran = fleet.run("apply", "--yes", "--host", "alpha")
    assert ran.returncode in (0, 3), ran.stderr  # 3: its controller was first
    fleet.until(lambda: fleet.domid("alpha") == 2, 30, "it runs again")
    if ran.returncode == 0 and "is taken from" in ran.stderr:
        assert fleet.line("alpha").number > token
    alone = subprocess.run(
        [sys.executable, "-m", "reconciler", "watch", "--once"],
        env={**fleet.environment, "RECONCILER_CLUSTER": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, "there is nothing to do, so nothing is refused"


def test_a_quota_that_is_reached_is_told_and_holders_go_on(tmp_path: Path) -> None:
    with etcds(tmp_path / "etcd", 1, "--quota-backend-bytes=2000000") as made:
        asyncio.run(made.until_up())
        fleet = Fleet(tmp_path, made)
        try:
            fleet.begin()
            fill = (
                "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 300000 /dev/zero | tr '\\0' x | etcdctl put k$i; done"
            )
            subprocess.run(
                ["sh", "-c", fill],
                env={**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": made.endpoints[0]},
                capture_output=True,
                check=False,
            )
            tokens = {host: fleet.line(host).number for host in HOSTS}
            time.sleep(2 * LEASE)
            report = fleet.report()
            assert report["takes_new_keys"] is False
            assert all(one["controller"] for one in report["hosts"].values())
            assert {host: fleet.line(host).number for host in HOSTS} == tokens
            assert "nobody can take one over" in " ".join(fleet.run("cluster").stdout.split())
        finally:
            for watch in fleet.watches:
                watch.kill()
                watch.wait()
