"""Images, disks and config files: the scripts run for real, in folders of this machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0 import config_files, disks, images, rc_conf
from reconciler.dom0.layout import Dom0
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.domain import Disk, Domain, Image
from reconciler.model.fleet import HostSettings
from reconciler.model.host import Quarantined
from reconciler.plan.steps import (
    CreateDisk,
    DeleteDisk,
    GrowDisk,
    PromoteConfig,
    RemoveConfig,
    SetAutostart,
    SetQuarantine,
    StageImage,
    SweepImages,
    WriteConfig,
)
from reconciler.texts.config_file import render_file
from reconciler.texts.mark import split_mark
from reconciler.texts.quarantine_file import parse_quarantine
from tests.fake_dom0 import TABLE_HEAD, table_row, write_tool

pytestmark = pytest.mark.anyio

KERNEL = b"#!kernel\n" * 5000


@pytest.fixture
def spec_root(tmp_path: Path) -> Path:
    root = tmp_path / "specs"
    (root / "kernels").mkdir(parents=True)
    (root / "kernels/vmlinuz").write_bytes(KERNEL)
    return root


def image_of(shell: Dom0Shell, content: bytes, source: str, domain: str = "web") -> Image:
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{shell.dom0.kernel_dir}/{domain}/{source.rpartition('/')[2]}.{sha256[:12]}"
    return Image(sha256=sha256, source=source, path=path)


def disk_at(path: str, **changes: object) -> Disk:
    disk = Disk(vdev="xvda", devid=51712, kind="file", target=path, size_bytes=1 << 20)
    return replace(disk, **changes)  # type: ignore[arg-type]  # tests name fields of Disk


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


class TestImages:
    async def test_a_file_of_the_tree_is_staged_whole(self, shell: Dom0Shell, spec_root: Path) -> None:
        image = image_of(shell, KERNEL, "kernels/vmlinuz")
        await images.stage(shell, StageImage(domain="web", image=image), spec_root, "t")
        assert Path(image.path).read_bytes() == KERNEL
        assert names_in(f"{shell.dom0.kernel_dir}/web") == [Path(image.path).name]

    async def test_the_same_bytes_for_another_domain_are_linked(self, shell: Dom0Shell, spec_root: Path) -> None:
        one, two = (image_of(shell, KERNEL, "kernels/vmlinuz", name) for name in ("web", "db"))
        await images.stage(shell, StageImage(domain="web", image=one), spec_root, "t")
        (spec_root / "kernels/vmlinuz").unlink()  # so they can only come from the host
        await images.stage(shell, StageImage(domain="db", image=two), spec_root, "t")
        assert Path(one.path).samefile(two.path)

    async def test_a_damaged_staged_file_is_staged_anew(self, shell: Dom0Shell, spec_root: Path) -> None:
        image = image_of(shell, KERNEL, "kernels/vmlinuz")
        Path(image.path).parent.mkdir()
        Path(image.path).write_bytes(b"half")
        await images.stage(shell, StageImage(domain="web", image=image), spec_root, "t")
        assert Path(image.path).read_bytes() == KERNEL

    async def test_a_file_of_the_host_is_copied_there(self, shell: Dom0Shell, spec_root: Path, tmp_path: Path) -> None:
        source = tmp_path / "it's a kernel"
        source.write_bytes(KERNEL)
        image = image_of(shell, KERNEL, str(source))
        await images.stage(shell, StageImage(domain="web", image=image), spec_root, "t")
        assert Path(image.path).read_bytes() == KERNEL
        assert not Path(image.path).samefile(source)

    async def test_bytes_that_are_not_the_planned_ones_are_never_staged(
        self, shell: Dom0Shell, spec_root: Path, tmp_path: Path
    ) -> None:
        (spec_root / "kernels/vmlinuz").write_bytes(b"other")
        (tmp_path / "vmlinuz").write_bytes(b"other")
        for source in ("kernels/vmlinuz", str(tmp_path / "vmlinuz")):
            image = image_of(shell, KERNEL, source)
            with pytest.raises(ReconcilerError, match="other bytes"):
                await images.stage(shell, StageImage(domain="web", image=image), spec_root, "t")
            assert names_in(f"{shell.dom0.kernel_dir}") == [] or names_in(f"{shell.dom0.kernel_dir}/web") == []

    async def test_a_link_out_of_the_tree_is_not_followed(self, shell: Dom0Shell, spec_root: Path) -> None:
        (spec_root / "kernels/out").symlink_to("/etc/passwd")
        image = image_of(shell, Path("/etc/passwd").read_bytes(), "kernels/out")
        with pytest.raises(ReconcilerError, match="leads out of the spec tree"):
            await images.stage(shell, StageImage(domain="web", image=image), spec_root, "t")

    async def test_sweeping_keeps_what_is_kept_runs_or_is_named_by_others(
        self, shell: Dom0Shell, settings: HostSettings, xen: Path
    ) -> None:
        folder = Path(settings.kernel_dir) / "web"
        folder.mkdir()
        for name in ("keep", "runs", "named", "own", "old"):
            (folder / f"{name}.0123456789ab").touch()
        (folder / ".old.0123456789ab.reconciler-1").touch()
        (folder / "notes.txt").touch()
        (xen / "long").write_text(f'[ {{ "kernel": "{folder}/runs.0123456789ab" }} ]')
        Path(f"{settings.config_dir}/other.cfg").write_text(f"kernel = '{folder}/named.0123456789ab'\n")
        Path(f"{settings.config_dir}/web.cfg").write_text(f"kernel = '{folder}/own.0123456789ab'\n")
        await images.sweep(shell, SweepImages(domain="web", keep=(f"{folder}/keep.0123456789ab",)))
        left = ["keep.0123456789ab", "named.0123456789ab", "notes.txt", "own.0123456789ab", "runs.0123456789ab"]
        assert names_in(str(folder)) == left
        await images.sweep(shell, SweepImages(domain="web"))  # destroying: its own config protects nothing any more
        assert names_in(str(folder)) == ["named.0123456789ab", "notes.txt", "runs.0123456789ab"]

    async def test_nothing_is_swept_when_xl_cannot_tell_what_runs(
        self, shell: Dom0Shell, settings: HostSettings, xen: Path
    ) -> None:
        folder = Path(settings.kernel_dir) / "web"
        folder.mkdir()
        (folder / "old.0123456789ab").touch()
        write_tool(xen, "list", "exit 1")
        with pytest.raises(ReconcilerError):
            await images.sweep(shell, SweepImages(domain="web"))
        assert names_in(str(folder)) == ["old.0123456789ab"]


class TestDisks:
    @pytest.fixture
    def root(self, settings: HostSettings) -> str:
        return settings.disk_roots[0]

    @pytest.mark.parametrize("allocate", ["sparse", "full"])
    async def test_a_disk_has_its_size_and_room_only_if_asked(self, shell: Dom0Shell, root: str, allocate: str) -> None:
        await disks.create(shell, CreateDisk(domain="web", disk=disk_at(f"{root}/a b.img", allocate=allocate)), "t")
        found = Path(f"{root}/a b.img").stat()
        assert found.st_size == 1 << 20
        assert (found.st_blocks * 512 >= 1 << 20) is (allocate == "full")
        assert names_in(root) == ["a b.img"]

    async def test_a_source_is_cloned_and_grown(self, shell: Dom0Shell, root: str) -> None:
        Path(f"{root}/template").write_bytes(KERNEL)
        disk = disk_at(f"{root}/web.img", source=f"{root}/template")
        await disks.create(shell, CreateDisk(domain="web", disk=disk), "t")
        assert Path(disk.target).read_bytes() == KERNEL.ljust(1 << 20, b"\0")

    async def test_what_is_there_is_never_overwritten(self, shell: Dom0Shell, root: str) -> None:
        Path(f"{root}/web.img").write_text("precious")
        Path(f"{root}/dangling.img").symlink_to(f"{root}/elsewhere")
        for name in ("web.img", "dangling.img"):
            with pytest.raises(ReconcilerError, match="exists already"):
                await disks.create(shell, CreateDisk(domain="web", disk=disk_at(f"{root}/{name}")), "t")
        assert Path(f"{root}/web.img").read_text() == "precious"
        assert not Path(f"{root}/elsewhere").exists()

    async def test_of_two_at_once_one_makes_the_disk(self, shell: Dom0Shell, root: str) -> None:
        steps = [disks.create(shell, CreateDisk(domain="web", disk=disk_at(f"{root}/x.img")), t) for t in "ab"]
        results = await asyncio.gather(*steps, return_exceptions=True)
        assert sorted(isinstance(result, ReconcilerError) for result in results) == [False, True]
        assert Path(f"{root}/x.img").stat().st_size == 1 << 20

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"target": "{root}/none/x.img"}, "does not exist"),
            ({"target": "{root}/out/x.img"}, "is in none of the disk_roots"),
            ({"target": "/etc/x.img"}, "is in none of the disk_roots"),
            ({"source": "{root}/nothing"}, "is not there"),
            ({"source": "{root}/out/passwd"}, "is in none of the disk_roots"),
            ({"source": "{root}/large"}, "more than the disk's size"),
            ({"size_bytes": 1 << 60, "allocate": "full"}, "KiB free, too few"),
        ],
    )
    async def test_what_cannot_be_made_says_why_and_leaves_nothing(
        self, shell: Dom0Shell, root: str, changes: dict[str, object], problem: str
    ) -> None:
        Path(f"{root}/out").symlink_to("/etc")
        Path(f"{root}/large").write_bytes(b"x" * (2 << 20))
        given = {key: value.format(root=root) if isinstance(value, str) else value for key, value in changes.items()}
        disk = disk_at(f"{root}/x.img", **given)
        with pytest.raises(ReconcilerError, match=problem):
            await disks.create(shell, CreateDisk(domain="web", disk=disk), "t")
        assert names_in(root) == ["large", "out"]

    async def test_growing_only_ever_grows(self, shell: Dom0Shell, root: str) -> None:
        path = Path(f"{root}/web.img")
        path.write_bytes(b"x" * (2 << 20))
        await disks.grow(shell, GrowDisk(domain="web", disk=disk_at(str(path)), attached=False))
        assert path.stat().st_size == 2 << 20
        await disks.grow(shell, GrowDisk(domain="web", disk=disk_at(str(path), size_bytes=3 << 20), attached=False))
        assert path.read_bytes() == (b"x" * (2 << 20)).ljust(3 << 20, b"\0")

    async def test_deleting_twice_is_deleting_once(self, shell: Dom0Shell, xen: Path, root: str) -> None:
        Path(f"{root}/web.img").touch()
        for _ in range(2):
            await disks.delete(shell, DeleteDisk(domain="web", disk=disk_at(f"{root}/web.img")))
        assert names_in(root) == []

    async def test_a_disk_that_someone_has_is_not_deleted(
        self, shell: Dom0Shell, xen: Path, root: str, settings: HostSettings
    ) -> None:
        Path(f"{root}/web.img").touch()
        Path(f"{root}/named.img").touch()
        os.link(f"{root}/web.img", f"{root}/same.img")
        (xen / "long").write_text(f'    "pdev_path": "{root}/same.img",\n')
        Path(f"{settings.config_dir}/other.cfg").write_text(f"disk = [ '{root}/named.img,raw,xvda,w' ]\n")
        for name in ("web.img", "named.img"):
            with pytest.raises(ReconcilerError) as caught:
                await disks.delete(shell, DeleteDisk(domain="web", disk=disk_at(f"{root}/{name}")))
            assert caught.value.diagnostics[0].kind is Kind.REFUSED
        assert names_in(root) == ["named.img", "same.img", "web.img"]

    @pytest.mark.parametrize(
        ("record", "deleted"),
        [
            ("", False),
            ('/libxl/7/type = "pv"', True),
            ('/libxl/7/device/vbd/51712/params = "{root}/other.img"', True),
            ('/libxl/7/device/vbd/51712/params = "{root}/web.img"', False),
            ('/libxl/7/device/vbd/51712/params = "aio:{root}/web.img"', False),
        ],
    )
    async def test_what_xl_does_not_tell_of_a_domain_is_no_reason_to_delete(
        self, shell: Dom0Shell, xen: Path, tools: Path, root: str, record: str, deleted: bool
    ) -> None:
        Path(f"{root}/web.img").touch()
        (xen / "list").write_text(TABLE_HEAD + table_row("(null)", 7, "--p--d"))
        (xen / "record").write_text(record.format(root=root))
        write_tool(tools, "xenstore-ls", f"cat {xen}/record")
        step = DeleteDisk(domain="web", disk=disk_at(f"{root}/web.img"))
        if deleted:
            await disks.delete(shell, step)
        else:
            with pytest.raises(ReconcilerError) as caught:
                await disks.delete(shell, step)
            assert caught.value.diagnostics[0].kind is Kind.REFUSED
        assert names_in(root) == ([] if deleted else ["web.img"])

    @pytest.mark.parametrize("unknown", ["what a config file names", "what runs", "the names of what runs"])
    async def test_where_nobody_can_tell_who_has_a_disk_it_is_not_deleted(
        self, shell: Dom0Shell, xen: Path, tools: Path, root: str, settings: HostSettings, unknown: str
    ) -> None:
        Path(f"{root}/web.img").touch()
        Path(f"{settings.config_dir}/other.cfg").touch()
        match unknown:
            case "what a config file names":
                write_tool(tools, "grep", "echo 'grep: other.cfg: Input/output error' >&2; exit 2")
            case "what runs":
                (xen / "long").unlink()
            case _:
                (xen / "list").unlink()
        with pytest.raises(ReconcilerError):
            await disks.delete(shell, DeleteDisk(domain="web", disk=disk_at(f"{root}/web.img")))
        assert names_in(root) == ["web.img"]

    async def test_a_disk_that_is_started_at_boot_from_another_file_is_not_deleted(
        self, shell: Dom0Shell, xen: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Dom0, "auto_dir", str(tmp_path / "auto"))
        (tmp_path / "auto").mkdir()
        Path(f"{root}/web.img").touch()
        (tmp_path / "auto" / "other.cfg").write_text(f"disk = [ '{root}/web.img,raw,xvda,w' ]\n")
        with pytest.raises(ReconcilerError, match=r"other\.cfg names"):
            await disks.delete(shell, DeleteDisk(domain="web", disk=disk_at(f"{root}/web.img")))

    async def test_its_own_config_does_not_keep_a_disk(
        self, shell: Dom0Shell, xen: Path, root: str, settings: HostSettings
    ) -> None:
        Path(f"{root}/web.img").touch()
        Path(f"{settings.config_dir}/web.cfg").write_text(f"disk = [ '{root}/web.img,raw,xvda,w' ]\n")
        await disks.delete(shell, DeleteDisk(domain="web", disk=disk_at(f"{root}/web.img")))
        assert names_in(root) == []


class TestConfigFiles:
    @pytest.fixture
    def web(self, make_domain: Callable[..., Domain]) -> Domain:
        return make_domain()

    @staticmethod
    async def write(
        shell: Dom0Shell, web: Domain, *, candidate: bool = False, proven: bool = True, adopt: bool = False
    ) -> None:
        step = WriteConfig(definition=web, candidate=candidate, proven=proven, adopt=adopt)
        await config_files.write(shell, step, "default", None, "t")

    async def test_a_config_is_written_and_rewritten_whole(self, shell: Dom0Shell, web: Domain) -> None:
        for cmdline in ("one", "two"):
            changed = replace(web, cmdline=cmdline)
            await self.write(shell, changed)
            assert Path(shell.dom0.config_path("web")).read_text() == render_file(changed, "default", None)
        assert names_in(shell.dom0.config_dir) == ["web.cfg"]

    @pytest.mark.parametrize("mark", ["none", "fleet", "name"])
    async def test_what_is_not_ours_is_left_alone_unless_adopted(
        self, shell: Dom0Shell, web: Domain, mark: str
    ) -> None:
        fleet, other = ("other" if mark == "fleet" else "default"), replace(web, name="db" if mark == "name" else "web")
        text = "# mine\nname = 'web'\n" if mark == "none" else render_file(other, fleet, None)
        path = Path(shell.dom0.config_path("web"))
        path.write_text(text)
        for attempt in (
            self.write(shell, web),
            config_files.remove(shell, RemoveConfig(domain="web"), "default"),
            config_files.promote(shell, PromoteConfig(domain="web"), "default", "t"),
        ):
            with pytest.raises(ReconcilerError) as caught:
                await attempt
            assert caught.value.diagnostics[0].kind is Kind.REFUSED
            assert path.read_text() == text
        await self.write(shell, web, adopt=True)
        assert split_mark(path.read_text())[0] is not None

    async def test_a_candidate_leaves_the_proven_config_until_it_is_promoted(
        self, shell: Dom0Shell, web: Domain
    ) -> None:
        dom0, new = shell.dom0, replace(web, cmdline="new")
        await self.write(shell, web)
        await self.write(shell, new, candidate=True)
        assert Path(dom0.config_path("web")).read_text() == render_file(web, "default", None)
        for _ in range(2):  # the second time after an answer that was lost
            await config_files.promote(shell, PromoteConfig(domain="web"), "default", "t")
            assert Path(dom0.config_path("web")).read_text() == render_file(new, "default", None)
            assert Path(dom0.previous_path("web")).read_text() == render_file(web, "default", None)
            assert names_in(f"{dom0.kernel_dir}/web") == ["previous.cfg"]

    async def test_a_promotion_cut_before_its_end_keeps_the_previous_one(self, shell: Dom0Shell, web: Domain) -> None:
        dom0, new = shell.dom0, replace(web, cmdline="new")
        await self.write(shell, web)
        await self.write(shell, new, candidate=True)
        await config_files.promote(shell, PromoteConfig(domain="web"), "default", "t")
        await self.write(shell, new, candidate=True)  # as if the kill came before the candidate was removed
        await config_files.promote(shell, PromoteConfig(domain="web"), "default", "t")
        assert Path(dom0.previous_path("web")).read_text() == render_file(web, "default", None)

    async def test_a_first_boot_is_proven_later_in_the_same_file(self, shell: Dom0Shell, web: Domain) -> None:
        path = Path(shell.dom0.config_path("web"))
        await self.write(shell, web, proven=False)
        assert path.read_text() == render_file(web, "default", None, proven=False)
        for _ in range(2):  # the second time after an answer that was lost
            await config_files.promote(shell, PromoteConfig(domain="web", first_boot=True), "default", "t")
            assert path.read_text() == render_file(web, "default", None)
        assert not Path(shell.dom0.previous_path("web")).exists()

    async def test_what_never_got_ready_is_not_kept_as_the_previous_one(self, shell: Dom0Shell, web: Domain) -> None:
        dom0, new = shell.dom0, replace(web, cmdline="new")
        await self.write(shell, web, proven=False)
        await self.write(shell, new, candidate=True, proven=False)
        await config_files.promote(shell, PromoteConfig(domain="web"), "default", "t")
        assert Path(dom0.config_path("web")).read_text() == render_file(new, "default", None)
        assert not Path(dom0.previous_path("web")).exists()

    async def test_removing_leaves_nothing_of_ours_and_all_of_others(self, shell: Dom0Shell, web: Domain) -> None:
        dom0 = shell.dom0
        await self.write(shell, web)
        await self.write(shell, replace(web, cmdline="new"), candidate=True)
        Path(dom0.config_path("other")).write_text("name = 'other'\n")
        for _ in range(2):
            await config_files.remove(shell, RemoveConfig(domain="web"), "default")
        assert names_in(dom0.config_dir) == ["other.cfg"]
        assert names_in(dom0.kernel_dir) == []

    async def test_a_failed_boot_is_kept_in_place_of_its_candidate(self, shell: Dom0Shell, web: Domain) -> None:
        dom0 = shell.dom0
        await self.write(shell, web)
        await self.write(shell, replace(web, cmdline="bad"), candidate=True)
        one, two = Quarantined(boot="a", kernel="/k", reason="it crashed"), Quarantined(boot="b")
        for entries in ((one,), (one, two)):
            step = SetQuarantine(domain="web", entries=entries)
            await config_files.set_quarantine(shell, step, "t")
            assert parse_quarantine(Path(dom0.quarantine_path("web")).read_text()) == entries
            assert names_in(f"{dom0.kernel_dir}/web") == ["quarantine.json"]
        await config_files.set_quarantine(shell, SetQuarantine(domain="web", entries=()), "t")
        assert names_in(f"{dom0.kernel_dir}/web") == []

    async def test_a_failed_boot_is_kept_at_once_however_busy_the_disks_are(
        self, shell: Dom0Shell, web: Domain, tools: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.write(shell, web)
        write_tool(tools, "sync", "sleep 60")
        monkeypatch.setattr(config_files, "_PERSIST_SECONDS", 0.2)
        began = time.monotonic()
        entries = (Quarantined(boot="a", kernel="/k", reason="it crashed"),)
        await config_files.set_quarantine(shell, SetQuarantine(domain="web", entries=entries), "t")
        assert time.monotonic() - began < 10
        assert parse_quarantine(Path(shell.dom0.quarantine_path("web")).read_text()) == entries


class TestAutostart:
    @pytest.fixture
    def auto(self, shell: Dom0Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "auto"
        monkeypatch.setattr(Dom0, "auto_dir", str(folder))
        Path(shell.dom0.config_path("web")).touch()
        return folder

    @staticmethod
    async def set(shell: Dom0Shell, order: int | None) -> None:
        await config_files.set_autostart(shell, SetAutostart(domain="web", order=order), "t")

    async def test_our_link_comes_moves_and_goes(self, shell: Dom0Shell, auto: Path) -> None:
        for order, links in ((10, ["010-web"]), (10, ["010-web"]), (200, ["200-web"]), (None, []), (None, [])):
            await self.set(shell, order)
            assert names_in(str(auto)) == links
            assert all((auto / link).resolve() == Path(shell.dom0.config_path("web")) for link in links)

    async def test_links_and_files_of_others_stay(self, shell: Dom0Shell, auto: Path) -> None:
        auto.mkdir()
        (auto / "web.cfg").symlink_to("/etc/xen/elsewhere.cfg")
        (auto / "010-web").write_text("a copied config")
        (auto / "web").symlink_to(shell.dom0.config_path("web"))  # by hand, but to our file: replaced by ours
        with pytest.raises(ReconcilerError, match="is there and is not ours"):
            await self.set(shell, 10)
        await self.set(shell, 20)
        assert names_in(str(auto)) == ["010-web", "020-web", "web.cfg"]

    @pytest.mark.parametrize("linked", [False, True])
    async def test_a_list_of_netbsd_keeps_its_mode_and_a_link_to_it_stays_one(
        self, shell: Dom0Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
    ) -> None:
        real, path = tmp_path / "elsewhere" / "rc.conf", tmp_path / "rc.conf"
        (real if linked else path).parent.mkdir(exist_ok=True)
        (real if linked else path).write_text('hostname=dom0\nxendomains="db"\n')
        (real if linked else path).chmod(0o640)
        if linked:
            path.symlink_to("elsewhere/rc.conf")
        monkeypatch.setattr(rc_conf, "LISTS", (str(path), str(tmp_path / "none")))
        netbsd = replace(shell, dom0=replace(shell.dom0, flavour="netbsd"))
        await self.set(netbsd, 10)
        assert path.is_symlink() is linked
        assert path.stat().st_mode & 0o777 == 0o640
        assert 'xendomains="web db"' in path.read_text()
        assert names_in(str(path.resolve().parent)).count(".rc.conf.reconciler-t") == 0
