"""Watch tells the receivers of reconciler.toml what happens, once, in order, and over its own restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from reconciler.notify import notifications
from reconciler.notify.spool import Spool
from reconciler.watch.loop import Watcher
from tests.notify.conftest import Inbox, Listen, listen
from tests.watch.authors import Author, follow
from tests.watch.conftest import TREE, World

__all__ = ["listen"]  # the fixture

BAD = '#!simulated-kernel\nboot = "panic"\n'


def receive(world: World, inbox: Inbox, more: str = "") -> None:
    (world.specs / "reconciler.toml").write_text(f'[[notify]]\nurl = "{inbox.url}"\n{more}\n')


def passes(world: World, *between: Callable[[], object]) -> Watcher:
    """Make a pass, and one after each thing that is done between, of one watch."""
    watcher = world.watcher()

    async def work() -> None:
        await watcher.make_pass(frozenset({"interval"}))
        for deed in between:
            deed()
            await watcher.make_pass(frozenset({"interval"}))
        await watcher.notifications.send_all()

    asyncio.run(work())
    return watcher


def told(inbox: Inbox) -> list[tuple[str, str | None]]:
    return [(one.document["event"], one.document["address"]) for one in inbox.got]


def test_what_is_made_and_what_it_was_made_for(world: World, listen: Listen) -> None:
    inbox = listen()
    receive(world, inbox)
    passes(world)
    assert told(inbox) == [("commit", None), ("applied", None)]
    applied = inbox.got[1].document
    assert applied["domains"] == ["alpha/db", "alpha/web"]
    assert applied["steps_done"] > 2
    assert applied["fleet"] == "default"
    passes(world)
    assert len(inbox.got) == 2  # nothing is new, for another watch neither


def test_a_kernel_that_fails_and_its_mending(world: World, listen: Listen) -> None:
    inbox = listen()
    receive(world, inbox, 'events = ["failed", "stalled", "recovered"]')
    (world.specs / "kernels").mkdir()
    (world.specs / "kernels/bad").write_text(BAD)
    passes(
        world,
        lambda: world.write(web='kernel = "kernels/bad"\nmemory = 256\n'),
        lambda: None,
        lambda: world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\n'),
        lambda: None,
    )
    assert told(inbox) == [("failed", "alpha/web"), ("stalled", "alpha/web"), ("recovered", "alpha/web")]
    assert "quarantined" in inbox.got[1].document["detail"]


def test_a_silent_host_and_its_return(world: World, listen: Listen) -> None:
    inbox = listen()
    receive(world, inbox, 'events = ["failed", "recovered"]')
    passes(world, lambda: world.hand.fault("unreachable", 1), lambda: None)
    assert told(inbox) == [("failed", "alpha"), ("recovered", "alpha")]


def test_drift_is_told_to_those_who_ask(world: World, listen: Listen) -> None:
    inbox, other = listen(), listen()
    receive(world, inbox, f'events = ["drifted"]\n[[notify]]\nurl = "{other.url}"')
    passes(
        world,
        lambda: world.hand.destroy("web"),
        lambda: world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\nstate = "stopped"\n'),
        lambda: (world.specs / "alpha/web.toml").unlink(),
        lambda: world.write(db='kernel = "/boot/vmlinuz"\nmemory = 300\n'),
    )
    assert told(inbox) == [("drifted", "alpha/web")]
    assert "drifted" not in {event for event, _ in told(other)}


def test_nothing_is_lost_while_it_is_down_and_watch_restarts(world: World, listen: Listen) -> None:
    receive(world, Inbox(port=1))
    passes(world)
    watcher = passes(world, lambda: world.write(db='kernel = "/boot/vmlinuz"\nmemory = 300\n'))
    assert any('is not told"' in line for line in world.events())
    problems = watcher.status_document()["watch"]["problems"]
    assert [problem["summary"] for problem in problems] == ["a receiver is not told"]
    spool = Spool(world.state_dir)
    (key,) = spool.receivers()
    assert spool.waiting() == {key: 4}
    first = spool.first(key)
    assert first is not None
    assert first.event.event == "commit"


def test_a_broken_settings_file_is_told_to_those_who_were_known(world: World, listen: Listen) -> None:
    inbox = listen()
    receive(world, inbox, 'events = ["failed"]')
    passes(world)
    (world.specs / "reconciler.toml").write_text("[[notify]]\nurl = 3\n")
    passes(world)  # another watch
    assert told(inbox) == [("failed", None)]
    assert inbox.got[0].document["summary"] == f"{world.specs}/reconciler.toml:2:7: Invalid value"


def test_the_status_of_a_commit(world: World, listen: Listen, author: Author) -> None:
    inbox = listen()
    (world.folder / "token").write_text("sesame\n")
    url = f"http://127.0.0.1:{inbox.port}/ops/hosts"
    settings = f'url = "{url}"\nformat = "forgejo"\ntoken_file = "{world.folder}/token"'
    commit = author.push(TREE | {"specs/reconciler.toml": f"[[notify]]\n{settings}\n"})
    watcher = follow(world, author)
    asyncio.run(_with_sending(watcher))
    assert {one.path for one in inbox.got} == {f"/api/v1/repos/ops/hosts/statuses/{commit}"}
    assert [one.document["state"] for one in inbox.got] == ["pending", "success"]
    assert {one.headers["authorization"] for one in inbox.got} == {"token sesame"}
    bad = author.push({"specs/kernels/bad": BAD, "specs/alpha/web.toml": 'kernel = "kernels/bad"\nmemory = 256\n'})
    asyncio.run(_with_sending(watcher))
    assert [one.document["state"] for one in inbox.got[2:]] == ["pending", "failure"]
    assert inbox.got[3].document["description"] == "Not as specified: alpha/web."
    assert inbox.got[3].path.endswith(bad)


async def _with_sending(watcher: Watcher) -> None:
    await watcher.make_pass(frozenset({"interval"}))
    await watcher.notifications.send_all()


def test_a_running_watch_tells_as_it_goes(world: World, listen: Listen) -> None:
    inbox = listen()
    receive(world, inbox)
    watcher = world.watcher()

    async def work() -> None:
        running = asyncio.create_task(watcher.run())
        async with asyncio.timeout(20):
            while len(inbox.got) < 2:
                await asyncio.sleep(0.01)
        watcher.stop()
        await running

    asyncio.run(work())
    assert told(inbox) == [("commit", None), ("applied", "alpha")]
    assert not Spool(world.state_dir).waiting()


def test_a_receiver_that_hangs_holds_up_nothing(world: World, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "LAST_SECONDS", 0.1)
    inbox = listen(silent_seconds=2)
    receive(world, inbox)
    watcher = world.watcher()

    async def work() -> None:
        running = asyncio.create_task(watcher.run())
        async with asyncio.timeout(10):
            while not watcher.is_ready():
                await asyncio.sleep(0.01)
        watcher.stop()
        await running

    asyncio.run(work())
    assert world.condition("alpha/web") == "Ready"
    assert inbox.got == []
    (waiting,) = Spool(world.state_dir).waiting().values()
    assert waiting >= 2
    ((name, fared),) = watcher.notifications.fared().items()
    assert name == f"json http://127.0.0.1:{inbox.port}"
    assert (fared.delivered, fared.waiting) == (0, waiting)
