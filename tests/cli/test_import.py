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
    assert "vcpus = 1\nmaxvcpus = 2\n" in text
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
    before = sorted((tree / "specs").rglob("*"))
    imported = run("import", "alpha")
    assert imported.code == 1
    assert "legacy.toml cannot be written: No space left on device." in imported.err
    assert sorted((tree / "specs").rglob("*")) == before


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
    assert sorted(path.name for path in (tree / "new").iterdir()) == ["another.toml", "fine.toml"]
    assert "alpha/python is not imported\n  xl cannot read the file: line 1, column 5" in imported.err
    assert "alpha/nameless is not imported\n  A pv domain needs a kernel" in imported.err
    assert "alpha/crashed is not imported\n  It is crashed" in imported.err


def test_a_name_that_another_host_has_is_refused(tree: Path, run: Run) -> None:
    (tree / "specs/beta").mkdir()
    (tree / "specs/beta/host.toml").write_text('toolstack = "simulated"\n')
    run("sim", "beta", "create", "web")
    imported = run("import", "beta")
    assert imported.code == 1
    assert "The specs declare alpha/web, and a name is unique in the fleet." in imported.err


def test_a_domain_that_a_spec_cannot_say_whole_is_held(tree: Path, run: Run) -> None:
    (tree / "x.cfg").write_text(
        'name = "cd"\nkernel = "/k"\nmemory = 64\ndisk = ["/srv/a,raw,xvda,w,colo-port=0x1ffff"]\n'
    )
    run("sim", "alpha", "put", "/etc/xen/cd.cfg", "x.cfg")
    run("sim", "alpha", "create", "cd")
    imported = run("import", "alpha")
    assert imported.code == 0
    assert "alpha/cd has what a spec cannot say\n  disk xvda has colo-port=0x1ffff" in imported.err
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
    assert "gone.cfg:1:1: error: It cannot be read: No such file or directory." in imported.err
    assert "alpha/host.toml needs these lines" in imported.err
    assert {"one.toml", "two.toml"} <= {path.name for path in (tree / "specs/alpha").iterdir()}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"memory = 1\nvif = [ dict(x) ]\n", "bad.cfg:2:9: error: xl cannot read the file, so it is not imported"),
        (b"x = 1\n" * 100_000, "longer than"),
        (b"\0" * 2_000_000, "It is no text file."),
        (b"memory = 64\n", "bad.cfg:1:1: error: xl would refuse it, too: A pv domain needs a kernel"),
        (b"", "bad.cfg:1:1: error: It is empty."),
        (b" \n\n", "bad.cfg:1:1: error: It is empty."),
        (b"\x7fELF\x02\x01\0\0\xff\xfe", "It is no text file."),
        (b"[" * (1 << 20), "longer than"),
        (b"name = 'a\n", "hint: Close it with ' on the same line"),
        (b"\xef\xbb\xbfname = 'a'\n", "bad.cfg:1:1: error: xl cannot read the file"),
        (b"name = 'a'\r\nkernel = '/k'\r\n", r"hint: sed -i 's/\r$//' bad.cfg"),
        (b"disk = ['/a,raw,xvda,w!']\nbuilder = 'linux'\n", "bad.cfg:2:11: error: xl would refuse it, too: builder is"),
        (b"builder = 'linux'\ndisk = ['/a,raw,xvda,w!']\n", "bad.cfg:2:9: error: xl would refuse it, too: The disk"),
        (b"kernel = '/k'\nmemory = 1\nvif = [" + b"''," * 1200 + b"]\n", "The file has more than 1000 brackets."),
        (b"iomem = [ 'x' ]\nkernel = '/k'\n", "bad.cfg:1:11: error: xl would refuse it, too: iomem"),
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


EVERYTHING = """\
# a web server
kernel = "vmlinuz"   # built by hand
memroy = 64
vcpus = 2
vcpus = 0x4
memory = 0100
localtime = "yes"
vfb = [ "vnc=1,vncpasswd=hunter2" ]
"""


def test_what_a_person_should_know_is_told_on_its_line(tree: Path, run: Run) -> None:
    (tree / "my web.cfg").write_text(EVERYTHING)
    imported = run("import", "my web.cfg")
    assert imported.code == 0
    for told in (
        "my web.cfg:1:1: note: It gives no name, so the domain gets the name of the file: my web.",
        '"my web" is no name for a spec, so its spec is called my-web.',
        'my web.cfg:3:10: note: xl knows no key "memroy" and ignores it, so it is left out.',
        'hint: Did you mean "memory"?',
        "my web.cfg:5:9: note: vcpus is given twice, and the last time counts: the one in line 4 is left out.",
        "my web.cfg:6:10: note: memory = 0100 is octal: xl reads 64.",
        'my web.cfg:7:13: note: localtime is "yes", no number, so xl leaves it out.',
        "my web.cfg:8:9: note: The password of its screen stands in the spec in clear",
        "ssh -L 5900:127.0.0.1:5900 root@HOST",
    ):
        assert told in imported.err
    assert "memroy" not in imported.out
    assert '# a web server\n# built by hand\nkernel = "vmlinuz"\n' in imported.out


def test_a_domain_that_gets_no_memory_is_told(tree: Path, run: Run) -> None:
    (tree / "a.cfg").write_text('kernel = "/k"\nmemory = "1024M"\n')
    imported = run("import", "a.cfg")
    assert "a.cfg:2:10: note: It gives no memory that xl can read, and so it gets 32 MiB." in imported.err
    assert "xl counts MiB: write memory = 1024." in imported.err


def test_all_problems_of_all_files_are_told_in_one_run(tree: Path, run: Run) -> None:
    (tree / "one.cfg").write_text('builder = "linux"\nvnc = True\ndisk = [ "/a,raw,xvda,w!" ]\nimport os\n')
    (tree / "two.cfg").write_text('kernel = "/k"\ntsc_mode = "natve"\non_crash = "x"\n')
    imported = run("import", "one.cfg", "two.cfg", "--out", "new")
    assert imported.code == 1
    places = [line.partition(": error")[0] for line in imported.err.splitlines() if ": error: " in line]
    assert places == ["one.cfg:2:7", "one.cfg:4:8", "one.cfg:1:11", "one.cfg:3:10", "two.cfg:2:12", "two.cfg:3:12"]


def test_programs_read_one_document(tree: Path, run: Run) -> None:
    (tree / "web1.cfg").write_text(EVERYTHING)
    (tree / "cd.cfg").write_text(
        'name = "cd"\nkernel = "/opt/k"\nmemory = 9\nbogus = 1\nvif = [ "mac=0:0:0:0:0:1", "mac=0:0:0:0:0:1" ]\n'
    )
    (tree / "bad.cfg").write_text("x = True\n")
    imported = run("import", "web1.cfg", "cd.cfg", "bad.cfg", "--out", "specs/alpha", "--json")
    assert imported.code == 1
    assert imported.err == ""
    told = json.loads(imported.out)
    assert told["written"] == ["specs/alpha/web1.toml", "specs/alpha/cd.toml"]
    assert told["kernels"] == ["vmlinuz"]
    assert 'kernel_roots = ["/", "/boot"' in told["host_toml"]
    assert told["held"] == ["alpha/cd"]
    assert {"path": "web1.cfg", "line": 3} in [{"path": note["path"], "line": note["line"]} for note in told["notes"]]
    assert all(note["text"] for note in told["notes"])
    assert [(one["path"], one["line"], one["column"]) for one in told["diagnostics"]] == [("bad.cfg", 1, 5)]


def test_one_file_as_a_document_comes_with_its_spec(tree: Path, run: Run) -> None:
    (tree / "legacy.cfg").write_text(WEB)
    told = json.loads(run("import", "legacy.cfg", "--json").out)
    assert [spec["name"] for spec in told["specs"]] == ["legacy"]
    assert told["specs"][0]["text"] == run("import", "legacy.cfg").out
    assert told["written"] == []


@pytest.mark.parametrize(
    "line",
    [
        'disk = [ "/srv/a,raw,xvda,w", "/srv/a,raw,xvdb,w" ]',
        'vif = [ "mac=00:16:3e:00:00:01", "mac=00:16:3e:00:00:01" ]',
        'disk = [ "/srv/a,raw,xvda,r", "/srv/a,raw,xvdb,w" ]',
        'disk = [ "script=block-x,vdev=xvda,target=p/a", "script=block-x,vdev=xvdb,target=p/a" ]',
        'pci = [ "01:00.*", "01:00.0" ]',
    ],
)
def test_what_is_twice_in_one_file_is_told_and_validate_accepts_what_is_written(
    tree: Path, run: Run, line: str
) -> None:
    (tree / "twice.cfg").write_text(f'kernel = "/k"\nmemory = 64\n{line}\n')
    imported = run("import", "twice.cfg", "--out", "specs/alpha")
    assert imported.code == 0
    assert "twice.cfg has what a spec cannot say" in imported.err
    assert "block-x|" not in imported.err  # as we name it to ourselves
    assert "reconcile = false\n" in (tree / "specs/alpha/twice.toml").read_text()
    lines = imported.err.partition("in place of those it has:\n\n")[2]
    if lines:
        with (tree / "specs/alpha/host.toml").open("a") as file:
            file.write(lines)
    assert run("validate").code == 0


@pytest.mark.parametrize(
    "line",
    [
        'disk = [ "file:/srv/a.iso,hdb:cdrom,r", "file:/srv/a.iso,hdc:cdrom,r" ]',
        'disk = [ "/srv/a,raw,xvda,r", "/srv/a,raw,xvdb,r" ]',
        'disk = [ "backend=x,vdev=xvda,target=/a", "backend=y,vdev=xvdb,target=/a" ]',
    ],
)
def test_what_validate_accepts_twice_is_not_held(tree: Path, run: Run, line: str) -> None:
    (tree / "twice.cfg").write_text(f'kernel = "/k"\nmemory = 64\n{line}\n')
    imported = run("import", "twice.cfg", "--out", "specs/alpha")
    assert "cannot say" not in imported.err
    lines = imported.err.partition("in place of those it has:\n\n")[2]
    with (tree / "specs/alpha/host.toml").open("a") as file:
        file.write(lines)
    assert run("validate").code == 0


def test_what_two_files_have_in_common_is_told(tree: Path, run: Run) -> None:
    for name in ("one", "two"):
        (tree / f"{name}.cfg").write_text('kernel = "/k"\nmemory = 64\nvif = [ "mac=00:16:3e:00:00:01" ]\n')
    imported = run("import", "one.cfg", "two.cfg", "--out", "specs/alpha")
    assert imported.code == 4  # as validate says of them
    assert "vif[0] of alpha/one and vif[0] of alpha/two have one MAC, 00:16:3e:00:00:01." in imported.err


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("device_model", "Leave it out: xl has its own."),
        ("nfs_root", "The guest is told in its command line: nfsroot=."),
        ("cpu_cap", "xl calls it cap."),
        ("bootargs", "xl calls it bootloader_args."),
        ("irq", "xl calls it irqs."),
        ("vncconsole", "run xl vncviewer when it is wanted."),
    ],
)
def test_what_xm_knew_and_xl_does_not_is_told_with_what_replaces_it(tree: Path, run: Run, key: str, hint: str) -> None:
    (tree / "a.cfg").write_text(f'kernel = "/k"\nmemory = 64\n{key} = "x"\n')
    told = run("import", "a.cfg").err
    assert f'a.cfg:3:{len(key) + 4}: note: xl knows no key "{key}" (xm\'s word for ' in told
    assert f"hint: {hint}" in told or hint in told
    assert "Did you mean" not in told


@pytest.mark.parametrize("key", ["apic_bsp", "memmap", "vnics", "bridge", "image", "sda"])
def test_no_key_is_proposed_that_only_looks_a_little_alike(tree: Path, run: Run, key: str) -> None:
    (tree / "a.cfg").write_text(f'kernel = "/k"\nmemory = 64\n{key} = "x"\n')
    assert "Did you mean" not in run("import", "a.cfg").err


def test_a_file_that_is_no_utf8_is_taken_as_xl_takes_it(tree: Path, run: Run) -> None:
    (tree / "a.cfg").write_bytes(b'# f\xfcr B\xe4ren\nkernel = "/k"\nmemory = 64\n')
    imported = run("import", "a.cfg")
    assert (imported.code, "reconcile" in imported.out) == (0, False)
    assert "# für Bären\n" in imported.out
    (tree / "b.cfg").write_bytes(b'kernel = "/k"\nextra = "motd=B\xe4r"\nmemory = 64\n')
    held = run("import", "b.cfg")
    assert held.code == 0
    assert "cmdline has bytes that are no UTF-8, and the spec has them as Latin-1." in held.err
    assert "reconcile = false\n" in held.out
    assert 'cmdline = "motd=Bär"\n' in held.out
    (tree / "c.cfg").write_bytes(b'name = "B\xe4r"\nkernel = "/k"\nvif = [ "x\xe4" ]\nextra = "\xe4"\nmemory = 64\n')
    assert "\\udc" not in run("import", "c.cfg", "--json").out
    run("sim", "alpha", "put", "/etc/xen/c.cfg", "c.cfg")
    of_host = run("import", "alpha")
    assert of_host.code == 0
    assert "vif 0 has xä, which xl makes nothing of." in of_host.err
    assert 'cmdline = "ä"\n' in (tree / "specs/alpha/B-r.toml").read_text()


def test_a_relative_kernel_is_told_with_where_xl_looks_for_it(tree: Path, run: Run) -> None:
    (tree / "a.cfg").write_text('kernel = "vmlinuz"\nmemory = 64\n')
    told = run("import", "a.cfg").err
    assert "makes no difference" not in told
    assert 'xl looks for "vmlinuz" in the folder that it is called in, and in / when the guest reboots' in told
    assert 'Copy the one that it boots to "vmlinuz" in the spec tree, or write the absolute path.' in told


@pytest.mark.parametrize("option", ["vncpasswd=x", "vncpasswd = x", " vncpasswd= x"])
def test_a_password_is_told_however_it_is_written(tree: Path, run: Run, option: str) -> None:
    (tree / "a.cfg").write_text(f'kernel = "/k"\nmemory = 64\nvfb = [ "vnc=1,{option}" ]\n')
    assert "a.cfg:3:9: note: The password of its screen" in run("import", "a.cfg").err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cpu_weight = 0", "cpu_weight is 0, and no domain starts with one that is not from 1 to 65535"),
        ("cpu_weight = 65536", "cpu_weight is 65536, and no domain starts with"),
        ('cap = "-1"', "cap is -1, which stands for the usual one in xl"),
        ('cpus = [ "0", "1" ]', "xl before 4.21 makes nothing of cpus where the file gives no vcpus"),
    ],
)
def test_what_libxl_makes_of_a_number_is_told_on_its_line(tree: Path, run: Run, line: str, told: str) -> None:
    (tree / "a.cfg").write_text(f'kernel = "/k"\nmemory = 64\n{line}\n')
    imported = run("import", "a.cfg")
    assert f"a.cfg:3:{line.index('= ') + 3}: note: {told}" in imported.err
    assert "reconcile" not in imported.out


def test_an_mtu_that_no_spec_can_say_is_not_dropped(tree: Path, run: Run) -> None:
    (tree / "a.cfg").write_text('kernel = "/k"\nmemory = 64\nvif = [ "mtu=70000" ]\n')
    imported = run("import", "a.cfg")
    assert "vif 0 has mtu=70000, which a domain spec cannot say." in imported.err
    assert "reconcile = false\n" in imported.out


def test_names_that_no_spec_can_have_get_one_each(tree: Path, run: Run) -> None:
    for file, name in (("one", "my web"), ("two", "my-web!")):
        (tree / "x.cfg").write_text(f'name = "{name}"\nkernel = "/k"\nmemory = 64\n')
        run("sim", "alpha", "put", f"/etc/xen/{file}.cfg", "x.cfg")
    imported = run("import", "alpha", "--out", "new")
    assert imported.code == 0
    assert sorted(path.name for path in (tree / "new").iterdir()) == ["my-web-2.toml", "my-web.toml"]
    assert imported.err.count("remove the file (and its link in auto), lest the domain be started from it, too.") == 2


def test_a_config_file_that_is_called_otherwise_loses_nothing(tree: Path, run: Run) -> None:
    (tree / "x.cfg").write_text('name = "web.example"\nkernel = "/k"\nmemory = 64\n# which\nserial = "pty"\n')
    run("sim", "alpha", "put", "/etc/xen/other.cfg", "x.cfg")
    imported = run("import", "alpha")
    assert imported.code == 0
    text = (tree / "specs/alpha/web.example.toml").read_text()
    assert 'state = "stopped"' in text
    assert '# which\nserial = "pty"' in text
    assert "mv other.cfg web.example.cfg" in imported.err
    run("sim", "alpha", "create", "web.example")
    again = run("import", "alpha", "--out", "new")
    assert "The config file other defines web.example, which is imported as it runs." in again.err
    assert again.code == 0
