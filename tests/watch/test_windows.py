"""Watch acts when a window opens, not at the interval after it, and not before."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.apply import windows
from tests.watch.conftest import START, World, look
from tests.watch.test_host_by_host import OTHER, Fleet, three

__all__ = ["three"]  # the fixture
pytestmark = pytest.mark.anyio

# START is 22:13:20 UTC
WINDOW = '[[window]]\nkind = "allow"\nschedule = "15 23 * * *"\nduration = "1h"\nreason = "nights"\n'
OPENS_SECONDS = 3700.0


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have changes judged again by no clock but that of the test, which stands where the window is open by then."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(START + OPENS_SECONDS + 1, UTC)

    monkeypatch.setattr(windows, "datetime", Clock)


def test_a_pass_says_when_the_next_window_opens(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    (world.specs / "reconciler.toml").write_text(WINDOW)
    world.write(web='kernel = "/boot/other"\nmemory = 256\n')
    began = world.clock.seconds
    outcome = look(watcher)
    assert outcome.retry_seconds == pytest.approx(START + OPENS_SECONDS - began, abs=1)
    assert world.condition("alpha/web") == "Held"
    assert "nights, opens 2023-11-14 23:15 UTC" in world.record().domains["alpha/web"].reason
    world.clock.seconds = START + OPENS_SECONDS
    assert look(watcher).retry_seconds is None
    assert world.condition("alpha/web") == "Ready"


async def test_a_host_is_worked_on_as_soon_as_its_window_opens(three: Fleet) -> None:
    three.watcher._interval_seconds = 24 * 3600.0
    (three.world.specs / "reconciler.toml").write_text(WINDOW)

    async def work() -> None:
        await three.until(lambda: three.watcher.is_ready())
        three.write(a=OTHER)
        await three.until(lambda: three.condition("alpha/a")[0] == "Held")
        three.clock.seconds = START + OPENS_SECONDS - 5
        await three.until(lambda: three.clock.seconds > START + OPENS_SECONDS - 2, meanwhile_seconds=1)
        assert not three.has_other("a")
        three.clock.seconds = START + OPENS_SECONDS + 1
        await three.until(lambda: three.has_other("a"))

    await three.during(work)
