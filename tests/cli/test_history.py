"""`reconciler history`, and that neither a broken nor an unwritable history does harm."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from reconciler.apply.history import History
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.plan.plan import Plan
from reconciler.plan.steps import PlannedStep, SetAutostart
from tests.cli.conftest import Run

DONE, FAILED = 0, 1
APPLIES_AT_ONCE, APPLIES_EACH = 4, 10


def test_an_empty_history_says_so_and_makes_no_file(run: Run, tree: Path) -> None:
    shown = run("history")
    assert (shown.code, shown.out, shown.err) == (DONE, "Nothing was applied yet.\n", "")
    assert json.loads(run("history", "--json").out) == {"format": 1, "applies": []}
    assert not (tree / ".state").exists()


def test_each_apply_is_a_line_newest_first(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 128\n')
    run("apply", "--yes")
    run("apply", "--yes")  # nothing to do, so nothing was done
    header, second, first = run("history").out.splitlines()
    assert header.split() == [
        "when",
        "(UTC)",
        "commit",
        "signer",
        "by",
        "digest",
        "done",
        "failed",
        "skipped",
        "took",
        "domains",
    ]
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  -  +-  +ann@desk  [0-9a-f]{12} +10 +0 +0  [\d.]+ s +alpha/db, alpha/web"
    assert re.fullmatch(line, first)
    assert first.split()[5] != second.split()[5]


def test_it_is_narrowed_to_hosts_domains_times_and_a_number(run: Run, tree: Path) -> None:
    def told(*options: str) -> list[list[str]]:
        applies = json.loads(run("history", "--json", *options).out)["applies"]
        return [sorted({step["address"] for step in apply["steps"]}) for apply in applies]

    run("apply", "--yes")
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 128\n')
    run("apply", "--yes")
    assert told() == told("--host", "alpha") == [["alpha/web"], ["alpha/db", "alpha/web"]]
    assert told("--target", "alpha/db") == [["alpha/db"]]
    assert told("--target", "alpha/db", "--host", "alpha") == told()
    assert told("--limit", "1") == told("--limit", "1", "--since", "7d") == [["alpha/web"]]
    assert told("--target", "alpha/db", "--limit", "1") == [["alpha/db"]]
    with sqlite3.connect(tree / ".state/history.sqlite") as database:
        database.execute("UPDATE apply SET began = '2026-01-01T00:00:00.000Z' WHERE id = 1")
    assert told("--since", "1h") == told("--since", "48h") == [["alpha/web"]]
    text = run("history", "--limit", "1").out
    assert "These are the last 1; --limit 2 tells of more, --json of all." in text


def test_what_history_and_specs_do_not_know_is_wrong_usage(run: Run, tree: Path) -> None:
    assert run("history", "--target", "alpha/web").out == "Nothing of that was applied.\n"
    assert 'Did you mean "alpha"?' in run("history", "--host", "alhpa").err
    assert "host/domain" in run("history", "--target", "wbe").err
    assert run("history", "--since", "soon").code == run("history", "--limit", "0").code == FAILED


def test_what_failed_is_told_with_its_problem(run: Run, tree: Path) -> None:
    run("sim", "alpha", "fault", "create-fails")
    assert run("apply", "--yes", "--target", "alpha/web").code == FAILED
    _, line, problem = run("history").out.splitlines()
    assert line.split()[7:9] == ["1", "2"]
    assert problem.startswith("  failed: alpha/web: start: xl create of web failed")


def test_json_tells_every_step_and_the_digest_of_the_plan(run: Run, tree: Path) -> None:
    digest = json.loads(run("plan", "--json").out)["digest"]
    run("apply", "--yes")
    (apply,) = json.loads(run("history", "--json").out)["applies"]
    assert (apply["digest"], apply["commit"], apply["signer"]) == (digest, None, None)
    assert apply["summary"] == {"planned": 10, "done": 10, "failed": 0, "skipped": 0}
    ready = [step for step in apply["steps"] if step["kind"] == "await_ready"]
    assert {step["address"] for step in ready} == {"alpha/web", "alpha/db"}
    assert all(step["outcome"] == "done" and step["seconds"] > 0 for step in ready)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="signs a commit with an ssh key")
def test_the_commit_and_who_signed_it_are_kept(run: Run, tree: Path) -> None:
    keys = tree / "keys"
    keys.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / "ann")], check=True)
    (keys / "allowed").write_text(f"ann@example.org {(keys / 'ann.pub').read_text()}")
    settings = {
        "user.name": "Ann",
        "user.email": "ann@example.org",
        "gpg.format": "ssh",
        "user.signingkey": str(keys / "ann.pub"),
        "gpg.ssh.allowedSignersFile": str(keys / "allowed"),
    }
    (tree / ".gitignore").write_text(".state\nkeys\n")
    subprocess.run(["git", "init", "--quiet"], check=True)
    for key, value in settings.items():
        subprocess.run(["git", "config", key, value], check=True)
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "--quiet", "-S", "--message=Begin"], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert run("apply", "--yes").code == DONE
    (apply,) = json.loads(run("history", "--json").out)["applies"]
    assert (apply["commit"], apply["signer"]) == (commit, "ann@example.org")
    assert f"  {commit[:12]}  ann@example.org  " in run("history").out


def test_an_apply_that_was_cut_short_is_known(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    with sqlite3.connect(tree / ".state/history.sqlite") as database:
        database.execute("UPDATE apply SET ended = NULL")
        database.execute("DELETE FROM step WHERE position > 3")
    _, line, remark = run("history").out.splitlines()
    assert "never ended" in line
    assert remark == "  7 of 10 steps are not known to have ended: it was cut short, or still runs."


def test_after_a_restart_the_next_plan_knows_how_long_it_takes(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    for memory, known in ((300, False), (400, True)):
        (tree / "specs/alpha/web.toml").write_text(f'kernel = "/boot/vmlinuz"\nmemory = {memory}\n')
        changes = {change["address"]: change for change in json.loads(run("plan", "--json").out)["changes"]}
        assert (changes["alpha/web"]["downtime_seconds"] is not None) == known
        assert changes["alpha/db"]["downtime_seconds"] == 0
        assert run("apply", "--yes").code == DONE
    assert changes["alpha/web"]["downtime_seconds"] > 1


def test_a_way_back_that_was_taken_is_no_measure_of_a_restart(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    (tree / "specs/kernels").mkdir()
    (tree / "specs/kernels/linux").write_text('#!simulated-kernel\nboot = "panic"\n')
    (tree / "specs/alpha/web.toml").write_text('kernel = "kernels/linux"\nmemory = 256\n')
    assert run("apply", "--yes").code == FAILED
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 300\n')
    changes = {change["address"]: change for change in json.loads(run("plan", "--json").out)["changes"]}
    assert (changes["alpha/web"]["action"], changes["alpha/web"]["downtime_seconds"]) == ("restart", None)


def broken(file: Path) -> None:
    file.write_bytes(b"this is no database" * 100)


def of_a_later_version(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")


def a_folder(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize("spoil", [broken, of_a_later_version, a_folder])
def test_a_history_that_cannot_be_used_stops_apply_before_it_begins_and_no_plan(
    run: Run, tree: Path, spoil: object
) -> None:
    assert callable(spoil)
    (tree / ".state").mkdir()
    spoil(tree / ".state/history.sqlite")
    for command in (["history"], ["history", "--json"], ["apply", "--yes"]):
        failed = run(*command)
        assert failed.code == FAILED
        assert "the history cannot be used" in failed.err
        assert "hint: name another folder with --state-dir" in failed.err
    assert json.loads(run("sim", "alpha", "list", "--json").out)["domains"] == []
    planned = run("plan")
    assert planned.code == DONE
    assert "note: the history cannot be used" in planned.err
    assert run("why", "alpha/web").code == DONE


def test_an_empty_file_is_an_empty_history(run: Run, tree: Path) -> None:
    (tree / ".state").mkdir()
    (tree / ".state/history.sqlite").touch()
    assert run("history").out == "Nothing was applied yet.\n"
    assert run("plan").err == ""
    assert run("apply", "--yes").code == DONE


def test_a_history_in_a_folder_that_nobody_may_write_can_be_read(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply", "--yes")
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    assert len(run("history").out.splitlines()) == 2
    assert not list((tree / ".state").glob("history.sqlite-*"))


def test_where_there_can_be_no_state_directory_apply_says_so_and_plan_works(run: Run, tree: Path) -> None:
    (tree / "file").touch()
    assert run("--state-dir", "file/state", "plan").code == DONE
    failed = run("--state-dir", "file/state", "apply", "--yes")
    assert failed.code == FAILED
    assert "--state-dir" in failed.err


def on_a_full_disk(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that cannot write a byte into any file."""

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    command = [sys.executable, "-c", "from reconciler.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=no_room)


def test_on_a_full_disk_apply_says_so_before_it_begins_and_plan_works(run: Run, tree: Path) -> None:
    assert on_a_full_disk("plan").returncode == DONE
    failed = on_a_full_disk("apply", "--yes")
    assert failed.returncode == FAILED
    assert "error:" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "begun" not in failed.stderr


def record_some(state_dir: Path) -> None:
    plan = Plan(commit=None, hosts={}, changes=(), steps=(), ledger=(), unmanaged=(), diagnostics=(), base={})
    for _ in range(APPLIES_EACH):
        with History(state_dir).recording(plan, None) as recording:
            recording.end(result=ApplyResult())


def noted(state_dir: Path, spoil: Callable[[sqlite3.Connection], object]) -> tuple[list[str], str | None]:
    """The steps in the history of an apply of three, noted at once, and its problem, when its database was spoilt."""
    plan = Plan(commit=None, hosts={}, changes=(), steps=(), ledger=(), unmanaged=(), diagnostics=(), base={})
    with History(state_dir).recording(plan, None) as recording:
        spoil(recording._database)
        goes_on = Event()
        recording._writer.submit(goes_on.wait)
        for number in range(3):
            step = PlannedStep(id=f"s{number}", host="alpha", step=SetAutostart(domain="web", order=None))
            recording.note(StepResult(step=step))
        goes_on.set()
        recording.end(ApplyResult())
    (record,) = History(state_dir).records()
    return [step.step for step in record.steps], recording.problem


def test_a_step_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    told = noted(
        tmp_path,
        lambda database: database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON step WHEN NEW.position = 2 BEGIN SELECT RAISE(ABORT, 'not this'); END"
        ),
    )
    assert told == (["s0", "s2"], "not this")


def test_an_apply_whose_history_can_take_nothing_ends(tmp_path: Path) -> None:
    steps, problem = noted(tmp_path, sqlite3.Connection.close)
    assert steps == []
    assert "closed" in (problem or "")


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=record_some, args=(tmp_path,)) for _ in range(APPLIES_AT_ONCE)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * APPLIES_AT_ONCE
    records = History(tmp_path).records()
    assert len(records) == APPLIES_AT_ONCE * APPLIES_EACH
    assert all(record.ended is not None for record in records)
