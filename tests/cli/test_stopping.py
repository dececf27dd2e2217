"""Signals: the first one ends what is in flight and brings back what is down, the second one leaves; nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.transcript import write_files

from .conftest import Run

COMMAND = str(Path(sys.executable).with_name("reconciler"))
SLOW = 'toolstack = "simulated"\nparallel = 1\n[simulated]\nlatency = "100ms"\n'
QUICK = 'toolstack = "simulated"\n'
MARK = "RECONCILER_TEST_OF_STOPPING"


IN_THE_NEXT_STEP_SECONDS = 0.1


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """A shell has what it starts in the background ignore them, and that is inherited, by tests as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(process: subprocess.Popen[str], words: str) -> None:
    """Read what it tells until it has said this."""
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, f"it ended without saying {words!r}"


@pytest.fixture
def restarting(tree: Path, run: Run) -> Path:
    """Two running domains, each of which another kernel is asked for, on a host that takes its time."""
    for name in ("web", "db"):
        write_files({f"specs/alpha/{name}.toml": f'kernel = "kernels/{name}"\nmemory = 256\n'}, tree)
        write_files({f"specs/kernels/{name}": "old"}, tree)
    assert run("apply", "--yes").code == 0
    write_files({"specs/kernels/web": "new", "specs/kernels/db": "new", "specs/alpha/host.toml": SLOW}, tree)
    return tree


def running(tree: Path, run: Run) -> list[str]:
    write_files({"specs/alpha/host.toml": QUICK}, tree)
    lines = run("sim", "alpha", "list").out.splitlines()
    return [line.split()[0] for line in lines if "running" in line]


@pytest.mark.parametrize(
    ("number", "code", "words", "command"),
    [
        (signal.SIGINT, 130, ": stage ", "apply"),
        (signal.SIGINT, 130, "as a candidate: done", "apply"),
        (signal.SIGTERM, 143, "as a candidate: done", "plan file"),
        (signal.SIGTERM, 143, ": shut down", "apply"),
        (signal.SIGHUP, 129, "as a candidate: done", "apply"),
    ],
)
def test_the_first_signal_brings_back_what_is_down_and_begins_nothing_more(
    restarting: Path, run: Run, number: signal.Signals, code: int, words: str, command: str
) -> None:
    arguments = ["apply", "--yes"]
    if command == "plan file":
        assert run("plan", "--out", "saved").code == 0
        arguments = ["apply", "saved", "--yes"]
    process = start(*arguments)
    until(process, words)
    time.sleep(IN_THE_NEXT_STEP_SECONDS)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Asked to stop" in err
    assert "Traceback" not in err
    assert "not begun, since apply was" in out
    assert running(restarting, run) == ["db", "web"]
    assert err.count("start from the candidate: done") <= 1


def test_a_rollback_heeds_them_too(restarting: Path, run: Run) -> None:
    write_files({"specs/alpha/host.toml": QUICK}, restarting)
    assert run("apply", "--yes").code == 0
    write_files({"specs/alpha/host.toml": SLOW}, restarting)
    process = start("rollback", "alpha/web", "--yes")
    until(process, "as a candidate: done")
    time.sleep(IN_THE_NEXT_STEP_SECONDS)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert running(restarting, run) == ["db", "web"]


def test_the_second_one_leaves_at_once_and_still_prints_the_document(restarting: Path) -> None:
    write_files({"specs/alpha/host.toml": SLOW.replace("100ms", "2s")}, restarting)
    process = start("apply", "--yes", "--json")
    until(process, ": done")
    time.sleep(IN_THE_NEXT_STEP_SECONDS)
    process.send_signal(signal.SIGINT)
    until(process, "Asked to stop")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "Left at once." in err
    document = json.loads(out)
    assert {entry["problem"]["summary"] for entry in document["failed"]} == {"interrupted"}
    assert all(entry["reason"].startswith("not begun, since apply was interrupted") for entry in document["skipped"])
    steps = [entry["step"] for part in ("done", "failed", "skipped") for entry in document[part]]
    assert len(steps) == len(set(steps)) > 5


@dataclass(frozen=True)
class SlowHost:
    """A host behind a stand-in for ssh, which has a master like the real one and never gets an answer."""

    folder: Path

    def left_over(self) -> list[str]:
        """What stays; a process that was killed is given a moment to be gone."""
        deadline = time.monotonic() + 5
        while (found := self._there()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _there(self) -> list[str]:
        """Processes that carry our mark, and folders of ours in /tmp."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if f"{MARK}={self.folder}\0".encode() in environ.read_bytes():
                    found.append(command)
            except OSError:
                continue
        sockets = (self.folder / "sockets").read_text().split() if (self.folder / "sockets").exists() else []
        return [*found, *(socket for socket in sockets if Path(socket).parent.exists())]

    def until_asked(self) -> None:
        deadline = time.monotonic() + 30
        while not (self.folder / "asked").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def slow(tree: Path, monkeypatch: pytest.MonkeyPatch) -> SlowHost:
    ssh = f"""#!/bin/sh
for word; do case $word in *ControlPath=*) socket=${{word#*ControlPath=}};; esac; done
case "$*" in *"-O exit"*) kill "$(cat "$socket")"; rm "$socket"; exit;; esac
echo "$socket" >>{tree}/sockets
setsid sleep 300 </dev/null >/dev/null 2>&1 &
echo "$!" >"$socket"
: >{tree}/asked
sleep 300
"""
    write_files({"bin/ssh": ssh}, tree)
    (tree / "bin/ssh").chmod(0o755)
    write_files({"specs/alpha/host.toml": 'toolstack = "xl"\nconnect = "ssh://alpha"\n'}, tree)
    write_files({"specs/reconciler.toml": 'fleet = "test"\n'}, tree)
    monkeypatch.setenv("PATH", f"{tree / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(MARK, str(tree))
    return SlowHost(tree)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["plan", "status", "apply", "watch"])
def test_nothing_stays_behind(slow: SlowHost, command: str, number: signal.Signals, times: int) -> None:
    process = start(command, *(["--yes"] if command == "apply" else []))
    slow.until_asked()
    for _ in range(times):
        if process.poll() is None:
            process.send_signal(number)
        time.sleep(0.3)
    _, err = process.communicate(timeout=20)
    assert slow.left_over() == []
    of_watch = (0, 130)  # ended as asked, or at the second one
    codes = of_watch if command == "watch" else (143,)
    assert process.returncode in ((130,) if number is signal.SIGINT else codes)
    assert "Traceback" not in err


def test_nothing_stays_behind_when_the_terminal_is_closed(slow: SlowHost) -> None:
    process = start("plan")
    slow.until_asked()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=20)
    assert slow.left_over() == []
    assert process.returncode == 129


def test_nothing_stays_behind_after_an_error(slow: SlowHost) -> None:
    (slow.folder / "bin/ssh").write_text("#!/bin/sh\nexit 255\n")
    process = start("plan")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "alpha" in err
    assert slow.left_over() == []


def test_a_missing_ssh_is_told_by_the_command_and_leaves_no_folder(slow: SlowHost) -> None:
    (slow.folder / "bin/ssh").unlink()
    process = start("plan", PATH=str(slow.folder / "bin"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Install OpenSSH's client" in err
    assert "No such file" not in err
    assert not list(Path("/tmp").glob(f"reconciler-{process.pid}-*"))
