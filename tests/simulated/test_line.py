"""A simulated host remembers who may act on it, as a dom0 does, and its lock ends with a holder that says nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.fence import Alone, Line
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.fleet import HostSettings
from reconciler.plan.steps import Unpause
from reconciler.simulated.host import SimulatedExecutor

pytestmark = pytest.mark.anyio

STEP = Unpause(domain="web", uuid="00000000-0000-4000-8000-000000000001")


def executor(folder: Path, tell: Callable[[str], None] | None = None) -> SimulatedExecutor:
    settings = HostSettings(name="alpha", toolstack="simulated")
    return SimulatedExecutor(settings, "ours", None, folder, folder, Alone(tell, who="ann"))


async def refusal(one: SimulatedExecutor) -> str:
    try:
        await one.execute(STEP, lambda _: None)
    except ReconcilerError as error:
        return error.diagnostics[0].summary
    return ""


async def test_one_that_was_silent_is_followed_by_another_and_acts_no_more(tmp_path: Path) -> None:
    stopped, other = executor(tmp_path), executor(tmp_path)
    lock = tmp_path / "hosts/alpha/apply.lock"
    async with stopped.lock():
        with pytest.raises(ReconcilerError, match="alpha is being changed by"):
            async with other.lock():
                pass
        before = await refusal(stopped)
        os.utime(lock, (time.time() - 31, time.time() - 31))
        async with other.lock():
            assert await refusal(stopped) in ("lock lost", "another one acts on the host")
            assert await refusal(other) == before
    assert Line.parse((tmp_path / "hosts/alpha/line").read_text()).number == 2


@pytest.mark.parametrize("text", [None, "1 torn", "7 by hand\n"])
async def test_a_line_that_is_lost_torn_or_written_by_hand_refuses_and_is_taken_again(
    tmp_path: Path, text: str | None
) -> None:
    ours = executor(tmp_path)
    line = tmp_path / "hosts/alpha/line"
    async with ours.lock():
        line.unlink() if text is None else line.write_text(text)
        assert await refusal(ours) == "another one acts on the host"
    async with ours.lock():
        assert await refusal(ours) != "another one acts on the host"
    assert Line.parse(line.read_text()).who == "ann"


async def test_a_host_of_a_cluster_is_left_alone_but_by_an_apply_which_says_so(tmp_path: Path) -> None:
    async with executor(tmp_path).lock():
        pass
    line = tmp_path / "hosts/alpha/line"
    line.write_text(Line(number=4, session="aa", who="watch@one", cluster="c1", lease_seconds=10).text)
    with pytest.raises(ReconcilerError, match="alpha is divided among the controllers of an etcd"):
        async with executor(tmp_path).lock():
            pass
    told: list[str] = []
    async with executor(tmp_path, told.append).lock():
        pass
    assert told == ["alpha is taken from watch@one (token 4) until this is done"]
    after = Line.parse(line.read_text())
    assert (after.number, after.who, after.cluster) == (5, "ann", "c1")
    assert after.lease_seconds == 10


async def test_an_apply_on_a_host_of_a_cluster_is_followed_after_a_lease_of_silence(tmp_path: Path) -> None:
    lock, line = tmp_path / "hosts/alpha/apply.lock", tmp_path / "hosts/alpha/line"
    line.parent.mkdir(parents=True)
    line.write_text(Line(number=4, session="aa", who="watch@one", cluster="c1", lease_seconds=10).text)
    for silent, follows in ((9, False), (11, True)):
        async with executor(tmp_path, print).lock():
            os.utime(lock, (time.time() - silent, time.time() - silent))
            if follows:
                async with executor(tmp_path, print).lock():
                    pass
            else:
                with pytest.raises(ReconcilerError, match="alpha is being changed by"):
                    async with executor(tmp_path, print).lock():
                        pass


async def test_a_line_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    """As when a process may open no more files: whose the host is, is not known then, so that it is nobody else's."""
    one, line = executor(tmp_path), tmp_path / "hosts/alpha/line"
    async with one.lock():
        ours = line.read_text()
        line.unlink()
        line.mkdir()
        assert await refusal(one) == "host not known"
    with pytest.raises(ReconcilerError, match="cannot be read"):
        async with one.lock():
            pass
    line.rmdir()
    line.write_text(ours)
    async with one.lock():
        assert await refusal(one) != "host not known"
