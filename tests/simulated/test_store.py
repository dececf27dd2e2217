"""The stored host: it outlives objects, kills, and several processes at once; what is broken is said clearly."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.host import Host
from reconciler.plan.steps import StageImage
from reconciler.simulated import journal
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store, StoredFile
from reconciler.toolstack import Question
from tests.simulated.world import World, domain, image, ready


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_host_outlives_the_objects_that_made_it(world: World) -> None:
    world.start(domain())
    world.do(ready(domain()))
    again = World(world.folder, world.settings)
    assert again.guest().running == domain()
    assert again.executor.now() == world.executor.now() > 0


def test_looking_changes_nothing_on_disk(world: World) -> None:
    world.start(domain(kernel=world.put_kernel('boot = "panic"')))
    world.wait(100)
    before = files_under(world.folder)
    world.observe()
    world.hand.look()
    world.look()
    assert files_under(world.folder) == before


def test_looking_at_a_new_host_makes_nothing(world: World) -> None:
    before = files_under(world.folder)
    host = world.observe()
    assert (host.total_kib, host.free_kib, host.cpus) == (8 << 20, (8 << 20) - (128 << 10), 8)
    assert files_under(world.folder) == before
    assert not world.host_folder.exists()


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"format": 2}', b'{"instances": {"web": {}}}', b"\xff\x00"])
def test_a_broken_state_is_said_with_how_to_begin_again(world: World, broken: bytes) -> None:
    world.start(domain())
    (world.host_folder / "state.json").write_bytes(broken)
    with pytest.raises(ReconcilerError) as caught:
        world.observe()
    problem = caught.value.diagnostics[0]
    assert problem.kind is Kind.WORLD
    assert "state.json" in problem.detail
    assert problem.hint is not None
    assert f"rm -r {world.host_folder}" in problem.hint
    assert world.fail(StageImage(domain="web", image=image())).summary == problem.summary
    assert (world.host_folder / "state.json").read_bytes() == broken, "nobody writes over what they cannot read"


@pytest.mark.parametrize("file", ["clock", "faults.json"])
def test_a_broken_file_beside_it_is_said_too(world: World, file: str) -> None:
    world.start(domain())
    (world.host_folder / file).write_text("twelve")
    with pytest.raises(ReconcilerError, match=file):
        world.observe()


def test_a_cut_short_state_is_never_seen_however_often_the_writer_is_killed(world: World) -> None:
    """Kill a process that writes without end, at moments of all kinds; the state is always whole."""
    script = (
        "import sys; from pathlib import Path; from reconciler.simulated.store import Store\n"
        "store = Store(Path(sys.argv[1]), 'alpha'); n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    with store.change() as draft: store.put(draft, f'/file{n % 7}', b'x' * n)\n"
        "    print(n, flush=True)\n"
    )
    store = Store(world.folder, "alpha")
    for writes in range(1, 5):
        writer = subprocess.Popen([sys.executable, "-c", script, str(world.folder)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(writes):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        stored = store.read()
        assert all(len(store.content(stored, path)) == file.size_bytes for path, file in stored.files.items())
        assert stored.files


@pytest.mark.parametrize("begun", ["journal.1.jsonl", "state.json"])
def test_a_kill_between_writing_and_renaming_leaves_the_change_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    """The journal gives way to a new one, and the process dies before that, or who names it, has its name."""
    world.start(domain())
    monkeypatch.setattr(journal, "_WHOLE_AGAIN_BYTES", 0)

    replace = Path.replace

    def killed(path: Path, target: Path) -> None:
        if target.name == begun:
            raise KeyboardInterrupt
        replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            for number in range(1000):
                store = Store(world.folder, "alpha")
                with store.change() as draft:
                    draft.files[f"/{number}"] = StoredFile(sha256=None, size_bytes=number)
                store.tidy()
    stored = Store(world.folder, "alpha").read()
    assert list(world.host_folder.glob(f".{begun}.*"))
    assert sorted(stored.files) != []
    world.hand.destroy("web")
    assert not world.guest().exists


def journal_of(world: World) -> Path:
    (found,) = world.host_folder.glob("journal.*.jsonl")
    return found


def test_a_line_that_was_cut_short_is_no_change_and_is_cut_off_by_the_next_writer(world: World) -> None:
    world.start(domain())
    before = Store(world.folder, "alpha").read()
    with journal_of(world).open("ab") as file:
        file.write(b'{"boots": 9, "next_dom')
    assert Store(world.folder, "alpha").read() == before
    world.hand.destroy("web")
    assert not world.guest().exists
    assert Store(world.folder, "alpha").read().boots == before.boots


@pytest.mark.parametrize("broken", [b"\n", b"{\n", b"\xff\n", b'{"boots": 1}\n'])
def test_a_broken_line_is_said(world: World, broken: bytes) -> None:
    world.start(domain())
    with journal_of(world).open("ab") as file:
        file.write(broken)
    with pytest.raises(ReconcilerError, match="journal"):
        world.observe()


def test_a_change_costs_what_it_changes_however_large_the_host_is(world: World) -> None:
    """Bytes are counted, not seconds: also with the new states that the journal gives way to now and then."""

    def written(files: int) -> int:
        store = Store(world.folder, f"with{files}")
        with store.change() as draft:
            for number in range(files):
                draft.files[f"/{number}"] = StoredFile(sha256=None, size_bytes=number)
        before = files_under(store.folder)
        for number in range(20):
            with store.change() as draft:
                draft.files["/0"] = StoredFile(sha256=None, size_bytes=1000 + number)
        after = files_under(store.folder)
        assert after["state.json"] == before["state.json"]
        return sum(map(len, after.values())) - sum(map(len, before.values()))

    assert written(20_000) == written(20) < 20 * 200


def test_what_a_journal_says_outlives_the_states_that_it_gives_way_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_WHOLE_AGAIN_BYTES", 500)
    writer, reader = Store(world.folder, "alpha"), Store(world.folder, "alpha")
    journals = set()
    for number in range(200):
        with writer.change() as draft:
            writer.put(draft, f"/{number % 5}", b"\xff%d" % number)
        writer.tidy()
        assert reader.content(reader.read(), f"/{number % 5}") == b"\xff%d" % number
        journals |= {path.name for path in world.folder.glob("hosts/alpha/journal.*")}
    assert len(journals) > 5
    assert len(list(world.folder.glob("hosts/alpha/journal.*"))) <= 1
    assert len(list(world.folder.glob("hosts/alpha/blobs/*"))) == 5


def test_a_state_that_was_written_before_there_were_journals_is_read(world: World) -> None:
    store = Store(world.folder, "alpha")
    store.folder.mkdir(parents=True)
    old = '{"format":1,"boots":3,"next_domid":7,"instances":{},"autostart":{"web":1},"files":{}}'
    (store.folder / "state.json").write_text(old)
    assert (store.read().boots, dict(store.read().autostart)) == (3, {"web": 1})
    with store.change() as draft:
        draft.boots = 4
    assert Store(world.folder, "alpha").read().boots == 4


def test_a_state_that_was_written_whole_is_read_and_gives_way_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(world.folder, "alpha")
    store.folder.mkdir(parents=True)
    (store.folder / "state.json").write_text('{"format":1,"boots":3,"next_domid":7,"autostart":{"web":1}}')
    monkeypatch.setattr(journal, "_WHOLE_AGAIN_BYTES", 0)
    for number in range(5):
        with store.change() as draft:
            draft.files[f"/{number}"] = StoredFile(sha256=None, size_bytes=number)
        store.tidy()
    read = Store(world.folder, "alpha").read()
    assert (read.boots, dict(read.autostart), len(read.files)) == (3, {"web": 1}, 5)
    assert "web" not in (store.folder / "state.json").read_text()


def test_a_host_of_any_size_is_read_and_written_in_small_parts(world: World) -> None:
    """What reads or writes all at once holds up every other thread, among them the loop of watch."""
    store = Store(world.folder, "alpha")
    with store.change() as draft:
        for number in range(1000):
            draft.files[f"/{number}"] = StoredFile(sha256=None, size_bytes=number)
            draft.autostart[f"d{number}"] = number
    lines = journal_of(world).read_bytes().splitlines()
    assert len(lines) > 10
    assert max(map(len, [*lines, (store.folder / "state.json").read_bytes()])) < 20_000


def put_many(folder: Path, who: int, count: int) -> None:
    store = Store(folder, "alpha")
    for number in range(count):
        with store.change() as draft:
            store.put(draft, f"/by{who}/{number}", f"{who}.{number}".encode())


def test_two_processes_at_once_lose_no_write(world: World) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(world.folder, who, 30)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    store = Store(world.folder, "alpha")
    stored = store.read()
    assert len(stored.files) == 60
    assert store.content(stored, "/by1/29") == b"1.29"


def rewrite_a_config(folder: Path, stop: Path) -> None:
    store, number = Store(folder, "alpha"), 0
    while not stop.exists():
        number += 1
        with store.change() as draft:
            store.put(draft, "/etc/xen/web.cfg", f'name = "web"\nmemory = {number}\nkernel = "/k"\n'.encode())


def test_a_host_can_be_looked_at_while_another_process_changes_it(world: World, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    writer = multiprocessing.get_context("spawn").Process(target=rewrite_a_config, args=(world.folder, stop))
    writer.start()
    try:
        seen: set[int] = set()
        while len(seen) < 10:
            config = world.observe().guests["web"].config if world.observe().guests else None
            seen |= {config.memory_kib} if config is not None else set()
    finally:
        stop.touch()
        writer.join()
    assert writer.exitcode == 0


def test_bytes_that_no_file_has_any_more_are_removed(world: World) -> None:
    world.hand.put("/boot/k", b"\xffold")
    world.hand.put("/boot/copy", b"\xffold")
    world.hand.put("/boot/k", b"\xffnew")
    assert len(list((world.host_folder / "blobs").iterdir())) == 2
    world.hand.put("/boot/copy", b"\xffnew")
    assert len(list((world.host_folder / "blobs").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"name = 'web'\n", "käse\x00\r\n".encode(), b"\xff\xfe", b"x" * 20_000])
def test_a_file_gives_back_its_bytes_whether_they_are_a_small_text_or_not(world: World, content: bytes) -> None:
    world.hand.put("/etc/file", content)
    again = Store(world.folder, "alpha")
    assert again.content(again.read(), "/etc/file") == content
    assert again.text(again.read(), "/etc/file").encode(errors="surrogateescape") == content


def test_small_texts_that_an_earlier_version_kept_as_files_of_their_own_are_read(world: World) -> None:
    sha256 = hashlib.sha256(b"early").hexdigest()
    (world.host_folder / "blobs").mkdir(parents=True)
    (world.host_folder / "blobs" / sha256).write_bytes(b"early")
    store = Store(world.folder, "alpha")
    with store.change() as draft:
        draft.files["/etc/early"] = StoredFile(sha256=sha256, size_bytes=5)
        store.put(draft, "/etc/late", b"early")
    with store.change() as draft:
        del draft.files["/etc/late"]
    assert store.content(store.read(), "/etc/early") == b"early"
    with store.change() as draft:
        del draft.files["/etc/early"]
    assert not list((world.host_folder / "blobs").iterdir())


def test_a_draft_that_fails_is_forgotten(world: World) -> None:
    store = Store(world.folder, "alpha")
    with pytest.raises(RuntimeError), store.change() as draft:
        store.put(draft, "/boot/k", b"bytes")
        raise RuntimeError
    assert store.read().files == {}


def test_a_state_directory_that_cannot_be_is_said(world: World) -> None:
    (world.folder / "hosts").write_text("a file where a folder should be")
    problem = world.fail(StageImage(domain="web", image=image()))
    assert problem.summary == "simulated host cannot be stored"


def test_one_apply_at_a_time_and_the_loser_is_told_who_holds_the_lock(world: World) -> None:
    async def both() -> str:
        async with world.executor.lock():
            with pytest.raises(ReconcilerError) as caught:
                async with world.executor.lock():
                    pass
            assert caught.value.diagnostics[0].kind is Kind.REFUSED
            return caught.value.diagnostics[0].detail

    detail = asyncio.run(both())
    assert f"(process {os.getpid()}), since 20" in detail

    async def again() -> None:
        async with world.executor.lock():
            pass

    asyncio.run(again())


def test_the_lock_dies_with_its_holder(world: World) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from reconciler.simulated.lock import SimulatedLock\n"
        "from reconciler.simulated.store import Store\n"
        "with SimulatedLock(Store(Path(sys.argv[1]), 'alpha')).taken():\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(world.folder)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    store = Store(world.folder, "alpha")
    with pytest.raises(ReconcilerError, match=f"process {holder.pid}"), SimulatedLock(store).taken():
        pass
    holder.kill()
    holder.communicate()
    with SimulatedLock(store).taken():
        assert "pid" in (world.host_folder / "apply.lock").read_text()


def test_a_clock_is_read_as_whoever_moved_it_left_it(world: World) -> None:
    ours, others = Store(world.folder, "alpha"), Store(world.folder, "alpha")
    for seconds in (5.0, 6.0, 7.5, 7.0):
        others.write_clock(seconds)
        assert ours.read_clock() == seconds


def test_a_host_is_read_as_others_left_it(world: World) -> None:
    ours, others = Store(world.folder, "alpha"), Store(world.folder, "alpha")
    for number in range(3):
        with others.change() as draft:
            others.put(draft, f"/{number}", b"x" * number)
        assert len(ours.read().files) == number + 1
        others.tidy()
    ours_folder = world.host_folder
    ours_folder.rename(world.folder / "away")
    assert not ours.read().files


def test_what_stayed_as_it_was_is_not_read_again(world: World) -> None:
    world.start(domain())
    world.do(ready(domain()))
    observer, question = world.observer, Question()

    def looked(asked: Question = question) -> Host:
        return asyncio.run(observer.observe(asked))

    first = looked()
    assert looked().guests is first.guests
    world.wait(10)
    later = looked().guests["web"].running_seconds
    assert later == (first.guests["web"].running_seconds or 0) + 10
    asyncio.run(world.executor.hold("web", seconds=None, by="a person", reason="backup"))
    assert looked().holds["web"].reason == "backup"
    assert looked().holds["web"].reason == "backup", "also where nothing is read again"
    world.hand.put("/boot/new", b"new")
    assert looked(Question(images=("/boot/new",))).digests["/boot/new"] == hashlib.sha256(b"new").hexdigest()
    world.hand.destroy("web")
    assert looked().guests["web"].power is not first.guests["web"].power
    assert looked() == world.observe()
