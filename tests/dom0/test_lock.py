"""One apply a host: the lock is real, and dies with its holder."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.dom0 import lock as host_lock
from reconciler.dom0.layout import Dom0
from reconciler.dom0.lock import HostLock
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import Kind, ReconcilerError
from tests.fake_dom0 import with_part

pytestmark = pytest.mark.anyio


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


async def test_it_is_free_again_after_an_error_inside(shell: Dom0Shell) -> None:
    with pytest.raises(ZeroDivisionError):
        async with HostLock().hold(shell):
            raise ZeroDivisionError
    assert not await taken(shell)


async def test_it_dies_with_a_killed_holder_and_the_holder_is_told(shell: Dom0Shell) -> None:
    lock = HostLock()
    async with lock.hold(shell):
        lock.check("alpha")
        assert lock._holder is not None
        with suppress(ProcessLookupError):
            os.killpg(lock._holder.pid, signal.SIGKILL)
        await until_free(shell, 10)
        with pytest.raises(ReconcilerError, match="held the lock of alpha broke off"):
            lock.check("alpha")


async def test_it_frees_itself_when_nothing_is_heard_any_more(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the network vanishes: the pipe stays open, and nothing comes."""
    monkeypatch.setattr(host_lock, "_HOLD", with_part(host_lock._HOLD, f"sleep {host_lock.SILENCE_SECONDS}", "sleep 1"))
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 3600)
    async with HostLock().hold(shell):
        assert await taken(shell)
        await until_free(shell, 10)


async def test_it_is_held_as_long_as_the_heart_beats(shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_lock, "_HOLD", with_part(host_lock._HOLD, f"sleep {host_lock.SILENCE_SECONDS}", "sleep 1"))
    monkeypatch.setattr(host_lock, "HEARTBEAT_SECONDS", 0.2)
    async with HostLock().hold(shell):
        await asyncio.sleep(2.5)
        assert await taken(shell)


async def test_what_the_host_lacks_is_said(shell: Dom0Shell, lock_path: Path) -> None:
    lock_path.mkdir()
    with pytest.raises(ReconcilerError, match="cannot be written"):
        async with HostLock().hold(shell):
            pass
