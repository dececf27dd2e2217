"""A paused domain goes on when two looks a minute apart saw it paused, and not before, nor where it is to be left."""

from __future__ import annotations

from reconciler.model.host import Power
from tests.watch.conftest import World, look


def paused(world: World) -> bool:
    return world.running().power is Power.PAUSED


def test_a_domain_that_stays_paused_goes_on_after_a_minute(world: World) -> None:
    watcher = world.watcher(interval=3600)
    look(watcher)
    world.hand.pause("web")
    outcome = look(watcher)
    assert paused(world)
    assert outcome.retry_seconds == 60
    assert world.condition("alpha/web") == "Reconciling"
    world.clock.seconds += 59
    look(watcher)
    assert paused(world)
    world.clock.seconds += 1
    look(watcher)
    assert not paused(world)
    assert world.condition("alpha/web") == "Ready"


def test_one_that_went_on_in_between_is_paused_anew(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.hand.pause("web")
    look(watcher)
    world.hand.unpause("web")
    look(watcher)
    world.hand.pause("web")
    world.clock.seconds += 61
    look(watcher)
    assert paused(world)


def test_runs_of_a_timer_are_looks_too(world: World) -> None:
    """Each `watch --once` looks once; what the one before saw is kept in the state directory."""
    look(world.watcher())
    world.hand.pause("web")
    for seconds, still_paused in ((0, True), (59, True), (1, False)):
        world.clock.seconds += seconds
        look(world.watcher())
        assert paused(world) == still_paused


def test_two_backups_far_apart_are_no_pause_that_lasts(world: World) -> None:
    look(world.watcher())
    for _ in range(2):
        world.hand.pause("web")
        look(world.watcher())
        assert paused(world)
        world.hand.unpause("web")
        world.clock.seconds += 86400


def test_a_clock_that_was_set_back_lets_nothing_go_on_early(world: World) -> None:
    look(world.watcher())
    world.hand.pause("web")
    look(world.watcher())
    world.clock.seconds -= 3600
    for seconds, still_paused in ((0, True), (59, True), (1, False)):
        world.clock.seconds += seconds
        look(world.watcher())
        assert paused(world) == still_paused


def test_what_cannot_be_read_of_earlier_looks_lets_nothing_go_on(world: World) -> None:
    look(world.watcher())
    world.hand.pause("web")
    look(world.watcher())
    (world.state_dir / "paused.json").write_text('{"alpha/web": {"since": 0}}')
    world.clock.seconds += 60
    look(world.watcher())
    assert paused(world)


def test_who_only_detects_leaves_it(world: World) -> None:
    look(world.watcher())
    world.hand.pause("web")
    watcher = world.watcher(detect_only=True)
    look(watcher)
    world.clock.seconds += 61
    look(watcher)
    assert paused(world)
    assert world.condition("alpha/web") == "Held"


def test_what_its_spec_says_to_leave_alone_is_left(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\nreconcile = false\n')
    world.hand.pause("web")
    for _ in range(2):
        look(watcher)
        world.clock.seconds += 61
    assert paused(world)
