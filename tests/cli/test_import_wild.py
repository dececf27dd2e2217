"""Config files of others on a dom0: `import HOST`, one paste, `apply --adopt`, and xl is told the same again.

The dom0 is this machine with a fake `xl`, which lists what the real one makes of each file. A dom0 has one domain.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.dom0.layout import Dom0
from reconciler.xl import execute, observe
from tests.cli.conftest import Run
from tests.fake_dom0 import TABLE_HEAD, FastClock, table_row, tools_on_path, write_tool, write_xl
from tests.importer.figures import corpus, differences, files_in, filled_in, meant
from tests.importer.files_of_others import TAKEN
from tests.texts.conftest import xl
from tests.texts.oracle.real_xl import RealXl

__all__ = ["xl"]

_CORPUS = corpus() if "RECONCILER_CORPUS" in os.environ else None
NO_FILE, ITS_FILE, ANOTHER_NAME = "no file", "its file", "a file of another name"
_THE_USUAL = re.compile(r"b_info\.type\.hvm\.vnc\.passwd: '' -> None|nics\[\d+\]\.nictype: 'vif_ioemu' -> None")
"""What is the same to libxl left out, and is, where only `xl list -l` tells."""

_IMAGES = ("kernel", "ramdisk")


def below(text: str, tree: Path, xl: RealXl) -> str:
    """The text with its kernel and its disks below this folder, where they are there."""
    made = xl.create(text).config or {}
    targets = {disk["pdev_path"] for disk in made.get("disks", ()) if "script" not in disk and disk.get("pdev_path")}
    images = {path for key in _IMAGES if (path := made.get("b_info", {}).get(key, "")).startswith("/")}
    for path in sorted(targets | images, key=len, reverse=True):
        there = tree / "there" / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text("bytes")
        text = re.sub(rf"""(["':] *|target=){re.escape(path)}(?=["',])""", rf"\g<1>{there}", text)
    return text


def as_created(config: dict[str, Any]) -> dict[str, Any]:
    """What xl lists of a domain that was made of this config: libxl has drawn what was open."""
    nics = [{**nic, "mac": nic.get("mac", f"00:16:3e:00:00:{at:02x}")} for at, nic in enumerate(config.get("nics", ()))]
    return {**config, **({"nics": nics} if nics else {})}


def lay_out(tree: Path, monkeypatch: pytest.MonkeyPatch, xl: RealXl, listed: dict[str, Any]) -> str:
    """A dom0 on which this domain runs. Returns the domain's name."""
    tools = tools_on_path(tree, monkeypatch)
    monkeypatch.setattr(Dom0, "lock_path", str(tree / "reconciler.lock"))  # tests run side by side
    xen = write_xl(tree, tools)
    bridges = {nic["bridge"].strip().partition(".")[0] for nic in listed.get("nics", ()) if "bridge" in nic}
    write_tool(tools, "xenstore-read", "case $1 in */state) echo 4 ;; *) echo /path ;; esac")
    write_tool(tools, "xenstore-ls", "exit 0")
    for module in (execute, observe):
        monkeypatch.setattr(module, "MachineClock", FastClock)
    write_tool(tools, "ovs-vsctl", f"printf '%s\\n' xenbr0 {' '.join(sorted(bridges))}")
    name, uuid = listed["c_info"]["name"], listed["c_info"]["uuid"]
    mib = filled_in(listed)["b_info"]["target_memkb"] // 1024
    (xen / "list").write_text(TABLE_HEAD + table_row(name, 1, uuid=uuid, mib=mib))
    make_it_live(tree, xl)
    (xen / "info").write_text((xen / "info").read_text().replace(": 1535", ": 65536").replace(": 1132", ": 60000"))
    (xen / "long").write_text(json.dumps([{"domid": 1, "config": listed}]))
    for folder in ("etc", "kernels"):
        (tree / folder).mkdir()
    (tree / "specs/reconciler.toml").write_text('fleet = "default"\n')
    for other in ("web", "db"):
        (tree / f"specs/alpha/{other}.toml").unlink()
    (tree / "specs/alpha/host.toml").write_text(
        f'toolstack = "xl"\nconfig_dir = "{tree}/etc"\nkernel_dir = "{tree}/kernels"\n'
    )
    return str(name)


def make_it_live(tree: Path, xl: RealXl) -> None:
    """Have the fake xl shut the domain down, and create it anew as the real one tells of its file."""
    xen = tree / "xen"
    up = (xen / "list").read_text().replace("    1 ", "    2 ", 1)
    (xen / "up").write_text(up)
    (xen / "down").write_text(TABLE_HEAD)
    write_tool(xen, "shutdown", "cp down list; echo '[]' >long")
    needs = " ".join(f"{key}={shlex.quote(value)}" for key, value in xl.environment.items())
    write_tool(
        xen,
        "create",
        f"""{needs} {shlex.quote(xl.program)} -N create "$1" >made || exit 3
{{ printf '[{{"domid": 2, "config": '; cat made; printf '}}]'; }} >long
cp up list""",
    )


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [("libvirt", NO_FILE), ("an app domain of a desktop", ITS_FILE), ("a desktop with everything", ANOTHER_NAME)],
)
def test_a_domain_of_others_is_adopted_without_a_loss(
    tree: Path, run: Run, xl: RealXl, monkeypatch: pytest.MonkeyPatch, kind: str, evidence: str
) -> None:
    adopt(tree, run, xl, monkeypatch, TAKEN[kind], evidence)


@pytest.mark.parametrize("evidence", [NO_FILE, ITS_FILE, ANOTHER_NAME])
@pytest.mark.parametrize(
    "path", files_in(_CORPUS) if _CORPUS else [], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_a_domain_of_the_wild_is_adopted_without_a_loss(
    tree: Path, run: Run, xl: RealXl, monkeypatch: pytest.MonkeyPatch, path: Path, evidence: str
) -> None:
    adopt(tree, run, xl, monkeypatch, path.read_bytes().decode("utf-8", "surrogateescape"), evidence)


def adopt(tree: Path, run: Run, xl: RealXl, monkeypatch: pytest.MonkeyPatch, text: str, evidence: str) -> None:
    text = below(text, tree, xl)
    made = xl.create(text).config
    if made is None:
        pytest.skip("xl refuses it")
    listed = as_created(made)
    name = lay_out(tree, monkeypatch, xl, listed)
    if evidence != NO_FILE:
        (tree / "etc" / f"{name if evidence == ITS_FILE else 'other'}.cfg").write_text(text, errors="surrogateescape")
    imported = run("import", "alpha", "--json")
    assert imported.code == 0, imported.out
    told = json.loads(imported.out)
    if evidence == NO_FILE and "usbdevs" in listed:  # xl itself does not list which they are
        assert told["held"] == [f"alpha/{name}"]
        assert "`xl list -l` shows usbdevs" in (tree / f"specs/alpha/{name}.toml").read_text()
        return
    assert told["held"] == []
    with (tree / "specs/alpha/host.toml").open("a") as file:
        file.write(told["host_toml"])
    for kernel in told["kernels"]:
        (tree / "specs" / kernel).parent.mkdir(parents=True, exist_ok=True)
        (tree / "specs" / kernel).write_text("bytes")
    assert run("validate").code == 0
    if evidence == ANOTHER_NAME:
        note = next(note["hint"] for note in told["notes"] if "mv other.cfg" in (note["hint"] or ""))
        assert f"mv other.cfg {shlex.quote(name)}.cfg" in note
        (tree / "etc/other.cfg").rename(tree / "etc" / f"{name}.cfg")
    if told["kernels"]:  # a relative path does not tell which bytes run
        refused = run("apply", "--yes", "--adopt", f"alpha/{name}")
        assert refused.code == 3
        assert "which it boots, is gone from the host, and nothing has its bytes" in refused.out
        assert "have it shut down when it suits, and then adopt it" in re.sub(r"\s+", " ", refused.out)
        subprocess.run(["xl", "shutdown", "1"], check=True)
    adopted = run("apply", "--yes", "--adopt", f"alpha/{name}")
    assert adopted.code == 0, adopted.out + adopted.err
    plan = run("plan", "--detailed-exitcode")
    assert plan.out == "Nothing to do: the one domain is as specified.\n", plan.out
    after = xl.create((tree / "etc" / f"{name}.cfg").read_text()).config
    assert after is not None
    assert lost(listed, after) == []
    subprocess.run(["xl", "shutdown", "1"], check=True)
    started = run("apply", "--yes")
    assert started.code == 0, started.out + started.err
    (runs,) = json.loads((tree / "xen/long").read_text())
    assert runs["domid"] == 2
    assert lost(listed, runs["config"]) == []


def lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What xl makes of a domain that is not as it was, but for its kernel and ramdisk, which are staged."""
    was, now = (
        {**one, "b_info": {k: v for k, v in one["b_info"].items() if k not in _IMAGES}} for one in (before, after)
    )
    found = differences(meant(filled_in(was)), meant(filled_in(now)))
    return [line for line in found if not _THE_USUAL.fullmatch(line)]
