"""Three real controllers on three real etcds: what becomes of the hosts when one of them is killed, stopped or emptied.

The hosts are simulated, with a latency, so that an update takes some seconds. Bounds are upper ones: three leases.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.etcds import etcds
from tests.services.fleet import HOSTS, LEASE, TAKE_OVER_SECONDS, Fleet, tell

pytestmark = pytest.mark.services


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with etcds(tmp_path / "etcd") as made:
        asyncio.run(made.until_up())
        one = Fleet(tmp_path, made)
        try:
            one.begin()
            yield one
        finally:
            one.end()


def test_a_controller_killed_amid_a_kernel_update_is_followed_by_another(fleet: Fleet) -> None:
    """The other one finishes it, and starts the domain no second time."""
    fleet.write(2)
    killed = fleet.until_amid_update("alpha")
    token = fleet.line("alpha").number
    fleet.watches[killed].kill()
    took = fleet.until(lambda: fleet.line("alpha").number > token, TAKE_OVER_SECONDS, "another one has alpha")
    tell(f"alpha was taken over {took:.1f} s after the kill, with a lease of {LEASE} s")
    ready = fleet.until(fleet.is_ready, 60, "the update is done")
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
    fleet.until(fleet.is_ready, 60, "the update is done")
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
            assert report["quota_used"] > 0.5
            assert all(one["controller"] for one in report["hosts"].values())
            assert {host: fleet.line(host).number for host in HOSTS} == tokens
            assert "nobody can take one over" in " ".join(fleet.run("cluster").stdout.split())
        finally:
            fleet.end()
