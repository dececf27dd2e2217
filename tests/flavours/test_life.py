"""The whole life of a domain on a dom0 of NetBSD and of Alpine, by every script that is ever sent to a dom0.

docs/netbsd.md tells people what this shows.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.doctor.facts import Facts
from reconciler.dom0 import lock
from reconciler.dom0.disks import copied
from reconciler.dom0.lock import HostLock, break_lock
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.fleet import RehearsalSettings
from reconciler.model.host import Guest, Host, Power
from reconciler.plan.steps import (
    CreateDisk,
    DeleteDisk,
    GrowDisk,
    HostStep,
    Rename,
    SetAutostart,
    SetQuarantine,
    StageImage,
    Unpause,
)
from reconciler.toolstack import Question
from reconciler.xl.dialect import XM
from reconciler.xl.events import listen
from tests.both.passes import look, reconcile
from tests.both.sides import MIB_KIB
from tests.fake_dom0 import write_tool
from tests.flavours.dom0 import SHELLS, Played, make_dom0
from tests.flavours.scripts import unsent, unsent_of_rehearsals

pytestmark = [pytest.mark.anyio, pytest.mark.flavours]

DOM0S = [(flavour, shell) for flavour, shells in SHELLS.items() for shell in shells]


@pytest.fixture(params=DOM0S, ids="-".join)
def dom0(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    flavour, shell = request.param
    return make_dom0(flavour, shell, tmp_path, monkeypatch)


async def test_life(dom0: Played) -> None:
    """From nothing to nothing, with all that can be done meanwhile; in the end no tool has refused anything."""
    rc_conf = dom0.root / "etc/rc.conf"
    rc_conf.write_text(f'hostname=dom0\nxendomains="legacy"\nxendomains_config="{dom0.settings.config_dir}/%s"\n')
    first = dom0.kernel("netbsd-XEN3_DOMU-foo", "the first kernel")
    bar = dom0.domain(first, name="bar", uuid=f"{'0' * 8}-0000-4000-8000-000000000001", disks=(), vifs=())
    password = dom0.root / "etc/bar.vncpasswd"
    password.write_text("first\n")
    bar = replace(bar, xl=(("vnc", 1), ("vncpasswd_file", str(password))))
    foo = dom0.domain(first)

    made = await applied(dom0, {"foo": foo, "bar": bar})
    assert made.guests["foo"].power is Power.RUNNING
    assert [Path(disk.target).stat().st_size for disk in foo.disks] == [1 << 21, 1 << 21]

    password.write_text("the second\n")
    await applied(dom0, {"foo": foo, "bar": bar})
    config = Path(dom0.settings.config_dir or "") / ("bar" if dom0.flavour == "netbsd" else "bar.cfg")
    assert 'vncpasswd = "the second"' in config.read_text()

    foo = await changes_live(dom0, foo, bar)
    assert rc_conf.read_text().count('xendomains="foo legacy" # reconciler: foo=10') == (dom0.flavour == "netbsd")
    foo = await updates_its_kernel(dom0, foo, bar)
    await is_looked_after(dom0, foo, bar)
    await has_other_disks(dom0)

    await applied(dom0, {"bar": bar})
    assert not Path(foo.disks[1].target).exists()
    assert Path(foo.disks[0].target).exists()
    assert "foo" not in rc_conf.read_text()
    assert not list(dom0.root.glob("etc/xen/auto/*"))
    assert dom0.refused == []
    assert unsent(dom0.sent, dom0.flavour) == []


async def changes_live(dom0: Played, foo: Domain, bar: Domain) -> Domain:
    """More memory and vcpus, one more disk and interface, and a place at boot; then a larger disk."""
    more = replace(foo.disks[0], vdev="0x2", devid=2, target=f"{dom0.root}/n0/foo-wd2")
    foo = replace(
        foo,
        memory_kib=256 * MIB_KIB,
        vcpus=2,
        disks=(foo.disks[0], replace(foo.disks[1], on_delete="delete"), more),
        vifs=(*foo.vifs, Vif(devid=1, mac="aa:00:00:d1:00:0a", bridge="bridge1")),
        autostart=10,
    )
    seen = await applied(dom0, {"foo": foo, "bar": bar})
    guest = seen.guests["foo"]
    assert guest.running is not None
    assert (guest.running.memory_kib, guest.running.vcpus, guest.autostart) == (256 * MIB_KIB, 2, 10)
    assert len(guest.running.disks) == 3
    assert Path(more.target).stat().st_size == 1 << 21
    foo = replace(foo, disks=(replace(foo.disks[0], size_bytes=1 << 22), *foo.disks[1:]))
    await applied(dom0, {"foo": foo, "bar": bar})
    assert Path(foo.disks[0].target).stat().st_size == 1 << 22
    return foo


async def updates_its_kernel(dom0: Played, foo: Domain, bar: Domain) -> Domain:
    """One that does not boot costs a way back to the old one; the next one is the one that runs."""
    bad = replace(foo, kernel=dom0.kernel("netbsd-bad", "BOOM"))
    failed = await reconcile(dom0, {"foo": bad, "bar": bar})
    assert failed.result is not None
    assert [result.step.step.kind for result in failed.result.failed] == ["start"], failed.result.failed
    old = (await look(dom0, {"foo": bad, "bar": bar})).host.guests["foo"]
    assert old.power is Power.RUNNING
    assert len(old.quarantine) == 1
    assert runs_kernel(old, "netbsd-XEN3_DOMU-foo")
    foo = replace(foo, kernel=dom0.kernel("netbsd-new", "the second kernel"))
    seen = await applied(dom0, {"foo": foo, "bar": bar})
    assert runs_kernel(seen.guests["foo"], "netbsd-new")
    return foo


def runs_kernel(guest: Guest, name: str) -> bool:
    assert guest.running is not None
    assert guest.running.kernel is not None
    return f"/{name}." in guest.running.kernel.path


async def is_looked_after(dom0: Played, foo: Domain, bar: Domain) -> None:
    """What befalls it, who may change it, and what is asked of the dom0 besides."""
    executor = dom0.executor()
    change(dom0, "foo", state="--p---")
    await executor.execute(Unpause(domain="foo", uuid=foo.uuid), quiet)
    await executor.hold("foo", seconds=3600, by="me", reason="backup")
    with pytest.raises(ReconcilerError, match="backup"):
        await executor.execute(SetQuarantine(domain="foo", entries=()), quiet, unless_held=True)
    assert await executor.unhold("foo")
    change(dom0, "foo", state="--p---", told=False, seconds=0.0)
    assert (await applied(dom0, {"foo": foo, "bar": bar})).guests["foo"].power is Power.RUNNING

    await is_renamed(dom0, "bar", "baz")
    await is_renamed(dom0, "baz", "bar")
    await is_locked_by_one(dom0)
    assert await executor.probe_tcp("10.0.0.9:22")
    heard = asyncio.Event()
    listening = asyncio.create_task(listen(dom0.connection(), heard.set, quiet))
    async with asyncio.timeout(60):
        await heard.wait()
    listening.cancel()
    facts = (await dom0.observer().examine(Question())).facts
    assert isinstance(facts, Facts)
    assert (facts.has_lvm, facts.flavour) == (True, "netbsd" if dom0.flavour == "netbsd" else "linux")
    assert facts.in_roots is not None
    assert {disk.target: facts.in_roots.get(disk.target) for disk in foo.disks} == {
        disk.target: Path(disk.target).stat().st_size for disk in foo.disks
    }


async def is_renamed(dom0: Played, old: str, new: str) -> None:
    """It runs on under its new name, and what is kept of it goes along."""
    config = (await dom0.observer().observe(Question())).guests[old].config
    assert config is not None
    step = Rename(domain=new, old=old, uuid=config.uuid, definition=replace(config, name=new))
    await dom0.executor().execute(step, quiet)
    guests = (await dom0.observer().observe(Question())).guests
    assert guests[new].power is Power.RUNNING
    assert old not in guests


async def is_locked_by_one(dom0: Played) -> None:
    """A holder keeps others out, and lets go. What the shell opens by `exec` is hidden from flock in some of them."""
    shell = await dom0.executor()._shell()
    given = f"path={shell.dom0.lock_path} who=somebody mine='' silence=30\n"
    async with shell.connection.process(given + lock._HOLD) as holder:
        assert holder.stdin and holder.stdout
        assert await holder.stdout.readline() == b"locked\n"
        with pytest.raises(ReconcilerError, match="dom0 is being changed by somebody, since"):
            async with HostLock().hold(shell):
                pass
        holder.stdin.write(b"end\n")
        holder.stdin.close()
        await holder.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "HEARTBEAT_SECONDS", 3600)
        await is_unlocked_when_silent(dom0, shell)


async def is_unlocked_when_silent(dom0: Played, shell: Dom0Shell) -> None:
    async with HostLock().hold(shell):
        with pytest.raises(ReconcilerError, match="so nothing was done"):
            await break_lock(shell)
        os.utime(shell.dom0.lock_path, (1, 1))
        assert (await dom0.observer().observe(Question())).locked is not None
        assert await break_lock(shell) is not None
    assert await break_lock(shell) is None


async def has_other_disks(dom0: Played) -> None:
    """Cloned, whole and logical ones; kernels of the spec tree; a quarantine that is lifted; all in one session."""
    executor = dom0.executor()
    (dom0.root / "n0/golden").write_bytes(b"an image" * 1000)
    clone = Disk(vdev="0x3", devid=3, kind="file", target=f"{dom0.root}/n0/clone", size_bytes=1 << 20)
    clone = replace(clone, source=f"{dom0.root}/n0/golden")
    full = replace(clone, target=f"{dom0.root}/n0/full", source=None, allocate="full")
    volume = replace(clone, kind="lv", target="/dev/vg0/data", source=None)
    (dom0.root / "specs/kernels").mkdir()
    (dom0.root / "specs/kernels/netbsd").write_bytes(b"\0kernel" * 100_000)
    steps: list[HostStep] = [
        *(CreateDisk(domain="foo", disk=disk) for disk in (clone, full, volume)),
        GrowDisk(domain="foo", disk=replace(volume, size_bytes=1 << 21), attached=False),
        GrowDisk(domain="foo", disk=replace(full, size_bytes=1 << 21), attached=True),
        StageImage(domain="foo", image=of_tree(dom0, "kernels/netbsd")),
        SetQuarantine(domain="foo", entries=()),
    ]
    async with executor.lock():
        for step in steps:
            await executor.execute(step, quiet)
    made = {"unfinished": clone.target, "from": f"{dom0.root}/n0/golden", "size": str(1 << 20)}
    assert (await copied(await executor._shell(), made)) is not None
    assert (dom0.root / "n0/clone").stat().st_size == 1 << 20
    assert (dom0.root / "n0/clone").read_bytes().startswith(b"an image" * 1000)
    assert (dom0.root / "n0/full").stat().st_blocks * 512 >= 1 << 20
    assert (dom0.root / "lvm/vg0.data").read_text().strip() == str(1 << 21)
    for disk in (clone, full, volume):
        await executor.execute(DeleteDisk(domain="foo", disk=disk), quiet)
    assert sorted(path.name for path in (dom0.root / "n0").iterdir()) == ["foo-wd0", "foo-wd1", "foo-wd2", "golden"]
    assert not list((dom0.root / "lvm").iterdir())


async def test_a_disk_stays_where_xl_fails_in_a_shell_that_forgets_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NetBSD's sh does not heed `set -e` inside `$( )`, and neither does bash."""
    dom0 = make_dom0("netbsd", "bash", tmp_path, monkeypatch)
    write_tool(dom0.root / "sbin", "xl", "exit 1")
    disk = Disk(vdev="0x0", devid=0, kind="file", target=f"{dom0.root}/n0/foo-wd0", size_bytes=1 << 20)
    await dom0.executor().execute(CreateDisk(domain="foo", disk=disk), quiet)
    with pytest.raises(ReconcilerError, match="The command failed"):
        await dom0.executor().execute(DeleteDisk(domain="foo", disk=disk), quiet)
    assert Path(disk.target).exists()


LISTS = {
    "quoted": 'xendomains="foo bar"\n',
    "apostrophes, exported, with a remark": "export xendomains='foo bar' # ours\n",
    "over two lines": 'xendomains="foo \\\n    bar"\n',
    "added to": 'xendomains=foo\nxendomains="$xendomains bar"\n',
}


@pytest.mark.parametrize("form", LISTS)
async def test_a_list_of_xendomains_in_each_form_that_people_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """A name comes, where it belongs, and goes; the others stay as they were, for sh too."""
    dom0 = make_dom0("netbsd", "dash", tmp_path, monkeypatch)
    rc_conf = dom0.root / "etc/rc.conf"
    rc_conf.write_text(LISTS[form])
    await dom0.executor().execute(SetAutostart(domain="web", order=10), quiet)
    assert as_sh_reads(rc_conf) == ["web", "foo", "bar"]
    await dom0.executor().execute(SetAutostart(domain="web", order=None), quiet)
    assert as_sh_reads(rc_conf) == ["foo", "bar"]


@pytest.mark.parametrize("shell", ["mksh", "posh"])
async def test_a_dom0_with_xm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """What is asked of xm and xend in place of xl: the toolstack of the HOWTO's time."""
    dom0 = make_dom0("netbsd", shell, tmp_path, monkeypatch, XM)
    foo = dom0.domain(dom0.kernel("netbsd-XEN3_DOMU-foo", "the first kernel"))
    foo = replace(
        foo,
        disks=tuple(replace(disk, vdev=f"xvd{'ab'[disk.devid]}", devid=51712 + 16 * disk.devid) for disk in foo.disks),
    )
    await applied(dom0, {"foo": foo})
    foo = replace(foo, vifs=(*foo.vifs, Vif(devid=1, mac="aa:00:00:d1:00:0a", bridge="bridge1")))
    await applied(dom0, {"foo": foo})
    await dom0.executor().execute(
        DeleteDisk(domain="foo", disk=replace(foo.disks[0], target=f"{dom0.root}/n0/gone")), quiet
    )
    await applied(dom0, {"foo": replace(foo, state="stopped")})
    assert dom0.refused == []
    assert unsent(dom0.sent, dom0.flavour, of="xm") == []


@pytest.mark.parametrize("shell", [shell for shells in SHELLS.values() for shell in shells])
async def test_rehearsals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """By a copy in a pause, since the tools are those of BusyBox. A kernel that panics costs nothing but that."""
    dom0 = make_dom0("alpine", shell, tmp_path, monkeypatch)
    allowed = RehearsalSettings(pause=True, copy_limit_bytes=1 << 30, keep_free=0)
    dom0 = replace(dom0, settings=replace(dom0.settings, rehearsal=allowed))
    for name, body in {"ip": "exit 0", "pvs": "exit 0", "xenstore-list": "echo name"}.items():
        write_tool(dom0.root / "sbin", name, body)
    if shell == "mksh":  # which has a realpath of its own, of one file; and it is the sh of no dom0 with BusyBox
        write_tool(dom0.root / "bin", "readlink", 'exec /usr/bin/readlink "$@"')
    foo = dom0.domain(dom0.kernel("first", "the first kernel"))
    foo = replace(foo, policy=replace(foo.policy, rehearse="required"))
    domid = domid_of(await applied(dom0, {"foo": foo}))

    bad = replace(foo, kernel=dom0.kernel("bad", "panics"))
    result = (await reconcile(dom0, {"foo": bad})).result
    assert result is not None
    assert [one.step.step.kind for one in result.failed] == ["rehearse"], result.failed
    assert result.failed[0].problem is not None
    assert result.failed[0].problem.boot_failed, result.failed[0].problem
    assert domid_of((await look(dom0, {"foo": bad})).host) == domid

    foo = replace(foo, kernel=dom0.kernel("second", "the second kernel"))
    seen = await applied(dom0, {"foo": foo})
    assert runs_kernel(seen.guests["foo"], "second")
    assert sorted(path.name for path in (dom0.root / "n0").iterdir()) == ["foo-wd0", "foo-wd1"]
    assert not list((dom0.root / "kernels/.rehearsals").iterdir())
    assert (dom0.refused, unsent_of_rehearsals(dom0.sent)) == ([], [])


def domid_of(host: Host) -> int | None:
    return host.guests["foo"].domid


async def applied(dom0: Played, domains: Mapping[str, Domain]) -> Host:
    """The host after a pass that did all that was to do."""
    result = (await reconcile(dom0, domains)).result
    assert result is not None
    assert not result.failed, result.failed
    after = await look(dom0, domains)
    assert not after.plan.steps, after.plan.steps
    return after.host


def change(dom0: Played, name: str, **what: object) -> None:
    """As by hand."""
    file = dom0.root / "xen/domains"
    domains = ast.literal_eval(file.read_text())
    file.write_text(repr([{**one, **(what if one["name"] == name else {})} for one in domains]))


def of_tree(dom0: Played, source: str) -> Image:
    sha256 = hashlib.sha256((dom0.root / "specs" / source).read_bytes()).hexdigest()
    name = Path(source).name
    return Image(sha256=sha256, source=source, path=f"{dom0.settings.kernel_dir}/foo/{name}.{sha256[:12]}")


def as_sh_reads(rc_conf: Path) -> list[str]:
    script = f'. {rc_conf}; echo "$xendomains"'
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()


def quiet(text: str) -> None:
    """Progress is of no interest here."""
