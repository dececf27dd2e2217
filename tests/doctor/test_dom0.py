"""Each defect of a dom0, made on one that is this machine: the script runs for real, and the defect alone is found."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.doctor.case import State
from reconciler.dom0.connection import Connection
from reconciler.model.domain import Disk, Domain, Vif
from reconciler.texts.config_file import render_file
from tests.doctor.dom0 import Dom0
from tests.fake_dom0 import INFO, TABLE_HEAD, table_row, with_part

pytestmark = pytest.mark.anyio

CHECKS = {
    *("observed", "autoballoon", "dom0-mem", "xendomains-save", "autostart", "bridges", "lvm", "kernel-dir"),
    *("xen-version", "clock", "toolstack", "shared", "file-devices", "ulimit", "ssh", "daemons"),
}
MakeDomain = Callable[..., Domain]


async def test_a_dom0_that_is_as_it_should_be_has_no_finding(dom0: Dom0) -> None:
    verdict = await dom0.verdict()
    assert verdict.findings == ()
    assert set(verdict.ok) == CHECKS


async def test_autoballoon_that_is_on(dom0: Dom0) -> None:
    conf = dom0.write("/etc/xen/xl.conf", 'autoballoon="off"\nautoballoon = "on"\n')
    finding = await dom0.only("autoballoon")
    assert finding.hint is not None
    assert finding.hint.startswith(f"echo 'autoballoon = \"auto\"' >>{conf} ")
    subprocess.run(["sh", "-c", finding.hint.partition(" (")[0]], check=True)
    assert await dom0.findings() == {}


async def test_no_dom0_mem_which_turns_autoballoon_on(dom0: Dom0, xen: Path) -> None:
    (xen / "info").write_text(with_part(INFO, " dom0_mem=384M,max:384M", ""))
    found = await dom0.findings()
    assert list(found) == ["autoballoon", "dom0-mem"]
    assert "dom0_mem=512M,max:512M" in str(found["dom0-mem"][0].hint)
    dom0.write("/etc/default/grub")
    dom0.tool("update-grub", "exit 1")
    assert "update-grub" in str((await dom0.findings())["dom0-mem"][0].hint)
    dom0.write("/etc/xen/xl.conf", "autoballoon = 'off'\n")
    assert list(await dom0.findings()) == ["dom0-mem"]


@pytest.mark.parametrize(
    ("setting", "run_by", "saves"),
    [
        ("/var/lib/xen/save", "/etc/rc3.d/S21xendomains", True),
        ('"/var/lib/xen/save" # as it came', "/etc/systemd/system/multi-user.target.wants/xendomains.service", True),
        ("", "/etc/rc3.d/S21xendomains", False),
        ('""', "/etc/rc3.d/S21xendomains", False),
        ("/var/lib/xen/save", "/etc/rc3.d/K01xendomains", False),  # it is not run
    ],
)
async def test_xendomains_that_saves_at_a_shutdown(dom0: Dom0, setting: str, run_by: str, saves: bool) -> None:
    file = dom0.write("/etc/default/xendomains", f"#XENDOMAINS_SAVE=/x\nXENDOMAINS_SAVE={setting}\n")
    dom0.write(run_by)
    if not saves:
        assert await dom0.findings() == {}
        return
    hint = str((await dom0.only("xendomains-save")).hint)
    subprocess.run(["sh", "-c", hint.partition(" (")[0]], check=True)
    assert await dom0.findings() == {}
    assert file.with_name("xendomains.orig").exists()


async def test_what_is_started_at_boot_and_is_not_ours(dom0: Dom0, make_domain: MakeDomain) -> None:
    etc = Path(str(dom0.settings.config_dir))
    (etc / "web.cfg").write_text(render_file(make_domain(), "default", None))
    (etc / "legacy.cfg").write_text('name = "legacy"\nmemory = 64\nkernel = "/k"\n')
    auto = dom0.root / "etc/xen/auto"
    auto.mkdir(parents=True)
    (auto / "20-web").symlink_to(etc / "web.cfg")
    assert await dom0.findings() == {}
    (auto / "legacy.cfg").symlink_to(etc / "legacy.cfg")
    (auto / "a b$(reboot).cfg").write_text("memory = 64\n")
    (auto / "gone").symlink_to("/nowhere")
    found = (await dom0.findings())["autostart"]
    assert [finding.what.partition(" at boot")[0].rpartition("/")[2] for finding in found] == [
        "a b$(reboot).cfg",
        "gone",
        "legacy.cfg",
    ]
    assert f"mv -i '{auto}/a b$(reboot).cfg' {dom0.root}/etc/xen/" in str(found[0].hint)
    assert str(found[2].hint).endswith(f"rm {auto}/legacy.cfg")


async def test_a_bridge_that_a_spec_names_and_nobody_has(dom0: Dom0, make_domain: MakeDomain) -> None:
    vif = Vif(devid=0, mac="00:16:3e:00:00:02", bridge="xenbr77")
    dom0.domains["web"] = make_domain(disks=(), vifs=(vif, replace(vif, devid=1, mac="00:16:3e:00:00:03")))
    finding = await dom0.only("bridges")
    assert (finding.address, finding.state) == ("alpha/web", State.FOUND)
    assert "ip link add name xenbr77 type bridge" in str(finding.hint)
    with_ovs = Vif(devid=0, mac="00:16:3e:00:00:02", bridge="ovs7.42", script="vif-openvswitch")
    dom0.domains["web"] = make_domain(disks=(), vifs=(with_ovs,))
    assert "ovs-vsctl --may-exist add-br ovs7" in str((await dom0.only("bridges")).hint)


async def test_lvm_that_is_missing_or_lacks_the_group(dom0: Dom0, make_domain: MakeDomain) -> None:
    dom0.settings = replace(dom0.settings, disk_roots=("/dev/vg0",))
    volume = Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg0/web")
    dom0.domains["web"] = make_domain(disks=(volume,), vifs=())
    if shutil.which("vgs") is None:
        assert (await dom0.only("lvm")).hint == "apt install lvm2"
    dom0.tool("vgs", "echo '  vg1|4096'")
    finding = await dom0.only("lvm")
    assert "the volume group vg0, and the host has vg1" in finding.what
    dom0.tool("vgs", "echo '  vg0|4096'")
    assert await dom0.findings() == {}


@pytest.mark.parametrize(
    ("free_kib", "kind", "part"),
    [(200_000, "ext2/ext3", "195 MiB are free"), (5_000_000, "tmpfs", "in memory (tmpfs)")],
)
async def test_kernels_without_room_or_in_memory(dom0: Dom0, free_kib: int, kind: str, part: str) -> None:
    dom0.has_room(free_kib, kind)
    assert part in (await dom0.only("kernel-dir")).what


async def test_a_kernel_dir_that_is_not_there_yet_is_judged_by_where_it_will_be(dom0: Dom0, tmp_path: Path) -> None:
    dom0.settings = replace(dom0.settings, kernel_dir=f"{tmp_path}/not/yet")
    dom0.has_room(1000)
    assert f"du -xk {tmp_path} " in str((await dom0.only("kernel-dir")).hint)


async def test_an_xl_that_is_too_old_for_a_spec(dom0: Dom0, xen: Path, make_domain: MakeDomain) -> None:
    dom0.domains["web"] = make_domain(type="pvh", disks=(), vifs=(), xl=(("vmtrace_buf_kb", 64), ("nomigrate", 1)))
    assert await dom0.findings() == {}
    (xen / "info").write_text(with_part(INFO, "4.17.7", "4.9.1"))
    found = (await dom0.findings())["xen-version"]
    assert [finding.what.partition(", which")[0] for finding in found] == [
        "the spec of web uses type",
        "the spec of web uses vmtrace_buf_kb",
    ]
    assert "bring the host to Xen 4.15" in str(found[1].hint)


@pytest.mark.parametrize(("seconds", "words"), [(90, "ahead of"), (-90, "behind")])
async def test_a_clock_that_is_wrong(dom0: Dom0, seconds: int, words: str) -> None:
    dom0.tool("date", f"echo $(($(/bin/date +%s) + {seconds}))")
    assert f" s {words} this machine's" in (await dom0.only("clock")).what


async def test_another_toolstack_at_work(dom0: Dom0) -> None:
    dom0.write("/proc/77/comm", "libvirtd\n")
    finding = await dom0.only("toolstack")
    assert "libvirtd runs there" in finding.what
    assert "virsh -c xen:///system list --all" in str(finding.hint)


async def test_a_disk_and_a_mac_that_a_domain_of_somebody_else_has(dom0: Dom0, make_domain: MakeDomain) -> None:
    web = make_domain(vifs=(Vif(devid=0, mac="00:16:3e:00:00:02"),))
    dom0.domains["web"] = web
    disk = Path(web.disks[0].target)
    disk.touch()
    (disk.parent / "link.img").symlink_to(disk)
    etc = Path(str(dom0.settings.config_dir))
    theirs = (
        f'memory = 64\nkernel = "/k"\ndisk = ["{disk.parent}/link.img,raw,xvda,rw"]\nvif = ["mac={web.vifs[0].mac}"]\n'
    )
    (etc / "legacy.cfg").write_text(f'name = "legacy"\n{theirs}')
    found = (await dom0.findings())["shared"]
    assert {finding.what.partition(",")[0] for finding in found} == {
        f"{disk} is a disk of web",
        f"{web.vifs[0].mac} is a mac of web",
    }
    (etc / "legacy.cfg").rename(etc / "web.cfg")  # then the spec is to take it over
    (etc / "web.cfg").write_text(f'name = "web"\n{theirs}')
    assert await dom0.findings() == {}


async def test_loop_devices_that_run_out(dom0: Dom0, make_domain: MakeDomain) -> None:
    dom0.domains["web"] = make_domain(vifs=())
    (dom0.root / "dev/loop-control").unlink()
    assert (await dom0.only("file-devices")).hint == "modprobe loop"
    for number in range(2):
        dom0.write(f"/dev/loop{number}")
    dom0.write("/dev/loop0p1")
    dom0.write("/sys/block/loop0/loop/backing_file")
    assert await dom0.findings() == {}
    dom0.write("/sys/block/loop1/loop/backing_file")
    finding = await dom0.only("file-devices")
    assert "0 of 2 loop devices are free" in finding.what


async def test_limits_of_what_commands_may_use(dom0: Dom0, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = Connection._argv
    limited = 'ulimit -n 48; ulimit -f 2048; exec "$@"'
    monkeypatch.setattr(Connection, "_argv", lambda self, script: ["/bin/sh", "-c", limited, "sh", *argv(self, script)])
    found = (await dom0.findings())["ulimit"]
    assert [finding.what for finding in found] == [
        "no file may grow beyond 1 MiB (ulimit -f)",
        "a command may have 48 files open at once and no more (ulimit -n)",
    ]


async def test_ssh_that_shares_no_connection_or_carries_too_little(dom0: Dom0) -> None:
    dom0.settings = replace(dom0.settings, connect="ssh://root@alpha")
    dom0.tool("ssh", 'for last; do :; done; case $* in *"-O exit"*) exit 0 ;; esac; exec sh -c "$last"')
    assert "ssh -V" in str((await dom0.only("ssh")).hint)
    master = 'for option; do case $option in -oControlPath=*) touch "$(dirname "${option#*=}")/master" ;; esac; done'
    dom0.tool("ssh", f'for last; do :; done; case $* in *"-O exit"*) exit 0 ;; esac; {master}; exec sh -c "$last"')
    dom0.tool("sshd", "echo 'port 22'; echo 'maxsessions 10'")
    assert await dom0.findings() == {}
    dom0.tool("sshd", "echo 'maxsessions 1'")
    finding = await dom0.only("ssh")
    assert "carry 1 commands at once, and parallel = 4 needs 7" in finding.what
    dom0.tool("sshd", "exit 1")
    assert (await dom0.only("ssh")).state is State.UNKNOWN


async def test_a_domain_whose_process_of_xl_is_gone(dom0: Dom0, xen: Path) -> None:
    (xen / "list").write_text(TABLE_HEAD + table_row("legacy", 3))
    dom0.write("/var/log/xen/xl-legacy.log")
    found = await dom0.findings()
    assert found["daemons"][0].address == "alpha/legacy"
    assert "xl shutdown legacy" in str(found["daemons"][0].hint)


async def test_what_cannot_be_found_out_is_unknown_and_the_rest_is_judged(dom0: Dom0, xen: Path) -> None:
    dom0.tool("df", "exit 1")
    dom0.tool("date", "exit 1")
    (xen / "info").write_text("nothing that is understood\n")
    dom0.write("/etc/xen/xl.conf", 'autoballoon = "on"\n')
    found = await dom0.findings()
    states = {check: findings[0].state for check, findings in found.items()}
    unknown = {check for check, state in states.items() if state is State.UNKNOWN}
    assert unknown == {"dom0-mem", "kernel-dir", "clock", "bridges", "shared", "daemons"}
    assert {check for check, state in states.items() if state is State.FOUND} == {"observed", "autoballoon"}
    assert found["clock"][0].what.startswith("it is not known whether the clock of the host is right, since ")


async def test_a_host_without_xl_is_found_and_its_dom0_judged_all_the_same(dom0: Dom0) -> None:
    dom0.tool("xl", "exit 127")
    dom0.has_room(1000)
    found = await dom0.findings()
    assert "There is no `xl` command" in found["observed"][0].what
    assert found["kernel-dir"][0].state is State.FOUND


@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"], ["mksh"], ["posh"]], ids="-".join)
async def test_the_script_needs_no_more_than_a_posix_shell(
    dom0: Dom0, monkeypatch: pytest.MonkeyPatch, shell: list[str]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    monkeypatch.setattr(Connection, "_argv", lambda self, script: shell if script is None else [*shell, "-c", script])
    dom0.write("/etc/xen/xl.conf", 'autoballoon = "on"\n')
    found = await dom0.findings()
    assert found.keys() - {"ulimit"} == {"autoballoon"}
    assert "ulimit" not in found or (shell == ["posh"] and found["ulimit"][0].state is State.UNKNOWN)


async def test_what_lies_in_the_folders_and_groups_for_disks_is_told(dom0: Dom0, tmp_path: Path) -> None:
    folder = tmp_path / "more disks"
    for name in ("a.img", "sub/b.img", ".c.img.reconciler-1234", ".hidden", "sub/deep/d.img"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 100)
    (folder / "link.img").symlink_to("a.img")
    dom0.tool("vgs", "exit 0")
    volumes = ("-wi-ao----|4096|vg0|web", "owi-a-s---|1|vg0|origin", "swi-a-s---|1|vg0|snap", "twi-a-tz--|1|vg0|pool")
    dom0.tool(
        "lvs", f'for last; do :; done; [ "$last" = vg0 ] && printf "  %s\\n" {" ".join(map(shlex.quote, volumes))}'
    )
    dom0.settings = replace(dom0.settings, disk_roots=(str(folder), "vg0", str(tmp_path / "absent")))
    facts = (await dom0.examined()).facts
    files = {f"{folder}/{name}": 100 for name in ("a.img", "sub/b.img", ".c.img.reconciler-1234")}
    assert facts.in_roots == {**files, "/dev/vg0/web": 4096}
    dom0.tool("lvs", "exit 5")
    assert (await dom0.examined()).facts.in_roots is None
