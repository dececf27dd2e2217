"""watch on a real host, fed by pushes to a real git repository: told in order, one watcher for all of it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xen.fleet import HOST_TOML, Fleet
from tests.xen.lab import Lab

pytestmark = pytest.mark.xen

INTERVAL = "5s"
LONG_INTERVAL = "300s"
STOP_SECONDS = 120
WAIT_SECONDS = 180
WEB = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 128
maxmem = 192
shutdown_timeout = "60s"
ready = { min_seconds = 1 }
"""


class Repository:
    """A bare repository and a clone that commits are pushed from."""

    def __init__(self, folder: Path) -> None:
        self.url = folder / "fleet.git"
        self._clone = folder / "clone"
        self._git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.url))
        self._git(folder, "clone", "--quiet", str(self.url), str(self._clone))

    def push(self, files: dict[str, str], message: str) -> str:
        """Commit these files and push them; returns the commit."""
        for name, text in files.items():
            path = self._clone / "specs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git(self._clone, "add", "--all")
        who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
        self._git(self._clone, *who, "commit", "--quiet", "--message", message)
        self._git(self._clone, "push", "--quiet", "origin", "HEAD:main")
        return self._git(self._clone, "rev-parse", "HEAD")

    def _git(self, folder: Path, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("git"))


@pytest.fixture(scope="module")
def watcher(fleet: Fleet, repository: Repository) -> Iterator[subprocess.Popen[str]]:
    tree = {"reconciler.toml": 'fleet = "default"\n', "lab/host.toml": HOST_TOML, "lab/watched.toml": WEB}
    repository.push(tree, "One domain")
    fleet.write("watched", WEB)  # for the tear down, which knows domains by what was written
    process = fleet.start(
        "watch", "--git", str(repository.url), "--branch", "main", "--path", "specs", "--interval", INTERVAL
    )
    yield process
    process.kill()
    process.communicate(timeout=STOP_SECONDS)


def memory_mib(lab: Lab, domain: str) -> int:
    return int(lab.xl("list", domain).splitlines()[1].split()[2])


def test_what_the_branch_asks_for_is_made(lab: Lab, watcher: subprocess.Popen[str]) -> None:
    lab.wait_until("watch made the domain", lambda: "watched" in lab.domains(), WAIT_SECONDS)
    assert watcher.poll() is None


def test_a_domain_destroyed_by_hand_is_back_within_an_interval(lab: Lab, watcher: subprocess.Popen[str]) -> None:
    lab.wait_for_guest("watched")
    domid = lab.domains()["watched"]
    lab.xl("destroy", "watched")
    lab.wait_until("watch brought it back", lambda: lab.domains().get("watched", domid) != domid, WAIT_SECONDS)
    lab.wait_for_guest("watched")
    assert watcher.poll() is None


def test_a_pushed_change_of_memory_is_made_live(
    lab: Lab, watcher: subprocess.Popen[str], repository: Repository
) -> None:
    domid = lab.domains()["watched"]
    repository.push({"lab/watched.toml": WEB.replace("memory = 128", "memory = 160")}, "More memory")
    lab.wait_until("the memory is there", lambda: memory_mib(lab, "watched") == 160, WAIT_SECONDS)
    assert lab.domains()["watched"] == domid
    assert watcher.poll() is None


def test_a_bad_commit_changes_nothing_and_a_good_one_supersedes_it(
    lab: Lab, fleet: Fleet, watcher: subprocess.Popen[str], repository: Repository
) -> None:
    domid = lab.domains()["watched"]
    bad = repository.push({"lab/watched.toml": "memory = [\n"}, "Cut short")

    def status() -> str:
        return fleet.start("status").communicate(timeout=WAIT_SECONDS)[0]

    lab.wait_until("status names the bad commit", lambda: bad[:12] in status(), WAIT_SECONDS)
    assert (lab.domains()["watched"], memory_mib(lab, "watched")) == (domid, 160)

    good = repository.push({"lab/watched.toml": WEB.replace("memory = 128", "memory = 144")}, "Right again")
    lab.wait_until("the good commit is in force", lambda: memory_mib(lab, "watched") == 144, WAIT_SECONDS)

    assert lab.domains()["watched"] == domid
    lab.wait_until("the config names its commit", lambda: good in lab.ssh("cat /etc/xen/watched.cfg").stdout)


def test_a_stopped_watcher_leaves_domains_as_they_are(lab: Lab, watcher: subprocess.Popen[str]) -> None:
    domid = lab.domains()["watched"]
    watcher.send_signal(signal.SIGTERM)
    _, said = watcher.communicate(timeout=STOP_SECONDS)
    assert watcher.returncode == 0, said
    assert "Traceback" not in said
    assert lab.domains()["watched"] == domid


def test_with_a_long_interval_xen_itself_tells_of_a_domain_destroyed_by_hand(
    lab: Lab, fleet: Fleet, repository: Repository
) -> None:
    process = fleet.start(
        "watch", "--git", str(repository.url), "--branch", "main", "--path", "specs", "--interval", LONG_INTERVAL
    )
    try:
        listening = "pgrep -x xenstore-watch"
        lab.wait_until("watch listens", lambda: lab.ssh(listening, check=False).returncode == 0, WAIT_SECONDS)
        domid = lab.domains()["watched"]
        lab.xl("destroy", "watched")
        lab.wait_until("watch brought it back", lambda: lab.domains().get("watched", domid) != domid, WAIT_SECONDS)
    finally:
        process.kill()
        process.communicate(timeout=STOP_SECONDS)
    lab.wait_until("nobody listens any more", lambda: lab.ssh(listening, check=False).returncode == 1, WAIT_SECONDS)
