"""Who is waited for while hosts are looked at: in place on a terminal, else in one line; nothing where all is quick."""

from __future__ import annotations

import asyncio
from io import StringIO

import pytest

from reconciler.cli import looks
from reconciler.cli.looks import SilentHosts
from tests.cli.conftest import Run


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StringIO:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(looks, "TICK_SECONDS", 0)
    made: StringIO = request.param()
    return made


async def shown(stream: StringIO, asked: dict[str, float], *, turns: int = 5) -> None:
    """Show it for so many turns; then all have answered, for as many again."""
    showing = asyncio.create_task(SilentHosts(asked, stream).show())
    for _ in range(turns):
        await asyncio.sleep(0)
    asked.clear()
    for _ in range(turns):
        await asyncio.sleep(0)
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [StringIO], indirect=True)
async def test_elsewhere_it_is_one_line_once(stream: StringIO) -> None:
    now = asyncio.get_running_loop().time()
    await shown(stream, {"beta": now - 3, "alpha": now - 5, "quick": now})
    assert stream.getvalue() == "Waiting for alpha, beta to answer.\n"


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [Terminal], indirect=True)
async def test_on_a_terminal_it_is_a_line_in_place_that_goes(stream: StringIO) -> None:
    now = asyncio.get_running_loop().time()
    await shown(stream, {"beta\x1b[2J": now - 3, **{f"host-with-a-long-name-{n}": now - 5 for n in range(9)}})
    told = stream.getvalue().split("\r\x1b[K")
    assert told[1].startswith("Waiting for ")
    assert all(len(line) < 60 and "\x1b" not in line and "\n" not in line for line in told)
    assert told[-1] == ""


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [StringIO, Terminal], indirect=True)
async def test_where_all_is_quick_nothing_is_shown(stream: StringIO) -> None:
    now = asyncio.get_running_loop().time()
    await shown(stream, {"alpha": now, "beta": now})
    assert stream.getvalue() == ""


def test_a_plan_names_the_host_that_it_waits_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "TICK_SECONDS", 0)
    monkeypatch.setattr(looks, "PATIENCE_SECONDS", 0.0)
    planned = run("plan")
    assert planned.err == "Waiting for alpha to answer.\n"
    assert planned.code == 0
