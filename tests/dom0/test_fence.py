"""The line of a host and its second lock: who may act, and until when a command of somebody else's keeps it."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0.connection import Connection
from reconciler.dom0.layout import Dom0
from reconciler.dom0.sending import fence as fences
from reconciler.dom0.sending.fence import Fence, take
from reconciler.dom0.shell import Dom0Shell
from reconciler.fence import Alone, Line
from reconciler.model.diagnostics import Kind, ReconcilerError
from tests.fake_dom0 import with_part, write_tool

pytestmark = pytest.mark.anyio

_TOOLS = [
    "cat",
    "chmod",
    "date",
    "flock",
    "head",
    "kill",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
    "rm",
    "sleep",
    "stat",
]
_TOOLS += ["sync", "touch", "uname", "ps", "awk"]
SHELLS = ["dash", "bash", "mksh", "posh", "busybox"]


@pytest.fixture(params=SHELLS)
def dom0(
    request: pytest.FixtureRequest, tmp_path: Path, shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch
) -> Dom0Shell:
    """A dom0 whose sh is each of those in turn; posh's, like NetBSD's, has no setsid beside it."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    bin_ = tmp_path / "of-shell"
    bin_.mkdir()
    words = f"{shutil.which(request.param)} sh" if request.param == "busybox" else str(shutil.which(request.param))
    sh = write_tool(bin_, "sh", f'exec {words} "$@"')
    if request.param == "posh":
        for tool in _TOOLS:
            if (found := shutil.which(tool)) is not None:
                (bin_ / tool).symlink_to(found)
    path = str(bin_) if request.param == "posh" else f"{bin_}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(Dom0, "lock_path", str(tmp_path / "reconciler.lock"))
    if request.param == "posh":
        monkeypatch.setattr("reconciler.dom0.connection._PROLOGUE", f"export LC_ALL=C PATH={path}; umask 022")
    monkeypatch.setattr(
        Connection, "_argv", lambda self, script: [str(sh)] if script is None else [str(sh), "-c", script]
    )
    return shell


async def session(dom0: Dom0Shell) -> Fence:
    return await take(dom0, Alone(), "")


async def run(dom0: Dom0Shell, fence: Fence, text: str, bound: float = 20) -> str:
    result = await fence.run(dom0.connection, text, what="trying", input=None, bound_seconds=bound)
    return f"{result.exit_code} {result.text}{result.errors}"


async def test_only_the_session_whose_line_it_is_acts(dom0: Dom0Shell, tmp_path: Path) -> None:
    first = await session(dom0)
    assert await run(dom0, first, "echo out; echo error >&2; exit 3") == "3 out\nerror"
    second = await session(dom0)
    assert (first.line.number, second.line.number) == (1, 2)
    with pytest.raises(ReconcilerError, match="acts on it now \\(token 2\\)") as caught:
        await run(dom0, first, f"touch {tmp_path}/done")
    assert caught.value.diagnostics[0].moved
    assert not (tmp_path / "done").exists()
    assert await run(dom0, second, "echo mine") == "0 mine\n"


@pytest.mark.parametrize("harm", ["gone", "torn", "newer", "older"])
async def test_a_line_that_is_not_exactly_ours_refuses_and_is_taken_again(dom0: Dom0Shell, harm: str) -> None:
    ours = await session(dom0)
    file = Path(ours.line_path)
    match harm:
        case "gone":
            file.unlink()
        case "torn":
            file.write_text(ours.line.text.rstrip("\n"))
        case "newer":
            file.write_text(replace(ours.line, number=9).text)
        case "older":
            file.write_text(replace(ours.line, number=0).text)
    with pytest.raises(ReconcilerError, match="has refused the step"):
        await run(dom0, ours, "echo never")
    again = await session(dom0)
    assert await run(dom0, again, "echo mine") == "0 mine\n"


async def test_a_taker_waits_for_a_command_whose_sender_is_gone(dom0: Dom0Shell, tmp_path: Path) -> None:
    """Neither HUP, PIPE nor TERM nor the end of its connection end it; and no step overlaps those of the next one."""
    ours, log, ready = await session(dom0), tmp_path / "log", tmp_path / "ready"
    command = f": >{ready}; sleep 1; echo done >>{log}; echo to nobody"
    step = asyncio.create_task(run(dom0, ours, command))
    async with asyncio.timeout(10):
        while not ready.exists():
            await asyncio.sleep(0.02)
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    again = await session(dom0)
    await run(dom0, again, f"echo next >>{log}")
    assert log.read_text() == "done\nnext\n"


async def test_a_command_past_its_bound_is_killed_with_all_it_began(dom0: Dom0Shell, tmp_path: Path) -> None:
    """Its children, their children, and one that has lost its parent; also where a shell can make no group of them."""
    ours, pids = await session(dom0), tmp_path / "pids"
    begun = f"sleep 31 & echo $$ $! >>{pids}; (sleep 32 & echo $! >>{pids}); sh -c 'echo $$ >>{pids}; sleep 33; :'"
    said = await run(dom0, ours, begun, bound=1)
    assert said.startswith("137")
    assert (await session(dom0)).line.number == 2
    assert len(pids.read_text().split()) == 4
    assert not [pid for pid in pids.read_text().split() if Path("/proc", pid).exists()]


async def test_a_daemon_that_a_command_leaves_keeps_nobody_out(dom0: Dom0Shell) -> None:
    ours = await session(dom0)
    said = await run(dom0, ours, "sleep 300 >/dev/null 2>&1 </dev/null & echo $!")
    try:
        async with asyncio.timeout(5):
            assert (await session(dom0)).line.number == 2
    finally:
        os.kill(int(said.split()[1]), signal.SIGKILL)


async def test_who_waits_in_vain_is_told_for_what(
    dom0: Dom0Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fences, "PATIENCE_SECONDS", 0)
    ours, ready = await session(dom0), tmp_path / "ready"
    step = asyncio.create_task(run(dom0, ours, f": >{ready}; sleep 1"))
    async with asyncio.timeout(10):
        while not ready.exists():
            await asyncio.sleep(0.02)
    with pytest.raises(ReconcilerError, match=r"has not ended yet: trying, since 20") as caught:
        await session(dom0)
    assert caught.value.diagnostics[0].kind is Kind.REFUSED
    await step


async def test_of_many_takers_each_gets_a_number_of_its_own(dom0: Dom0Shell) -> None:
    results = await asyncio.gather(*(session(dom0) for _ in range(3)), return_exceptions=True)
    numbers = [one.line.number for one in results if isinstance(one, Fence)]
    assert numbers
    assert len(set(numbers)) == len(numbers)
    assert Line.parse(Path(dom0.dom0.line_path).read_text()).number == max(numbers)


@pytest.fixture(autouse=True)
def _whole(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob(".now.*"))


@pytest.mark.parametrize(("does", "ends"), [("stands still", True), ("goes on", False)])
async def test_what_copies_on_the_host_is_killed_when_it_stands_still(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str, ends: bool
) -> None:
    """Long before its bound, which is for what is large."""
    monkeypatch.setattr(Dom0, "lock_path", str(tmp_path / "reconciler.lock"))
    monkeypatch.setattr("reconciler.dom0.shell._COPIED_QUIET_SECONDS", 1)
    monkeypatch.setattr(fences, "_RUN", with_part(fences._RUN, 'sleep "$tick"', "sleep 0.2"))
    copies = ": >$unfinished; for _ in 1 2 3 4 5 6 7 8; do sleep 0.1; echo more >>$unfinished; done; echo copied"
    script = copies if does == "goes on" else ": >$unfinished; sleep 20; echo copied"
    shell.connection.fence = await session(shell)
    given = {"unfinished": str(tmp_path / "copy")}
    if ends:
        with pytest.raises(ReconcilerError, match="exit 137"):
            await shell.act("web", "copying failed", script, given, timeout_seconds=1000)
    else:
        assert await shell.act("web", "copying failed", script, given, timeout_seconds=1000) == "copied\n"


def test_the_watcher_of_a_command_that_has_ended_kills_nothing(tmp_path: Path) -> None:
    """The shell that would end it may have been killed, and the number of the command's group be another's by now."""
    (tmp_path / "said").touch()
    function = fences._RUN[fences._RUN.index("end_late() {") : fences._RUN.index("command -v flock")]
    script = f"""
    bound=1 tick=1 quiet=9 grows='' stays=stays lock={tmp_path}/lock said={tmp_path}/said
    {with_part(function, 'sleep "$tick"', "sleep 0.05")}
    sh -c : & child=$!
    wait "$child"
    group=-$child
    end_late
    wait "$watcher" || :
    """
    subprocess.run(["sh", "-c", script], check=True)
    assert not (tmp_path / "said.late").exists()


async def test_a_command_that_cannot_be_killed_is_seen_as_long_as_it_keeps_the_host(
    shell: Dom0Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Dom0, "lock_path", str(tmp_path / "reconciler.lock"))
    kill = "kill_all\n        sleep 2\n"
    monkeypatch.setattr(fences, "_RUN", with_part(fences._RUN, kill, ":\n"))

    async def stuck() -> tuple[str, ...]:
        given = (
            f"system={platform.system()}\nclose() {{ :; }}\n{fences.look_at_commands(shell.settings)}look_at_commands"
        )
        under_way, stays = fences.read_commands((await shell.connection.script(given)).text.splitlines())
        seen.update(under_way)
        return stays

    seen: set[str] = set()
    ours, ends = await session(shell), tmp_path / "ends"
    assert (await stuck(), seen) == ((), set())
    step = asyncio.create_task(
        run(shell, ours, f"i=0; until [ -e {ends} ] || [ $i = 400 ]; do sleep 0.05; i=$((i + 1)); done", bound=1)
    )
    async with asyncio.timeout(10):
        while not seen:  # as soon as it is under way
            await stuck()
        while not (stay := await stuck()):
            await asyncio.sleep(0.05)
    assert seen == set(stay)
    assert [one.partition(", since ")[0] for one in stay] == ["trying"]
    monkeypatch.setattr(fences, "PATIENCE_SECONDS", 0)
    with pytest.raises(ReconcilerError, match="cannot be killed"):
        await session(shell)
    ends.touch()
    await step
    assert await stuck() == ()
    assert (await session(shell)).line.number == 2
