"""The one door to a host: what goes through it arrives unchanged, and what goes wrong is told apart."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from reconciler.dom0 import connection as module
from reconciler.dom0.connection import Connection
from reconciler.model.diagnostics import Kind, ReconcilerError
from tests.fake_dom0 import write_tool
from tests.processes import commands

pytestmark = pytest.mark.anyio

HOSTILE = ["a b", "it's", "!important", "$HOME", "\\n", "`id`", "*", "", "line\nbreak", "-n", "\u00e4\u20ac", '"']

# Does what sshd does: gives the command line to the login shell.
FAKE_SSH = """
while [ $# -gt 0 ]; do
    case $1 in -p | -l) shift 2 ;; -*) shift ;; *) break ;; esac
done
shift
exec {shell} -c "$*"
"""


@pytest.fixture(params=["local", "sh", "csh", "fish"])
def door(request: pytest.FixtureRequest, tools: Path) -> Connection:
    if request.param == "local":
        return Connection("alpha")
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"{request.param} is not installed")
    write_tool(tools, "ssh", FAKE_SSH.format(shell=shell))
    return Connection("alpha", "ssh://root@alpha.example:2022")


async def test_arguments_arrive_as_they_are_whatever_the_login_shell(door: Connection) -> None:
    result = await door.run(["printf", "%s\\0", *HOSTILE])
    assert result.stdout.decode().split("\0")[:-1] == HOSTILE


async def test_input_and_arguments_arrive_together(door: Connection) -> None:
    sent = bytes(range(256)) * 1000
    result = await door.script("printf '%s' \"!it's \\\\n\"; cat; exit 7", input=[sent[:70_000], sent[70_000:]])
    assert result.stdout == b"!it's \\n" + sent
    assert result.exit_code == 7


async def test_a_command_in_a_script_cannot_eat_the_rest_of_it(door: Connection) -> None:
    result = await door.script("cat >/dev/null\necho still here")
    assert result.stdout == b"still here\n"


async def test_a_remote_255_is_not_taken_for_a_failure_of_ssh(door: Connection) -> None:
    assert (await door.script("exit 255")).exit_code == 254


async def test_a_command_that_hangs_is_ended_and_may_be_tried_again(door: Connection) -> None:
    with pytest.raises(ReconcilerError) as caught:
        await door.script("echo got this far >&2; sleep 60", timeout_seconds=0.3)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.summary, diagnostic.transient) == ("command timed out", True)
    assert "got this far" in diagnostic.detail


async def test_a_daemon_that_keeps_the_output_open_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DRAIN_SECONDS", 0.2)
    result = await asyncio.wait_for(Connection("alpha").script("sleep 30 & echo $!"), 10)
    assert result.exit_code == 0
    await Connection("alpha").run(["kill", result.text.strip()])


async def test_output_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(ReconcilerError, match="more than 1 MiB"):
        await Connection("alpha").script("yes")


# What OpenSSH 9.2 printed, and what a person is told.
COMPLAINTS = [
    ("ssh: Could not resolve hostname nowhere: Name or service not known", "host name unknown", False),
    ("ssh: Could not resolve hostname x: Temporary failure in name resolution", "name not resolved", True),
    ("ssh: connect to host 127.0.0.1 port 1: Connection refused", "connection refused", True),
    ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", "connection timed out", True),
    ("Timeout, server 10.0.0.1 not responding.", "connection timed out", True),
    ("ssh: connect to host 10.9.9.9 port 22: No route to host", "host unreachable", True),
    ("root@alpha: Permission denied (publickey,password).", "permission denied", False),
    (
        "No ED25519 host key is known for a and you have requested strict checking.\nHost key verification failed.",
        "host key unknown",
        False,
    ),
    (
        "@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@@\nHost key verification failed.",
        "host key changed",
        False,
    ),
    ("client_loop: send disconnect: Broken pipe", "connection lost", True),
    ("Connection to 127.0.0.1 closed by remote host.", "connection lost", True),
    ("command-line: line 0: Bad configuration option: nonsense", "ssh failed", False),
    ("", "ssh failed", True),
]


@pytest.mark.parametrize(("said", "summary", "transient"), COMPLAINTS)
async def test_complaints_of_ssh_are_told_apart(tools: Path, said: str, summary: str, transient: bool) -> None:
    (tools / "said").write_text(f"{said}\n" if said else "")
    write_tool(tools, "ssh", f"cat {tools}/said >&2; exit 255")
    with pytest.raises(ReconcilerError) as caught:
        await Connection("alpha", "ssh://root@alpha.example:2022").run(["true"])
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.kind, diagnostic.summary, diagnostic.transient) == (Kind.WORLD, summary, transient)
    assert "alpha" in diagnostic.detail
    if said:
        assert "ssh says: " in diagnostic.detail
    if diagnostic.hint is not None and "`ssh -" in diagnostic.hint:
        assert "`ssh -p 2022 -l root alpha.example true`" in diagnostic.hint


async def test_a_missing_ssh_says_what_to_install(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(ReconcilerError) as caught:
        await Connection("alpha", "ssh://alpha").run(["true"])
    assert caught.value.diagnostics[0].summary == "ssh is missing"
    assert "apt install openssh-client" in str(caught.value.diagnostics[0].hint)


@pytest.mark.parametrize(
    "connect", ["", "alpha", "ssh://", "ssh://-oProxyCommand=id", "ssh://-l@alpha", "ssh://a b", "ssh://a:port"]
)
def test_an_address_that_is_none_is_refused(connect: str) -> None:
    with pytest.raises(ReconcilerError) as caught:
        Connection("alpha", connect)
    assert caught.value.diagnostics[0].kind is Kind.SPEC


async def test_ssh_is_asked_for_nothing_that_weakens_its_checks(tools: Path) -> None:
    write_tool(tools, "ssh", f'printf "%s\\n" "$@" >{tools}/arguments; cat >/dev/null')
    connection = Connection("alpha", "ssh://root@[2001:db8::1]:2022")
    await connection.run(["true"])
    arguments = (tools / "arguments").read_text().splitlines()
    assert arguments[-6:-1] == ["-p", "2022", "-l", "root", "2001:db8::1"]
    assert "-oBatchMode=yes" in arguments
    assert "-oForwardAgent=no" in arguments
    assert not [word for word in arguments if "HostKey" in word or "KnownHosts" in word or word.startswith("-F")]


async def test_the_first_command_goes_alone_and_opens_the_connection_for_all(tools: Path) -> None:
    write_tool(tools, "ssh", f"echo begin >>{tools}/log; sleep 0.2; echo end >>{tools}/log; cat >/dev/null")
    connection = Connection("alpha", "ssh://alpha")
    await asyncio.gather(*(connection.run(["true"]) for _ in range(3)))
    assert (tools / "log").read_text().split()[:2] == ["begin", "end"]


async def test_closing_ends_the_master_and_leaves_no_folder(tools: Path) -> None:
    socket = 'for word; do case $word in -oControlPath=*) : >"${word#-oControlPath=}";; esac; done'
    write_tool(tools, "ssh", f'echo "$@" >>{tools}/calls; {socket}; cat >/dev/null')
    connection = Connection("alpha", "ssh://alpha")
    await connection.run(["true"])
    await connection.close()
    first, last = (tools / "calls").read_text().splitlines()
    control_path = next(word for word in first.split() if "ControlPath=" in word).partition("=")[2]
    assert "-O exit" in last
    assert control_path in last
    assert not Path(control_path).parent.exists()


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_turn_of_its_beginning_a_command_is_ended_with_all_that_it_began(turns: int) -> None:
    """The child of the shell holds its output: whoever waited for the end of that would wait for it."""
    running = asyncio.create_task(Connection("alpha").script("sleep 4321 & sleep 4321"))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert "sleep 4321" not in commands()
