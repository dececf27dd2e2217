"""One plan that creates, resizes, updates a kernel, attaches and destroys; and what it leaves, as plain tools see it.

The tests of test_cut_short.py cut it short in its steps, run it again, and compare.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.xen.fleet import GUEST, REFUSED, Fleet
from tests.xen.lab import Lab, Machine, machine

ADDRESS = "10.77.0.11"
MARKER = "written-before-the-plan"
WEB = GUEST + 'disk = [{ vdev = "xvda", path = "/srv/web.img", size = "8MiB" }]\n'
DB = GUEST + 'disk = [{ vdev = "xvda", lv = "vg0/db", size = "8MiB" }]\n'
OLD = GUEST + 'disk = [{ vdev = "xvda", path = "/srv/old.img", size = "8MiB", on_delete = "delete" }]\n'

NEW_WEB = WEB.replace("-amd64", "-cloud")
NEW_DB = (
    DB.replace("memory = 96", "memory = 112").replace(
        '"8MiB" }]', '"16MiB" }, { vdev = "xvdb", path = "/srv/db-b.img", size = "8MiB" }]'
    )
    + 'vif = [{ bridge = "xenbr0" }]\n'
)
FRESH = GUEST + 'disk = [{ vdev = "xvda", path = "/srv/fresh.img", source = "/srv/golden.img" }]\n'

# They tell of one start (where its console begins, from what it was), or of how many runs there were.
_OF_ONE_START = ("/console.begins", "/started", "/.line")
_FILES = """
find /etc/xen/*.cfg /etc/xen/auto /var/lib/xen/kernels /srv -printf '%p %y %m %l\\n' | sort
find /etc/xen/*.cfg /var/lib/xen/kernels /srv -type f -exec sha256sum {} + | sort -k 2
for volume in /dev/vg0/*; do [ ! -e $volume ] || sha256sum $volume; done
"""
_HELD = """
losetup -n -O BACK-FILE | sort
lvs --noheadings -o lv_name,lv_size vg0
for bridge in xenbr0 xenbr1; do ls /sys/class/net/$bridge/brif | wc -l; done
ls /tmp /run/lock | grep -v '^lvm\\|^xl$\\|^subsys$'
"""


@dataclass(frozen=True, slots=True)
class Left:
    """What a run has left, to be compared with what another one did."""

    domains: dict[str, object]
    files: list[str]
    held: list[str]


def left(lab: Lab) -> Left:
    """Read it with `xl`, `find`, `sha256sum`, `losetup` and `lvs`. Domids are another at each boot."""
    rows = {row[1]: row for row in (line.split() for line in lab.xl("list").splitlines()[1:]) if row[1] != "0"}
    configs = {str(entry["domid"]): entry["config"] for entry in json.loads(lab.xl("list", "-l"))}
    for config in configs.values():
        config["c_info"].pop("domid", None)
    domains: dict[str, object] = {}
    for domid, row in rows.items():
        assert row[0] not in domains, f"{row[0]} is there twice"
        domains[row[0]] = (row[2], row[3], row[4].strip("-rb"), configs.get(domid))
    files = lab.ssh(_FILES, timeout_seconds=300).stdout.splitlines()
    return Left(
        domains=domains,
        files=[line for line in files if not any(of_start in line for of_start in _OF_ONE_START)],
        held=lab.ssh(_HELD, check=False).stdout.splitlines(),
    )


def boots(lab: Lab) -> dict[str, int]:
    """How often a guest of each name has come up since the lab was new."""
    return {name: lab.console_log(name).count("GUEST-READY") for name in ("web", "db", "fresh")}


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the undisturbed run: its line without what came of it, and how long it took."""

    title: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a run was cut short, and with what the next one went on."""

    step: str
    went_on_with: str  # "" where nothing was left to do


@dataclass(frozen=True, slots=True)
class Stage:
    """A machine on which the plan is about to be followed, and what an undisturbed run of it did and left."""

    machine: Machine
    fleet: Fleet
    steps: tuple[Step, ...]
    left: Left
    boots: dict[str, int]

    @property
    def lab(self) -> Lab:
        return self.machine.lab

    def apply_cut_in(self, chosen: Collection[str], cut: Callable[[subprocess.Popen[str]], None]) -> Iterator[Cut]:
        """Apply again and again, each time cut short in the middle of the next of these steps, until nothing is left.

        Yields each cut once the run after it has ended its first step.

        A step is known to be under way when the one before it, in the undisturbed run, has ended.
        """
        following = {before.title: after for before, after in pairwise(self.steps)}
        left_to_cut = set(chosen)
        last = ""
        for _ in range(4 * len(self.steps)):
            process = self.fleet.start("apply", "--yes")
            assert process.stderr
            said = ""
            for line in process.stderr:
                said += line
                title = line.partition(": done (")[0] if ": done (" in line else ""
                if title and last:
                    yield Cut(step=last, went_on_with=title)
                    last = ""
                under_way = following.get(title)
                if under_way is not None and under_way.title in left_to_cut:
                    left_to_cut.remove(under_way.title)
                    last = under_way.title
                    time.sleep(under_way.seconds / 2)
                    cut(process)
                    break
            else:
                out, _ = process.communicate()
                assert process.returncode in (0, REFUSED), said + out
                if process.returncode == 0:
                    if last:
                        yield Cut(step=last, went_on_with="")
                    return
            process.communicate()
        raise AssertionError("it does not come to an end")


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Boot a machine, bring it to the moment before the plan, and see what the plan does when nothing disturbs it."""
    with machine(cpus=1, safe_disks=True) as one:
        fleet = Fleet(one.lab, folder)
        host = fleet.specs / "lab" / "host.toml"
        host.write_text(f"parallel = 1\n{host.read_text()}")
        one.lab.ssh("dd if=/dev/urandom of=/srv/golden.img bs=1M count=48 2>/dev/null; sync")
        for name, spec in (("web", WEB), ("db", DB), ("old", OLD)):
            fleet.write(name, spec)
        fleet.apply()
        one.lab.console("web", f"echo {MARKER} | dd of=/dev/xvda conv=fsync 2>/dev/null")
        for name, spec in (("web", NEW_WEB), ("db", NEW_DB), ("fresh", FRESH)):
            fleet.write(name, spec)
        fleet.remove("old")
        one.lab.ssh("sync")
        one.keep()
        steps = _undisturbed(fleet)
        yield Stage(machine=one, fleet=fleet, steps=steps, left=left(one.lab), boots=boots(one.lab))


def _undisturbed(fleet: Fleet) -> tuple[Step, ...]:
    process = fleet.start("apply", "--yes")
    assert process.stderr
    steps, said, began = [], "", time.monotonic()
    for line in process.stderr:
        said += line
        if ": done (" in line:
            steps.append(Step(title=line.partition(": done (")[0], seconds=time.monotonic() - began))
            began = time.monotonic()
    process.communicate()
    assert process.returncode == 0, said
    fleet.assert_nothing_to_do()
    return tuple(steps)
