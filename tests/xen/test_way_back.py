"""Kernel updates on a real Xen, good ones and bad ones, and the way back from each.

What a guest runs is asked of the guest itself, on its console, and of plain `xl list -l`.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.xen.fleet import REFUSED, Fleet
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

FAILED = 1
GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
shutdown_timeout = "60s"
ready = { min_seconds = 1, timeout = "45s" }
"""
WEB = f"""{GUEST}
vif = [{{ bridge = "xenbr0" }}]
"""


# It has no device by which a boot that hangs or panics late could be told from one that works.
TALKING = GUEST.replace('timeout = "45s"', 'timeout = "60s", console = "GUEST-READY"')


def on_kernel(spec: str, kernel: str) -> str:
    """The same domain with the other of the lab's two Debian kernels."""
    return spec.replace("-amd64", f"-{kernel}")


def kernel_of(lab: Lab, domain: str) -> str:
    """What `uname -r` says in the guest, however long it still takes to boot; without the number of the version."""
    answer = ""

    def answered() -> bool:
        nonlocal answer
        answer = lab.ssh(shlex.join(["guest-says", domain, "uname -r"]), check=False).stdout.strip()
        return answer != ""

    lab.wait_until(f"{domain} answers", answered, timeout_seconds=120)
    return "cloud" if answer.endswith("-cloud-amd64") else answer.rpartition("-")[2]


def kernel_file_of(lab: Lab, domain: str) -> str:
    """The file that a running domain was built from, as xl knows it."""
    (entry,) = json.loads(lab.xl("list", "-l", domain))
    config = entry["config"]
    kernel: str = config["b_info"].get("kernel") or config["b_info"]["type.pv"]["kernel"]
    return kernel


def staged(lab: Lab, domain: str, kernel: str) -> str:
    """Where the bytes of one of the lab's kernels have to be for a domain to run them."""
    digest = lab.ssh(f"sha256sum /boot/guest/vmlinuz-{kernel}").stdout[:12]
    return f"/var/lib/xen/kernels/{domain}/vmlinuz-{kernel}.{digest}"


def instances_of(lab: Lab, domain: str) -> list[str]:
    """The domids of all that has this name: more than one would be a domain created twice."""
    rows = [line.split() for line in lab.xl("list").splitlines()[1:]]
    assert "(null)" not in {row[0] for row in rows}, "no remains"
    return [row[1] for row in rows if row[0] == domain]


def status_of(fleet: Fleet, address: str) -> tuple[str, str]:
    """The one word that `status` has for a domain, and why."""
    document = json.loads(fleet.run("status", "--json").stdout)
    (entry,) = (entry for entry in document["domains"] if entry["address"] == address)
    return entry["status"], entry["reason"]


@pytest.fixture(scope="module")
def neighbour_domid(lab: Lab, fleet: Fleet) -> str:
    """A managed domain that nothing in this file changes, beside `web`; both run after this."""
    fleet.write("neighbour", GUEST)
    fleet.write("web", WEB)
    for name, content in (("no-kernel", "not a kernel\n"), ("no-ramdisk", "not a ramdisk\n" * 1000)):
        file = fleet.specs / "kernels" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    fleet.apply()
    return lab.domains()["neighbour"]


@pytest.fixture
def web_domid(lab: Lab, fleet: Fleet) -> str:
    """`web` runs the kernel that works, and its spec asks for nothing else."""
    fleet.write("web", WEB)
    fleet.apply()
    return lab.domains()["web"]


@pytest.fixture(autouse=True)
def _neighbour_is_never_touched(lab: Lab, neighbour_domid: str) -> Iterator[None]:
    yield
    assert lab.domains()["neighbour"] == neighbour_domid


@pytest.mark.usefixtures("web_domid")
def test_an_update_runs_the_other_kernel_and_a_rollback_the_first_one_again(lab: Lab, fleet: Fleet) -> None:
    assert kernel_of(lab, "web") == "amd64"
    assert kernel_file_of(lab, "web") == staged(lab, "web", "amd64")
    fleet.write("web", on_kernel(WEB, "cloud"))

    updated = fleet.apply()

    assert "lab/web was down for" in updated.stdout
    assert kernel_of(lab, "web") == "cloud"
    assert kernel_file_of(lab, "web") == staged(lab, "web", "cloud")
    previous = [line for line in fleet.run("kernels", "lab/web").stdout.splitlines() if "previous" in line]
    assert staged(lab, "web", "amd64") in {line.split()[-1] for line in previous}

    fleet.run("rollback", "lab/web", "--yes")

    assert kernel_of(lab, "web") == "amd64"
    assert kernel_file_of(lab, "web") == staged(lab, "web", "amd64")
    condition, reason = status_of(fleet, "lab/web")
    assert condition == "drifted"
    assert "rolled back" in reason
    domid = lab.domains()["web"]
    fleet.apply(exit_code=REFUSED)
    assert lab.domains()["web"] == domid, "no apply undoes a rollback"


@dataclass(frozen=True, slots=True)
class Bad:
    """An update that does not work, and the words (an expression) by which it is told from the others."""

    name: str
    spec: str
    why: str
    evidence: str = ""  # what of the guest's console has to be shown


BAD_UPDATES = (
    Bad(
        "panics",
        on_kernel(WEB, "cloud").replace("/boot/guest/initrd-cloud.gz", "kernels/no-ramdisk"),
        "did not get ready: it (crashed|is gone)",
        "Kernel panic",
    ),
    Bad("is no kernel", WEB.replace("/boot/guest/vmlinuz-amd64", "kernels/no-kernel"), "did not start"),
    Bad(
        "never connects its vif",
        on_kernel(WEB, "cloud").replace("console=hvc0", "console=hvc0 module_blacklist=xen_netfront"),
        "after 45 s its disks and interfaces are not connected",
        "GUEST-READY",
    ),
    Bad(
        "reboots for ever",
        on_kernel(WEB, "cloud").replace("console=hvc0", "console=hvc0 rdinit=/sbin/reboot"),
        "(reboots instead of coming up|is in a boot loop)",
    ),
)


@pytest.mark.parametrize("bad", BAD_UPDATES, ids=lambda bad: bad.name)
def test_an_update_that_does_not_work_is_undone_and_not_tried_again(
    lab: Lab, fleet: Fleet, web_domid: str, bad: Bad
) -> None:
    fleet.write("web", bad.spec)

    failed = fleet.apply(exit_code=FAILED)

    assert re.search(bad.why, failed.stdout), failed.stdout
    assert bad.evidence in failed.stdout, failed.stdout
    assert "fell back: lab/web runs its last proven definition again, down for" in failed.stdout
    assert kernel_of(lab, "web") == "amd64"
    assert kernel_file_of(lab, "web") == staged(lab, "web", "amd64")
    (domid,) = instances_of(lab, "web")
    assert domid != web_domid
    assert status_of(fleet, "lab/web")[0] == "quarantined"

    fleet.apply(exit_code=REFUSED)
    assert instances_of(lab, "web") == [domid], "what failed to boot is not tried again"


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("write the config", 1), ("shut down", 2.5), ("start from the candidate", 0), ("wait until ready", 0)],
)
def test_an_update_is_finished_when_the_controller_was_killed_in_it(
    lab: Lab, fleet: Fleet, after: str, seconds: float
) -> None:
    word = f"killed-after={after.replace(' ', '-')}"
    fleet.write("web", WEB.replace("console=hvc0", f"console=hvc0 {word}"))
    boots = lab.console_log("web").count("GUEST-READY")
    controller = fleet.start("apply", "--yes")
    assert controller.stderr
    met = any(line.startswith(f"lab/web: {after}") and ": done (" in line for line in controller.stderr)
    time.sleep(seconds)
    controller.kill()
    controller.communicate()
    assert met, f"no step that says {after!r}"

    fleet.apply_after_a_kill()

    assert len(instances_of(lab, "web")) == 1
    assert word in lab.console("web", "cat /proc/cmdline").split()
    assert lab.console_log("web").count("GUEST-READY") == boots + 1, "it was started once"
    assert lab.ssh("ls /var/lib/xen/kernels/web/candidate.cfg", check=False).returncode != 0
    fleet.assert_nothing_to_do()


@pytest.mark.parametrize("comes_up", [True, False])
def test_a_first_boot_whose_controller_was_killed_is_asked_again_whether_it_is_ready(
    lab: Lab, fleet: Fleet, comes_up: bool
) -> None:
    name = "fresh" if comes_up else "stale"
    fleet.write(name, TALKING if comes_up else TALKING.replace("GUEST-READY", "what it never says"))
    controller = fleet.start("apply", "--yes", "--target", f"lab/{name}")
    assert controller.stderr
    met = any(line.startswith(f"lab/{name}: start") for line in controller.stderr)  # which is done by then
    controller.kill()
    controller.communicate()
    assert met
    (domid,) = instances_of(lab, name)

    fleet.apply_after_a_kill("--target", f"lab/{name}", exit_code=0 if comes_up else FAILED)

    assert instances_of(lab, name) == ([domid] if comes_up else []), "what never got ready is cleared away"
    assert status_of(fleet, f"lab/{name}")[0] == ("ready" if comes_up else "stalled")
    assert lab.ssh(f"ls /var/lib/xen/kernels/{name}/previous.cfg", check=False).returncode != 0
    fleet.tear_down(name)


def test_a_bad_kernel_stops_its_wave_and_a_second_run_goes_on_with_the_rest(lab: Lab, fleet: Fleet) -> None:
    names = ("one", "second", "third", "zebra")
    for name in names:
        fleet.write(name, TALKING)
    fleet.apply()
    before = lab.domains()
    for name in names:
        fleet.write(name, on_kernel(TALKING, "cloud"))
    fleet.edit("second", "console=hvc0", "console=hvc0 rdinit=/nothing init=/nothing")

    failed = fleet.apply(exit_code=FAILED)

    after = lab.domains()
    assert {name for name in names if after[name] == before[name]} == {"third", "zebra"}
    assert {name: kernel_of(lab, name) for name in names[:2]} == {"one": "cloud", "second": "amd64"}
    assert re.search(r"lab/third  \d+ steps: lab/second failed before it", failed.stdout), failed.stdout
    assert "after a panic: " in failed.stdout

    fleet.apply(exit_code=REFUSED)  # for `second`, which stays as it is

    assert lab.domains()["second"] == after["second"]
    assert [kernel_of(lab, name) for name in names] == ["cloud", "amd64", "cloud", "cloud"]
