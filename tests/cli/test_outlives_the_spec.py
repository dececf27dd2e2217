"""What a spec said counts when its file is gone: it is kept with the domain on the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.simulated.store import Store
from tests.cli.conftest import Run

DISKS = """disk = [
    { vdev = "xvda", path = "/srv/keep", size = "1GiB" },
    { vdev = "xvdb", path = "/srv/drop", size = "1GiB", on_delete = "delete" },
]
"""
WEB = 'kernel = "/boot/vmlinuz"\nmemory = 256\n'
PATIENT = 'shutdown_timeout = "7m"\non_shutdown_timeout = "destroy"\n'


@pytest.fixture
def specs(tree: Path) -> Path:
    host = tree / "specs/alpha/host.toml"
    host.write_text(host.read_text() + 'disk_roots = ["/srv"]\n')
    (tree / "specs/reconciler.toml").write_text("[brake]\nmax_destroy = 9\n")
    return tree / "specs/alpha"


def applied(run: Run) -> None:
    ran = run("apply", "--yes")
    assert ran.code == 0, ran.out + ran.err


def steps(run: Run) -> list[tuple[str, str]]:
    return [(step["kind"], step["address"]) for step in json.loads(run("plan", "--json").out)["steps"]]


def is_there(tree: Path, path: str) -> bool:
    return path in Store(tree / ".state", "alpha").read().files


@pytest.mark.parametrize("frozen", [False, True], ids=["at once", "after prunes were frozen"])
def test_a_destroy_takes_the_time_and_the_disks_that_the_last_spec_said(
    tree: Path, specs: Path, run: Run, frozen: bool
) -> None:
    (specs / "web.toml").write_text(WEB + PATIENT + DISKS)
    applied(run)
    (specs / "web.toml").unlink()
    if frozen:
        (specs / "odd.toml").write_text("memory = [")
        assert steps(run) == []
        run("apply", "--yes")
        (specs / "odd.toml").unlink()
    run("sim", "alpha", "set", "web", "shutdown=ignore")
    assert "shut down (at most 7 min" in run("plan", "--steps").out
    applied(run)
    assert (is_there(tree, "/srv/keep"), is_there(tree, "/srv/drop")) == (True, False)
    assert not is_there(tree, "/etc/xen/web.cfg")


def test_without_the_word_no_plug_is_pulled(tree: Path, specs: Path, run: Run) -> None:
    applied(run)
    run("sim", "alpha", "set", "web", "shutdown=ignore")
    (specs / "web.toml").unlink()
    assert run("apply", "--yes").code == 1
    assert is_there(tree, "/etc/xen/web.cfg")


@pytest.mark.parametrize("key", ["on_delete", "shutdown_timeout"])
def test_what_is_changed_alone_is_kept_without_a_restart(tree: Path, specs: Path, run: Run, key: str) -> None:
    (specs / "web.toml").write_text(WEB + DISKS.replace(', on_delete = "delete"', ""))
    applied(run)
    (specs / "web.toml").write_text(WEB + (DISKS if key == "on_delete" else PATIENT + DISKS))
    assert steps(run) == [("write_config", "alpha/web")]
    applied(run)
    (specs / "web.toml").unlink()
    applied(run)
    assert not is_there(tree, "/srv/drop")


def test_what_depends_on_another_goes_first(specs: Path, run: Run) -> None:
    (specs / "web.toml").write_text('depends_on = ["db"]\n' + WEB)
    (specs / "last.toml").write_text(WEB)
    applied(run)
    (specs / "web.toml").unlink()
    (specs / "db.toml").unlink()
    assert [address for kind, address in steps(run) if kind == "shutdown"] == ["alpha/web", "alpha/db"]
    applied(run)


def test_what_another_depends_on_is_not_destroyed_under_it_though_both_files_are_gone(specs: Path, run: Run) -> None:
    (specs / "web.toml").write_text('depends_on = ["db"]\nprevent_destroy = true\n' + WEB)
    (specs / "last.toml").write_text(WEB)
    applied(run)
    (specs / "web.toml").unlink()
    (specs / "db.toml").unlink()
    assert steps(run) == []
    assert "web depends on it and runs" in run("plan").out


def test_prevent_destroy_takes_one_apply_that_says_false_and_a_later_one_without_the_file(
    tree: Path, specs: Path, run: Run
) -> None:
    kept = "prevent_destroy = true\n" + WEB
    (specs / "web.toml").write_text(kept)
    applied(run)
    (specs / "web.toml").unlink()
    assert run("apply", "--yes").code == 3
    (specs / "web.toml").write_text(WEB)  # said false, and removed before anybody applied that
    (specs / "web.toml").unlink()
    assert run("apply", "--yes").code == 3
    (specs / "web.toml").write_text(kept.replace("true", "false"))
    assert steps(run) == [("write_config", "alpha/web")]
    applied(run)
    (specs / "web.toml").unlink()
    applied(run)
    assert not is_there(tree, "/etc/xen/web.cfg")


def test_reconcile_false_is_noted_and_holds_without_the_file(tree: Path, specs: Path, run: Run) -> None:
    applied(run)
    (specs / "web.toml").write_text("reconcile = false\n" + WEB.replace("256", "300"))
    assert steps(run) == [("write_config", "alpha/web")]
    applied(run)
    (specs / "web.toml").unlink()
    ran = run("plan")
    assert "the last one said reconcile = false, which is kept on the host" in ran.out
    applied(run)
    assert is_there(tree, "/etc/xen/web.cfg")
    (specs / "web.toml").write_text(WEB)
    plan = json.loads(run("plan", "--json").out)
    noted = next(change for change in plan["changes"] if change["address"] == "alpha/web")
    assert [(field["path"], field["effect"]) for field in noted["fields"]] == [("reconcile", "live")]
    applied(run)
    (specs / "web.toml").unlink()
    applied(run)
    assert not is_there(tree, "/etc/xen/web.cfg")


def test_another_wave_is_noted_live_and_once(specs: Path, run: Run) -> None:
    applied(run)
    (specs / "web.toml").write_text("wave = -1\n" + WEB)
    ran = run("plan")
    assert "~ alpha/web" in ran.out
    assert "wave" in ran.out
    assert steps(run) == [("write_config", "alpha/web")]
    applied(run)
    assert run("plan", "--detailed-exitcode").code == 0


def test_a_canary_that_is_frozen_holds_by_the_wave_that_was_noted(specs: Path, run: Run) -> None:
    (specs / "web.toml").write_text("wave = -1\n" + WEB)
    (specs / "last.toml").write_text("wave = -2\n" + WEB)
    applied(run)
    (specs / "web.toml").write_text("memory = [")
    for name in ("db", "last"):
        file = specs / f"{name}.toml"
        file.write_text(file.read_text().replace("vmlinuz", "vmlinuz-6"))
    text = run("plan").out
    assert "± alpha/last" in text
    assert "wave -1 is not through: alpha/web is frozen" in text
    assert ("shutdown", "alpha/db") not in steps(run)
