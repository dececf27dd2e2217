"""Two that work on one host at once, a lock that was lost, and somebody with xl in between: before each step of a plan.

Each test follows one plan (a restart, a live change, a domain that is new, one that goes) again and again, and comes
between it and its next step in another place each time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.diagnostics import ReconcilerError
from reconciler.plan.steps import domain_of
from reconciler.simulated.hand import Hand
from reconciler.simulated.host import SimulatedExecutor
from reconciler.watch.loop import Watcher
from reconciler.watch.news import Outcome
from tests.transcript import write_files
from tests.watch.conftest import World

BEFORE = {
    "specs/alpha/host.toml": 'toolstack = "simulated"\nparallel = 1\n',
    "specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\nmemory = 256\n',
    "specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 512\nmaxmem = 512\n',
    "specs/alpha/old.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n',
}
AFTER = {
    "specs/alpha/web.toml": 'kernel = "/boot/vmlinuz"\ncmdline = "quiet"\nmemory = 256\n',
    "specs/alpha/db.toml": 'kernel = "/boot/vmlinuz"\nmemory = 384\nmaxmem = 512\n',
    "specs/alpha/new.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n',
}
STEPS_LEAST = 10
PASSES_MAX = 4

Between = Callable[["Story"], Awaitable[None]]


class Story:
    """One run of the plan. `steps` are those that took effect, with who did them."""

    def __init__(self, folder: Path, like: Path | None = None) -> None:
        if like is None:
            write_files(BEFORE, folder)
        else:
            shutil.copytree(like, folder, symlinks=True)
        self.world = World(folder)
        self.first, self.second = self.world.watcher(), self.world.watcher()
        self.steps: list[tuple[str, str, str]] = []
        self.who = "first"

    def edit(self) -> None:
        write_files(AFTER, self.world.folder)
        (self.world.specs / "alpha/old.toml").unlink()
        self.steps.clear()

    async def look(self, watcher: Watcher) -> Outcome:
        return await watcher.make_pass(frozenset({"interval"}))

    async def look_as_second(self) -> Outcome:
        self.who = "second"
        try:
            return await self.look(self.second)
        finally:
            self.who = "first"

    def fall_silent(self) -> None:
        """Nothing was heard of us for 35 s."""
        then = time.time() - 35
        os.utime(self.world.state_dir / "hosts/alpha/apply.lock", (then, then))

    def by(self, who: str) -> list[tuple[str, str]]:
        return [(kind, domain) for whose, kind, domain in self.steps if whose == who]

    async def until_quiet(self) -> None:
        """All is as specified within a few passes, and a further pass does nothing."""
        for _ in range(PASSES_MAX):
            self.world.clock.seconds += 3600  # whatever failed is tried again
            outcome = await self.look(self.first)
            if not outcome.result.done and not outcome.failed:
                break
        assert not outcome.result.done, self.world.log.getvalue()
        assert await asyncio.to_thread(self.world.guest, "old") is None
        running: dict[str, Any] = {}
        for name in ("web", "db", "new"):
            found = await asyncio.to_thread(self.world.running, name)
            assert found.power.value == "running"
            running[name] = found.running
        assert running["web"].cmdline == "quiet"
        assert running["db"].memory_kib == 384 * 1024


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Follows the plan once for each of its steps (or `each` third one), with something that happens before it."""
    current: list[Any] = []  # the story, the number of the step, and what comes before it
    real = SimulatedExecutor.execute

    async def execute(self: SimulatedExecutor, step: Any, *arguments: Any, **named: Any) -> None:
        story, place, between = current
        who = story.who
        if who == "first" and between is not None and len(story.steps) == place:
            current[2] = None
            await between(story)
        await real(self, step, *arguments, **named)
        story.steps.append((who, step.kind, domain_of(step)))

    def one(name: str, place: int, between: Between | None) -> tuple[Story, Outcome]:
        story = Story(tmp_path / name, tmp_path / "before")
        story.edit()
        current[:] = [story, place, between]
        return story, asyncio.run(story.look(story.first))

    def playing(between: Between, each: int = 1) -> Iterator[tuple[Story, Outcome]]:
        story = Story(tmp_path / "before")
        current[:] = [story, -1, None]
        asyncio.run(story.look(story.first))
        undisturbed, _ = one("undisturbed", -1, None)
        assert len(undisturbed.steps) >= STEPS_LEAST
        for place in range(0, len(undisturbed.steps), each):
            yield one(str(place), place, between)

    monkeypatch.setattr(SimulatedExecutor, "execute", execute)
    return playing


Play = Callable[..., Iterator[tuple[Story, Outcome]]]


def test_the_other_one_begins_nothing_while_the_lock_is_held_and_is_told_who_has_it(play: Play) -> None:
    told: list[Outcome] = []

    async def other(story: Story) -> None:
        told.append(await story.look_as_second())

    for story, outcome in play(other, each=4):
        assert not outcome.failed
        assert story.by("second") == []
        assert [problem.summary for problem in told[-1].problems] == ["host is locked"]
        asyncio.run(story.until_quiet())


def test_after_35_silent_seconds_in_which_nobody_came_it_goes_on(play: Play) -> None:
    async def silence(story: Story) -> None:
        story.fall_silent()

    for story, outcome in play(silence, each=4):
        assert not outcome.failed
        asyncio.run(story.until_quiet())


def test_whose_lock_was_taken_over_begins_nothing_more_and_the_other_one_brings_back_what_is_down(play: Play) -> None:
    before: list[int] = []

    async def taken_over(story: Story) -> None:
        story.fall_silent()
        before.append(len(story.by("first")))
        await story.look_as_second()
        assert {name for name in ("web", "db", "new") if await asyncio.to_thread(story.world.guest, name)} == {
            "web",
            "db",
            "new",
        }

    for story, _ in play(taken_over):
        assert len(story.by("first")) == before[-1], "it went on without the lock"
        asyncio.run(story.until_quiet())
        starts = [domain for kind, domain in story.by("first") + story.by("second") if kind == "start"]
        assert sorted(starts) == ["new", "web"], "each was started once, whoever did it"


HANDS: dict[str, Callable[[Hand], None]] = {
    "destroy web": lambda hand: hand.destroy("web"),
    "destroy db": lambda hand: hand.destroy("db"),
    "destroy new": lambda hand: hand.destroy("new"),
    "create new": lambda hand: hand.create("new"),
    "crash web": lambda hand: hand.crash("web"),
    "power off db": lambda hand: hand.power_off("db"),
    "reboot the host": lambda hand: hand.reboot(),
    "grow db": lambda hand: hand.set("db", {"memory": "500"}),
}


def test_somebody_with_xl_between_two_steps_is_seen_and_all_comes_true_in_the_end(play: Play) -> None:
    hands = iter(list(HANDS.values()) * 3)

    async def meddle(story: Story) -> None:
        def act() -> None:
            with suppress(ReconcilerError):  # there is no such domain now
                next(hands)(story.world.hand)

        await asyncio.to_thread(act)

    for story, _ in play(meddle, each=2):
        asyncio.run(story.until_quiet())
