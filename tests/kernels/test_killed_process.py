"""The process is killed for good (SIGKILL) somewhere in an update, by the clock and not between two steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from .fleet import BETTER, GOOD, Fleet

_RUN = "import sys; from reconciler.cli import run; sys.exit(run(sys.argv[1:]))"


@pytest.mark.parametrize("bad", [False, True], ids=["good kernel", "bad kernel"])
@pytest.mark.parametrize("after_seconds", [0.05, 0.25, 0.5, 0.8])
def test_killed_by_the_clock(running: Fleet, after_seconds: float, bad: bool) -> None:
    slow = 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nsimulated = { latency = "100ms" }\n'
    neighbour = running.boot("db")
    running.write("alpha/host.toml", slow)
    running.kernel("web", 'boot = "hang"' if bad else BETTER)
    command = [sys.executable, "-c", _RUN, "apply", "--yes"]
    process = subprocess.Popen(command, cwd=running.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.readline()  # the first step begins
    time.sleep(after_seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    running.write("alpha/host.toml", 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n')
    running.apply()
    last = running.apply()
    assert running.runs() == (GOOD if bad else BETTER), last.out
    assert last.code == (3 if bad else 0)
    assert running.boot("db") == neighbour
    assert "/srv/web" in running.host().files
    assert not running.guest().unproven
