"""`reconciler import`: specs from a host or from files, and taking over what they describe without a restart."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

WEB = """\
name = "legacy"
kernel = "/boot/vmlinuz"
root = "/dev/xvda1 ro"
extra = "quiet"
memory = 256
maxmem = 512
vcpus = 2
disk = ['file:/srv/legacy.img,xvda,w', 'phy:vg0/swap,xvdb,w']
vif = ['bridge=br0', '']
on_crash = 'preserve'
serial = "pty"
pci = ['01:00.0']
cpu_weight = 256
"""


def legacy(tree: Path, run: Run, *, running: bool = True) -> None:
    """A domain that a person made by hand."""
    (tree / "legacy.cfg").write_text(WEB)
    assert run("sim", "alpha", "put", "/etc/xen/legacy.cfg", "legacy.cfg").code == 0
    if running:
        assert run("sim", "alpha", "create", "legacy").code == 0


def boots(run: Run) -> dict[str, Any]:
    """Each domain that runs, and which of its boots this is."""
    found = json.loads(run("sim", "alpha", "list", "--json").out)
    return {domain["name"]: domain["boot"] for domain in found["domains"]}


def paste(message: str, tree: Path) -> None:
    """Put the lines that import printed into host.toml, as a person would."""
    lines = message.partition("in place of those it has:\n\n")[2]
    assert lines
    with (tree / "specs/alpha/host.toml").open("a") as file:
        file.write(lines)


def test_from_a_host_to_managed_without_a_restart(tree: Path, run: Run) -> None:
    assert run("apply", "--yes").code == 0
    legacy(tree, run)
    run("sim", "alpha", "create", "bare")
    before = boots(run)
    imported = run("import", "alpha")
    assert imported.code == 0
    assert imported.out == ""
    assert "Wrote specs/alpha/legacy.toml.\n" in imported.err
    assert "Wrote specs/alpha/bare.toml.\n" in imported.err
    paste(imported.err, tree)
    adopted = run("apply", "--yes", "--adopt", "alpha/legacy", "--adopt", "alpha/bare")
    assert adopted.code == 0
    assert "pending" not in adopted.out
    assert run("plan", "--detailed-exitcode").out == "Nothing to do: all 4 domains are as specified.\n"
    assert boots(run) == before


def test_a_domain_that_does_not_run_is_left_stopped(tree: Path, run: Run) -> None:
    assert run("apply", "--yes").code == 0
    legacy(tree, run, running=False)
    paste(run("import", "alpha").err, tree)
    assert 'state = "stopped"\n' in (tree / "specs/alpha/legacy.toml").read_text()
    assert run("apply", "--yes", "--adopt", "alpha/legacy").code == 0
    assert run("plan").out == "Nothing to do: all 3 domains are as specified.\n"
    assert "legacy" not in boots(run)


def test_running_values_win_over_the_config_file(tree: Path, run: Run) -> None:
    legacy(tree, run)
    run("sim", "alpha", "set", "legacy", "memory=300", "vcpus=1")
    run("import", "alpha")
    text = (tree / "specs/alpha/legacy.toml").read_text()
    assert "memory = 300\nmaxmem = 512\n" in text
    assert "vcpus" not in text.replace("maxvcpus = 2", "")
    assert text.count("mac = ") == 2
    assert "uuid = " in text


def test_ours_are_not_imported(tree: Path, run: Run) -> None:
    assert run("apply", "--yes").code == 0
    imported = run("import", "alpha", "--out", "new")
    assert imported.code == 0
    assert imported.err == "There is nothing to import from alpha: all its domains are managed.\n"
    assert not (tree / "new").exists()


def test_nothing_is_overwritten_and_the_others_go_on(tree: Path, run: Run) -> None:
    legacy(tree, run)
    run("sim", "alpha", "create", "other")
    mine = tree / "specs/alpha/legacy.toml"
    mine.write_text("# mine\n")
    imported = run("import", "alpha")
    assert imported.code == 1
    assert "specs/alpha/legacy.toml exists, and an import overwrites nothing." in imported.err
    assert mine.read_text() == "# mine\n"
    assert (tree / "specs/alpha/other.toml").exists()


def test_a_full_disk_leaves_no_part_of_a_spec(tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of one may well be a spec: of a domain that has no disks, say."""

    def full(opened: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    legacy(tree, run)
    monkeypatch.setattr(os, "fsync", full)
    before = sorted(tree.rglob("*"))
    imported = run("import", "alpha")
    assert imported.code == 1
    assert "legacy.toml cannot be written: No space left on device." in imported.err
    assert sorted(tree.rglob("*")) == before


def test_what_cannot_be_imported_is_told_and_the_others_go_on(tree: Path, run: Run) -> None:
    files = {
        "python": "def f(x):\n",
        "named": 'name = "another"\nkernel = "/k"\nmemory = 9\n',
        "nameless": "memory = 9\n",
    }
    for name, text in files.items():
        (tree / "x.cfg").write_text(text)
        run("sim", "alpha", "put", f"/etc/xen/{name}.cfg", "x.cfg")
    for name in ("crashed", "fine"):
        run("sim", "alpha", "create", name)
    run("sim", "alpha", "set", "crashed", "power=crashed")
    imported = run("import", "alpha", "--out", "new")
    assert imported.code == 1
    assert [path.name for path in (tree / "new").iterdir()] == ["fine.toml"]
    assert "alpha/python is not imported\n  xl cannot read the file: line 1, column 5" in imported.err
    assert 'alpha/named is not imported\n  Its config file defines a domain of another name, "another".' in imported.err
    assert "alpha/nameless is not imported\n  It gives the domain no name" in imported.err
    assert "alpha/crashed is not imported\n  It is crashed" in imported.err


def test_a_name_that_another_host_has_is_refused(tree: Path, run: Run) -> None:
    (tree / "specs/beta").mkdir()
    (tree / "specs/beta/host.toml").write_text('toolstack = "simulated"\n')
    run("sim", "beta", "create", "web")
    imported = run("import", "beta")
    assert imported.code == 1
    assert "The specs declare alpha/web, and a name is unique in the fleet." in imported.err


def test_a_domain_that_a_spec_cannot_say_whole_is_held(tree: Path, run: Run) -> None:
    (tree / "x.cfg").write_text('name = "cd"\nkernel = "/k"\nmemory = 64\ndisk = ["/srv/x.iso,raw,xvda,cdrom"]\n')
    run("sim", "alpha", "put", "/etc/xen/cd.cfg", "x.cfg")
    run("sim", "alpha", "create", "cd")
    imported = run("import", "alpha")
    assert imported.code == 0
    assert "alpha/cd has what a spec cannot say\n  disk xvda has devtype=cdrom" in imported.err
    assert "reconcile = false\n" in (tree / "specs/alpha/cd.toml").read_text()
    paste(imported.err, tree)
    before = boots(run)
    applied = run("apply", "--yes", "--adopt", "alpha/cd", "--target", "alpha/cd")
    assert "held" in applied.out
    assert boots(run) == before


def test_a_config_file_of_another_domain_is_not_lost_unseen(tree: Path, run: Run) -> None:
    run("sim", "alpha", "create", "twin")
    other = "8b3c1f0e-5d6a-5c1e-9f57-1b2d3c4e5f60"
    (tree / "x.cfg").write_text(f'name = "twin"\nuuid = "{other}"\nkernel = "/k"\nmemory = 64\n')
    run("sim", "alpha", "put", "/etc/xen/twin.cfg", "x.cfg")
    imported = run("import", "alpha")
    assert f"Its config file is of another domain (uuid {other})" in imported.err
    assert "reconcile = false\n" in (tree / "specs/alpha/twin.toml").read_text()


def test_one_file_is_printed(tree: Path, run: Run) -> None:
    (tree / "legacy.cfg").write_text(WEB)
    imported = run("import", "legacy.cfg")
    assert imported.code == 0
    assert imported.out.startswith('# Imported from legacy.cfg.\n\ntype = "pv"\nkernel = "/boot/vmlinuz"\n')
    assert 'cmdline = "root=/dev/xvda1 ro quiet"\n' in imported.out
    assert "HOST/host.toml needs these lines" in imported.err
    assert not list(tree.glob("*.toml"))
    assert run("import", "legacy.cfg") == imported


def test_several_files_go_to_a_folder(tree: Path, run: Run) -> None:
    for name in ("one", "two"):
        (tree / f"{name}.cfg").write_text(WEB.replace("legacy", name))
    assert run("import", "one.cfg", "two.cfg").code == 1
    imported = run("import", "one.cfg", "gone.cfg", "two.cfg", "--out", "specs/alpha")
    assert imported.code == 1
    assert "gone.cfg is not imported\n  It cannot be read: No such file or directory." in imported.err
    assert "alpha/host.toml needs these lines" in imported.err
    assert {"one.toml", "two.toml"} <= {path.name for path in (tree / "specs/alpha").iterdir()}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"memory = 1\nvif = [ dict(x) ]\n", "bad.cfg:2:9: error: xl cannot read the file, so it is not imported"),
        (b'name = "\xe4"\n', "It is not UTF-8: byte 0xe4"),
        (b"x = 1\n" * 100_000, "longer than"),
        (b"\0" * 2_000_000, "longer than"),
        (b"memory = 64\n", "It gives the domain no name"),
        (b'name = "12"\nmemory = 64\nkernel = "/k"\n', '"12" is no name for a spec'),
        (b"", "It gives the domain no name"),
    ],
)
def test_files_that_no_spec_can_be_made_of(tree: Path, run: Run, content: bytes, expected: str) -> None:
    (tree / "bad.cfg").write_bytes(content)
    imported = run("import", "bad.cfg")
    assert imported.code == 1
    assert imported.out == ""
    assert expected in imported.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["alhpa"], 'Did you mean "alpha"?'),
        (["local"], 'Write specs/NAME/host.toml with toolstack = "xl" and connect = "local"'),
        (["ssh://root@dom0"], 'connect = "ssh://root@dom0"'),
        (["alpha", "x.cfg"], '"alpha" is a host'),
        (["./specs"], "it is a directory"),
        (["/dev/null"], "it is no regular file"),
        (["--specs", "nowhere", "alpha"], "is no file, and the specs in nowhere have no host"),
        ([], "Missing argument"),
    ],
)
def test_sources_that_are_none(tree: Path, run: Run, arguments: list[str], expected: str) -> None:
    imported = run("import", *arguments)
    assert imported.code == 1
    assert expected in imported.err


def test_a_host_that_cannot_be_used_says_why(tree: Path, run: Run) -> None:
    run("sim", "alpha", "fault", "unreachable")
    assert run("import", "alpha").code == 1
    (tree / "specs/alpha/host.toml").write_text("toolstack = 3\n")
    broken = run("import", "alpha")
    assert broken.code == 4
    assert "specs/alpha/host.toml:1:13" in broken.err
