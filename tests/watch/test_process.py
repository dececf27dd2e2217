"""The command as a process of its own: signals, the service manager, two of them at once, what they leave behind."""

from __future__ import annotations

import json
import resource
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler import cli
from reconciler.watch.process import open_many_files
from tests.transcript import write_files
from tests.watch.conftest import HOST, SOON_SECONDS, Begin, World, until

DONE, FAILED, REFUSED, INVALID, INTERRUPTED = 0, 1, 3, 4, 130
SLOW_HOST = 'toolstack = "simulated"\nparallel = 1\n[simulated]\nlatency = "150ms"\n'
DOMAIN = 'kernel = "/boot/vmlinuz"\nmemory = 64\n'


def test_it_watches_repairs_and_ends_with_0(world: World, begin: Begin) -> None:
    watch = begin("specs", "--interval", "1s")
    watch.wait_for("ready=2")
    world.hand.destroy("web")
    watch.wait_for("drifted=1")
    until(lambda: world.guest("web") and world.running().running)
    write_files({"specs/alpha/ns.toml": DOMAIN}, world.folder)
    watch.wait_for("ready=3")
    assert watch.end() == DONE
    assert watch.said("watch ended")
    assert world.record().stopped is not None


def test_sigterm_amid_an_apply_finishes_the_step_and_leaves_the_rest(world: World, begin: Begin) -> None:
    write_files({"specs/alpha/host.toml": SLOW_HOST}, world.folder)
    world.write(ns=DOMAIN)
    watch = begin("specs")
    watch.wait_for('event="step done"')
    assert watch.end() == DONE
    log = watch.log.read_text()
    assert "asked to stop" in log
    assert log.count('event="step begun"') == log.count('event="step done"')
    assert 'event="step left out"' in log
    assert 'event="step failed"' not in log
    write_files({"specs/alpha/host.toml": HOST}, world.folder)
    again = begin("specs")
    again.wait_for("ready=3")
    assert again.end() == DONE


def test_a_domain_that_is_down_for_a_restart_is_brought_back_first(world: World, begin: Begin) -> None:
    assert begin("specs", "--once").process.wait(SOON_SECONDS) == DONE
    write_files({"specs/alpha/host.toml": SLOW_HOST}, world.folder)
    world.write(web='kernel = "/boot/other"\nmemory = 256\n', db='kernel = "/boot/other"\nmemory = 512\n')
    watch = begin("specs")
    watch.wait_for('step="shut down')
    assert watch.end() == DONE
    web, db = world.running("web").running, world.running("db").running
    assert web is not None
    assert db is not None
    assert web.kernel is not None
    assert db.kernel is not None
    assert sorted((web.kernel.path.rpartition("/")[2][:5], db.kernel.path.rpartition("/")[2][:5])) == ["other", "vmlin"]


def test_a_second_signal_leaves_at_once(world: World, begin: Begin) -> None:
    write_files({"specs/alpha/host.toml": SLOW_HOST.replace("150ms", "20s")}, world.folder)
    watch = begin("specs")
    time.sleep(0.1)
    until(lambda: watch.said("watch begins"))
    watch.process.send_signal(signal.SIGTERM)
    watch.wait_for("asked to stop")
    began = time.monotonic()
    assert watch.end() == INTERRUPTED
    assert time.monotonic() - began < 5


def test_a_signal_before_the_loop_is_an_end_like_any_other(world: World, begin: Begin) -> None:
    """The parts of the loop take most of the time until then, so they are made to take longer."""
    slow = world.folder / "slow/sitecustomize.py"
    slow.parent.mkdir()
    slow.write_text(
        "import pathlib, sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'reconciler.watch.loop':\n"
        "            pathlib.Path('begun').touch(); time.sleep(30)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    watch = begin("specs", PYTHONPATH=str(slow.parent))
    until((world.folder / "begun").exists)
    assert watch.end() == DONE


def test_ctrl_c_is_an_interruption(begin: Begin) -> None:
    watch = begin("specs")
    watch.wait_for("ready=2")
    assert watch.end(signal.SIGINT) == INTERRUPTED


def test_status_tells_whether_it_runs(world: World, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    def told() -> str:
        assert cli.run(["--state-dir", str(world.state_dir), "status", "specs"]) == DONE
        return capsys.readouterr().out

    watch = begin("specs")
    watch.wait_for("ready=2")
    assert "it no longer runs" not in told()
    watch.process.kill()
    watch.process.wait()
    assert ", and it no longer runs, although nobody stopped it." in told()


def test_sighup_asks_for_a_look(world: World, begin: Begin) -> None:
    watch = begin("specs", "--interval", "1h")
    watch.wait_for("ready=2")
    world.hand.destroy("web")
    watch.process.send_signal(signal.SIGHUP)
    watch.wait_for("because=asked")
    assert world.running().running is not None
    assert watch.end() == DONE


def test_two_of_them_do_the_work_once(world: World, begin: Begin) -> None:
    world.write(**{f"d{number}": DOMAIN for number in range(6)})
    both = [begin("specs", "--interval", "1s"), begin("specs", "--interval", "1s")]
    for watch in both:
        watch.wait_for("ready=8")
    assert [watch.end() for watch in both] == [DONE, DONE]
    starts = [watch.log.read_text().count('event="step done" address=alpha/d0 step=start') for watch in both]
    assert sum(starts) == 1
    assert not any(watch.said("Traceback") or watch.said("step failed") for watch in both)


def test_the_service_manager_is_told(world: World, begin: Begin) -> None:
    path = world.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(SOON_SECONDS)
        watch = begin("specs", NOTIFY_SOCKET=str(path), WATCHDOG_USEC="300000")
        heard: set[bytes] = set()
        while not {b"READY=1", b"WATCHDOG=1", b"STATUS=2 Ready"} <= heard:
            heard.add(manager.recv(4096))
        assert watch.end() == DONE
        while b"STOPPING=1" not in heard:
            heard.add(manager.recv(4096))


def test_a_first_pass_that_takes_long_is_no_start_that_takes_long(world: World, begin: Begin) -> None:
    write_files({"specs/alpha/host.toml": SLOW_HOST.replace("150ms", "1s")}, world.folder)
    path = world.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(SOON_SECONDS)
        watch = begin("specs", NOTIFY_SOCKET=str(path))
        assert manager.recv(4096) == b"READY=1"
        assert not watch.said("pass ended")
        assert watch.end() == DONE
        manager.setblocking(False)
        heard = [b"READY=1"]
        with suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(4096))
    assert [state for state in heard if not state.startswith(b"STATUS=")] == [b"READY=1", b"STOPPING=1"]


def test_json_logs_are_json(begin: Begin) -> None:
    watch = begin("specs", "--once", "--log-format", "json")
    assert watch.process.wait(SOON_SECONDS) == DONE
    events = [json.loads(line) for line in watch.log.read_text().splitlines()]
    assert events[0]["event"] == "watch begins"
    assert {event["level"] for event in events} == {"info"}
    assert next(event for event in events if event["event"] == "pass ended")["steps_done"] == 10
    (of_pass,) = {event["pass"] for event in events if "pass" in event}
    assert [event["event"] for event in events if "pass" not in event] == ["watch begins", "watch ended"]
    assert len(of_pass) == 8


def test_it_serves_while_it_watches(world: World, begin: Begin) -> None:
    token = world.folder / "token"
    token.write_text("s3cret-s3cret-s3cret\n")
    token.chmod(0o640)
    watch = begin("specs", "--interval", "1h", "--listen", "0", "--token-file", str(token))
    watch.wait_for("event=serving")
    (line,) = [line for line in watch.log.read_text().splitlines() if "event=serving" in line]
    url = line.partition("url=")[2]
    assert watch.said("others can read the token")
    watch.wait_for("ready=2")
    with urllib.request.urlopen(f"{url}api/status", timeout=SOON_SECONDS) as answer:
        document = json.load(answer)
    assert (document["watch"]["process"], document["watch"]["runs"]) == (watch.process.pid, True)
    assert {(one["address"], one["condition"]) for one in document["domains"]} == {
        ("alpha/web", "Ready"),
        ("alpha/db", "Ready"),
    }
    world.hand.destroy("web")
    ask = urllib.request.Request(f"{url}reconcile", method="POST")
    ask.add_header("Authorization", "Bearer s3cret-s3cret-s3cret")
    with urllib.request.urlopen(ask, timeout=SOON_SECONDS) as answer:
        assert answer.status == 202
    watch.wait_for("because=asked")
    assert world.running().running is not None
    assert watch.end() == DONE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda specs: None, DONE),
        (lambda specs: (specs / "alpha/web.toml").write_text("memory = \n"), INVALID),
        (lambda specs: (specs / "alpha/host.toml").unlink(), INVALID),
        (lambda specs: (specs / "alpha/web.toml").write_text(DOMAIN.replace("64", "99999")), REFUSED),
    ],
    ids=["fine", "broken domain", "no host", "does not fit"],
)
def test_once_ends_as_an_apply_would(world: World, begin: Begin, change: Callable[[Path], object], code: int) -> None:
    change(world.specs)
    assert begin("specs", "--once").process.wait(SOON_SECONDS) == code


def test_it_may_open_as_many_files_as_its_machine_lets_it() -> None:
    """It holds three for each host that it listens to, and 1,024 are what it has until it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
        open_many_files()
        now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert now == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
        open_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (now, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
