"""`reconciler observe`, and plans by what it wrote: those that the hosts themselves would have given."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.transcript import write_files

SPEC = 'kernel = "/boot/vmlinuz"\nmemory = 256\n'
WITH_DISK = SPEC + '[[disk]]\nvdev = "xvda"\npath = "/srv/web.img"\nsize = "1GiB"\n[[vif]]\nbridge = "br0"\n'
WITH_SECRET = SPEC + '[xl]\nvncpasswd = "hunter{n}"\n'


def planned(run: Run, *options: str) -> dict[str, Any]:
    """The plan without what names its origin."""
    document: dict[str, Any] = json.loads(run("plan", "--json", *options).out)
    del document["digest"]
    document["diagnostics"] = [one for one in document["diagnostics"] if one["summary"] != "no host was asked"]
    return document


@pytest.fixture
def busy(run: Run, tree: Path) -> Path:
    """A host with a disk, a kernel of the tree, an unmanaged domain, drift, and boot inputs that failed."""
    write_files(
        {
            "specs/alpha/host.toml": 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n',
            "specs/alpha/web.toml": WITH_DISK,
            "specs/alpha/mail.toml": 'kernel = "kernels/one"\nmemory = 128\n[xl]\nvncpasswd = "hunter1"\n',
            "specs/kernels/one": "one",
            "specs/kernels/bad": '#!simulated-kernel\nboot = "panic"\n',
        },
        tree,
    )
    run("apply", "--yes")
    (tree / "specs/alpha/mail.toml").write_text('kernel = "kernels/bad"\nmemory = 128\n[xl]\nvncpasswd = "hunter1"\n')
    run("apply", "--yes")  # falls back, and is quarantined
    run("sim", "alpha", "create", "legacy")
    run("sim", "alpha", "set", "web", "memory=128")
    run("sim", "alpha", "destroy", "db")
    return tree


def test_a_plan_by_a_file_is_that_of_the_hosts(run: Run, busy: Path) -> None:
    assert run("observe", "--out", "hosts.json").code == 0
    by_hosts = planned(run)
    assert {change["action"] for change in by_hosts["changes"]} == {"start", "blocked", "update"}
    assert planned(run, "--from", "hosts.json") == by_hosts
    (busy / "specs/alpha/web.toml").write_text(WITH_DISK.replace("memory = 256", "memory = 512"))
    (busy / "specs/alpha/db.toml").unlink()
    assert planned(run, "--from", "hosts.json") == planned(run)


def test_no_host_is_asked_and_nothing_is_remembered(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("apply", "--yes")
    (tree / "hosts.json").write_text(run("observe").out)
    monkeypatch.setenv("RECONCILER_STATE_DIR", str(tree / "nowhere"))
    ran = run("plan", "--from", "hosts.json")
    assert (ran.code, ran.out) == (0, "Nothing to do: all 2 domains are as specified.\n")
    assert re.match(r"What is known of the hosts is \d+ s old\.\n", ran.err)
    assert "no host was asked" in run("plan", "--from", "hosts.json", "--markdown").err
    assert not (tree / "nowhere").exists()


def test_the_same_input_gives_the_same_bytes(run: Run, tree: Path) -> None:
    run("observe", "--out", "hosts.json")
    first, second = (run("plan", "--from", "hosts.json", "--json").out for _ in range(2))
    assert first == second


def test_it_is_read_from_standard_input_as_well(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(run("observe").out))
    assert "2 to create" in run("plan", "--from", "-").out


def test_of_a_secret_a_change_is_seen_and_nothing_else(run: Run, tree: Path) -> None:
    for name in ("web", "db"):
        (tree / f"specs/alpha/{name}.toml").write_text(WITH_SECRET.format(n=1))
    run("apply", "--yes")
    run("observe", "--out", "hosts.json")
    text = (tree / "hosts.json").read_text()
    assert "hunter" not in text
    digests = set(re.findall("secret-[0-9a-f]{32}", text))
    assert len(digests) == 2  # one password of two domains does not look like one
    assert "as specified" in run("plan", "--from", "hosts.json").out
    (tree / "specs/alpha/web.toml").write_text(WITH_SECRET.format(n=2))
    changed = run("plan", "--from", "hosts.json").out
    assert "xl.vncpasswd  (sensitive) → (sensitive)" in changed
    assert "alpha/db" not in changed
    assert set(re.findall("secret-[0-9a-f]{32}", run("observe").out)) == digests  # so two files can be compared
    assert (tree / ".state/observed.key").stat().st_mode & 0o777 == 0o600


def test_a_host_that_is_not_in_it_is_not_observed(run: Run, tree: Path) -> None:
    run("observe", "--out", "hosts.json")
    write_files({"specs/beta/host.toml": 'toolstack = "simulated"\n', "specs/beta/new.toml": SPEC}, tree)
    ran = run("plan", "--from", "hosts.json")
    assert ran.code == 1
    assert "The file says nothing of beta, so nothing is planned there." in ran.err
    assert run("plan", "--from", "hosts.json", "--host", "alpha").code == 0


def test_what_nobody_asked_about_is_told(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    run("observe", "--out", "hosts.json")
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/new"\nmemory = 256\n')
    ran = run("plan", "--from", "hosts.json")
    assert ran.code == 0
    assert "nobody asked about /boot/new: whether it is there, and what it holds, is not known." in ran.err
    assert "→ new (unknown)" in ran.out


def test_another_fleets_is_refused(run: Run, tree: Path) -> None:
    run("observe", "--out", "hosts.json")
    (tree / "specs/reconciler.toml").write_text('fleet = "other"\n')
    ran = run("plan", "--from", "hosts.json")
    assert (ran.code, "the fleet 'default', and the specs are of the fleet 'other'" in ran.err) == (3, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "version": 1, "fleet": "default", "hosts": 3}', "\0"])
def test_what_observe_did_not_write_is_refused(run: Run, tree: Path, text: str) -> None:
    (tree / "odd.json").write_text(text)
    assert run("plan", "--from", "odd.json").code == 3
    assert run("plan", "--from", "missing.json").code == 1


def test_such_a_plan_is_neither_saved_nor_applied(run: Run, tree: Path) -> None:
    run("observe", "--out", "hosts.json")
    assert run("plan", "--from", "hosts.json", "--out", "web.plan").code == 1
    assert not (tree / "web.plan").exists()
    assert run("apply", "hosts.json", "--yes").code == 3
    (tree / "by-file.json").write_text(run("plan", "--from", "hosts.json", "--json").out)
    assert run("apply", "by-file.json", "--yes").code == 3


def test_a_host_that_does_not_answer_is_said_and_left_out(run: Run, tree: Path) -> None:
    write_files({"specs/beta/host.toml": 'toolstack = "simulated"\n'}, tree)
    run("sim", "alpha", "fault", "unreachable")
    ran = run("observe")
    document = json.loads(ran.out)
    assert (ran.code, list(document["hosts"])) == (1, ["beta"])
    assert document["diagnostics"][0]["address"] == "alpha"
    assert run("observe", "gamma").code == 1
    assert list(json.loads(run("observe", "alpha").out)["hosts"]) == ["alpha"]
