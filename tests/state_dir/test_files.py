"""Writing files so that nobody ever meets half of one."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.host import Host
from reconciler.simulated.store import Store
from reconciler.state_dir import sightings
from reconciler.state_dir.files import create_file, make_folder, replace_file
from reconciler.watch import conditions
from reconciler.watch.conditions import WatchRecord
from reconciler.xl.digest_cache import DigestCache
from tests.state_dir.disk import Disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_what_is_durable_is_on_the_disk_before_it_has_its_name(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "file"
    replace_file(path, b"content", durable=False)
    assert not disk.kept(path)
    assert not any(entry.startswith("sync") for entry in disk.log)
    replace_file(path, b"other", durable=True)
    assert disk.kept(path)
    assert path.read_bytes() == b"other"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def a_host(state_dir: Path) -> Path:
    with Store(state_dir, "alpha").change() as draft:
        draft.boots = 2
    return state_dir / "hosts/alpha/state.json"


def a_clock(state_dir: Path) -> Path:
    make_folder(state_dir / "hosts/alpha")
    Store(state_dir, "alpha").write_clock(5)
    return state_dir / "hosts/alpha/clock"


def what_was_seen(state_dir: Path) -> Path:
    sightings.remember(state_dir, {"alpha": Host(name="alpha", total_kib=1, free_kib=1, cpus=1, guests={})}, ())
    return state_dir / "sightings/alpha.json"


@pytest.mark.parametrize("write", [a_host, a_clock, what_was_seen])
def test_knowledge_is_durable(tmp_path: Path, disk: Disk, write: Callable[[Path], Path]) -> None:
    assert disk.kept(write(tmp_path / "state"))
    assert f"sync {tmp_path.name}" in disk.log, "the folder was made, and has to be known as well"


def test_what_can_be_had_again_costs_no_sync(tmp_path: Path, disk: Disk) -> None:
    DigestCache(tmp_path / "digests/alpha.json").remember({"/boot/linux 5 7 9": "abc"})
    conditions.store(tmp_path, WatchRecord(process=1, source="specs"))
    assert not any(entry.startswith("sync") for entry in disk.log)


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(opened: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    replace_file(path, b"old", durable=True)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new", durable=True)
    with pytest.raises(OSError, match="No space"):
        create_file(tmp_path / "once", b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_file_is_made_once_and_for_good(tmp_path: Path, disk: Disk) -> None:
    create_file(tmp_path / "once", b"first")
    assert disk.log[0].startswith("sync .once.")
    assert disk.log[1:] == [f"sync {tmp_path.name}"]
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "once", b"second")
    assert (tmp_path / "once").read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["once"]


def test_a_file_is_made_once_where_there_are_no_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", none)
    create_file(tmp_path / "once", b"first")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "once", b"second")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("once", b"first")]


def test_a_kill_amid_the_making_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "hardlink_to", killed)
    with pytest.raises(KeyboardInterrupt):
        create_file(tmp_path / "once", b"first")
    assert not (tmp_path / "once").exists()


def test_a_folder_that_cannot_be_synced_holds_files_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fsync(opened: int) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(tmp_path / "file", b"content", durable=True)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_the_longest_name_has_a_draft_too(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        replace_file(tmp_path / name, b"content", durable=True)
        assert (tmp_path / name).read_bytes() == b"content"


def test_what_others_may_read_is_up_to_the_writer(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "open", b"", durable=False)
        replace_file(tmp_path / "closed", b"", durable=False, mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o600


def test_many_who_write_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(letter: bytes) -> None:
        for _ in range(50):
            replace_file(path, letter * 10_000, durable=False)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert len(set(path.read_bytes())) == 1
    for writer in writers:
        writer.join()
    assert len(path.read_bytes()) == 10_000
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
