"""From a dom0 as it is to managed domains: `import HOST`, one paste, `apply --adopt`, and nothing is lost.

The scripts run for real on this machine; the fake xl shows what the real one made of each config file. The files that
the domains were made with are not at hand, as after `xl create /root/x.cfg`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0.layout import Dom0
from reconciler.texts.config_file import render_file
from tests.cli.conftest import Run
from tests.fake_dom0 import TABLE_HEAD, table_row, tools_on_path, write_xl
from tests.texts.oracle.real_xl import RealXl, Unavailable, real_xl
from tests.texts.test_keys_in_files import BARE
from tests.texts.test_listed_keys import differences

UUIDS = [f"0000000{number}-1111-2222-3333-444444444444" for number in range(1, 5)]


def configs(folder: Path) -> dict[str, str]:
    """The files that were somewhere, by domain."""
    kernel = folder / "boot" / "vmlinuz"
    return {
        "desk": f'type = "hvm"\nboot = "dc"\nnestedhvm = 1\nhpet = 0\nlocaltime = 1\ntsc_mode = "native"\nvcpus = 2\n'
        f'cpuid = "host,tm=0"\nusbdevice = [ "tablet" ]\nserial = "pty"\nmax_event_channels = 2047\nvnc = 1\n'
        f'vncpasswd = "x"\nvga = "stdvga"\nvideoram = 16\ndisk = [ "{folder}/disks/desk.img,raw,hda,w" ]\n',
        "web.example.org": f'kernel = "{kernel}"\nextra = "ro quiet"\nvfb = [ "vnc=1,vncdisplay=3" ]\ncpus = "0-1"\n'
        f'vcpus = 1\nmaxvcpus = 2\non_crash = "preserve"\ndisk = [ "{folder}/disks/web.img,raw,xvda,w" ]\n',
        "shim": f'type = "pvh"\nkernel = "{kernel}"\nvcpus = 1\nnomigrate = 1\nmax_grant_frames = 64\nvpmu = 1\n'
        'channel = [ "connection=socket,path=/run/x,name=a" ]\non_poweroff = "preserve"\n',
    }


@pytest.fixture
def xl() -> RealXl:
    try:
        return real_xl()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Path, xl: RealXl) -> dict[str, dict[str, object]]:
    """What xl told to its domains as they were started, by name."""
    xen = write_xl(tmp_path, tools_on_path(tmp_path, monkeypatch))
    monkeypatch.setattr(Dom0, "lock_path", str(tmp_path / "reconciler.lock"))  # tests run side by side
    for name in ("boot/vmlinuz", "disks/desk.img", "disks/web.img", "etc/.keep", "kernels/.keep"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("bytes")
    told, rows = {}, ""
    for domid, (name, text) in enumerate(configs(tmp_path).items(), 1):
        verdict = xl.create(f'name = "{name}"\nuuid = "{UUIDS[domid]}"\nmemory = 64\n{text}')
        assert verdict.config is not None, verdict.said
        told[name] = verdict.config
        rows += table_row(name, domid, uuid=UUIDS[domid], mib=64)
    (xen / "list").write_text(TABLE_HEAD + rows)
    (xen / "long").write_text(json.dumps([{"domid": at, "config": one} for at, one in enumerate(told.values(), 1)]))
    (tree / "specs/reconciler.toml").write_text('fleet = "default"\n')
    for name in ("web", "db"):
        (tree / f"specs/alpha/{name}.toml").unlink()
    (tree / "specs/alpha/host.toml").write_text(
        f'toolstack = "xl"\nconfig_dir = "{tmp_path}/etc"\nkernel_dir = "{tmp_path}/kernels"\n'
    )
    return told


def test_from_a_dom0_to_managed_domains_without_a_loss(
    tmp_path: Path, tree: Path, run: Run, xl: RealXl, made: dict[str, dict[str, object]]
) -> None:
    imported = run("import", "alpha")
    assert (imported.code, imported.out) == (0, ""), imported.err
    assert "cannot say" not in imported.err
    lines = imported.err.partition("in place of those it has:\n\n")[2]
    assert lines.count("\n") <= 7
    with (tree / "specs/alpha/host.toml").open("a") as file:
        file.write(lines)
    valid = run("validate")
    assert valid.code == 0, valid.out
    adopted = run("apply", "--yes", *(word for name in made for word in ("--adopt", f"alpha/{name}")))
    assert adopted.code == 0, adopted.out + adopted.err
    plan = run("plan", "--detailed-exitcode")
    assert (plan.code, plan.out) == (0, "Nothing to do: all 3 domains are as specified.\n"), plan.out
    for name, before in made.items():
        written = (tmp_path / "etc" / f"{name}.cfg").read_text()
        after = xl.create(written)
        assert after.config is not None, after.said
        found = [line for line in differences(before, after.config) if not line.startswith("/b_info/kernel")]
        assert found == [], name  # the kernel is staged


def test_a_config_file_that_is_called_otherwise_is_named(
    tmp_path: Path, tree: Path, run: Run, made: dict[str, dict[str, object]]
) -> None:
    (tmp_path / "etc/web.cfg").write_text('name = "web.example.org"\nkernel = "/k"\nmemory = 64\n')
    imported = run("import", "alpha", "--json")
    assert imported.code == 0
    told = json.loads(imported.out)
    assert sorted(told["written"]) == [f"specs/alpha/{name}.toml" for name in sorted(made)]
    assert told["held"] == []
    note = next(note for note in told["notes"] if "web.example.org" in note["text"])
    assert note["text"] == "The config file web defines web.example.org, which is imported as it runs."
    assert "mv web.cfg web.example.org.cfg" in note["hint"]


def test_what_no_key_is_known_for_is_named_and_held(
    tmp_path: Path, tree: Path, run: Run, made: dict[str, dict[str, object]]
) -> None:
    listed = json.loads((tmp_path / "xen/long").read_text())
    listed[2]["config"]["b_info"]["new_thing"] = {"deep": 5}
    (tmp_path / "xen/long").write_text(json.dumps(listed))
    imported = run("import", "alpha", "--json")
    assert imported.code == 0
    assert json.loads(imported.out)["held"] == ["alpha/shim"]
    text = (tree / "specs/alpha/shim.toml").read_text()
    assert "# - `xl list -l` shows b_info.new_thing.deep = 5, which no key of xl.cfg is known for.\n" in text
    assert "reconcile = false\n" in text


def test_a_name_that_no_spec_can_have_is_held_until_it_is_renamed(
    tmp_path: Path, tree: Path, run: Run, made: dict[str, dict[str, object]]
) -> None:
    for file in ("xen/list", "xen/long"):
        (tmp_path / file).write_text((tmp_path / file).read_text().replace("web.example.org", "_web"))
    imported = run("import", "alpha")
    assert imported.code == 0
    assert "xl rename _web web makes it the one of its spec." in imported.err
    assert "reconcile = false\n" in (tree / "specs/alpha/web.toml").read_text()


def test_the_fleet_is_named_where_only_one_name_can_be_meant(tree: Path, run: Run, made: dict[str, object]) -> None:
    (tree / "specs/reconciler.toml").unlink()
    imported = run("import", "alpha")
    assert (imported.code, "Wrote specs/reconciler.toml.\n" in imported.err) == (0, True)
    assert re.search(r'^fleet = "fleet-[0-9a-f]{8}"', (tree / "specs/reconciler.toml").read_text(), re.MULTILINE)
    with (tree / "specs/alpha/host.toml").open("a") as file:
        file.write(imported.err.partition("in place of those it has:\n\n")[2])
    assert run("validate").code == 0
    adopted = run("apply", "--yes", *(word for name in made for word in ("--adopt", f"alpha/{name}")))
    assert adopted.code == 0, adopted.out + adopted.err
    assert run("plan", "--detailed-exitcode").code == 0


def managed_by(fleet: str, tmp_path: Path) -> None:
    """A domain on the host that is in the hands of a fleet."""
    text = render_file(replace(BARE, name="shim", uuid=UUIDS[3]), fleet, None)
    (tmp_path / "etc/shim.cfg").write_text(text)


@pytest.mark.parametrize("why", ["default", "ours", "a file", "another host", "files"])
def test_else_the_lines_to_choose_from_are_told(
    tmp_path: Path, tree: Path, run: Run, made: dict[str, object], why: str
) -> None:
    (tree / "specs/reconciler.toml").unlink()
    sources = ["alpha"]
    match why:
        case "a file":
            (tree / "specs/reconciler.toml").write_text("[brake]\nmax_destroy = 1\n")
        case "another host":
            (tree / "specs/beta").mkdir()
            (tree / "specs/beta/host.toml").write_text('toolstack = "xl"\n')
        case "files":
            (tree / "a.cfg").write_text('kernel = "/boot/k"\nmemory = 64\n')
            sources = ["a.cfg", "--out", "specs/alpha"]
        case fleet:
            managed_by(fleet, tmp_path)
    before = {path: path.read_bytes() for path in tree.glob("specs/*.toml")}
    imported = run("import", *sources, "--json")
    assert imported.code == 0
    (note,) = (note for note in json.loads(imported.out)["notes"] if note["path"] == "specs/reconciler.toml")
    assert 'fleet = "default"' in note["hint"]
    assert {path: path.read_bytes() for path in tree.glob("specs/*.toml")} == before


def test_a_tree_that_has_a_fleet_is_told_nothing(tree: Path, run: Run, made: dict[str, object]) -> None:
    imported = run("import", "alpha", "--json")
    assert not [note for note in json.loads(imported.out)["notes"] if "reconciler.toml" in note["path"]]
    assert (tree / "specs/reconciler.toml").read_text() == 'fleet = "default"\n'
