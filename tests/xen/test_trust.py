"""What lets somebody trust a plan, tried on a real Xen: whose a domain is, what a plan is bound to, who may apply.

What is there after each step is read with plain `xl` and from inside the guests, never by our own code.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.xen.fleet import LOCK_SECONDS, REFUSED, Fleet
from tests.xen.lab import Lab

pytestmark = [pytest.mark.xen, pytest.mark.long]

FAILED = 1
KERNEL = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
shutdown_timeout = "60s"
ready = { min_seconds = 1 }
"""
VAULT = f"""{KERNEL}
memory = 96
maxmem = 128
"""
BY_HAND = """# made by hand
name = "{name}"
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
disk = ["/srv/{name}.img,raw,xvda,rw"]
vif = ["bridge=xenbr0"]
"""
IN_ETC = "/etc/xen/shop.cfg"
ELSEWHERE = "/tmp/till.cfg"  # where nobody looks for config files
# All that we might touch: every file with its times, its inode and its bytes, the volumes, and who runs with what.
EVERYTHING = r"""
for folder in /etc/xen /var/lib/xen/kernels /srv /boot/guest; do
    find $folder -printf '%p %y %m %U %s %T@ %C@ %i %l\n'
    find $folder -type f -exec sha256sum {} +
done | sort
stat -c '%n %s %y %z' /run/reconciler.lock
lvs --noheadings vg0
xl list | awk '{ print $1, $2, $3, $4 }'
"""


@pytest.fixture
def vault_domid(lab: Lab, fleet: Fleet) -> str:
    """A managed domain as its spec says."""
    fleet.write("vault", VAULT)
    fleet.apply("--target", "lab/vault")
    lab.wait_for_guest("vault")
    return lab.domains()["vault"]


@pytest.fixture(scope="module")
def by_hand(lab: Lab) -> Iterator[dict[str, str]]:
    """The domids of two domains that somebody made with plain xl: one has its file where ours are, one has none."""
    for name, path in (("shop", IN_ETC), ("till", ELSEWHERE)):
        lab.put(path, BY_HAND.format(name=name))
        lab.ssh(f"truncate -s 8M /srv/{name}.img && xl create {path}")
    lab.ssh(f"rm {ELSEWHERE}")
    for name in ("shop", "till"):
        lab.wait_for_guest(name)
    yield {name: domid for name, domid in lab.domains().items() if name in ("shop", "till")}
    lab.ssh(
        "for name in shop till; do xl destroy $name; rm -rf /etc/xen/$name.cfg /var/lib/xen/kernels/$name "
        "/srv/$name.img /var/log/xen/console/guest-$name.log; done",
        check=False,
    )


def test_a_running_domain_of_somebody_else_blocks_our_domain_of_its_name(
    lab: Lab, fleet: Fleet, by_hand: dict[str, str]
) -> None:
    fleet.write("till", VAULT)
    try:
        fleet.apply(exit_code=REFUSED)
    finally:
        fleet.remove("till")

    assert lab.domains()["till"] == by_hand["till"]
    assert lab.ssh("ls -d /etc/xen/till.cfg /var/lib/xen/kernels/till", check=False).stdout == ""


def test_domains_made_by_hand_are_imported_and_adopted_as_they_run(
    lab: Lab, fleet: Fleet, by_hand: dict[str, str]
) -> None:
    fleet.run("import", "lab")
    fleet.remove("legacy")  # which has to stay somebody else's
    assert fleet.actions(exit_code=REFUSED) == {"shop": "blocked", "till": "blocked"}

    fleet.apply("--adopt", "lab/shop", "--adopt", "lab/till")

    assert by_hand.items() <= lab.domains().items()
    fleet.assert_nothing_to_do()
    for name in by_hand:
        assert lab.console_log(name).count("GUEST-READY") == 1, "it did not restart"
        lab.xl("create", "--dryrun", f"/etc/xen/{name}.cfg")


def test_reading_commands_leave_the_dom0_byte_for_byte_as_it_was(lab: Lab, fleet: Fleet, vault_domid: str) -> None:
    fleet.write("fresh", f'{VAULT}disk = [{{ vdev = "xvda", path = "/srv/fresh.img", size = "8MiB" }}]\n')
    fleet.edit("vault", "console=hvc0", "console=hvc0 other")
    before = lab.ssh(EVERYTHING).stdout
    assert f"vault {vault_domid} 96 1" in before.splitlines()

    fleet.run("plan", "--detailed-exitcode", exit_code=2)
    fleet.run("plan", "--out", str(fleet.folder / "a.plan"))
    for command in ("validate", "status", "kernels", "history"):
        fleet.run(command)
    for command in ("why", "render"):
        fleet.run(command, "lab/vault")
    fleet.run("apply", exit_code=REFUSED)  # nobody can be asked

    assert lab.ssh(EVERYTHING).stdout == before
    fleet.tear_down("fresh")


def test_a_saved_plan_does_nothing_after_a_change_by_hand_and_works_once(
    lab: Lab, fleet: Fleet, vault_domid: str
) -> None:
    plan = str(fleet.folder / "vault.plan")
    fleet.write("vault", f"{VAULT}cpu_weight = 512\n")
    fleet.run("plan", "--out", plan)
    lab.xl("mem-set", "vault", "88m")

    refused = fleet.apply(plan, exit_code=REFUSED)

    assert "domain vault" in refused.stderr
    assert weight_of(lab, vault_domid) == 256

    fleet.run("plan", "--out", plan)
    fleet.apply(plan)
    assert weight_of(lab, vault_domid) == 512
    assert lab.xl("list", "vault").splitlines()[1].split()[1:3] == [vault_domid, "96"]

    lab.xl("sched-credit2", "-d", "vault", "-w", "300")
    fleet.apply(plan, exit_code=REFUSED)
    assert weight_of(lab, vault_domid) == 300


def weight_of(lab: Lab, domid: str) -> int:
    row = lab.xl("sched-credit2", "-d", domid).splitlines()[-1].split()
    assert row[1] == domid
    return int(row[2])


def test_prevent_destroy_outlives_its_spec(lab: Lab, fleet: Fleet, vault_domid: str) -> None:
    fleet.write("vault", f"{VAULT}prevent_destroy = true\n")
    fleet.apply()
    fleet.remove("vault")

    fleet.apply(exit_code=REFUSED)
    assert lab.domains()["vault"] == vault_domid

    fleet.write("vault", f"{VAULT}prevent_destroy = false\n")
    fleet.apply()
    assert lab.domains()["vault"] == vault_domid
    fleet.remove("vault")
    fleet.apply()
    assert "vault" not in lab.domains()


def test_memory_that_a_guest_does_not_give_back_is_waited_for_in_vain_by_those_alone_who_need_it(
    lab: Lab, fleet: Fleet, vault_domid: str
) -> None:
    # Without a balloon driver a kernel cannot give memory back, whoever asks.
    miser = KERNEL.replace("console=hvc0", "console=hvc0 initcall_blacklist=balloon_init")
    fleet.write("miser", f"{miser}memory = 192\n")
    fleet.apply()
    lab.wait_for_guest("miser")
    domids = lab.domains()
    free_mib = int(re.search(r"free_memory\s*:\s*(\d+)", lab.xl("info"))[1])  # type: ignore[index]  # always there
    fleet.edit("miser", "memory = 192", "memory = 96")
    fleet.write("big", f"{KERNEL}memory = {free_mib + 48}\n")
    fleet.write("vault", f"{VAULT}cpu_weight = 512\n")

    result = fleet.apply(exit_code=FAILED)

    assert "miser should have 96 MiB and has 192 MiB" in result.stdout
    assert re.search(r"^  lab/big +\d+ steps?: .*lab/miser failed", result.stdout, re.MULTILINE)
    assert lab.domains() == domids
    assert weight_of(lab, vault_domid) == 512, "what does not need that memory is done"
    fleet.tear_down("miser", "big")


@pytest.mark.parametrize("end", ["its process is killed", "its ssh is killed", "it is frozen"])
def test_a_second_apply_learns_who_holds_the_host_until_the_first_one_ends(lab: Lab, fleet: Fleet, end: str) -> None:
    fleet.tear_down("slow")
    patient = KERNEL.replace("min_seconds = 1", 'min_seconds = 300, timeout = "600s"')
    fleet.write("slow", f"{patient}memory = 96\n")
    first = fleet.start("apply", "--yes")
    try:
        lab.wait_for_guest("slow")
        domid, daemon = lab.domains()["slow"], daemon_of(lab, "slow")

        second = fleet.apply(exit_code=REFUSED)
        assert re.search(rf"\(process {first.pid}\), since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", second.stderr)
        assert first.poll() is None

        fleet.write("slow", f"{KERNEL}memory = 96\ncpu_weight = 512\n")
        if end == "it is frozen":
            first.send_signal(signal.SIGSTOP)
        elif end == "its ssh is killed":
            subprocess.run(["pkill", "-KILL", "-P", str(first.pid)], check=True)
        else:
            first.kill()
        fleet.apply_after_a_kill()
    finally:
        first.kill()
        first.communicate(timeout=LOCK_SECONDS)
    assert lab.domains()["slow"] == domid
    assert weight_of(lab, domid) == 512
    assert daemon_of(lab, "slow") == daemon, "what xl left for its domain lives as long as that"
    fleet.assert_nothing_to_do()


def daemon_of(lab: Lab, domain: str) -> str:
    """The process that xl leaves behind for a domain: it carries out its reboots."""
    return lab.ssh(f"pgrep -f '[x]l create .*/{domain}[./]'").stdout.strip()
