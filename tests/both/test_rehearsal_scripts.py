"""What a rehearsal's scripts do on a dom0 where things go wrong: they run for real, with fake tools."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0.rehearsals import made
from reconciler.dom0.rehearsals.scripts import TROUBLE
from reconciler.dom0.rehearsals.seen import RECORDS, leftovers_in, look_at_rehearsals
from reconciler.dom0.shell import Dom0Shell, assigned
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Domain, Ready
from reconciler.model.rehearsal import Clone, Leftover, NotMadeError, Rehearsal
from reconciler.xl.commands import Xl
from reconciler.xl.rehearse import Rehearsals
from tests.fake_dom0 import TABLE_HEAD, UUID, make_domain, settings, shell, table_row, tools, write_tool, xen

__all__ = ["make_domain", "settings", "shell", "tools", "xen"]

OWN_UUID = "00000009-1111-2222-3333-444444444444"
NONCE = "0123456789abcdef"
RUNNING, PAUSED = (TABLE_HEAD + table_row("web", 7, state) for state in ("-b----", "--p---"))


class Place:
    """A dom0 on which a rehearsal of web is noted, with two disks that are files."""

    def __init__(self, shell: Dom0Shell, xen: Path, tools: Path, domain: Domain) -> None:
        self.shell, self.xen, self.tools = shell, xen, tools
        self.disks = Path(shell.settings.disk_roots[0])
        self.own = replace(domain, name="web.rehearsal", uuid=OWN_UUID)
        self.rehearsal = Rehearsal(
            of="web", of_uuid=UUID, definition=self.own, ready=Ready(), clones=(self.file("a"), self.file("b"))
        )
        (xen / "list").write_text(RUNNING)
        (xen / "paused").write_text(PAUSED)
        (xen / "running").write_text(RUNNING)
        write_tool(xen, "pause", "exec /bin/cp paused list")
        write_tool(xen, "unpause", "exec /bin/cp running list")
        write_tool(tools, "sleep", 'case $1 in 1 | 2) exec /bin/sleep 0.02 ;; *) exec /bin/sleep "$1" ;; esac')
        write_tool(tools, "xenstore-list", "echo name")
        write_tool(tools, "losetup", "exit 0")

    def file(self, name: str) -> Clone:
        origin = self.disks / f"{name}.img"
        origin.write_text(f"data of {name}")
        target = f"{self.disks}/{name}.rehearsal"
        return Clone(
            way="copy", origin=str(origin), target=target, size_bytes=10, room="/", room_bytes=10, keep_free_bytes=9
        )

    @property
    def record(self) -> Path:
        return Path(self.shell.dom0.kernel_dir) / ".rehearsals" / OWN_UUID

    @property
    def folder(self) -> Path:
        return Path(made.folder_of(self.shell, OWN_UUID))

    def note(self) -> None:
        asyncio.run(made.note(self.shell, self.rehearsal, NONCE))

    async def snapshots(self, domid: int | None = None) -> float:
        return await made.make_snapshots(self.shell, self.rehearsal, NONCE, domid)

    async def take_down(self, **changes: object) -> None:
        clones = tuple((one.way, one.origin, one.target) for one in self.rehearsal.clones)
        left = Leftover(
            uuid=OWN_UUID, name="web.rehearsal", of="web", clones=clones, nonce=NONCE, of_uuid=UUID, bridge=None
        )
        await made.take_down(self.shell, replace(left, **changes))  # type: ignore[arg-type]  # fields of Leftover

    def stays(self, why: str, **changes: object) -> None:
        """It cannot be taken down for this reason, so its record stays for the next run."""
        with pytest.raises(ReconcilerError, match=why):
            asyncio.run(self.take_down(**changes))
        assert self.record.exists()

    def targets(self) -> list[str]:
        return sorted(path.name for path in self.disks.glob("*.rehearsal"))


@pytest.fixture
def place(shell: Dom0Shell, xen: Path, tools: Path, make_domain: Callable[..., Domain]) -> Place:
    made_here = Place(shell, xen, tools, make_domain())
    made_here.note()
    return made_here


async def _until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not seen():
            await asyncio.sleep(0.02)


def test_a_process_that_only_has_the_number_of_the_console_lives_on(place: Place) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        (place.folder / "console.pid").write_text(f"{stranger.pid}\n")
        asyncio.run(place.take_down())
        assert stranger.poll() is None
        stranger.kill()
    assert not place.record.exists()


def test_what_goes_on_though_nobody_hears_of_it_is_waited_for_and_taken_down(place: Place) -> None:
    go, asked = place.disks / "go", place.disks / "asked"
    write_tool(place.tools, "flock", f'echo >>{asked}\nexec /usr/bin/flock "$@"')
    write_tool(place.tools, "cp", f'until [ -e {go} ]; do /bin/sleep 0.02; done\nexec /bin/cp "$@"')

    async def both() -> None:
        makes = asyncio.create_task(place.snapshots())
        await _until(lambda: (place.disks / "a.rehearsal").exists())
        ends = asyncio.create_task(place.take_down())
        await _until(lambda: ends.done() or len(asked.read_text()) == 2)
        go.touch()
        await makes
        await ends

    asyncio.run(both())
    assert (place.targets(), place.record.exists()) == ([], False)


def test_a_domain_is_let_go_until_it_is_seen_to_go_on(place: Place) -> None:
    tried = place.disks / "tried"
    write_tool(place.xen, "unpause", f"[ -e {tried} ] || {{ touch {tried}; exit 1; }}\nexec /bin/cp running list")
    asyncio.run(place.snapshots(7))
    assert (place.xen / "list").read_text() == RUNNING
    assert not (place.folder / "paused").exists()
    assert place.targets() == ["a.rehearsal", "b.rehearsal"]
    guard = Path("/proc") / (place.folder / "guard").read_text().strip() / "cmdline"
    asyncio.run(_until(lambda: not guard.exists() or not guard.read_bytes()))  # nothing unpauses it later


def test_a_domain_that_cannot_be_let_go_keeps_its_record_and_its_guard(place: Place) -> None:
    write_tool(place.xen, "unpause", "exit 1")
    with pytest.raises(ReconcilerError, match="is still paused"):
        asyncio.run(place.snapshots(7))
    place.stays("is still paused")
    write_tool(place.xen, "unpause", "exec /bin/cp running list")
    asyncio.run(place.take_down())
    assert ((place.xen / "list").read_text(), place.record.exists()) == (RUNNING, False)


def test_the_guard_lets_it_go_where_all_else_was_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_BEYOND_SECONDS", 3)
    write_tool(place.tools, "cp", "kill -KILL 0")
    with pytest.raises(ReconcilerError, match="exit 137"):
        asyncio.run(place.snapshots(7))
    assert (place.folder / "paused").exists()
    asyncio.run(_until(lambda: (place.xen / "list").read_text() == RUNNING))


def test_copies_of_a_disk_whose_domain_went_on_meanwhile_are_no_snapshots(place: Place) -> None:
    write_tool(place.tools, "cp", f'/bin/cp {place.xen}/running {place.xen}/list\nexec /bin/cp "$@"')
    with pytest.raises(ReconcilerError, match="was over before its snapshots were made"):
        asyncio.run(place.snapshots(7))
    asyncio.run(place.take_down())
    assert place.targets() == []


def test_how_long_a_domain_was_paused_in_vain_is_told(place: Place) -> None:
    write_tool(place.tools, "cp", "/bin/sleep 0.1; exit 1")
    with pytest.raises(NotMadeError, match="No snapshot of") as caught:
        asyncio.run(place.snapshots(7))
    assert 0.1 <= caught.value.paused_seconds < 10
    write_tool(place.xen, "pause", "exit 1")
    with pytest.raises(NotMadeError, match="could not be paused") as caught:
        asyncio.run(place.snapshots(7))
    assert caught.value.paused_seconds == 0


def test_a_copy_ends_with_the_pause(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_BEYOND_SECONDS", 3)
    write_tool(place.tools, "cp", "exec /bin/sleep 60")
    with pytest.raises(ReconcilerError, match="No snapshot of"):
        asyncio.run(place.snapshots(7))
    assert (place.xen / "list").read_text() == RUNNING


@pytest.mark.parametrize("says", ["exit 1", "exit 0", "echo Name ID"])
def test_a_list_that_failed_is_no_sign_that_a_domain_is_gone(place: Place, says: str) -> None:
    write_tool(place.xen, "list", says)
    place.stays("does not list its domains")
    with pytest.raises(ReconcilerError, match="does not list its domains"):
        asyncio.run(place.snapshots(7))


def test_devices_are_waited_for_where_the_domain_is_gone_already(place: Place) -> None:
    asyncio.run(place.snapshots())
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (place.folder / "domids").write_text(f"another-boot 3\n{boot} 9\n")
    write_tool(
        place.tools,
        "xenstore-list",
        "case $1 in */backend/vbd) echo 9 ;; */backend) echo console; echo vbd ;; *) echo backend ;; esac",
    )
    place.stays("Devices of web.rehearsal .domid 9. are still there")
    write_tool(place.tools, "xenstore-list", "exit 1")
    place.stays("or xenstore does not tell")
    console = "case $1 in */console) echo 9 ;; */backend) echo console ;; *) echo backend ;; esac"
    write_tool(place.tools, "xenstore-list", console)
    assert place.targets() == ["a.rehearsal", "b.rehearsal"]
    asyncio.run(place.take_down())  # what is left of a console uses no disk
    assert not place.record.exists()


def test_a_volume_of_which_lvm_does_not_tell_may_be_there(place: Place) -> None:
    write_tool(place.tools, "lvs", "exit 5")
    place.stays("LVM does not tell of /dev/vg0/s", clones=(("lvm", "/dev/vg0/web", "/dev/vg0/s"),))


def test_a_file_is_known_over_a_boot_and_noted_before_anything_is_in_it(place: Place) -> None:
    files = place.folder / "files"
    write_tool(place.tools, "cp", f'for target do :; done\ngrep -q " $target$" {files} && exec /bin/cp "$@"')
    asyncio.run(place.snapshots())
    inode = (place.disks / "a.rehearsal").stat().st_ino
    assert files.read_text().startswith(f"{inode} ")  # and no number of a device
    files.write_text("".join(files.read_text().splitlines(keepends=True)[1:]))
    place.stays("Nobody knows whether .*a.rehearsal is a snapshot")
    assert "a.rehearsal" in place.targets()


def test_nobody_is_paused_where_the_copies_have_no_room_together(place: Place) -> None:
    write_tool(place.tools, "stat", 'case "$*" in "-f -c %S %a"*) echo 1 19 ;; *) exec /usr/bin/stat "$@" ;; esac')
    write_tool(place.xen, "pause", "touch was-paused")
    with pytest.raises(ReconcilerError, match="too little room in"):
        asyncio.run(place.snapshots(7))
    assert not (place.xen / "was-paused").exists()


@pytest.mark.parametrize(
    ("pool", "why"),
    [("1000|99.50|1.0", "too little room in vg0/pool"), ("1000|1.0|95.0", "metadata of the thin pool"), ("", "tell")],
)
def test_a_thin_pool_is_looked_at_when_the_snapshot_is_made(place: Place, pool: str, why: str) -> None:
    write_tool(place.tools, "lvs", f'case "$*" in *data_percent*) echo "  {pool}" ;; esac')
    write_tool(place.tools, "lvcreate", f"touch {place.disks}/created")
    thin = Clone(way="thin", origin="/dev/vg0/web", target="/dev/vg0/s", size_bytes=10, room="vg0/pool", room_bytes=10)
    place.rehearsal = replace(place.rehearsal, clones=(thin,))
    with pytest.raises(ReconcilerError, match=why):
        asyncio.run(place.snapshots())
    assert not (place.disks / "created").exists()


@pytest.mark.parametrize("clone", ["lvm|0|/dev/vg0/s|vg0", "thin|0|/dev/vg0/s|vg0/pool", "copy|0|/nowhere/s|/"])
def test_no_answer_is_trouble(place: Place, clone: str) -> None:
    write_tool(place.tools, "lvs", "exit 5")
    said = asyncio.run(place.shell.connection.script(assigned({"clones": clone}) + TROUBLE)).text
    assert said.startswith("trouble ")


def test_one_that_cannot_be_taken_down_holds_up_no_other_and_half_a_record_goes(place: Place) -> None:
    other = replace(place.own, name="db.rehearsal", uuid=OWN_UUID.replace("9", "8"))
    asyncio.run(made.note(place.shell, replace(place.rehearsal, of="db", definition=other, clones=()), NONCE))
    volume = Clone(way="lvm", origin="/dev/vg0/web", target="/dev/vg0/s", size_bytes=9, room="vg0", room_bytes=9)
    place.record.unlink()
    place.rehearsal = replace(place.rehearsal, clones=(volume,))
    place.note()
    write_tool(place.tools, "lvs", "exit 5")
    place.record.with_name(f"{OWN_UUID}.unfinished").write_text('{"half')
    said = asyncio.run(place.shell.connection.script(assigned({"kernel_dir": place.shell.dom0.kernel_dir}) + RECORDS))
    assert [left.name for left in leftovers_in(said.text.splitlines())] == ["db.rehearsal", "web.rehearsal"]
    with pytest.raises(ReconcilerError, match="LVM does not tell"):
        asyncio.run(Rehearsals(Xl(place.shell.connection)).clear(place.shell))
    files = {path.name for path in place.record.parent.iterdir() if path.is_file()}
    assert files == {OWN_UUID}


def test_what_a_disk_of_volumes_lies_on_is_named_down_to_the_file(place: Place, tmp_path: Path) -> None:
    image = place.disks / "a.img"
    devices = tmp_path / "sys/dev/block"
    (devices / "253:5/slaves/it").mkdir(parents=True)
    (devices / "7:0/loop").mkdir(parents=True)
    (devices / "7:0/loop/backing_file").write_text(f"{image}\n")
    (devices / "253:5/slaves/it/dev").write_text("259:1\n")
    whole = tmp_path / "sys/devices/loop0/loop0p1"  # a partition lies in the folder of its disk
    whole.mkdir(parents=True)
    (whole / "partition").write_text("1\n")
    (whole.parent / "dev").write_text("7:0\n")
    (devices / "259:1").symlink_to(whole)
    script = f"system=Linux root={tmp_path} kernel_dir=/nowhere named= files=\nclose() {{ :; }}\ntwice() {{ :; }}\n"
    script += f"{look_at_rehearsals(rehearses=True)}\nlies_on 253:5\n"
    said = asyncio.run(place.shell.connection.script(script)).text.split("\n")
    facts = image.stat()
    assert said[:-1] == ["device fd:5", "device 103:1", "device 7:0", f"inode {facts.st_dev}:{facts.st_ino}"]


def test_a_bridge_that_cannot_be_removed_and_an_image_elsewhere_are_not_forgotten(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "_ROOT", str(tmp_path))
    for folder in ("sys/class/net/rr0/bridge", "sys/class/net/rr0/brif", "etc/default", "saves"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/default/xendomains").write_text(f"XENDOMAINS_SAVE={tmp_path}/saves\n")
    (tmp_path / "saves/web.rehearsal").write_text(f"image of {OWN_UUID}")
    write_tool(place.tools, "ip", "exit 1")
    place.stays("The bridge rr0 of a rehearsal could not be removed", bridge="rr0")
    assert list((tmp_path / "saves").iterdir()) == []


class Watched:
    """A throwaway that runs, and the process on its dom0 that watches it: time passes there by `step` alone."""

    def __init__(self, place: Place) -> None:
        self.place, self.go, self.stop = place, place.disks / "go", place.disks / "stop"
        wait = f"until rm {self.go} 2>/dev/null; do [ ! -e {self.stop} ] || exit 1; /bin/sleep 0.02; done"
        write_tool(place.tools, "sleep", f'case $1 in 2) {wait} ;; 1) ;; *) exec /bin/sleep "$1" ;; esac')
        (place.xen / "both").write_text(RUNNING + table_row("web.rehearsal", 9, uuid=OWN_UUID))
        write_tool(place.xen, "create", "exec /bin/cp both list")
        write_tool(place.xen, "destroy", f'echo "$1" >{place.disks}/destroyed; exec /bin/cp running list')
        write_tool(place.xen, "unpause", "exit 0")
        place.record.unlink()
        place.folder.rmdir()
        self.rehearsals = Rehearsals(Xl(place.shell.connection))
        asyncio.run(self.rehearsals.begin(place.shell, place.rehearsal, lambda _: None))

    def look(self) -> str | None:
        return asyncio.run(self.rehearsals.look(self.place.shell, self.place.rehearsal)).trouble

    def step(self) -> None:
        self.go.touch()
        asyncio.run(_until(lambda: not (self.go.exists() and self.place.record.exists())))

    def until_gone(self) -> int:
        for steps in range(200):
            if not self.place.record.exists():
                return steps
            self.step()
        raise AssertionError


@pytest.fixture
def watched(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(made, "_SILENT_SECONDS", 20)
    made_here = Watched(place)
    yield made_here
    made_here.stop.touch()


def test_a_throwaway_at_which_nobody_looks_any_more_is_ended_by_its_dom0(watched: Watched) -> None:
    """As where its controller was killed, or has no network."""
    place = watched.place
    for _ in range(4):
        watched.look()
        watched.step()
        watched.step()
    assert place.targets() == ["a.rehearsal", "b.rehearsal"]
    assert watched.until_gone() > 8  # each of two seconds
    assert (place.targets(), place.folder.exists()) == ([], False)
    assert (place.disks / "destroyed").read_text() == "9\n"
    assert (place.xen / "list").read_text() == RUNNING
    asyncio.run(watched.rehearsals.end(place.shell, place.rehearsal))  # by the controller that comes back


def test_its_dom0_ends_it_sooner_where_its_copies_take_the_room_that_is_kept_free(watched: Watched) -> None:
    place = watched.place
    write_tool(place.tools, "stat", 'case "$*" in "-f -c %S %a"*) echo 1 8 ;; *) exec /usr/bin/stat "$@" ;; esac')
    assert "less left than is kept free" in (watched.look() or "")
    assert watched.until_gone() < 8
    assert place.targets() == []
