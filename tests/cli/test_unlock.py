"""Who has the lock of a simulated host, as plan and status tell it, and `unlock`, which ends that of a silent one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.diagnostics import ReconcilerError
from reconciler.simulated.lock import SimulatedLock
from reconciler.simulated.store import Store
from tests.cli.conftest import Run

REFUSED = 3


@pytest.fixture
def store(tree: Path, run: Run) -> Store:
    assert run("apply", "--yes").code == 0
    return Store(tree / ".state", "alpha")


@pytest.fixture
def lock(store: Store) -> Iterator[SimulatedLock]:
    """A lock that another process has: this one, under another name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconciler.simulated.lock.this_process", lambda: "eve@elsewhere (process 1)")
        lock = SimulatedLock(store)
        with lock.taken():
            yield lock


def silence(store: Store, seconds: float) -> None:
    file = store.folder / "apply.lock"
    then = file.stat().st_mtime - seconds
    os.utime(file, (then, then))


def test_plan_and_status_say_who_has_it_and_since_when(run: Run, lock: SimulatedLock) -> None:
    for command in ("plan", "status"):
        ran = run(command)
        assert ran.code == 0
        assert "alpha is being changed by eve@elsewhere (process 1), since 20" in ran.err
    notes = json.loads(run("status", "--json").out)["diagnostics"]
    assert [(note["kind"], note["summary"], note["address"]) for note in notes] == [("note", "locked", "alpha")]


def test_nobody_is_told_of_a_lock_that_is_free(run: Run, store: Store) -> None:
    assert "being changed" not in run("plan").err
    assert run("unlock", "alpha").out == "alpha is not locked.\n"


def test_a_holder_that_speaks_keeps_it(run: Run, lock: SimulatedLock) -> None:
    ran = run("unlock", "alpha")
    assert ran.code == REFUSED
    assert "eve@elsewhere (process 1), since 20" in ran.err
    lock.ensure()
    assert run("apply", "--yes").code == 0, "nothing is to do, so no lock is needed"


def test_that_of_a_silent_holder_is_ended_and_the_holder_sees_it(run: Run, store: Store, lock: SimulatedLock) -> None:
    silence(store, 20)
    assert "reconciler unlock alpha" in run("status").err
    ran = run("unlock", "alpha")
    assert (ran.code, "held by eve@elsewhere (process 1), since 20" in ran.out) == (0, True)
    with pytest.raises(ReconcilerError, match="its lock of alpha was ended"):
        lock.ensure()
    with SimulatedLock(store).taken():
        assert "being changed" in run("plan").err


def test_one_that_was_silent_for_half_a_minute_is_taken_over(store: Store, lock: SimulatedLock) -> None:
    silence(store, 31)
    with SimulatedLock(store).taken(), pytest.raises(ReconcilerError, match="was ended"):
        lock.ensure()
    with pytest.raises(ReconcilerError, match="was ended"):
        lock.ensure()


def test_it_is_touched_as_long_as_it_is_held(store: Store) -> None:
    async def held() -> float:
        async with SimulatedLock(store).hold():
            silence(store, 100)
            await asyncio.sleep(0)
            holder = SimulatedLock(store).holder()
            assert holder is not None
            return holder.silent_seconds

    assert asyncio.run(held()) < 5


def test_a_host_that_nobody_knows_is_wrong_usage(run: Run, store: Store) -> None:
    ran = run("unlock", "alhpa")
    assert ran.code == 1
    assert 'Did you mean "alpha"?' in ran.err
