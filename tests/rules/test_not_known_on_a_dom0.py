"""The rules that are kept on a dom0, and what each does about what it does not know there. One row a case.

The rules that a plan keeps are in test_not_known.py. What is changed nowhere is the whole folder of the dom0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciler.dom0 import rc_conf
from reconciler.dom0.layout import Dom0
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Disk, Domain, Image
from reconciler.plan.steps import (
    CreateDisk,
    DeleteDisk,
    HostStep,
    SetAutostart,
    SetMemory,
    SetVcpus,
    Shutdown,
    StageImage,
    Start,
    SweepImages,
)
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import UUID, FastClock, make_domain, settings, shell, table_row, tools, write_tool, xen
from tests.xl.fake_guests import Guests, ignore

__all__ = ["make_domain", "settings", "shell", "tools", "xen"]

pytestmark = pytest.mark.anyio

RUNS = table_row("web", 5)
NOTED = ("lock", "lock.steps", "lock.steps.gate", ".line", "console.begins", "started")
BLIND = "mv list.none list"  # from now on `xl list` prints nothing
SHUTDOWN = Shutdown(domain="web", uuid=UUID, timeout_seconds=60, on_timeout="destroy")
MEMORY = SetMemory(domain="web", uuid=UUID, before_kib=96 * 1024, memory_kib=128 * 1024)


@dataclass(frozen=True)
class World:
    """A dom0 that is this machine, where `web` runs."""

    folder: Path
    guests: Guests
    tools: Path
    xen: Path
    disks: Path

    def blind_after(self, command: str) -> None:
        (self.xen / "list.none").touch()
        self.guests.on(command, BLIND)

    def link_out(self) -> None:
        (self.disks / "out").symlink_to("/etc")

    def list_fails(self) -> None:
        """With a staged file and a disk there that nobody may need any more."""
        (self.folder / "kernels/web").mkdir()
        (self.folder / "kernels/web/old.0123456789ab").touch()
        (self.disks / "web.img").touch()
        write_tool(self.xen, "list", "echo 'no handle' >&2; exit 1")

    def blind_after_create(self) -> None:
        self.guests.show()
        self.blind_after("create")

    def theirs_in_auto(self) -> None:
        (self.folder / "auto").mkdir()
        (self.folder / "auto/010-web").write_text("theirs")

    def ring(self) -> None:
        (self.disks / "ring").symlink_to("ring")

    def netbsd(self, text: str) -> None:
        (self.folder / "rc.conf").write_text(text)


def disk(world: World, name: str, **changes: str) -> Disk:
    made = Disk(vdev="xvda", devid=51712, kind="file", target=f"{world.disks}/{name}", size_bytes=4096)
    return replace(made, **changes)  # type: ignore[arg-type]  # rows name fields of Disk


@dataclass(frozen=True)
class Row:
    """A rule, what is not known, what makes it so, and the step that fails with these words."""

    rule: int
    unknown: str
    breaks: Callable[[World], object]
    step: Callable[[World], HostStep]
    says: str
    flavour: str = "debian"
    calls: tuple[str, ...] = ()  # of what changes domains, those that were made


ROWS = [
    # 9: whether nobody else works on the host
    Row(9, "where the lock is", lambda w: (w.folder / "lock").mkdir(), lambda w: SHUTDOWN, "cannot be written"),
    Row(
        9,
        "whether it is free: flock is killed",
        lambda w: write_tool(w.tools, "flock", "kill -9 $$"),
        lambda w: SHUTDOWN,
        "being changed by someone",
    ),
    # 10: what became of a step
    Row(
        10,
        "whether a guest went down",
        lambda w: w.blind_after("shutdown"),
        lambda w: SHUTDOWN,
        "`xl list` printed no table",
        calls=("shutdown -F 5",),
    ),
    Row(
        10,
        "whether a domain was made",
        World.blind_after_create,
        lambda w: Start(definition=WEB[0]),
        "`xl list` printed no table",
        calls=("create {folder}/etc/web.cfg",),
    ),
    Row(
        10,
        "what memory a guest has",
        lambda w: w.blind_after("mem-set"),
        lambda w: MEMORY,
        "`xl list` printed no table",
        calls=("mem-set 5 128m",),
    ),
    Row(
        10,
        "what vcpus a guest has",
        lambda w: w.guests.on("vcpu-set", "echo '[]' >long"),
        lambda w: SetVcpus(domain="web", uuid=UUID, vcpus=2),
        "vcpus",
        calls=("vcpu-set --ignore-host 5 2",),
    ),
    Row(10, "whether it is there at all", lambda w: (w.xen / "list").write_text(""), lambda w: SHUTDOWN, "no table"),
    # 12: where a path leads
    Row(
        12,
        "where a disk's folder is: a link out",
        World.link_out,
        lambda w: CreateDisk(domain="web", disk=disk(w, "out/x")),
        "none of the disk_roots",
    ),
    Row(
        12,
        "where a disk's folder is: a ring",
        World.ring,
        lambda w: CreateDisk(domain="web", disk=disk(w, "ring/x")),
        "does not exist",
    ),
    Row(
        12,
        "where a source is: a ring",
        World.ring,
        lambda w: CreateDisk(domain="web", disk=disk(w, "x", source=f"{w.disks}/ring")),
        "is not there",
    ),
    Row(
        12,
        "where a kernel is: it is gone",
        lambda w: None,
        lambda w: StageImage(
            domain="web",
            image=Image(sha256="0" * 64, path=f"{w.folder}/kernels/web/k.{'0' * 12}", source=f"{w.folder}/none"),
        ),
        "none",
    ),
    # 14: whose something is
    Row(
        14,
        "what a list of rc.conf means",
        lambda w: w.netbsd('xendomains="$(cat /etc/domains)"\n'),
        lambda w: SetAutostart(domain="web", order=10),
        "is not understood, so it is left alone",
        flavour="netbsd",
    ),
    Row(
        14,
        "whose a file in auto/ is",
        World.theirs_in_auto,
        lambda w: SetAutostart(domain="web", order=10),
        "is not ours",
    ),
    Row(
        14,
        "which staged files run",
        World.list_fails,
        lambda w: SweepImages(domain="web"),
        "no handle\n`xl list -l` failed, so nobody knows what runs.",
    ),
    Row(
        14,
        "who has a disk that is to go",
        World.list_fails,
        lambda w: DeleteDisk(domain="web", disk=disk(w, "web.img")),
        "no handle\n`xl list -l` failed, so nobody knows what runs.",
    ),
]

WEB: list[Domain] = []


@pytest.fixture
def world(
    tmp_path: Path,
    xen: Path,
    tools: Path,
    shell: Dom0Shell,
    make_domain: Callable[..., Domain],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    monkeypatch.setattr(Dom0, "lock_path", str(tmp_path / "lock"))
    monkeypatch.setattr(Dom0, "auto_dir", str(tmp_path / "auto"))
    monkeypatch.setattr(rc_conf, "LISTS", (str(tmp_path / "rc.conf"), str(tmp_path / "none")))
    made = World(tmp_path, Guests(xen), tools, xen, tmp_path / "disks")
    made.guests.show(RUNS)
    (xen / "calls").touch()
    (tmp_path / "etc/web.cfg").touch()
    WEB[:] = [make_domain()]
    yield made
    WEB.clear()


def files(folder: Path) -> dict[str, str]:
    """All that is there, less what the tools of this dom0 note, and what begins with a start."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not {"xen", "bin"} & set(path.relative_to(folder).parts) and path.name not in NOTED:
            found[str(path)] = path.read_text()
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule}: {row.unknown}")
async def test_a_step_that_does_not_know_fails_and_changes_nothing_more(
    world: World, shell: Dom0Shell, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = XlExecutor(shell.settings, "default", None, world.folder, clock=FastClock())
    if row.flavour == "netbsd":
        shell = replace(shell, dom0=replace(shell.dom0, flavour="netbsd"))

        async def as_netbsd(self: XlExecutor) -> Dom0Shell:
            return shell

        monkeypatch.setattr(XlExecutor, "_shell", as_netbsd)
    row.breaks(world)
    before = files(world.folder)
    with pytest.raises(ReconcilerError) as caught:
        async with executor.lock():
            await executor.execute(row.step(world), ignore)
    (problem,) = caught.value.diagnostics
    assert row.says in f"{problem.summary} {problem.detail}", problem
    assert files(world.folder) == before
    assert tuple(world.guests.calls) == tuple(call.format(folder=world.folder) for call in row.calls)
