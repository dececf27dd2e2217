"""What several controllers bear that comes seldom: restored and full etcds, cut networks, lost lines, versions, TLS.

`make test-fleet` runs it. Bounds are upper ones: three leases for who takes over, a minute for an update.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.cluster.etcd import Etcd, Login, Put
from reconciler.model.diagnostics import ReconcilerError
from tests.services.beside import free_port, get
from tests.services.etcds import Etcds, etcds
from tests.services.fleet import HOSTS, LEASE, PROGRAM, TAKE_OVER_SECONDS, Fleet, tell

pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(600)]

UPDATE_SECONDS = 90
ETCDCTL = {**os.environ, "ETCDCTL_API": "3"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and file systems are root's to make")


@contextmanager
def fleet_on(tmp_path: Path, made: Etcds, count: int = 3) -> Iterator[Fleet]:
    asyncio.run(made.until_up())
    fleet = Fleet(tmp_path, made)
    try:
        fleet.begin(count)
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with etcds(tmp_path / "etcd") as made, fleet_on(tmp_path, made) as one:
        yield one


def tokens(fleet: Fleet) -> dict[str, int]:
    return {host: fleet.line(host).number for host in HOSTS}


def until_updated(fleet: Fleet, version: int, domid: int) -> None:
    fleet.write(version)
    fleet.until(lambda: all(fleet.domid(host) == domid for host in HOSTS), UPDATE_SECONDS, f"version {version} runs")
    fleet.until(fleet.is_ready, UPDATE_SECONDS, "all are ready")
    assert [fleet.domid(host) for host in HOSTS] == [domid] * len(HOSTS), "nothing was done twice"


def test_an_etcd_restored_from_an_older_snapshot_refuses_nobody_and_lets_no_stale_one_act(fleet: Fleet) -> None:
    """The revisions that it gives out are those that it had given to others before."""
    snapshot, endpoint = fleet.root / "snapshot.db", fleet.etcds.endpoints[0]
    subprocess.run(["etcdctl", "--endpoints", endpoint, "snapshot", "save", snapshot], env=ETCDCTL, check=True)
    stopped = fleet.holder("alpha")
    fleet.watches[stopped].send_signal(signal.SIGSTOP)
    before = fleet.line("alpha")
    fleet.until(lambda: fleet.line("alpha").number > before.number, 2 * TAKE_OVER_SECONDS, "another one has alpha")
    after = tokens(fleet)
    fleet.etcds.restore(snapshot)
    asyncio.run(fleet.etcds.until_up())
    fleet.watches[stopped].send_signal(signal.SIGCONT)
    fleet.write(2)
    took = fleet.until(
        lambda: all(one["controller"] for one in fleet.report()["hosts"].values()), TAKE_OVER_SECONDS, "all have one"
    )
    tell(f"all hosts had a controller again {took:.1f} s after etcd was restored")
    until_updated(fleet, 2, 2)
    assert all(fleet.line(host).number >= after[host] for host in HOSTS), "no token went back"


def test_a_line_that_is_deleted_or_torn_amid_an_update_is_taken_again(fleet: Fleet) -> None:
    for version, harm in ((2, ""), (3, "7 torn")):
        fleet.write(version)
        fleet.until_amid_update("alpha") if version == 2 else time.sleep(1)
        file = fleet.root / "state/hosts/alpha/line"
        if harm:
            file.write_text(harm)
        else:
            file.unlink()
        until_updated(fleet, version, version)
        assert fleet.holder("alpha") >= 0


def test_hosts_that_move_amid_updates_never_have_steps_of_two_at_once(tmp_path: Path) -> None:
    """3 controllers, then 4, then 3, while kernels change; the log of each host tells whose commands it carried out."""
    logged = ("-m", "tests.services.logged_watch")
    with etcds(tmp_path / "etcd") as made:
        asyncio.run(made.until_up())
        fleet = Fleet(tmp_path, made, more={"PYTHONPATH": str(Path(__file__).parents[2])})
        try:
            fleet.make_specs()
            for _ in range(3):
                fleet.start(logged)
            fleet.until_begun()
            for version in range(2, 5):
                fleet.write(version)
                if version == 2:
                    fleet.start(logged)
                if version == 3:
                    fleet.watches[3].terminate()
                if version == 4:
                    fleet.watches[fleet.holder("alpha")].kill()
                until_updated(fleet, version, version)
            for host in HOSTS:
                log = (tmp_path / "state/hosts" / host / "commands.log").read_text().splitlines()
                numbers = [int(line.split()[0]) for line in log]
                sessions = list(dict.fromkeys(line.split()[1] for line in log))
                assert numbers == sorted(numbers), f"{host} obeyed an older one after a newer one"
                assert len(set(log)) == len(set(numbers)), "a token is one session's"
                tell(f"{host}: {len(log)} commands of {len(sessions)} sessions, one after the other")
        finally:
            fleet.end()


def test_two_versions_that_do_not_understand_each_other_s_facts_share_a_fleet(tmp_path: Path) -> None:
    """Each then looks at the hosts of the other itself, as one that was told nothing."""
    with etcds(tmp_path / "etcd", 1) as made:
        asyncio.run(made.until_up())
        fleet = Fleet(tmp_path, made, more={"PYTHONPATH": str(Path(__file__).parents[2])})
        try:
            fleet.make_specs()
            fleet.start()
            fleet.start(("-m", "tests.services.newer_watch"))
            fleet.until_begun()
            report = fleet.report()
            assert len({one["version"] for one in report["controllers"]}) == 2
            until_updated(fleet, 2, 2)
        finally:
            fleet.end()


def test_tls_and_users_to_etcd(tmp_path: Path) -> None:
    """A role on the keys of the fleet is enough; without it, or without the CA, it is said and nothing is begun."""
    certificate, key = tmp_path / "etcd.pem", tmp_path / "etcd.key"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *words], capture_output=True, check=True)
    flags = (f"--cert-file={certificate}", f"--key-file={key}")
    with etcds(tmp_path / "etcd", 1, *flags, scheme="https") as made:
        root = Login(ca_file=str(certificate))
        asyncio.run(made.until_up(root))
        for words in (
            ["user", "add", "root:secret"],
            ["user", "grant-role", "root", "root"],
            ["user", "add", "prod:word"],
            ["role", "add", "prod"],
            ["role", "grant-permission", "prod", "--prefix=true", "readwrite", "/reconciler/prod/"],
            ["user", "grant-role", "prod", "prod"],
            ["auth", "enable"],
        ):
            command = ["etcdctl", "--endpoints", made.endpoints[0], "--cacert", str(certificate), *words]
            subprocess.run(command, env=ETCDCTL, capture_output=True, check=False)
        fleet = Fleet(tmp_path, made, more={"ETCDCTL_CACERT": str(certificate), "ETCDCTL_USER": "prod:word"})
        try:
            fleet.begin(1)
            until_updated(fleet, 2, 2)
            assert all(one["controller"] for one in fleet.report()["hosts"].values())
        finally:
            fleet.end()
        for more in ({"ETCDCTL_USER": "prod:wrong"}, {"ETCDCTL_USER": ""}, {"ETCDCTL_CACERT": ""}):
            fleet.more = {"ETCDCTL_CACERT": str(certificate), "ETCDCTL_USER": "prod:word", **more}
            asked = fleet.run("cluster")
            assert asked.returncode == 1, more
            assert "Traceback" not in asked.stderr
            assert "etcd" in asked.stderr


@needs_root
def test_an_etcd_whose_disk_is_full_ends_nothing_and_all_go_on_once_there_is_room(tmp_path: Path) -> None:
    folder = tmp_path / "etcd"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=0700", "tmpfs", folder], check=True)
    try:
        with etcds(folder, 1) as made, fleet_on(tmp_path, made) as fleet:
            before = tokens(fleet)
            (folder / "filler").write_bytes(b"")
            with (folder / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
                while True:
                    filler.write(bytes(1 << 20))
            etcd = Etcd(made.endpoints, Login())
            with pytest.raises(ReconcilerError):
                for number in range(400):
                    asyncio.run(etcd.commit([], [Put(f"/fill/{number}", "x" * 300_000)]))
            time.sleep(2 * LEASE)
            assert all(watch.poll() is None for watch in fleet.watches)
            fleet.write(2)
            time.sleep(LEASE)
            assert [fleet.domid(host) for host in HOSTS] == [1, 1, 1], "nothing is begun without etcd"
            assert fleet.run("cluster").returncode == 1
            (folder / "filler").unlink()
            made.kill(0)
            made.start(0)
            asyncio.run(made.until_up())
            fleet.until(lambda: all(fleet.domid(host) == 2 for host in HOSTS), UPDATE_SECONDS, "they go on")
            assert all(fleet.line(host).number >= before[host] for host in HOSTS)
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


class Network:
    """Namespaces for some parties, each with an address and no other way, that meet at a bridge in one of its own.

    Some meet at a second bridge as well (`beside`), where each can be cut off alone. Nothing ends in the namespace of
    the machine: there, a link that is down leaves a default route to elsewhere.
    """

    def __init__(self, names: list[str], beside: list[str] | None = None) -> None:
        self.tag = f"rr{os.getpid() % 10000}"
        self.nets = (names, beside or [])

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], capture_output=True, check=True)

    def address(self, name: str, net: int = 0) -> str:
        return f"10.99.{net}.{self.nets[net].index(name) + 1}"

    def within(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.tag}-{name}"]

    def set(self, name: str, state: str, net: int = 0) -> None:
        """Cut a party off (`down`), or let it back (`up`): at the bridge."""
        self.ip("-n", f"{self.tag}-switch", "link", "set", f"v{net}-{name}", state)

    def __enter__(self) -> Network:
        switch = f"{self.tag}-switch"
        self.ip("netns", "add", switch)
        for name in dict.fromkeys([*self.nets[0], *self.nets[1]]):
            self.ip("netns", "add", f"{self.tag}-{name}")
            self.ip("-n", f"{self.tag}-{name}", "link", "set", "lo", "up")
        for net, names in enumerate(self.nets):
            self.ip("-n", switch, "link", "add", f"br{net}", "type", "bridge")
            self.ip("-n", switch, "link", "set", f"br{net}", "up")
            for name in names:
                own, mine, theirs = f"{self.tag}-{name}", f"eth{net}", f"v{net}-{name}"
                self.ip("-n", own, "link", "add", mine, "type", "veth", "peer", "name", theirs, "netns", switch)
                self.ip("-n", own, "address", "add", f"{self.address(name, net)}/24", "dev", mine)
                self.ip("-n", own, "link", "set", mine, "up")
                self.ip("-n", switch, "link", "set", theirs, "master", f"br{net}", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in dict.fromkeys([*self.nets[0], *self.nets[1], "switch"]):
            subprocess.run(["ip", "netns", "delete", f"{self.tag}-{name}"], capture_output=True, check=False)


CONTROLLERS = ("c0", "c1", "c2")
needs_ip = pytest.mark.skipif(shutil.which("ip") is None, reason="there is no ip: apt install iproute2")


def etcd_in(network: Network, tmp_path: Path) -> Etcds:
    made = Etcds(tmp_path / "etcd", [(2379, 2380)], address=network.address("etcd"), within=network.within("etcd"))
    made.folder.mkdir()
    made.processes.append(None)
    return made


@needs_root
@needs_ip
def test_a_controller_that_is_cut_off_from_its_hosts_says_so_and_leaves_them_to_the_next(tmp_path: Path) -> None:
    """It goes on being there for etcd. It gives a host up when a pass over it has ended, here at once."""
    with Network(["etcd", *CONTROLLERS, "person"], ["hosts", *CONTROLLERS]) as network:
        made, address = etcd_in(network, tmp_path), network.address("hosts", 1)
        more = {"PYTHONPATH": str(Path(__file__).parents[2]), "RECONCILER_TEST_DOOR": f"{address}:7000"}
        fleet = Fleet(tmp_path, made, within=network.within("person"), more=more)
        words = [*network.within("hosts"), sys.executable, "-m", "tests.services.door", address, "7000"]
        door = subprocess.Popen(words, env=fleet.environment)
        try:
            made.start(0)
            fleet.make_specs()
            for name in CONTROLLERS:
                fleet.start(("-m", "tests.services.distant_watch"), within=network.within(name))
            fleet.until_begun()
            cut, before = fleet.holder("alpha"), fleet.line("alpha").number
            network.set(f"c{cut}", "down", net=1)
            fleet.write(2)
            took = fleet.until(lambda: fleet.line("alpha").number > before, UPDATE_SECONDS, "the next one has alpha")
            tell(f"alpha was taken over {took:.1f} s after its controller was cut off from the hosts")
            assert fleet.holder("alpha") != cut
            until_updated(fleet, 2, 2)
            assert [one for one in fleet.report()["controllers"] if "alpha" in one["cannot_reach"]], "it says so"
            assert len(fleet.report()["controllers"]) == 3, "all are there"
            network.set(f"c{cut}", "up", net=1)

            def all_reach_all() -> bool:
                time.sleep(0.5)
                return not any(one["cannot_reach"] for one in fleet.report()["controllers"])

            fleet.until(all_reach_all, UPDATE_SECONDS, "it reaches them again")
            until_updated(fleet, 3, 3)
        finally:
            fleet.end()
            door.kill()
            door.wait()
            made.kill(0)


@needs_root
@needs_ip
def test_a_controller_that_is_cut_off_from_etcd_is_followed_and_comes_back(tmp_path: Path) -> None:
    with Network(["etcd", *CONTROLLERS, "person"]) as network:
        made = etcd_in(network, tmp_path)
        fleet = Fleet(tmp_path, made, within=network.within("person"))
        try:
            made.start(0)
            fleet.make_specs()
            for name in CONTROLLERS:
                fleet.start(within=network.within(name))
            fleet.until_begun()
            fleet.write(2)
            cut = fleet.until_amid_update("alpha")
            before = fleet.line("alpha").number
            network.set(f"c{cut}", "down")
            took = fleet.until(lambda: fleet.line("alpha").number > before, TAKE_OVER_SECONDS + 2, "alpha is followed")
            tell(f"alpha was taken over {took:.1f} s after its controller was cut off from etcd")
            until_updated(fleet, 2, 2)
            assert fleet.watches[cut].poll() is None
            network.set(f"c{cut}", "up")
            fleet.until(lambda: len(fleet.report()["controllers"]) == 3, 30, "it is back")
            until_updated(fleet, 3, 3)
        finally:
            fleet.end()
            made.kill(0)


def test_a_commit_is_moved_on_from_and_named_again_to_an_empty_etcd(tmp_path: Path) -> None:
    """By one that has fetched since, and looked at its hosts; a branch that was rewound is followed by nobody."""
    with etcds(tmp_path / "etcd", 1) as made:
        asyncio.run(made.until_up())
        fleet = Fleet(tmp_path, made)

        def git(*words: str) -> None:
            command = ["git", "-c", "user.name=ann", "-c", "user.email=ann@example.org", *words]
            subprocess.run(command, cwd=tmp_path / "specs", capture_output=True, check=True)

        def all_run(domid: int) -> bool:
            return all(fleet.domid(host) == domid for host in HOSTS)

        try:
            fleet.make_specs()
            git("init", "-b", "main")
            git("add", ".")
            git("commit", "-m", "1")
            for _ in range(2):
                fleet.start(PROGRAM, "--git", str(tmp_path / "specs"), interval=2)
            fleet.until(lambda: all_run(1), UPDATE_SECONDS, "the first commit runs")
            fleet.write(2)
            git("commit", "-am", "2")
            fleet.until(lambda: all_run(2), UPDATE_SECONDS, "the second commit runs")
            made.wipe()
            asyncio.run(made.until_up())
            fleet.write(3)
            git("commit", "-am", "3")
            fleet.until(lambda: all_run(3), UPDATE_SECONDS, "the third commit runs, after etcd was emptied")
            git("reset", "--hard", "HEAD~2")
            time.sleep(3 * LEASE)
            assert all_run(3)
            assert "rewound" in fleet.log(0) + fleet.log(1)
            assert fleet.report()["specs"] is not None
        finally:
            fleet.end()


def test_each_controller_shows_all_hosts_as_the_one_that_has_them_sees_them(tmp_path: Path) -> None:
    with etcds(tmp_path / "etcd", 1) as made:
        asyncio.run(made.until_up())
        fleet, ports = Fleet(tmp_path, made), [free_port() for _ in range(3)]
        try:
            fleet.make_specs()
            for port in ports:
                fleet.start(PROGRAM, "--listen", f"127.0.0.1:{port}")
            fleet.until_begun()
            fleet.run("sim", "beta", "fault", "create-fails", "--times", "99")
            fleet.run("sim", "beta", "destroy", "of-beta")

            def shown(port: int) -> dict[str, str]:
                document = json.loads(get(f"http://127.0.0.1:{port}/api/status"))
                return {one["address"]: one.get("condition", "") for one in document["domains"]}

            def fails_everywhere() -> bool:
                time.sleep(0.5)
                return all(
                    seen.pop("beta/of-beta", "Ready") != "Ready" and set(seen.values()) == {"Ready"} and len(seen) == 2
                    for seen in map(shown, ports)
                )

            fleet.until(fails_everywhere, 60, "each shows what the controller of beta meets there")
            metrics = [get(f"http://127.0.0.1:{port}/metrics").decode() for port in ports]
            assert all('host="alpha"' in text and 'host="gamma"' in text for text in metrics)
        finally:
            fleet.end()
