"""How far a copy has come is told while it goes on, by somebody who does not hold it up."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import copying
from reconciler.copying import Copied, telling
from reconciler.dom0 import disks, images
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.model.domain import Disk, Image
from reconciler.model.fleet import HostSettings
from reconciler.plan.steps import CreateDisk, StageImage
from tests.fake_dom0 import write_tool

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "POLL_SECONDS", 0.01)


async def test_the_clone_of_a_disk_is_told(shell: Dom0Shell, settings: HostSettings, tools: Path) -> None:
    root = Path(settings.disk_roots[0])
    (root / "golden").write_bytes(b"x" * 3 * MIB)
    write_tool(
        tools, "cp", f'[ "$1" = --help ] && exit; for to; do :; done; /bin/cp {root}/golden "$to"; read -r _ <{root}/go'
    )
    subprocess.run(["mkfifo", root / "go"], check=True)
    told = asyncio.Event()
    news: list[str] = []

    def report(text: str) -> None:
        news.append(text)
        if text.startswith("3 of 3 MiB, "):
            told.set()

    disk = Disk(
        vdev="xvda", devid=51712, kind="file", target=f"{root}/web", size_bytes=4 * MIB, source=f"{root}/golden"
    )
    creating = asyncio.create_task(disks.create(shell, CreateDisk(domain="web", disk=disk), "t", report))
    await told.wait()
    assert not creating.done()
    await asyncio.to_thread((root / "go").write_text, "\n")
    await creating
    assert (root / "web").stat().st_size == 4 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
async def test_of_a_volume_it_is_told_where_its_dd_stands(shell: Dom0Shell, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        out.seek(5 * MIB)
        arguments = ["dd", "-s", "of=/dev/vg0/web.reconciler"]
        with subprocess.Popen(arguments, executable="/bin/sh", stdin=subprocess.PIPE, stdout=out) as dd:
            given = {"partial": "web.reconciler", "group": "vg0", "from": "", "size": str(9 * MIB)}
            assert await disks.copied(shell, given) == Copied(5 * MIB, 9 * MIB)
            dd.communicate()
    assert await disks.copied(shell, given) is None


async def test_what_is_sent_to_a_host_is_told(
    shell: Dom0Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"kernel" * MIB
    (tmp_path / "vmlinuz").write_bytes(content)
    told, news = asyncio.Event(), []
    chunks = images._chunks

    def slow(file: Path):  # type: ignore[no-untyped-def]  # as the one it stands for
        for at, chunk in enumerate(chunks(file)):
            yield chunk
            if at == 5:
                asyncio.run_coroutine_threadsafe(told.wait(), loop).result()

    def report(text: str) -> None:
        news.append(text)
        told.set()

    loop = asyncio.get_running_loop()
    sha256 = hashlib.sha256(content).hexdigest()
    image = Image(sha256=sha256, source="vmlinuz", path=f"{shell.dom0.kernel_dir}/web/vmlinuz.{sha256[:12]}")
    # the file is read once to check it, and then once more to send it
    monkeypatch.setattr(images._Sent, "chunks", lambda sent: counted(sent, slow(tmp_path / "vmlinuz")))

    def counted(sent: images._Sent, parts):  # type: ignore[no-untyped-def]
        for part in parts:
            sent._count += len(part)
            yield part

    await images.stage(shell, StageImage(domain="web", image=image), tmp_path, "t", report)
    assert re.fullmatch(r"\d of 6 MiB, \d+ [KM]iB/s", news[0])
    assert Path(image.path).read_bytes() == content


async def test_what_cannot_be_measured_is_copied_all_the_same() -> None:
    asked = asyncio.Event()

    async def measure() -> Copied | None:
        asked.set()
        raise world_error("host unreachable", "It does not answer.", None, "alpha")

    async def copy() -> str:
        await asked.wait()
        return "copied"

    assert await telling(copy(), measure, print) == "copied"


async def test_a_copy_that_fails_says_why_and_nobody_looks_any_more() -> None:
    async def measure() -> Copied | None:
        return None

    async def copy() -> str:
        raise world_error("creating a disk failed", "There is no room.", None, "alpha/web")

    before = asyncio.all_tasks()
    with pytest.raises(ReconcilerError, match="no room"):
        await telling(copy(), measure, print)
    assert asyncio.all_tasks() == before
