"""What is tried again, how often, and after what waits; none of which is waited for here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from reconciler.dom0.connection import Connection, Result
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.xl import events
from reconciler.xl.commands import Xl
from tests.fake_dom0 import TABLE_HEAD

CRASHED = Result(exit_code=139, stdout=b"", stderr=b"")
LISTED = Result(exit_code=0, stdout=TABLE_HEAD.encode(), stderr=b"")


class FlakyConnection(Connection):
    """Answers with these results in turn; one that is an error is raised."""

    def __init__(self, *answers: Result | ReconcilerError) -> None:
        super().__init__("alpha")
        self.answers = list(answers)

    async def script(self, *given: object, **options: object) -> Result:
        answer = self.answers.pop(0)
        if isinstance(answer, ReconcilerError):
            raise answer
        return answer


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that were asked for."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        asked.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    yield asked


@pytest.mark.parametrize("crashes", [0, 1, 2])
def test_a_look_that_crashed_is_made_again(
    waits: list[float], crashes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = FlakyConnection(*[CRASHED] * crashes, LISTED)
    assert asyncio.run(Xl(connection).rows())[0].domid == 0
    assert waits == [1.0] * crashes
    assert capsys.readouterr() == ("", "")


def test_the_third_crash_is_told(waits: list[float]) -> None:
    connection = FlakyConnection(CRASHED, CRASHED, CRASHED, LISTED)
    with pytest.raises(ReconcilerError) as caught:
        asyncio.run(Xl(connection).rows())
    assert "`xl list -v` failed on alpha: it gave no reason (exit 139)." in str(caught.value)
    assert connection.answers == [LISTED]


def test_a_host_that_does_not_answer_is_not_asked_again(waits: list[float]) -> None:
    connection = FlakyConnection(world_error("host unreachable", "alpha does not answer."), LISTED)
    with pytest.raises(ReconcilerError, match="alpha does not answer"):
        asyncio.run(Xl(connection).rows())
    assert waits == []


class LostConnection(Connection):
    """Cannot be opened, for so many times."""

    def __init__(self, times: int) -> None:
        super().__init__("alpha")
        self.times = times

    async def script(self, *given: object, **options: object) -> Result:
        if self.times:
            self.times -= 1
            raise world_error("host unreachable", "alpha does not answer.")
        return CRASHED  # there is no xenstore-watch


def test_a_connection_that_stays_lost_is_tried_ever_less_often_and_for_ever(waits: list[float]) -> None:
    told: list[str] = []
    asyncio.run(events.listen(LostConnection(2000), lambda: None, told.append))
    assert told == ["there is no xenstore-watch on alpha, so what ends there is seen at the interval only"]
    assert [int(wait) for wait in waits[:7]] == [5, 10, 20, 40, 80, 160, 300]
    assert set(waits[7:]) == {300.0}
    assert len(waits) == 2000
