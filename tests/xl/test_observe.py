"""Observing: the script runs for real on this machine, with a fake `xl` that prints what a real one printed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.resources import files as resources
from pathlib import Path
from typing import IO

import pytest

from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.domain import Domain, Vif
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Devices, Guest, Owner, Power, Quarantined
from reconciler.texts.config_file import render_file
from reconciler.texts.quarantine_file import parse_quarantine, render_quarantine
from reconciler.toolstack import Question
from reconciler.xl import last_look, observe, processes
from reconciler.xl.observe import XlObserver
from tests.fake_dom0 import INFO, TABLE_HEAD, process_of_xl, running_json, table_row, write_tool
from tests.xl.fake_store import FakeStore, domain_nodes

pytestmark = pytest.mark.anyio

TOOLS = ["tar", "stat", "readlink", "sha256sum", "find", "xenstore-ls", "ps"]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "_SECOND_LOOK_SECONDS", 0)


@pytest.fixture(autouse=True)
def system(xen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of the system are the fake host's, too."""
    monkeypatch.setattr(observe, "_ROOT", str(xen))


@pytest.fixture
def observer(xen: Path, settings: HostSettings, tmp_path: Path) -> XlObserver:
    return XlObserver(settings, "default", tmp_path / "state")


def show_running(xen: Path, domain: Domain, domid: int = 4, state: str = "-b----") -> None:
    (xen / "list").write_text(TABLE_HEAD + table_row(domain.name, domid, state, domain.uuid))
    (xen / "long").write_text(json.dumps([running_json(domid, domain)], indent=4))


async def test_xenstore_tells_since_when_a_domain_runs(
    observer: XlObserver, xen: Path, tools: Path, make_domain: Callable[..., Domain]
) -> None:
    web = make_domain()
    show_running(xen, web)
    assert (await observer.observe(Question())).guests["web"].running_seconds is None
    (xen / "started").write_text(f'/vm/{web.uuid}/start_time = "{int(time.time()) - 90}.07"\n/vm/x/start_time = "1"\n')
    write_tool(tools, "xenstore-ls", f"cat {xen}/started")
    seconds = (await observer.observe(Question())).guests["web"].running_seconds
    assert seconds is not None
    assert 90 <= seconds < 120


async def test_the_host_tells_its_pci_devices_by_address_and_by_the_name_that_xl_gave_them(
    observer: XlObserver, xen: Path, tools: Path
) -> None:
    assert (await observer.observe(Question())).pci == {}
    for address in ("0000:01:00.0", "0000:01:00.1"):
        (xen / "sys/bus/pci/devices" / address).mkdir(parents=True)
    write_tool(tools, "xenstore-ls", "echo '/libxl/pci/0000-01-00-1/name = \"nic one\"'")
    assert (await observer.observe(Question())).pci == {"0000:01:00.0": "", "0000:01:00.1": "nic one"}


async def test_a_bare_host_is_read(observer: XlObserver) -> None:
    host = await observer.observe(Question())
    assert (host.total_kib, host.free_kib, host.cpus) == (1535 * 1024, 1132 * 1024, 2)
    assert (host.flavour, host.xen_version, host.autoballoon) == ("debian", "4.17.7", False)
    assert dict(host.guests) == {}


async def test_a_domain_of_ours_is_put_together_from_its_file_and_what_runs(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    web = make_domain()
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", "abc123"))
    show_running(xen, web)
    guest = (await observer.observe(Question())).guests["web"]
    assert (guest.owner, guest.power, guest.commit, guest.problem) == (Owner.OURS, Power.RUNNING, "abc123", None)
    assert guest.running == guest.config
    assert guest.actual_kib == 96 * 1024


async def test_the_past_of_a_domain_is_kept_beside_its_config(
    observer: XlObserver, settings: HostSettings, make_domain: Callable[..., Domain]
) -> None:
    web, old = make_domain(), make_domain(cmdline="old")
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", None))
    past = Path(settings.kernel_dir) / "web"
    past.mkdir()
    (past / "previous.cfg").write_text(render_file(old, "default", None))
    entries = (Quarantined(boot="abc", kernel="/k", reason="it crashed"),)
    (past / "quarantine.json").write_text(render_quarantine(entries))
    guest = (await observer.observe(Question())).guests["web"]
    assert guest.previous is not None
    assert (guest.previous.cmdline, guest.quarantine) == ("old", entries)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"boot": 1}]', "[" * 99_999])
def test_a_damaged_quarantine_says_nothing(text: str) -> None:
    assert parse_quarantine(text) == ()


def test_a_quarantine_goes_on_meaning_what_it_means_beside_what_nobody_knows() -> None:
    assert parse_quarantine('[{"boot": "a", "other": 1}]') == (Quarantined(boot="a"),)


async def test_a_config_with_odd_bytes_or_none_at_all_takes_its_name_and_harms_nobody(
    observer: XlObserver, settings: HostSettings
) -> None:
    folder = Path(str(settings.config_dir))
    (folder / "latin.cfg").write_bytes(b'name = "latin"\nkernel = "/k\xe9"\n')
    (folder / "empty.cfg").touch()
    (folder / "huge.cfg").write_bytes(b"#" * (1 << 20))
    (folder / "dangling.cfg").symlink_to("/nowhere")
    (folder / "folder.cfg").mkdir()
    (folder / "a b'\"$(id).cfg").write_text("memory = 1\n")
    (folder / "not-a-config.txt").write_text("memory = 1\n")
    guests = (await observer.observe(Question())).guests
    assert sorted(guests) == ["a b'\"$(id)", "dangling", "empty", "folder", "huge", "latin"]
    assert {guest.owner for guest in guests.values()} == {Owner.UNMANAGED}


async def test_a_config_that_looks_like_the_script_s_own_marks_is_only_text(
    observer: XlObserver, settings: HostSettings
) -> None:
    text = '# \n00000000000000000000000000000000 groups 0\nname = "x"\nmemory = 64\nkernel = "/k"\n'
    Path(f"{settings.config_dir}/x.cfg").write_text(text)
    assert list((await observer.observe(Question())).guests) == ["x"]


async def test_images_are_read_once_and_again_when_they_change(
    observer: XlObserver, settings: HostSettings, tools: Path, tmp_path: Path
) -> None:
    hashed = tmp_path / "hashed"
    write_tool(
        tools,
        "sha256sum",
        f'for file; do case $file in --) ;; *) echo "$file" >>{hashed} ;; esac; done\nexec /usr/bin/sha256sum "$@"',
    )
    source = tmp_path / "vmlinuz"
    source.write_text("one")
    question = Question(images=(str(source), "/nowhere"))
    first = await observer.observe(question)
    assert await observer.observe(question) == first
    assert hashed.read_text().split() == [str(source)]
    source.write_text("two")
    os.utime(source, ns=(1, 1))
    second = await observer.observe(question)
    assert set(first.digests) == set(second.digests) == {str(source)}
    assert first.digests != second.digests
    again = XlObserver(settings, "default", tmp_path / "state")  # the cache outlives the observer
    assert (await again.observe(question)).digests == second.digests
    assert len(hashed.read_text().split()) == 2


async def test_a_damaged_cache_costs_only_time(settings: HostSettings, xen: Path, tmp_path: Path) -> None:
    source = tmp_path / "vmlinuz"
    source.write_text("one")
    cache = tmp_path / "state/cache/digests/alpha.json"
    cache.parent.mkdir(parents=True)
    cache.write_text('{"cut sho')
    host = await XlObserver(settings, "default", tmp_path / "state").observe(Question(images=(str(source),)))
    assert host.digests[str(source)].startswith("7692c3ad3540")


async def test_a_staged_image_counts_only_with_the_bytes_its_name_promises(
    observer: XlObserver, settings: HostSettings
) -> None:
    folder = Path(settings.kernel_dir) / "web"
    folder.mkdir()
    (folder / "vmlinuz.7692c3ad3540").write_text("one")
    (folder / "vmlinuz.aaaaaaaaaaaa").write_text("half writ")
    (folder / ".vmlinuz.7692c3ad3540.reconciler-1").write_text("one")
    assert list((await observer.observe(Question())).images) == [f"{folder}/vmlinuz.7692c3ad3540"]


async def test_disks_are_known_by_what_they_are_whoever_names_them(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    disks = Path(settings.disk_roots[0])
    for name in ("web.img", "old,style.img", "asked.img", "two words.img"):
        (disks / name).write_bytes(b"x" * 4096)
    (disks / "alias").symlink_to("web.img")
    show_running(xen, make_domain())
    Path(f"{settings.config_dir}/old.cfg").write_text(
        f"disk = [ 'file:{disks}/two words.img,0x0,w',\n"
        f'  "format=raw,vdev=xvdb,access=rw,target={disks}/old,style.img" ]\n'
    )
    files = (await observer.observe(Question(files=(f"{disks}/asked.img", f"{disks}/alias", f"{disks}/none")))).files
    names = {path.removeprefix(f"{disks}/") for path in files}
    assert names == {"web.img", "old,style.img", "asked.img", "two words.img", "alias"}
    web, alias = files[f"{disks}/web.img"], files[f"{disks}/alias"]
    assert (web.kind, web.size_bytes, web.key) == ("file", 4096, alias.key)
    assert alias.real_path == f"{disks}/web.img"


@pytest.mark.parametrize(
    ("conf", "command_line", "expected"),
    [
        ("", "dom0_mem=512M", False),
        ("", "", True),
        ('autoballoon="on"\n', "dom0_mem=512M", True),
        ("#autoballoon=1\nautoballoon=off\n", "", False),
        ('autoballoon="auto"\n', "", True),
    ],
)
def test_autoballoon_as_xl_decides_it(conf: str, command_line: str, expected: bool) -> None:
    assert observe._autoballoon({"/etc/xen/xl.conf": conf}, "dom0_mem=" in command_line) is expected


async def test_what_was_there_and_is_gone_is_looked_for_again(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    web = make_domain()
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", None))
    show_running(xen, web)
    (xen / "list").rename(xen / "later")
    (xen / "list").write_text(TABLE_HEAD)
    # the first look finds nothing; before the second the guest is back from its reboot
    write_tool(xen, "info", f"cat <<'E'\n{INFO}E\n[ ! -e first ] || mv later list 2>/dev/null; touch first")
    host = await observer.observe(Question())
    assert host.guests["web"].power is Power.RUNNING


async def test_what_is_stopped_on_purpose_is_looked_for_once(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    text = render_file(make_domain(state="stopped"), "default", None)
    Path(f"{settings.config_dir}/web.cfg").write_text(text)
    await observer.observe(Question())
    assert (xen / "calls").read_text().splitlines() == ["info", "list -v", "list -l"]


async def test_a_machine_without_xl_says_so(settings: HostSettings, tools: Path, tmp_path: Path) -> None:
    write_tool(tools, "xl", "exit 127")
    with pytest.raises(ReconcilerError) as caught:
        await XlObserver(settings, "default", None).observe(Question())
    assert caught.value.diagnostics[0].summary == "xl is missing"


async def test_without_the_right_to_run_xl_nothing_else_is_said(observer: XlObserver, xen: Path, tools: Path) -> None:
    write_tool(tools, "id", "echo 1000")
    write_tool(xen, "info", "echo 'Permission denied' >&2; exit 1")
    with pytest.raises(ReconcilerError) as caught:
        await observer.observe(Question())
    assert caught.value.diagnostics[0].summary == "no right to run xl"


@pytest.mark.parametrize(
    ("file", "content", "summary"),
    [
        ("info", "nothing useful\n", "xl is not understood"),
        ("list", "garbage\n", "xl is not understood"),
        ("long", "(domain (domid 1))\n", "xl is not understood"),
    ],
)
async def test_output_that_is_not_understood_is_never_taken_for_an_empty_host(
    observer: XlObserver, xen: Path, file: str, content: str, summary: str
) -> None:
    (xen / file).write_text(content)
    with pytest.raises(ReconcilerError) as caught:
        await observer.observe(Question())
    assert caught.value.diagnostics[0].summary == summary


async def test_a_failing_xl_is_an_error_with_its_words(observer: XlObserver, xen: Path) -> None:
    write_tool(xen, "list", "echo 'xencall: error: Could not obtain handle' >&2; exit 1")
    with pytest.raises(ReconcilerError, match="Could not obtain handle"):
        await observer.observe(Question())


async def test_an_answer_that_was_cut_short_is_an_error(observer: XlObserver, xen: Path) -> None:
    write_tool(xen, "info", "kill -9 $PPID")
    with pytest.raises(ReconcilerError) as caught:
        await observer.observe(Question())
    assert caught.value.diagnostics[0].summary == "observing was cut short"


async def test_observing_changes_nothing(observer: XlObserver, settings: HostSettings, tmp_path: Path) -> None:
    Path(f"{settings.config_dir}/x.cfg").write_text("memory = 1\n")

    def everything() -> dict[str, tuple[int, int]]:
        roots = (str(settings.config_dir), settings.kernel_dir, *settings.disk_roots)
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for root in roots for p in Path(root).rglob("*")}

    before = everything()
    await observer.observe(Question(files=(f"{settings.disk_roots[0]}/none",)))
    assert everything() == before


def test_the_script_is_plain_sh() -> None:
    text = resources("reconciler.xl").joinpath("observe.sh").read_text()
    assert subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_tool_that_fails_is_a_host_that_was_not_observed(
    observer: XlObserver, settings: HostSettings, xen: Path, tools: Path, make_domain: Callable[..., Domain], tool: str
) -> None:
    web = make_domain()
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", "abc123"))
    (Path(settings.disk_roots[0]) / "web.img").write_bytes(b"x")
    assert web.kernel is not None
    (Path(settings.kernel_dir) / "web").mkdir()
    Path(web.kernel.path).write_text("one")
    show_running(xen, web)
    (xen / "etc/xen/auto").mkdir(parents=True)
    if tool == "xenstore-ls":
        write_tool(tools, tool, "exit 0")
    await observer.observe(Question())
    Path(web.kernel.path).write_text("of another size")
    asked_what_it_can = "[ \"$2 $3\" != '-maxdepth 0' ] || exit 0" if tool == "find" else ""
    for broken in [tool, *(["realpath"] if tool == "readlink" else [])]:
        write_tool(tools, broken, f"{asked_what_it_can}\necho 'out of memory' >&2; exit 1")
    with pytest.raises(ReconcilerError, match="out of memory") as caught:
        await observer.observe(Question())
    (problem,) = caught.value.diagnostics
    assert (problem.summary, problem.transient) == ("a tool of the dom0 failed", True)


@pytest.mark.parametrize("tool", [*TOOLS, "xl info", "xl list -v", "xl list -l"])
async def test_what_fails_once_is_looked_at_once_more_in_the_same_look(
    observer: XlObserver,
    settings: HostSettings,
    xen: Path,
    tools: Path,
    tmp_path: Path,
    make_domain: Callable[..., Domain],
    tool: str,
) -> None:
    web = make_domain()
    config = Path(f"{settings.config_dir}/web.cfg")
    config.write_text(render_file(web, "default", "abc123"))
    (Path(settings.disk_roots[0]) / "web.img").write_bytes(b"x")
    show_running(xen, web)
    (xen / "etc/xen/auto").mkdir(parents=True)
    (xen / "etc/xen/auto/web").symlink_to(config)
    (tmp_path / "vmlinuz").write_text("one")
    (tmp_path / "store").write_text(STORE.format(vif="4"))
    write_tool(tools, "xenstore-ls", f"cat {tmp_path}/store")
    question = Question(images=(str(tmp_path / "vmlinuz"),))
    usual = await XlObserver(settings, "default", None).observe(question)
    assert usual.files
    assert usual.digests
    assert usual.guests["web"].autostart is not None
    tool, _, arguments = tool.partition(" ")
    real = shutil.which(tool)
    if real == str(tools / tool):
        real = str((tools / tool).rename(tools / f"real-{tool}"))
    once = f'[ -e {xen}/failed ] || case "$*" in "{arguments}"*) touch {xen}/failed; echo half; exit 139 ;; esac'
    write_tool(tools, tool, f'{once}\nexec {real} "$@"')
    assert await observer.observe(question) == usual
    assert (xen / "failed").exists()


@pytest.mark.parametrize("tool", ["tar", "stat", "readlink", "sha256sum"])
async def test_a_file_that_vanishes_between_two_glances_costs_nothing_but_itself(
    observer: XlObserver, settings: HostSettings, tools: Path, tmp_path: Path, tool: str
) -> None:
    """It was there when the script asked for it, and is gone when the tool reads it."""
    gone, stays = Path(f"{settings.config_dir}/gone.cfg"), Path(f"{settings.config_dir}/stays.cfg")
    for file in (gone, stays):
        file.write_text('name = "x"\nmemory = 64\nkernel = "/k"\n')
    write_tool(tools, tool, f'rm -f {gone}\nexec {shutil.which(tool)} "$@"')
    paths = (str(gone), str(stays))
    host = await observer.observe(Question(files=paths, images=paths))
    assert set(host.digests) == {str(stays)}
    if tool == "tar":
        assert list(host.guests) == ["stays"]
    if tool in ("tar", "stat"):
        assert set(host.files) == {str(stays)}


async def test_a_config_file_that_is_not_read_is_a_host_that_was_not_observed(
    observer: XlObserver, settings: HostSettings, tools: Path
) -> None:
    Path(f"{settings.config_dir}/web.cfg").write_text("memory = 1\n")
    write_tool(tools, "tar", "exit 0")
    with pytest.raises(ReconcilerError, match=r"web\.cfg"):
        await observer.observe(Question())


@pytest.mark.parametrize(
    "conf", ["", 'XENDOMAINS_SAVE="{folder}"\n', "#XENDOMAINS_SAVE=/x\nXENDOMAINS_SAVE={folder}\n"]
)
async def test_an_image_that_waits_to_be_restored_is_a_state(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain], conf: str
) -> None:
    web = make_domain()
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", None))
    folder = xen / ("images" if conf else "var/lib/xen/save")
    folder.mkdir(parents=True)
    (xen / "etc/default").mkdir(parents=True)
    (xen / "etc/default/xendomains").write_text(conf.format(folder=folder))
    (folder / "web").touch()
    guest = (await observer.observe(Question())).guests["web"]
    assert (guest.power, guest.saved_image) == (Power.SAVED, f"{folder}/web")
    (xen / "etc/default/xendomains").write_text(f"{conf.format(folder=folder)}XENDOMAINS_SAVE=\n")
    assert (await observer.observe(Question())).guests["web"].power is Power.ABSENT, "nothing is saved, nor restored"


@pytest.mark.parametrize(
    ("process", "log", "served"),
    [
        ("", False, None),
        ("", True, False),
        ("xl create /etc/xen/web.cfg", True, True),
        ("/usr/lib/xen-4.17/bin/xl create --quiet --defconfig /etc/xen/auto/500-web", True, True),
        ("xl create /var/lib/xen/kernels/web/candidate.cfg", True, True),
        ("xl restore /var/lib/xen/save/web", True, True),
        ("xl create /etc/xen/web2.cfg", True, False),
        ("vi create web.cfg", True, False),
    ],
)
async def test_whether_xl_serves_a_domain_is_told(
    observer: XlObserver,
    xen: Path,
    tools: Path,
    make_domain: Callable[..., Domain],
    process: str,
    log: bool,
    served: bool | None,
) -> None:
    write_tool(tools, "ps", f"echo '{process}'")
    if log:
        (xen / "var/log/xen").mkdir(parents=True)
        (xen / "var/log/xen/xl-web.log").touch()
    show_running(xen, make_domain())
    assert (await observer.observe(Question())).guests["web"].served is served


@pytest.mark.parametrize(
    ("file", "log", "power"),
    [
        ("/etc/xen/web.cfg", None, Power.STARTING),
        ("/var/lib/xen/kernels/web/candidate.cfg", None, Power.STARTING),
        ("/etc/xen/web.cfg", "xl-web.log", Power.STARTING),  # its daemon, after a reboot of its guest
        ("/etc/xen/db.cfg", None, Power.UNFINISHED),
        ("/etc/xen/db.cfg", "xl-db.log", Power.UNFINISHED),
    ],
)
async def test_a_domain_that_a_process_of_xl_is_making_is_no_remnant(
    observer: XlObserver, xen: Path, tmp_path: Path, file: str, log: str | None, power: Power
) -> None:
    (xen / "list").write_text(TABLE_HEAD + table_row("web", 4, "--p---", seconds=0))
    with process_of_xl(tmp_path, "create", file, log=log):
        assert (await observer.observe(Question())).guests["web"].power is power
    assert (await observer.observe(Question())).guests["web"].power is Power.UNFINISHED, "a killed xl makes nothing"


@pytest.mark.parametrize("lock_it", [fcntl.flock, fcntl.lockf], ids=["flock", "fcntl, as xl does"])
async def test_while_xl_holds_its_own_lock_a_domain_may_be_in_the_making(
    observer: XlObserver,
    xen: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock_it: Callable[[IO[str], int], object],
) -> None:
    monkeypatch.setattr(processes, "XL_LOCKS", (str(tmp_path / "none"), str(tmp_path / "xl.lock")))
    (xen / "list").write_text(TABLE_HEAD + table_row("web", 4, "--p---", seconds=0))
    with (tmp_path / "xl.lock").open("w") as held:
        assert (await observer.observe(Question())).guests["web"].power is Power.UNFINISHED
        lock_it(held, fcntl.LOCK_EX)
        assert (await observer.observe(Question())).guests["web"].power is Power.STARTING
        (xen / "list").write_text(TABLE_HEAD + table_row("web", 4, "--p---", seconds=1.5))
        assert (await observer.observe(Question())).guests["web"].power is Power.PAUSED


STORE = """/libxl/4/type = "pv"
/libxl/4/device/vbd/51712/frontend = "/local/domain/4/device/vbd/51712"
/libxl/4/device/vbd/51712/backend = "/local/domain/0/backend/vbd/4/51712"
/libxl/4/device/vbd/51712/params = "aio:/srv/web.img"
/libxl/4/device/vbd/51712/mode = "w"
/libxl/4/device/vif/0/frontend = "/local/domain/4/device/vif/0"
/libxl/4/device/vif/0/backend = "/local/domain/0/backend/vif/4/0"
/libxl/4/device/vif/0/mac = "00:16:3E:00:00:02"
/local/domain/4/device/vbd/51712/state = "4"
/local/domain/0/backend/vbd/4/51712/state = "4"
/local/domain/4/device/vif/0/state = "{vif}"
/local/domain/0/backend/vif/4/0/state = "4"
"""


@pytest.mark.parametrize(("state", "connected"), [("4", True), ("1", False), ("6", False)])
async def test_the_devices_of_a_domain_are_seen_in_the_same_look(
    observer: XlObserver, xen: Path, tools: Path, make_domain: Callable[..., Domain], state: str, connected: bool
) -> None:
    (xen / "store").write_text(STORE.format(vif=state))
    write_tool(tools, "xenstore-ls", f"cat {xen}/store")
    show_running(xen, make_domain())
    (xen / "long").write_text("[]")  # also of a domain that xl cannot tell about
    guest = (await observer.observe(Question())).guests["web"]
    assert guest.running is None
    assert guest.devices == Devices(disks=(("/srv/web.img", "rw"),), macs=("00:16:3e:00:00:02",), connected=connected)


@pytest.mark.parametrize(("backend", "is_whole"), [("4", True), ("2", False)])
async def test_an_interface_that_no_hotplug_script_has_brought_up_is_yet_to_come(
    observer: XlObserver,
    settings: HostSettings,
    xen: Path,
    tools: Path,
    make_domain: Callable[..., Domain],
    backend: str,
    is_whole: bool,
) -> None:
    """What an attach leaves on a dom0 with Xen 4.17 when its script fails: the guest has connected, and xl lists it."""
    (xen / "store").write_text(STORE.format(vif="4").replace('vif/4/0/state = "4"', f'vif/4/0/state = "{backend}"'))
    write_tool(tools, "xenstore-ls", f"cat {xen}/store")
    web = make_domain(vifs=(Vif(devid=0, mac="00:16:3e:00:00:02", bridge="xenbr0"),))
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", "abc123"))
    show_running(xen, web)
    running = (await observer.observe(Question())).guests["web"].running
    assert running is not None
    assert running.vifs == (web.vifs if is_whole else ())


DRIVE = """/libxl/4/device/vbd/5632/frontend = "/local/domain/4/device/vbd/5632"
/libxl/4/device/vbd/5632/backend = "/local/domain/0/backend/qdisk/4/5632"
/libxl/4/device/vbd/5632/params = "{opens}"
/libxl/4/device/vbd/5632/mode = "r"
/libxl/4/device/vbd/5632/device-type = "cdrom"
/local/domain/4/device/vbd/5632/state = "1"
/local/domain/0/backend/qdisk/4/5632/state = "1"
"""


@pytest.mark.parametrize(
    ("kind", "opens", "disks", "connected"),
    [
        ("hvm", "aio:/srv/a.iso", [("/srv/a.iso", "ro")], True),
        ("hvm", "aio:", [], True),
        ("pv", "aio:", [], True),
        ("pv", "/srv/a.iso", [("/srv/a.iso", "ro")], False),
    ],
)
async def test_a_drive_is_waited_for_where_a_guest_connects_it(
    observer: XlObserver,
    xen: Path,
    tools: Path,
    make_domain: Callable[..., Domain],
    kind: str,
    opens: str,
    disks: list[tuple[str, str]],
    connected: bool,
) -> None:
    """What a dom0 with Xen 4.17 showed of guests that were up."""
    store = STORE.format(vif="4").replace('type = "pv"', f'type = "{kind}"')
    (xen / "store").write_text(store + DRIVE.format(opens=opens))
    write_tool(tools, "xenstore-ls", f"cat {xen}/store")
    show_running(xen, make_domain())
    devices = (await observer.observe(Question())).guests["web"].devices
    assert devices is not None
    assert devices.disks == (("/srv/web.img", "rw"), *disks)
    assert devices.connected is connected


def many(xen: Path, store: FakeStore, count: int) -> list[str]:
    """As many domains, each with a disk and an interface. Returns their names."""
    uuids = {f"d{number}": f"00000000-0000-4000-8000-{number:012}" for number in range(1, count + 1)}
    rows = [table_row(name, int(name[1:]), uuid=uuid) for name, uuid in uuids.items()]
    (xen / "list").write_text(TABLE_HEAD + "".join(rows))
    nodes: dict[str, str] = {}
    for name, uuid in uuids.items():
        nodes |= domain_nodes(int(name[1:]), uuid, f"00:16:3e:00:00:{name[1:]:0>2}")
    store.show(nodes)
    return list(uuids)


def is_connected(guest: Guest) -> bool | None:
    assert guest.devices is not None
    return guest.devices.connected


@pytest.fixture
def store(tmp_path: Path, tools: Path) -> FakeStore:
    return FakeStore(tmp_path, tools)


async def test_of_the_store_only_that_is_asked_for_which_is_needed(
    observer: XlObserver, xen: Path, store: FakeStore
) -> None:
    """A request takes a dom0 under load up to 10 ms, and whole stores have some 150 nodes for each domain."""
    names = many(xen, store, 60)
    guests = (await observer.observe(Question())).guests
    for name in names:
        assert guests[name].devices == Devices(
            disks=(("/srv/web.img", "rw"),), macs=(f"00:16:3e:00:00:{name[1:]:0>2}",), connected=True
        )
        assert guests[name].running_seconds is not None
    asked = store.asked()
    assert [tool for tool, _ in asked] == ["ls", "read"], "processes do not grow with domains"
    assert sum(requests for _, requests in asked) < 2 * len(store.nodes) / 2.5


@pytest.mark.parametrize(("gone", "tools_run"), [(1, 3), (3, 5), (20, 10)])
async def test_a_node_of_the_store_that_is_gone_is_missed_by_its_own_domain_alone(
    observer: XlObserver, xen: Path, store: FakeStore, gone: int, tools_run: int
) -> None:
    names = many(xen, store, 30)
    store.show(
        {
            path: value
            for path, value in store.nodes.items()
            if path not in {f"/local/domain/{number}/device/vif/0/state" for number in range(5, 5 + gone)}
        }
    )
    guests = (await observer.observe(Question())).guests
    connected = {name: is_connected(guests[name]) for name in names}
    assert connected == {name: not 5 <= int(name[1:]) < 5 + gone for name in names}
    assert len(store.asked()) == tools_run, "the whole store is listed where much is gone"


@pytest.mark.parametrize("body", ["exit 1", "echo 'xenstore-read: unknown option -p' >&2; exit 1", "exit 127"])
async def test_where_nodes_cannot_be_read_the_whole_store_is_listed(
    observer: XlObserver, xen: Path, store: FakeStore, tools: Path, body: str
) -> None:
    names = many(xen, store, 2)
    write_tool(tools, "xenstore-read", body)
    guests = (await observer.observe(Question())).guests
    assert {is_connected(guests[name]) for name in names} == {True}
    assert {guests[name].running_seconds is None for name in names} == {False}


async def test_a_store_without_a_domain_yet_is_no_failure(observer: XlObserver, store: FakeStore) -> None:
    store.show({"/local/domain/0/name": "Domain-0", "/tool/xenstored/domid": "0"})
    assert (await observer.observe(Question())).guests == {}


async def test_what_stays_down_is_not_looked_for_again_at_each_pass(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    def looks() -> int:
        return (xen / "calls").read_text().splitlines().count("list -v")

    web = make_domain()
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", None))
    for expected in (2, 3, 4):
        await observer.observe(Question())
        assert looks() == expected
    show_running(xen, web)
    await observer.observe(Question())
    (xen / "list").write_text(TABLE_HEAD)  # it was there, and is gone
    await observer.observe(Question())
    assert looks() == 7


@pytest.mark.parametrize(
    ("change", "looks"),
    [
        ("nothing", 1),
        ("its daemon", 2),
        ("an xl create of an unknown domain", 2),
        ("the daemon of another domain", 1),
        ("no ps", 2),
        ("a reboot of the dom0", 2),
    ],
)
async def test_what_another_process_saw_missing_is_waited_for_only_where_somebody_may_bring_it_back(
    settings: HostSettings,
    xen: Path,
    tools: Path,
    tmp_path: Path,
    make_domain: Callable[..., Domain],
    change: str,
    looks: int,
) -> None:
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(make_domain(), "default", None))
    await XlObserver(settings, "default", tmp_path / "state").observe(Question())
    (xen / "calls").unlink()
    with ExitStack() as meanwhile:
        match change:
            case "its daemon":
                meanwhile.enter_context(process_of_xl(tmp_path, "create", "/etc/xen/x.cfg", log="xl-web.log"))
            case "an xl create of an unknown domain":
                meanwhile.enter_context(process_of_xl(tmp_path, "create", "/root/x.cfg"))
            case "the daemon of another domain":
                meanwhile.enter_context(process_of_xl(tmp_path, "create", "/etc/xen/db.cfg", log="xl-db.log"))
            case "no ps":
                write_tool(tools, "ps", "echo xl create /root/x.cfg")  # without numbers, as good as none
            case "a reboot of the dom0":
                write_tool(tools, "cat", 'case $1 in */boot_id) echo 2 ;; *) exec /bin/cat "$@" ;; esac')
        await XlObserver(settings, "default", tmp_path / "state").observe(Question())
    assert (xen / "calls").read_text().splitlines().count("list -v") == looks


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"boot_id": 1, "missing": 2}', "null"])
def test_a_damaged_memory_of_the_last_look_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "look").write_text(text)
    assert last_look.recall(tmp_path / "look", "1") == frozenset()


@pytest.mark.parametrize("boot", ["this", "another"])
async def test_a_candidate_that_xl_cannot_tell_from_the_config_is_known_by_what_was_started(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain], boot: str
) -> None:
    """`cpus` is not listed by xl, so the domain looks as if it ran from either file."""
    web, pinned = make_domain(), make_domain(cpus="0-3")
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(web, "default", None))
    (Path(settings.kernel_dir) / "web").mkdir()
    candidate = render_file(pinned, "default", None)
    (Path(settings.kernel_dir) / "web" / "candidate.cfg").write_text(candidate)
    show_running(xen, web)
    before = (await observer.observe(Question())).guests["web"]
    assert (before.running, before.unproven) == (web, False)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip() if boot == "this" else "another"
    (Path(settings.kernel_dir) / "web" / "started").write_text(f"{boot_id}\n{candidate}")
    after = (await observer.observe(Question())).guests["web"]
    assert (after.running, after.unproven) == ((pinned, True) if boot == "this" else (web, False))


async def test_files_that_arrive_cut_short_are_a_host_that_was_not_observed(
    observer: XlObserver, settings: HostSettings, tools: Path, make_domain: Callable[..., Domain]
) -> None:
    Path(f"{settings.config_dir}/web.cfg").write_text(render_file(make_domain(), "default", None))
    write_tool(tools, "tar", '/bin/tar "$@" | head -c 700')
    with pytest.raises(ReconcilerError, match="did not arrive whole") as caught:
        await observer.observe(Question())
    assert caught.value.diagnostics[0].trace is None


async def test_a_name_that_is_no_utf_8_among_the_kernels_harms_no_pass(
    observer: XlObserver, settings: HostSettings, tmp_path: Path
) -> None:
    """The digest cache keeps it, so it is sent back with the next question."""
    folder = Path(settings.kernel_dir) / "web"
    folder.mkdir(parents=True, exist_ok=True)
    odd = os.fsencode(folder) + b"/vmlinuz-\xe9\xff"
    with open(odd, "wb") as file:  # noqa: PTH123 -- a Path is text
        file.write(b"a kernel")
    for _ in range(3):
        await observer.observe(Question())
    await XlObserver(settings, "default", tmp_path / "state").observe(Question())


async def test_a_dom0_without_a_boot_id_is_read_all_the_same(observer: XlObserver, tools: Path) -> None:
    write_tool(tools, "cat", 'case $1 in */boot_id) exit 1;; *) exec /bin/cat "$@";; esac')
    write_tool(tools, "sysctl", "exit 1")
    assert (await observer.observe(Question())).boot_id == ""


async def test_what_the_dom0_starts_beside_the_config_file_of_a_domain_of_ours_is_told(
    observer: XlObserver, settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    web = make_domain()
    config = Path(f"{settings.config_dir}/web.cfg")
    config.write_text(render_file(web, "default", None))
    folder = xen / "etc/xen/auto"
    folder.mkdir(parents=True)
    (folder / "010-web").symlink_to(config)
    (folder / "mail").write_text('name = "mail"\nkernel = "/k"\nmemory = 64\n')
    (folder / "nonsense").write_bytes(b"\xff(((\n")
    assert (await observer.observe(Question())).notes == ()
    (folder / "web").write_text('name = "web"\nkernel = "/k"\nmemory = 64\n')
    (note,) = (await observer.observe(Question())).notes
    assert (note.kind, note.address) == (Kind.NOTE, "alpha/web")
    assert str(folder / "web") in note.detail
