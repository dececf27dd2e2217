"""Rehearsals on a dom0: the scripts run for real on this machine, with a fake xl, cp, stat, ip and LVM."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.apply.follow import apply_plan, carry_out
from reconciler.apply.result import ApplyResult
from reconciler.decide.changes import Consent
from reconciler.dom0.rehearsals import made
from reconciler.dom0.shell import open_shell
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Domain, Image, Policy, Ready
from reconciler.model.fleet import Desired, DesiredHost, RehearsalSettings
from reconciler.model.host import Host, Power
from reconciler.model.rehearsal import Clone, Leftover, Rehearsal
from reconciler.plan.plan import Plan, build_plan
from reconciler.plan.steps import PromoteConfig, Rehearse
from reconciler.plan.verify import verify
from reconciler.toolstack import question_for
from tests.apply.recording_host import Silence
from tests.both.sides import FLEET, make_domain, make_sides, started
from tests.fake_dom0 import write_tool

_STAT = 'case "$*" in *"-f -c %T"*) echo btrfs ;; *) exec /usr/bin/stat "$@" ;; esac'
_CP = 'case $1 in --reflink=always) shift ;; esac\nexec /bin/cp "$@"'

# A throwaway is let go once its console was read: a machine may be so slow that it has crashed before.
_XL = """[ "$1" = unpause ] || exec {real} "$@"
{real} "$@"
status=$? tries=500
for console in {rehearsals}/*.d/console; do
    until [ ! -e "$console" ] || [ -s "$console" ] || [ "$tries" -eq 0 ]; do
        tries=$((tries - 1)); /bin/sleep 0.02
    done
done
exit $status"""


class Dom0:
    """A dom0 whose domain web runs, and is to be rehearsed before each restart."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.side, _ = make_sides(folder, monkeypatch)
        self.folder = folder
        self.settings = self.side.settings
        # 20 s of this machine, by a clock that is thirty times as fast
        self.policy = Policy(rehearse="required", ready=Ready(timeout_seconds=600, min_seconds=1, console="login:"))
        self.calls = folder / "calls"
        tools = folder / "bin"
        write_tool(tools, "stat", _STAT)
        write_tool(tools, "cp", _CP)
        write_tool(tools, "ip", f'echo ip "$@" >>{self.calls}')
        write_tool(tools, "xenstore-list", "echo name")
        for name in ("lvs", "vgs", "pvs", "losetup"):
            write_tool(tools, name, "exit 0")
        (tools / "xl").rename(tools / "real-xl")
        write_tool(tools, "xl", _XL.format(real=tools / "real-xl", rehearsals=folder / "kernels" / ".rehearsals"))
        self.executor = self.side.executor()
        self.web = self.boots("the old one\nlogin:")
        self.do(*started(self.web), PromoteConfig(domain="web", first_boot=True))

    def boots(self, says: str) -> Domain:
        """The definition of web with a kernel that says this on its console."""
        path = self.folder / "boot" / f"kernel-{hashlib.sha256(says.encode()).hexdigest()[:6]}"
        path.write_text(says)
        digest = hashlib.sha256(says.encode()).hexdigest()
        kernel = Image(
            sha256=digest, path=f"{self.settings.kernel_dir}/web/{path.name}.{digest[:12]}", source=str(path)
        )
        return replace(make_domain(self.settings), kernel=kernel, policy=self.policy)

    def do(self, *steps: object) -> None:
        async def all_of_them() -> None:
            for step in steps:
                await carry_out(self.executor, step, lambda _: None)  # type: ignore[arg-type]

        asyncio.run(all_of_them())

    def desired(self, wanted: Domain) -> Desired:
        return Desired(fleet=FLEET, hosts={"alpha": DesiredHost(settings=self.settings, domains={"web": wanted})})

    def observe(self, wanted: Domain) -> Host:
        return asyncio.run(self.side.observer().observe(question_for(self.desired(wanted).hosts["alpha"])))

    def plan(self, wanted: Domain) -> Plan:
        hosts = {"alpha": replace(self.observe(wanted), bridges=frozenset({"xenbr0"}))}
        made = build_plan(self.desired(wanted), hosts, Consent())
        verify(made, hosts, self.desired(wanted))
        return made

    def apply(self, wanted: Domain) -> ApplyResult:
        made = self.plan(wanted)
        return asyncio.run(apply_plan(made, {"alpha": self.executor}, {"alpha": 4}, Silence(), {}))

    def left(self) -> list[str]:
        """What is there of rehearsals: domains, files, records."""
        names = [one["name"] for one in self.side._read()]
        files = [path.name for path in (self.folder / "disks").iterdir()]
        records = self.folder / "kernels" / ".rehearsals"
        noted = [path.name for path in records.iterdir()] if records.exists() else []
        return sorted(name for name in (*names, *files, *noted) if "rehearsal" in name or name in noted)

    def domid(self) -> int:
        return int(next(one["domid"] for one in self.side._read() if one["name"] == "web"))


@pytest.fixture
def dom0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dom0:
    return Dom0(tmp_path, monkeypatch)


def test_a_kernel_that_panics_costs_the_running_domain_nothing(dom0: Dom0) -> None:
    domid = dom0.domid()
    (dom0.folder / "disks" / "web.img").write_bytes(b"data")
    result = dom0.apply(dom0.boots("panics, and says why"))
    assert [one.step.step.kind for one in result.failed] == ["rehearse"], result
    problem = result.failed[0].problem
    assert problem is not None
    assert "In its rehearsal web did not get ready: it crashed" in problem.detail
    assert "panics, and says why" in problem.detail  # the console of this boot
    assert (dom0.domid(), dom0.left()) == (domid, [])
    assert (dom0.folder / "disks" / "web.img").read_bytes() == b"data"
    guest = dom0.observe(dom0.web).guests["web"]
    assert [entry.reason[:16] for entry in guest.quarantine] == ["In its rehearsal"]
    bridge = f"rr{made_uuid(dom0)[:10]}"
    assert f"ip link add name {bridge} type bridge" in dom0.calls.read_text()


def made_uuid(dom0: Dom0) -> str:
    step = next(one.step for one in dom0.plan(dom0.boots("another")).steps if isinstance(one.step, Rehearse))
    return step.rehearsal.uuid.replace("-", "")


def test_a_kernel_that_boots_is_rehearsed_then_run(dom0: Dom0) -> None:
    dom0.policy = replace(dom0.policy, ready=replace(dom0.policy.ready, console=None))  # no log of it is kept here
    new = dom0.boots("the new one\nlogin:")
    result = dom0.apply(new)
    assert not result.failed, result.failed
    assert [one.step.step.kind for one in result.done][:3] == ["stage_image", "rehearse", "rehearse_end"]
    running = dom0.observe(new).guests["web"].running
    assert running is not None
    assert running.kernel == new.kernel
    assert dom0.left() == []


def test_one_that_says_nothing_of_what_is_waited_for_is_told_from_a_host_that_cannot(dom0: Dom0) -> None:
    dom0.policy = replace(dom0.policy, ready=replace(dom0.policy.ready, console="a peer answers", timeout_seconds=3))
    result = dom0.apply(dom0.boots("the new one\nlogin:"))
    problem = result.failed[0].problem
    assert problem is not None
    assert "what runs now did not get ready in the same way" in problem.detail
    quarantine = dom0.observe(dom0.web).guests["web"].quarantine
    assert [entry.holds_boot for entry in quarantine] == [False]
    assert dom0.left() == []


def _rehearsal(dom0: Dom0, wanted: Domain) -> Rehearsal:
    return next(one.step for one in dom0.plan(wanted).steps if isinstance(one.step, Rehearse)).rehearsal


def test_what_a_killed_controller_left_is_no_domain_of_the_fleet_and_goes_in_the_next_run(dom0: Dom0) -> None:
    new = dom0.boots("the new one\nlogin:")
    dom0.do(*started(new)[:1])  # its kernel is staged
    rehearsal = _rehearsal(dom0, new)
    asyncio.run(dom0.executor.begin_rehearsal(rehearsal, lambda _: None))
    assert len(dom0.left()) == 4  # the domain, its disk, the record and what lies beside it
    seen = dom0.observe(new)
    assert list(seen.guests) == ["web"]
    assert [left.uuid for left in seen.leftovers] == [rehearsal.uuid]

    another = dom0.side.executor()  # another controller
    with pytest.raises(ReconcilerError, match="is noted on the host already"):
        asyncio.run(another.begin_rehearsal(rehearsal, lambda _: None))
    asyncio.run(another.clear_leftovers())
    assert dom0.left() == []
    with pytest.raises(ReconcilerError, match="another run's by now"):  # the first comes back
        asyncio.run(_put_config(dom0, rehearsal))


@pytest.mark.parametrize(("boot", "power"), [("", Power.RUNNING), ("-of-before", Power.PAUSED)])
def test_a_pause_for_snapshots_is_no_drift(dom0: Dom0, boot: str, power: Power) -> None:
    record = dom0.folder / "kernels" / ".rehearsals" / "a-uuid"
    record.with_name("a-uuid.d").mkdir(parents=True)
    record.write_text("{}\n")
    this_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record.with_name("a-uuid.d").joinpath("paused").write_text(f"{this_boot}{boot} {dom0.domid()}\n")
    dom0.side.set_power("web", Power.PAUSED)
    assert dom0.observe(dom0.web).guests["web"].power is power


async def _put_config(dom0: Dom0, rehearsal: Rehearsal) -> None:
    shell = await open_shell(dom0.executor.connection, dom0.settings)
    await made.put_config(shell, rehearsal, "not the nonce of any", "")


def test_a_host_whose_lvm_does_not_tell_what_it_keeps_volumes_in_has_no_way(dom0: Dom0) -> None:
    write_tool(dom0.folder / "bin", "pvs", "exit 5")
    snapshots = dom0.observe(dom0.boots("the new one")).snapshots
    assert snapshots is not None
    assert {(fact.way, fact.why_not) for fact in snapshots.values()} == {
        (None, "LVM does not tell what it keeps volumes in (pvs)")
    }


def test_a_file_that_only_has_the_name_of_a_snapshot_stays(dom0: Dom0) -> None:
    new = dom0.boots("the new one\nlogin:")
    dom0.do(*started(new)[:1])
    rehearsal = _rehearsal(dom0, new)
    stranger = Path(rehearsal.clones[0].target)
    stranger.write_text("somebody's")
    with pytest.raises(ReconcilerError, match="There is a file"):
        asyncio.run(dom0.executor.begin_rehearsal(rehearsal, lambda _: None))
    asyncio.run(dom0.executor.end_rehearsal(rehearsal))
    assert stranger.read_text() == "somebody's"
    assert dom0.left() == [stranger.name]


def test_a_domain_is_paused_for_its_snapshots_and_goes_on_whatever_happens(dom0: Dom0) -> None:
    paused, tools = dom0.folder / "paused", dom0.folder / "bin"
    seen = f"case $1 in --sparse=always) xl list -v | grep -q 'web .*--p---' && touch {paused} ;; esac"
    write_tool(tools, "cp", f'{seen}\nexec /bin/cp "$@"')
    dom0.settings = replace(dom0.settings, rehearsal=RehearsalSettings(pause=True, copy_limit_bytes=1 << 30))
    write_tool(tools, "stat", _STAT.replace("btrfs", "ext2/ext3"))
    dom0.policy = replace(dom0.policy, ready=replace(dom0.policy.ready, console=None))
    new = dom0.boots("the new one\nlogin:")
    result = dom0.apply(new)
    assert not result.failed, result.failed
    notes = [one.note for one in result.done if one.step.step.kind == "rehearse"]
    assert notes[0] is not None
    assert notes[0].startswith("was paused for")
    assert paused.exists()

    write_tool(tools, "cp", 'case $1 in --sparse=always) exit 1 ;; esac\nexec /bin/cp "$@"')
    failed = dom0.apply(dom0.boots("a third one\nlogin:"))
    assert "No snapshot of" in str(failed.failed[0].problem)
    assert [one["state"] for one in dom0.side._read()] == ["-b----"]
    assert dom0.left() == []


def test_a_volume_is_removed_only_if_it_is_our_snapshot_of_that_origin(dom0: Dom0) -> None:
    volumes = dom0.folder / "volumes"
    volumes.mkdir()
    write_tool(
        dom0.folder / "bin",
        "lvcreate",
        f"""echo lvcreate "$@" >>{dom0.calls}
while [ "$1" != -n ]; do shift; done
echo "web|reconciler.rehearsal,of=web" >"{volumes}/$2\"""",
    )
    write_tool(
        dom0.folder / "bin",
        "lvs",
        f"""for volume do :; done
case "$*" in
*' -S '*) file={volumes}/$(echo "$*" | tr -d '"' | sed 's/.*lv_name=//; s/ .*//') && [ -f "$file" ] || exit 0 ;;
*) file={volumes}/${{volume##*/}} && [ -f "$file" ] || exit 5 ;;
esac
case "$*" in
*origin,lv_tags*) cat "$file" ;;
*"-o origin"*) cut -d '|' -f 1 "$file" ;;
*lv_attr*) if [ -f "$file.full" ]; then echo 'swi-I-s---'; else echo 'swi-a-s---'; fi ;;
*) echo "  ${{file##*/}}" ;;
esac""",
    )
    write_tool(dom0.folder / "bin", "lvremove", f'for volume do :; done\nrm "{volumes}/${{volume##*/}}"')
    target = "/dev/vg0/web.rehearsal-xvda"
    clone = Clone(way="lvm", origin="/dev/vg0/web", target=target, size_bytes=1 << 30, room="vg0", room_bytes=1 << 22)
    new = dom0.boots("the new one\nlogin:")
    dom0.do(*started(new)[:1])
    rehearsal = replace(_rehearsal(dom0, new), clones=(clone,))

    async def life() -> str | None:
        await dom0.executor.begin_rehearsal(rehearsal, lambda _: None)
        before = (await dom0.executor.look_at_rehearsal(rehearsal)).trouble
        assert before is None
        (volumes / "web.rehearsal-xvda.full").touch()
        trouble = (await dom0.executor.look_at_rehearsal(rehearsal)).trouble
        await dom0.executor.end_rehearsal(rehearsal)
        return trouble

    assert asyncio.run(life()) == f"the snapshot {target} is full, and not valid any more"
    said = f"-L {1 << 22}b -n web.rehearsal-xvda --addtag reconciler.rehearsal --addtag of=web vg0/web"
    assert said in dom0.calls.read_text()
    assert not (volumes / "web.rehearsal-xvda").exists()

    (volumes / "web.rehearsal-xvda").write_text("data|somebodys.tag\n")

    async def foreign() -> None:
        shell = await open_shell(dom0.executor.connection, dom0.settings)
        await made.note(shell, rehearsal, "0123")
        left = Leftover(uuid=rehearsal.uuid, name=rehearsal.name, of="web", nonce="0123")
        await made.take_down(shell, replace(left, clones=(("lvm", "/dev/vg0/web", target),)))

    asyncio.run(foreign())
    assert (volumes / "web.rehearsal-xvda").exists()
    assert list((dom0.folder / "kernels" / ".rehearsals").iterdir()) == []
