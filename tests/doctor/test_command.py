"""The command on simulated hosts: one that does not answer is one finding, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler import cli
from tests.transcript import isolate, write_files

HOST = 'toolstack = "simulated"\n'


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    isolate(tmp_path, monkeypatch)
    files = {"specs/alpha/host.toml": HOST, "specs/beta/host.toml": HOST, "auto.cfg": "memory = 1\n"}
    write_files(files, tmp_path)
    return tmp_path


def test_a_host_that_does_not_answer_is_one_finding(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["sim", "alpha", "fault", "unreachable"])
    cli.run(["sim", "beta", "put", "/etc/xen/auto/theirs.cfg", "auto.cfg"])
    capsys.readouterr()
    assert cli.run(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [(one["host"], one["check"], one["state"]) for one in document["findings"]] == [
        ("alpha", "observed", "found"),
        ("beta", "autostart", "found"),
    ]
    assert all(one["breaks"] and one["hint"] for one in document["findings"])
    assert {name: host["observed"] for name, host in document["hosts"].items()} == {"alpha": False, "beta": True}
    assert document["summary"] == {"found": 2, "unknown": 0, "ok": 15}


def test_only_the_hosts_that_are_named_are_asked(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["sim", "alpha", "fault", "unreachable"])
    capsys.readouterr()
    assert cli.run(["doctor", "beta"]) == 0
    assert capsys.readouterr().out == "0 found, 16 ok.\n"
    assert cli.run(["doctor", "gamma"]) == 1
    assert "alpha, beta" in capsys.readouterr().err


def test_a_host_whose_file_has_errors_is_told_and_the_others_go_on(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "specs/alpha/host.toml").write_text("toolstack = 7\n")
    assert cli.run(["doctor"]) == 4
    told = capsys.readouterr()
    assert (told.out, "alpha/host.toml:1:13" in told.err) == ("0 found, 16 ok.\n", True)


def test_a_full_disk_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["sim", "alpha", "fault", "disk-full"])
    capsys.readouterr()
    assert cli.run(["doctor", "alpha"]) == 0
    assert "0 MiB are free where kernel_dir /var/lib/xen/kernels is" in capsys.readouterr().out
