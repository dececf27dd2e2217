"""`reconciler status`: of some domains, as an exit code, until all are ready, and again and again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.cli.look import status
from tests.cli.conftest import Run
from tests.transcript import write_files

COMMAND = str(Path(sys.executable).with_name("reconciler"))
BETA = {
    "specs/beta/host.toml": 'toolstack = "simulated"\n',
    "specs/beta/mail.toml": 'kernel = "/boot/vmlinuz"\nmemory = 256\n',
}


def addresses(text: str) -> list[str]:
    return [domain["address"] for domain in json.loads(text)["domains"]]


def test_it_is_about_the_hosts_and_domains_that_are_named(run: Run, tree: Path) -> None:
    write_files(BETA, tree)
    run("apply", "--yes")
    assert addresses(run("status", "--json").out) == ["alpha/db", "alpha/web", "beta/mail"]
    assert addresses(run("status", "--json", "--host", "beta").out) == ["beta/mail"]
    assert addresses(run("status", "--json", "--target", "alpha/web").out) == ["alpha/web"]
    assert addresses(run("status", "--json", "--target", "alpha/web", "--host", "beta").out) == [
        "alpha/web",
        "beta/mail",
    ]
    assert run("status", "--target", "alpha/web").out.count("\n") == 3


def test_what_others_suffer_from_is_not_told(run: Run, tree: Path) -> None:
    write_files({**BETA, "specs/beta/bad.toml": "memroy = 1\n"}, tree)
    run("sim", "beta", "fault", "unreachable", "--times", "9")
    assert (run("status", "--host", "alpha").code, run("status", "--host", "alpha").err) == (0, "")
    assert run("status", "--host", "beta").code == 1
    assert run("status").code == 1


@pytest.mark.parametrize("arguments", [("--host", "alhpa"), ("--target", "alpha/wbe"), ("--target", "nobody")])
def test_a_name_that_nobody_knows_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run("status", "--json", *arguments)
    assert ran.code == 1
    assert json.loads(ran.out)["diagnostics"][0]["kind"] == "usage"


def test_the_exit_code_says_whether_all_of_ours_are_ready(run: Run, tree: Path) -> None:
    assert run("status").code == 0
    assert run("status", "--exit-code").code == 1
    run("apply", "--yes")
    run("sim", "alpha", "create", "legacy")  # of which no spec speaks
    assert run("status", "--exit-code").code == 0
    run("sim", "alpha", "set", "web", "memory=128")
    assert run("status", "--exit-code").code == 1
    assert run("status", "--exit-code", "--target", "alpha/db").code == 0


def test_a_declared_domain_that_is_not_ours_is_not_ready(run: Run, tree: Path) -> None:
    run("sim", "alpha", "create", "web")
    run("apply", "--yes")
    assert "alpha/web  unmanaged" in run("status").out
    assert run("status", "--exit-code").code == 1


def test_waiting_ends_when_all_is_ready(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_LOOK_AGAIN_SECONDS", 0.05)
    applying = threading.Timer(0.3, lambda: subprocess.run([COMMAND, "apply", "--yes"], capture_output=True))
    applying.start()
    ran = run("status", "--wait", "--timeout", "60s")
    applying.join()
    assert ran.code == 0
    assert ran.err.startswith("Waiting for alpha/db (drifted), alpha/web (drifted).\n")
    assert "2 ready" in ran.out


def test_waiting_ends_in_time(run: Run, tree: Path) -> None:
    ran = run("status", "--wait", "--timeout", "100ms")
    assert (ran.code, "2 drifted" in ran.out) == (1, True)
    run("sim", "alpha", "fault", "unreachable", "--times", "99")
    assert run("status", "--wait", "--timeout", "0s").code == 1


def test_nothing_is_waited_for_that_only_a_commit_can_mend(run: Run, tree: Path) -> None:
    (tree / "specs/alpha/web.toml").write_text("memroy = 1")
    assert run("status", "--wait", "--timeout", "1h").code == 4


@pytest.mark.parametrize(
    "arguments", ["--timeout 5s", "--watch --wait", "--watch --exit-code", "--wait --timeout soon"]
)
def test_options_that_contradict_each_other_are_wrong_usage(run: Run, arguments: str) -> None:
    assert run("status", *arguments.split()).code == 1


def test_watching_tells_each_change_until_it_is_interrupted(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    with subprocess.Popen([COMMAND, "status", "--watch", "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        run("sim", "alpha", "destroy", "web")
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=60), process.stdout.read()) == (130, "")
    assert [first["summary"]["ready"], second["summary"]["ready"]] == [2, 1]


def test_watching_on_a_terminal_draws_anew(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("apply", "--yes")
    looks = []

    def rest(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    # the clock of this module alone: others sleep beside it
    clock = SimpleNamespace(sleep=rest, monotonic=time.monotonic)
    monkeypatch.setattr("reconciler.cli.look.status.time", clock)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: True)
    assert run("status", "--watch").out.split("\x1b[H\x1b[2J")[1:] == [run("status").out] * 2
