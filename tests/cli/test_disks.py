"""Disks of domains that need each other's, on a simulated host."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.transcript import write_files

HOST = 'toolstack = "simulated"\ndisk_roots = ["/srv"]\n'
NEW = 'kernel = "/boot/vmlinuz"\nmemory = 64\n[[disk]]\nvdev = "xvda"\npath = "/srv/{name}"\n{more}\n'


def test_a_disk_is_cloned_from_one_of_another_domain_once_that_is_there(tree: Path, run: Run) -> None:
    files = {
        "specs/alpha/host.toml": HOST,
        "specs/alpha/web.toml": NEW.format(name="web", more='source = "/srv/db"'),
        "specs/alpha/db.toml": NEW.format(name="db", more='size = "1MiB"'),
    }
    write_files(files, tree)
    first = run("apply", "--yes")
    assert first.code == 3
    assert "/srv/db, the source of disk xvda, is not there on the host" in first.out + first.err
    assert run("apply", "--yes").code == 0
    assert run("plan", "--detailed-exitcode").code == 0


def test_a_disk_that_a_new_domain_clones_outlives_its_own(tree: Path, run: Run) -> None:
    files = {
        "specs/alpha/host.toml": HOST,
        "specs/alpha/db.toml": NEW.format(name="db", more='size = "1MiB"\non_delete = "delete"'),
    }
    write_files(files, tree)
    assert run("apply", "--yes").code == 0
    (tree / "specs/alpha/db.toml").unlink()
    write_files({"specs/alpha/new.toml": NEW.format(name="new", more='source = "/srv/db"')}, tree)
    assert run("apply", "--yes").code == 0
    plan = run("plan", "--json").out
    assert '"steps": []' in plan
