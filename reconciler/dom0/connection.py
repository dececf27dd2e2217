"""Runs sh scripts on a host and moves bytes to it, on this machine or through the system's ssh: the one door to a host.

All that touches a real host comes through here. ssh is the system's own, so ssh_config, known_hosts, agents and jump
hosts count as they do by hand; nothing here weakens its checks. One master connection carries all commands
(ControlMaster), so a command costs a round trip instead of a handshake.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from reconciler.dom0.sending.fence import Fence
from reconciler.dom0.sending.ssh_errors import explain
from reconciler.expressions import expression
from reconciler.leaving import kill_group, must_end, spared
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, world_error
from reconciler.records import dataclass
from reconciler.waiting import give_sign_of_life

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_DRAIN_SECONDS = 2.0  # how long output may still come once a command has ended
_REAP_SECONDS = 0.01
_SSH_FAILED = 255
_MASTER_ENDS_SECONDS = 5

# xl lives in sbin (in /usr/pkg/sbin on NetBSD), which a non-interactive login does not always have on its PATH.
SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/pkg/sbin:/usr/pkg/bin"
_PROLOGUE = f'export LC_ALL=C PATH="$PATH:{SBIN}"; umask 022'

_CONNECT = expression(
    r"ssh://(?:(?P<user>[^@/:\s-][^@/:\s]*)@)?(?P<name>\[[0-9a-fA-F:.]+\]|[^@/:\s\[-][^@/:\s]*)"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The exit code of a command (128 + n when signal n ended it) and its output."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def errors(self) -> str:
        return self.stderr.decode(errors="replace").strip()


class Connection:
    """Runs commands on one host, as `connect` in its host.toml says: `local` or `ssh://[user@]name[:port]`."""

    def __init__(self, host: str, connect: str = "local") -> None:
        self.host = host
        self.connect = connect
        self._ssh_target: list[str] = [] if connect == "local" else _ssh_target(host, connect)
        self._control_dir: Path | None = None
        self._forget_master: Callable[[], None] = lambda: None
        self._first_command = asyncio.Lock()
        self._opened = self.is_local
        self.fence: Fence | None = None
        """What a command that changes the host has to show there, while we have the lock of an apply."""

    @property
    def is_local(self) -> bool:
        return not self._ssh_target

    @property
    def is_shared(self) -> bool:
        """Return whether an open connection is there, through which later commands go: a master's socket."""
        return self._control_dir is not None and any(self._control_dir.iterdir())

    async def run(self, argv: Sequence[str], *, input: bytes | None = None, timeout_seconds: float = 60) -> Result:
        """Run one command. Its arguments arrive unchanged, whatever the login shell on the host is."""
        return await self.script(
            shlex.join(argv), input=None if input is None else [input], timeout_seconds=timeout_seconds
        )

    async def script(
        self, text: str, *, input: Iterable[bytes] | None = None, timeout_seconds: float = 60, lasts: bool = False
    ) -> Result:
        """Run a POSIX sh script. `input` is streamed to its stdin; without it stdin is /dev/null.

        One that `lasts` is not killed when nobody waits for it any more, on whichever host.
        Raises ReconcilerError when the host cannot be reached or the time is over. The exit code is left for the caller
        to judge. (255 is passed on as 254, since ssh uses it for its own failures.)
        """
        async with self._one_opens_the_connection():
            async with self.process(text, takes_input=input is not None, lasts=lasts) as process:
                feed = [_bytes(_as_main(text, "</dev/null"))] if input is None else input
                result = await self._converse(process, feed, timeout_seconds)
            if result.exit_code == _SSH_FAILED and not self.is_local:
                raise ReconcilerError(self._explain(result.errors))
            self._opened = True
            return result

    async def change(
        self,
        text: str,
        *,
        what: str,
        input: Iterable[bytes] | None = None,
        timeout_seconds: float = 60,
        grows: str = "",
        quiet_seconds: int = 60,
    ) -> Result:
        """Run a script that changes the host, as `script` does, but only while the host is ours (`sending.fence`).

        `what` is what people are told of it. It may be killed where the file `grows` has not grown for `quiet_seconds`.
        """
        if self.fence is None:
            return await self.script(text, input=input, timeout_seconds=timeout_seconds)
        return await self.fence.run(
            self,
            text,
            what=what,
            input=input,
            bound_seconds=timeout_seconds,
            grows=grows,
            quiet_seconds=quiet_seconds,
        )

    @asynccontextmanager
    async def process(
        self, text: str, *, takes_input: bool = True, lasts: bool = False
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start an sh that stays, for callers that need more than one answer. It is killed when the block is left.

        With `takes_input` the script is an argument and stdin is the caller's, else the caller writes it to stdin.
        """
        argv = self._argv(_as_main(text, "") if takes_input else None)
        try:
            process = await _begin(argv)
        except FileNotFoundError:
            raise world_error(
                f"{argv[0]} is missing",
                f"{self.host} cannot be reached, since there is no `{argv[0]}` on this machine's PATH.",
                "Install OpenSSH's client (Debian: `apt install openssh-client`).",
                self.host,
            ) from None
        except OSError as error:  # no more processes, memory or file descriptors
            raise world_error(
                "no command could be begun",
                f"This machine could not begin a command for {self.host}: {error.strerror or error}.",
                None,
                self.host,
                transient=True,
            ) from None
        if lasts and self.is_local:  # beyond an ssh nothing is killed anyway
            with spared(process.pid):
                yield process
            process._transport.close()  # type: ignore[attr-defined]  # ends the shell around the script alone
            return
        forget = must_end(partial(kill_group, process.pid))  # it leads the session that was made for it
        try:
            yield process
        finally:
            forget()
            await _end(process)

    async def close(self) -> None:
        """End the master connection. Without one, this does nothing."""
        self._opened = self.is_local
        if self._control_dir is not None:
            control_dir, self._control_dir = self._control_dir, None
            await asyncio.to_thread(self._end_master, control_dir)
            self._forget_master()

    def _end_master(self, control_dir: Path) -> None:
        """Ask the master to exit, and remove the folder of its socket."""
        if any(control_dir.iterdir()):
            with suppress(OSError, subprocess.TimeoutExpired):  # there is no ssh, so no master either; or it hangs
                subprocess.run(
                    ("ssh", "-o", f"ControlPath={control_dir}/%C", "-O", "exit", *self._ssh_target),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    timeout=_MASTER_ENDS_SECONDS,
                    check=False,
                )
        shutil.rmtree(control_dir, ignore_errors=True)

    def _argv(self, script: str | None) -> list[str]:
        if self.is_local:
            return ["/bin/sh"] if script is None else ["/bin/sh", "-c", script]
        return [*self._ssh_command(), "/bin/sh" if script is None else _for_any_login_shell(script)]

    def _ssh_command(self) -> list[str]:
        if self._control_dir is None:
            # A socket's path may have about 100 bytes, which the temporary folders of some systems use up alone.
            self._control_dir = Path(tempfile.mkdtemp(prefix=f"reconciler-{os.getpid()}-", dir="/tmp"))
            self._forget_master = must_end(partial(self._end_master, self._control_dir))
        options = {
            "BatchMode": "yes",
            "ForwardAgent": "no",  # with it, who is root on one dom0 could log in on the others
            "ForwardX11": "no",
            "ConnectTimeout": "15",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPersist": "60",
            "ControlPath": f"{self._control_dir}/%C",
        }
        return ["ssh", "-T", *(f"-o{name}={value}" for name, value in options.items()), *self._ssh_target]

    @asynccontextmanager
    async def _one_opens_the_connection(self) -> AsyncIterator[None]:
        """Let the first command go alone, so that it becomes the master for all others."""
        if self._opened:
            yield
            return
        async with self._first_command:
            yield

    async def _converse(
        self, process: asyncio.subprocess.Process, feed: Iterable[bytes], timeout_seconds: float
    ) -> Result:
        assert process.stdin and process.stdout and process.stderr
        stdout, stderr = bytearray(), bytearray()
        pumps = {
            asyncio.create_task(_write(process.stdin, feed)),
            asyncio.create_task(_read(process.stdout, stdout)),
            asyncio.create_task(_read(process.stderr, stderr)),
        }
        try:
            async with asyncio.timeout(timeout_seconds):
                pending, ended = pumps, False
                # A daemon left behind may hold the output open for ever, so the end of the command counts as well.
                while pending and not ended:
                    give_sign_of_life()  # it has a bound, so it is slow at worst
                    ended = process.returncode is not None
                    done, pending = await asyncio.wait(
                        pending, timeout=_DRAIN_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                    )
                    for pump in done:
                        pump.result()  # raises what went wrong with the output
                if not pending:
                    await process.wait()
        except TimeoutError:
            raise self._too_slow(timeout_seconds, stderr) from None
        finally:
            for pump in pumps:
                pump.cancel()
        code = process.returncode or 0
        return Result(exit_code=code if code >= 0 else 128 - code, stdout=bytes(stdout), stderr=bytes(stderr))

    def _too_slow(self, timeout_seconds: float, stderr: bytearray) -> ReconcilerError:
        said = stderr.decode(errors="replace").strip().rpartition("\n")[2]
        detail = f"A command on {self.host} was not done after {timeout_seconds:g} s."
        detail += f" Its last words: {said}" if said else ""
        return world_error("command timed out", detail, None, self.host, transient=True)

    def _explain(self, stderr: str) -> Diagnostic:
        return explain(self.host, self.connect, shlex.join(["ssh", *self._ssh_target, "true"]), stderr)


async def _begin(argv: Sequence[str]) -> asyncio.subprocess.Process:
    """Begin a process in a session of its own, so that Ctrl-C reaches us alone and a step can be finished properly.

    When we are cancelled meanwhile, the process is begun and then ended. Left to itself, asyncio would kill the leader
    alone, and then wait until its children let go of its output.
    """
    beginning = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        with suppress(OSError):
            await _end(await beginning)
        raise


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process with all that it began, unless it has ended."""
    if process.returncode is None:
        kill_group(process.pid)
    while process.returncode is None:  # unlike `wait`, this does not ask for the end of its output as well
        await asyncio.sleep(_REAP_SECONDS)
    # Pipes that a daemon still holds would stay open; asyncio has no public way to close them.
    process._transport.close()  # type: ignore[attr-defined]


def _ssh_target(host: str, connect: str) -> list[str]:
    parts = _CONNECT.fullmatch(connect)
    if parts is None:
        raise ReconcilerError(
            Diagnostic(
                kind=Kind.SPEC,
                summary="connect is not understood",
                detail=f"`connect` of {host} is {connect!r}, which is neither `local` nor an ssh address.",
                hint='Write connect = "local" or connect = "ssh://[user@]name[:port]".',
                address=host,
            )
        )
    user, name, port = parts["user"], parts["name"].strip("[]"), parts["port"]
    return [*(["-p", port] if port else []), *(["-l", user] if user else []), name]


def _as_main(text: str, stdin: str) -> str:
    """Wrap a script into one compound command, which sh reads to its end before it runs it.

    So no command can eat the rest of the script from stdin, and a script that was cut short does nothing.
    """
    return (
        f"{_PROLOGUE}\nmain() (\n{text}\n)\nmain {stdin}\n"
        f'status=$?; [ "$status" -ne {_SSH_FAILED} ] || status={_SSH_FAILED - 1}; exit "$status"\n'
    )


def _for_any_login_shell(script: str) -> str:
    """Make a command line that means the same to sh, csh and fish: it carries the script as octal digits.

    (csh expands `!` even between single quotes, fish reads backslashes there.)
    """
    octal = "".join(f"\\0{byte:03o}" for byte in _bytes(script))
    return f"""/bin/sh -c 'eval "$(printf %b "$1")"' sh '{octal}'"""


def _bytes(script: str) -> bytes:
    """Encode a script to send it. File names that are no UTF-8 stand in it as surrogates, and become bytes again."""
    return script.encode(errors="surrogateescape")


async def _write(stream: asyncio.StreamWriter, chunks: Iterable[bytes]) -> None:
    # A command may end before it has read everything; its exit code then says why.
    rest = iter(chunks)
    with suppress(BrokenPipeError, ConnectionResetError):
        # chunks may come from a file on a slow disk, or on none that answers
        while chunk := next(rest, b"") if isinstance(chunks, list) else await asyncio.to_thread(next, rest, b""):
            stream.write(chunk)
            await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader, into: bytearray) -> None:
    while chunk := await stream.read(_CHUNK_BYTES):
        into += chunk
        if len(into) > MAX_OUTPUT_BYTES:
            raise world_error("too much output", f"A command printed more than {MAX_OUTPUT_BYTES >> 20} MiB.")
