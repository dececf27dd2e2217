"""One apply a host: the lock is real, and dies with its holder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0 import lock as host_lock
from reconciler.dom0 import lock as lock_module
from reconciler.dom0.layout import Dom0
from reconciler.dom0.lock import HostLock, break_lock
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import Kind, ReconcilerError
from reconciler.model.host import LockHolder
from reconciler.person import this_process
from tests.fake_dom0 import with_part
from tests.processes import commands

pytestmark = pytest.mark.anyio

SLEEP = 'sleep "$silence"'


@pytest.fixture(autouse=True)
def lock_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "reconciler.lock"
    monkeypatch.setattr(Dom0, "lock_path", str(path))
    yield path


async def taken(shell: Dom0Shell) -> bool:
    try:
        async with HostLock().hold(shell):
            return False
    except ReconcilerError as error:
        assert error.diagnostics[0].kind is Kind.REFUSED
        return True


async def until_free(shell: Dom0Shell, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while await taken(shell):
            await asyncio.sleep(0.1)


async def test_only_one_holds_it_and_the_other_is_told_who(shell: Dom0Shell) -> None:
    async with HostLock().hold(shell):
        with pytest.raises(ReconcilerError) as caught:
            async with HostLock().hold(shell):
                pass
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.summary == "host is locked"
    assert f"(process {os.getpid()}), since 20" in diagnostic.detail
    assert not await taken(shell)


async def test_nobody_finds_the_file_empty_while_it_beats(
    shell: Dom0Shell, lock_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.001)
    found: set[str] = set()
    async with HostLock().hold(shell):
        watchers: set[str] = set()
        while len(watchers) < 10:  # each beat begins another one
            text = lock_path.read_text()
            found.add(text.partition("\n")[0])
            watchers.add(text.splitlines()[-1])
            await asyncio.sleep(0)
    assert len(found) == 1


async def test_it_is_free_again_after_an_error_inside(shell: Dom0Shell) -> None:
    with pytest.raises(ZeroDivisionError):
        async with HostLock().hold(shell):
            raise ZeroDivisionError
    assert not await taken(shell)


def kill_holder(lock: HostLock) -> None:
    assert lock._holder is not None
    with suppress(ProcessLookupError):
        os.killpg(lock._holder.pid, signal.SIGKILL)


async def until_lost(lock: HostLock) -> None:
    async with asyncio.timeout(10):
        while lock._holder is None or lock._holder.returncode is None:
            await asyncio.sleep(0.05)


async def test_it_dies_with_a_killed_holder_and_is_not_taken_again_after_somebody_else_had_it(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = HostLock()
    told: list[str] = []
    async with lock.hold(shell):
        await lock.ensure(shell, told.append)
        kill_holder(lock)
        await until_free(shell, 10)  # which takes it for a moment
        await until_lost(lock)
        with pytest.raises(ReconcilerError, match=r"held the lock of alpha broke off.* Somebody else had the lock"):
            await lock.ensure(shell, told.append)
        monkeypatch.setattr(host_lock, "this_process", lambda: "eve@elsewhere (process 1)")
        async with HostLock().hold(shell):
            with pytest.raises(ReconcilerError, match=r"broke off.* being changed by eve@elsewhere"):
                await lock.ensure(shell, told.append)


async def test_a_lock_that_was_lost_is_taken_again_once_for_all_steps(shell: Dom0Shell) -> None:
    lock = HostLock()
    told: list[str] = []
    async with lock.hold(shell):
        for _ in range(2):
            kill_holder(lock)
            await until_lost(lock)
            await asyncio.gather(*(lock.ensure(shell, told.append) for _ in range(5)))
            assert await taken(shell)
    assert told == ["the lock of alpha was lost with its connection, and is taken again"] * 2
    assert not await taken(shell)


async def test_our_own_old_holder_is_waited_for(shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a network that was gone for some seconds: it still hears nothing, and has not let go yet."""
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 0.2)
    lock = HostLock()
    async with lock.hold(shell):
        assert lock._holder is not None
        with os.fdopen(os.open(shell.dom0.lock_path, os.O_RDWR)) as file:
            kill_holder(lock)
            await until_lost(lock)
            fcntl.flock(file, fcntl.LOCK_EX)
            waiting = asyncio.create_task(lock.ensure(shell, lambda text: None))
            await asyncio.sleep(1)
            assert not waiting.done()
        await waiting
        assert await taken(shell)


async def test_one_that_cannot_be_had_again_is_given_up_after_a_while(
    shell: Dom0Shell, lock_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(host_lock, "REGAIN_SECONDS", 0.3)
    lock = HostLock()
    async with lock.hold(shell):
        kill_holder(lock)
        await until_lost(lock)
        lock_path.unlink()
        lock_path.mkdir()
        with pytest.raises(ReconcilerError, match="cannot be written"):
            await lock.ensure(shell, lambda text: None)


async def test_a_holder_that_gives_no_answer_proves_nothing(shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the network vanishes and ssh has not noticed: no step is begun on the word of a lock like that."""
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(host_lock, "HEARD_SECONDS", 1.0)
    lock = HostLock()
    told: list[str] = []
    async with lock.hold(shell):
        await lock.ensure(shell, told.append)
        assert lock._holder is not None
        os.killpg(lock._holder.pid, signal.SIGSTOP)
        await asyncio.sleep(1.1)
        async with asyncio.timeout(20):
            await lock.ensure(shell, told.append)
        assert await taken(shell)
    assert told == ["the lock of alpha was lost with its connection, and is taken again"]


async def test_a_beat_is_sent_at_once_where_the_last_answer_is_old(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the controller was suspended: its clocks do not agree on how long, and the holder may be gone."""
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 3600)
    lock = HostLock()
    told: list[str] = []
    async with lock.hold(shell):
        await asyncio.sleep(0.2)
        clock = time.time
        monkeypatch.setattr(host_lock, "time", lambda: clock() + 3600)
        async with asyncio.timeout(5):
            await lock.ensure(shell, told.append)
    assert told == []


async def test_it_leaves_no_process_behind(shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while it beats nor after it: the `sleep` of each watcher ends with its watcher.

    A shell can lose the signal to a `sleep` that it has only just begun; such a one ends by itself.
    """
    sleeper = f"sleep 54.{os.getpid()}"
    monkeypatch.setattr(host_lock, "_HOLD", with_part(host_lock._HOLD, SLEEP, sleeper))
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 0.05)

    def sleepers() -> int:
        return commands().count(sleeper)

    async with HostLock().hold(shell):
        await asyncio.sleep(1.5)
        assert sleepers() <= 3  # that of the last beat, one that is just ending, and one that heard no signal
    await asyncio.sleep(0.3)
    assert sleepers() <= 1


async def test_it_frees_itself_when_nothing_is_heard_any_more(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the network vanishes: the pipe stays open, and nothing comes."""
    monkeypatch.setattr(host_lock, "_HOLD", with_part(host_lock._HOLD, SLEEP, "sleep 1"))
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 3600)
    async with HostLock().hold(shell):
        assert await taken(shell)
        await until_free(shell, 10)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (None, 30),
        ("7 3f09 eve@example - 0\n", 30),
        ("7 3f09 watch@one c0ffee 10\n", 10),
        ("7 3f09 watch@one c0ffee 60\n", 60),
        ("7 3f09 watch@one c0ffee 10 by hand\n", 30),
        ("7 3f09 watch@one c0ffee 0\n", 30),
        ("7 torn", 30),
    ],
)
async def test_on_a_host_of_a_cluster_a_lease_of_silence_is_borne(
    shell: Dom0Shell, line: str | None, seconds: int
) -> None:
    """Also that of an apply, which comes from nowhere in the cluster."""
    lock, kept = HostLock(), Path(shell.dom0.line_path)
    if line is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(line)
    async with lock.hold(shell):
        async with asyncio.timeout(10):
            while f"sleep {seconds}" not in commands():  # its watcher has only just begun
                await asyncio.sleep(0.02)
        assert lock._heart is not None
        assert lock._heart._beat_seconds <= seconds / 3


async def test_it_is_held_as_long_as_the_heart_beats(shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_lock, "_HOLD", with_part(host_lock._HOLD, SLEEP, "sleep 1"))
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 0.2)
    async with HostLock().hold(shell):
        await asyncio.sleep(2.5)
        assert await taken(shell)


async def test_what_the_host_lacks_is_said(shell: Dom0Shell, lock_path: Path) -> None:
    lock_path.mkdir()
    with pytest.raises(ReconcilerError, match="cannot be written"):
        async with HostLock().hold(shell):
            pass


async def test_a_dom0_without_flock_is_told_which_ones_have_it(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch, lock_path: Path
) -> None:
    monkeypatch.setattr(host_lock, "_HOLD", with_part(host_lock._HOLD, "command -v flock", "command -v no-flock"))
    netbsd = replace(shell, dom0=replace(shell.dom0, flavour="netbsd"))
    with pytest.raises(ReconcilerError, match="no `flock` command there") as caught:
        async with HostLock().hold(netbsd):
            pass
    (problem,) = caught.value.diagnostics
    assert problem.kind is Kind.WORLD
    assert "NetBSD before 6.1" in (problem.hint or "")
    assert not lock_path.exists()


def observed(shell: Dom0Shell) -> str:
    """Return the end of a script that observes, made to run alone."""
    return f"system={platform.system()}\nclose() {{ :; }}\n{host_lock.look_at_lock(shell.settings)}"


async def holder_of(shell: Dom0Shell) -> LockHolder | None:
    return host_lock.read_holder((await shell.connection.script(observed(shell))).text.splitlines())


async def test_an_observer_sees_who_has_it_as_long_as_somebody_has(shell: Dom0Shell) -> None:
    assert await holder_of(shell) is None
    lock = HostLock()
    async with lock.hold(shell):
        holder = await holder_of(shell)
        assert holder is not None
        assert (holder.by, holder.since[:2]) == (this_process(), "20")
        kill_holder(lock)
        await until_lost(lock)
        assert await holder_of(shell) is None, "its process is gone, and its line is still there"
        await lock.ensure(shell, lambda text: None)
        again = await holder_of(shell)
        assert again is not None
        assert again.since == holder.since
    assert await holder_of(shell) is None


async def test_nobody_ends_the_lock_of_a_holder_that_speaks(shell: Dom0Shell) -> None:
    assert await break_lock(shell) is None
    async with HostLock().hold(shell):
        with pytest.raises(ReconcilerError, match="It was heard 0 s ago, so nothing was done") as caught:
            await break_lock(shell)
        assert caught.value.diagnostics[0].kind is Kind.REFUSED
        assert await taken(shell)


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_silent_holder_is_ended_and_its_controller_begins_nothing_more(
    shell: Dom0Shell, lock_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 3600)
    lock = HostLock()
    async with lock.hold(shell):
        await asyncio.sleep(0.2)  # the first beat
        assert lock._holder is not None
        if stopped:
            os.killpg(lock._holder.pid, signal.SIGSTOP)
        then = time.time() - 20
        os.utime(lock_path, (then, then))
        ended = await break_lock(shell)
        assert ended is not None
        assert (ended.by, 19 < ended.silent_seconds < 25) == (this_process(), True)
        assert not await taken(shell)
        if stopped:
            os.killpg(lock._holder.pid, signal.SIGCONT)
        await until_lost(lock)
        with pytest.raises(ReconcilerError, match="nothing more is begun"):
            await lock.ensure(shell, lambda text: None)


async def test_a_process_of_which_the_file_says_nothing_is_not_ended(shell: Dom0Shell, lock_path: Path) -> None:
    """Its number may be that of anything by now."""
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        with lock_path.open("w") as file:
            file.write(f"eve@elsewhere (process 1), since 2026-01-01 00:00:00 UTC\n{bystander.pid}\n")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
            os.utime(lock_path, (1, 1))
            assert await holder_of(shell) is None
            with pytest.raises(ReconcilerError, match=r"of which .+ says nothing"):
                await break_lock(shell)
        assert bystander.returncode is None
    finally:
        bystander.kill()
        await bystander.wait()
