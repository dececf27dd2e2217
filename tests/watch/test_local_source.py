"""A folder as the source: read when it is at rest, read as little as possible, and one pass for one burst."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.specs import TreeCache, read_tree
from reconciler.watch.source import LocalSource
from reconciler.watch.triggers import SystemClock
from tests.transcript import write_files
from tests.watch.conftest import TREE, FakeClock, World

SETTLED_SECONDS = 1.1
DOMAIN = 'kernel = "/boot/vmlinuz"\nmemory = 64\n'


class Meddling(FakeClock):
    """Something happens to the tree during each wait."""

    def __init__(self, *deeds: Callable[[], object]) -> None:
        super().__init__()
        self.deeds = list(deeds)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        await super().wait(event, seconds)
        if self.deeds:
            self.deeds.pop(0)()


def source(world: World, clock: FakeClock) -> LocalSource:
    return LocalSource(world.specs, clock, lambda text: None)


def names(world: World, clock: FakeClock) -> set[str]:
    specs = asyncio.run(source(world, clock).read())
    return set(specs.reading.desired.hosts["alpha"].domains)


def test_a_file_that_is_missing_for_a_moment_is_not_missed(world: World) -> None:
    web = world.specs / "alpha/web.toml"
    web.unlink()
    clock = Meddling(lambda: web.write_text(DOMAIN))
    assert names(world, clock) == {"web", "db"}
    assert len(clock.waits) == 2


def test_a_tree_without_rest_is_read_all_the_same(world: World) -> None:
    web = world.specs / "alpha/web.toml"
    texts = iter(range(1000))
    clock = Meddling(*[lambda: web.write_text(f"{DOMAIN}# {next(texts)}\n")] * 1000)
    assert names(world, clock) == {"web", "db"}
    assert sum(clock.waits) <= 11


def test_what_is_in_force_already_is_not_waited_for(world: World) -> None:
    clock = FakeClock()
    one = source(world, clock)
    asyncio.run(one.read())
    waits = len(clock.waits)
    asyncio.run(one.read())
    assert len(clock.waits) == waits


def test_only_what_changed_is_read_again(world: World) -> None:
    write_files({f"specs/alpha/d{number}.toml": DOMAIN for number in range(200)}, world.folder)
    write_files(
        {"specs/kernels/linux": "bytes", "specs/alpha/web.toml": 'kernel = "kernels/linux"\nmemory = 64\n'},
        world.folder,
    )
    cache = TreeCache()
    time.sleep(SETTLED_SECONDS)
    first = read_tree(world.specs, cache)
    files, images = cache.specs.reads, cache.images.reads
    assert files == 203
    assert read_tree(world.specs, cache) == first == read_tree(world.specs)
    assert (cache.specs.reads, cache.images.reads) == (files, images)
    (world.specs / "alpha/d7.toml").write_text(DOMAIN.replace("64", "65"))
    again = read_tree(world.specs, cache)
    assert cache.specs.reads == files + 1
    assert again.desired.hosts["alpha"].domains["d7"].memory_kib == 65 * 1024
    (world.specs / "kernels/linux").write_text("other")
    (world.specs / "alpha/d8.toml").unlink()
    assert read_tree(world.specs, cache) == read_tree(world.specs)
    assert cache.images.reads == images + 1


def test_a_file_that_only_just_changed_is_not_trusted_to_stay(world: World) -> None:
    cache = TreeCache()
    read_tree(world.specs, cache)
    reads = cache.specs.reads
    read_tree(world.specs, cache)
    assert cache.specs.reads == 2 * reads


def test_a_file_that_could_not_be_read_is_read_again(world: World) -> None:
    cache = TreeCache()
    link = world.specs / "alpha/web.toml"
    link.unlink()
    link.symlink_to("/etc/hostname")
    assert read_tree(world.specs, cache).diagnostics
    link.unlink()
    link.write_text(DOMAIN)
    assert read_tree(world.specs, cache).diagnostics == ()


async def askings(world: World, meddle: Callable[[], object], seconds: float = 1.5) -> int:
    """How often the source asks for a look when this is done to the tree."""
    asked: list[float] = []
    one = LocalSource(world.specs, SystemClock(), lambda text: None, world.specs / "state")
    task = asyncio.create_task(one.watch(lambda: asked.append(time.monotonic())))
    await asyncio.sleep(0.5)  # until it watches
    await asyncio.to_thread(meddle)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return len(asked)


def check_out_500_files(specs: Path) -> None:
    for number in range(500):
        draft = specs / f"alpha/.d{number}.lock"
        draft.write_text(DOMAIN)
        draft.rename(specs / f"alpha/d{number}.toml")


def edit_as_editors_do(specs: Path) -> None:
    web = specs / "alpha/web.toml"
    (specs / "alpha/.web.toml.swp").write_text("swap")
    (specs / "alpha/4913").touch()
    (specs / "alpha/4913").unlink()
    web.rename(specs / "alpha/web.toml~")
    with web.open("w") as file:
        file.write("kernel = ")
        file.flush()
        time.sleep(0.1)
        file.write('"/boot/other"\nmemory = 64\n')
    (specs / "alpha/web.toml~").unlink()


@pytest.mark.parametrize("meddle", [check_out_500_files, edit_as_editors_do])
def test_one_burst_asks_once(world: World, meddle: Callable[[Path], None]) -> None:
    """Or twice, where a busy machine pauses in its midst."""
    assert asyncio.run(askings(world, lambda: meddle(world.specs))) in (1, 2)


def test_temporary_files_and_git_itself_ask_for_nothing(world: World) -> None:
    (world.specs / ".git").mkdir()

    def meddle() -> None:
        write_files(
            {"specs/.git/index": "x", "specs/alpha/.web.toml.swp": "x", "specs/alpha/web.toml~": "x"}, world.folder
        )

    assert asyncio.run(askings(world, meddle, 1.0)) == 0


def test_a_state_directory_among_the_specs_asks_for_nothing(world: World) -> None:
    assert asyncio.run(askings(world, lambda: write_files({"specs/state/watch.json": "{}"}, world.folder), 1.0)) == 0


def test_a_name_that_is_no_text_does_not_end_the_watching(world: World) -> None:
    strange = world.specs / "alpha" / os.fsdecode(b"\xff.txt")

    def meddle() -> None:
        strange.touch()
        time.sleep(1)
        strange.unlink()
        time.sleep(1)
        (world.specs / "alpha/web.toml").write_text(DOMAIN)

    assert asyncio.run(askings(world, meddle)) >= 3


def test_a_folder_that_nobody_can_watch_is_no_error(tmp_path: Path) -> None:
    """It may come yet."""
    world = World(tmp_path)
    assert asyncio.run(askings(world, lambda: write_files(TREE, tmp_path), 0.2)) == 0
