"""What `watch` takes and refuses on the command line, and what `status` tells of it."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

import pytest

from reconciler import cli
from reconciler.inspect.status import Condition
from reconciler.watch.conditions import DomainCondition, WatchRecord, store
from reconciler.watch.logs import Log
from reconciler.watch.process import Notifier
from tests.transcript import isolate
from tests.watch.conftest import START, World, look

FAILED, INVALID = 1, 4


@pytest.fixture(autouse=True)
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(world.folder, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "60"], 'a string such as "90s"'),
        (["--interval", "0s"], "it must be 1s at least"),
        (["specs", "--git", "https://example.org/x.git"], "exclude each other"),
        (["--git", ""], "needs a URL"),
        (["--branch", "x"], "need --git"),
        (["--git", "x", "--branch", "*"], "no name that git allows"),
        (["--git", "x", "--branch", "ma in"], "no name that git allows"),
        (["--git", "x", "--path", "a/../.."], "within the repository"),
        (["--path", "x"], "need --git"),
        (["--require-signed", "head"], "need --git"),
        (["--git", "x", "--require-signed", "head"], "needs --allowed-signers"),
        (["--git", "x", "--require-signed", "head", "--allowed-signers", "nowhere"], "nowhere"),
        (["--token-file", "x"], "needs --listen"),
        (["--listen", "nonsense", "--once"], "nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["watch", *arguments]) == FAILED
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_signers_that_are_no_text(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.folder / "signers").write_bytes(b"\xff\xfe")
    options = ["--git", "x", "--require-signed", "head", "--allowed-signers", "signers"]
    assert cli.run(["watch", *options]) == FAILED
    assert "is not UTF-8" in capsys.readouterr().err


def test_a_spec_folder_in_the_environment_is_no_contradiction_to_git(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECONCILER_SPECS", "specs")
    assert cli.run(["watch", "--once", "--git", "/nowhere"]) == FAILED
    assert "the git repository cannot be read" in capsys.readouterr().err


STRANGE = os.fsdecode(b"sp\xff")


def test_a_folder_whose_name_is_no_utf8(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.specs.rename(world.folder / STRANGE)
    assert cli.run(["watch", STRANGE, "--once"]) == 0
    assert cli.run(["status", STRANGE]) == 0
    assert "sp\\udcff): its last pass ended" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [(["no" + STRANGE], INVALID), (["--git", STRANGE], FAILED)])
def test_a_source_whose_name_is_no_utf8_and_that_is_not_there(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["watch", *arguments, "--once"]) == code
    assert "bug" not in capsys.readouterr().err


def test_the_record_is_for_its_owner_only(world: World) -> None:
    look(world.watcher())
    assert (world.state_dir / "watch.json").stat().st_mode & 0o777 == 0o600


def test_what_a_host_says_need_not_be_utf8(world: World) -> None:
    said = DomainCondition(condition=Condition.STALLED, reason=STRANGE, since="")
    store(world.state_dir, WatchRecord(process=1, source="specs", domains={"alpha/web": said}))
    assert world.record().domains["alpha/web"].reason == "sp?"


def test_status_tells_what_watch_does_not_call_ready(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status"]) == 0
    assert "Watch" not in capsys.readouterr().out
    look(world.watcher())
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\nreconcile = false\n')
    world.hand.destroy("web")
    look(world.watcher())
    assert cli.run(["status"]) == 0
    out = capsys.readouterr().out
    assert "its last pass ended 2023-11-14T22:13:20Z" in out
    assert "alpha/web  Held since 2023-11-14T22:13:20Z: held: its spec says reconcile = false" in out
    assert "alpha/db  Ready" not in out


def test_status_tells_where_a_problem_is(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write(web="memory = \n")
    look(world.watcher())
    world.write(web='kernel = "/boot/vmlinuz"\nmemory = 256\n')
    assert cli.run(["status"]) == 0
    assert f"  {world.specs}/alpha/web.toml:1:10: Invalid TOML: " in capsys.readouterr().out


def test_a_record_of_an_earlier_version_has_problems_without_a_place(world: World) -> None:
    world.state_dir.mkdir()
    problem = {"summary": "host unreachable", "detail": "It does not answer.", "hint": None}
    (world.state_dir / "watch.json").write_text(json.dumps({"process": 1, "source": "specs", "problems": [problem]}))
    assert [known.place for known in world.record().problems] == [None]


def test_status_json_has_conditions(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    watcher = world.watcher()
    look(watcher)
    assert cli.run(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    known = {one["address"]: (one["condition"], one["since"]) for one in document["domains"]}
    assert known == dict.fromkeys(("alpha/web", "alpha/db"), ("Ready", "2023-11-14T22:13:20Z"))
    assert document["watch"]["source"] == str(world.specs)
    assert document["watch"]["stopped"] is None
    assert [one["condition"] for one in watcher.status_document()["domains"]] == ["Ready", "Ready"]


def test_before_the_first_pass_there_is_nothing_to_show(world: World) -> None:
    watcher = world.watcher()
    assert watcher.status_document()["domains"] == []
    assert watcher.plan() is None
    assert not watcher.is_ready()
    look(watcher)
    assert watcher.is_ready()
    assert watcher.is_healthy()
    assert watcher.metrics().passes_total == 1


def test_a_pass_that_hangs_is_not_healthy(world: World) -> None:
    watcher = world.watcher()
    look(watcher)
    world.clock.seconds += 3600
    assert not watcher.is_healthy()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ('a "quote" and \\', '"a \\"quote\\" and \\\\"'),
        ("line\nlevel=error \x1b[31m", '"line\\nlevel=error \\x1b[31m"'),
        ("", '""'),
        (True, "true"),
        (1.5, "1.5"),
    ],
)
def test_a_log_line_is_one_line_of_plain_characters(value: str | bool | float, shown: str) -> None:
    stream = io.StringIO()
    Log(stream, as_json=False, now=lambda: START).say("it happened", value=value, absent=None)
    assert stream.getvalue() == f'time=2023-11-14T22:13:20Z level=info event="it happened" value={shown}\n'


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Log(Broken(), as_json=True, now=lambda: START).say("it happened")
    Log(None, as_json=True, now=lambda: START).say("it happened")


def test_notify_speaks_to_a_path_and_an_abstract_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + tmp_path.name)
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + tmp_path.name}).tell("READY=1")
        assert manager.recv(100) == b"READY=1"
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")
    Notifier({}).tell("READY=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_heeded_when_it_is_ours(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_seconds == seconds
