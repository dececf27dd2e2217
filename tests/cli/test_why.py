"""`reconciler why`: who asks for it, what differs, what stands against it, and what was done last."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.transcript import write_files

DONE, FAILED, INVALID = 0, 1, 4

LAYERS = {
    "specs/reconciler.toml": "[defaults]\ncpu_weight = 300\nvcpus = 1\n",
    "specs/profiles/base.toml": "vcpus = 2\ncap = 50\n",
    "specs/profiles/small.toml": '# small\nprofile = "base"\nvcpus = 3\n',
    "specs/alpha/host.toml": 'toolstack = "simulated"\ndisk_roots = ["/srv"]\nallow = { xl_keys = ["nomigrate"] }\n',
    "specs/alpha/web.toml": """profile = "small"
kernel = "/boot/vmlinuz"
root = "/dev/xvda ro"
memory = 256

[[disk]]
vdev = "xvda"
path = "/srv/a.img"
size = "1GiB"

[[disk]]
vdev = "xvdb"
path = "/srv/b.img"
size = "1GiB"

[[vif]]
bridge = "br0"

[xl]
nomigrate = 0
""",
}


def why(run: Run, address: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("why", address, "--json").out)
    return document


def edit(tree: Path, file: str, before: str, after: str) -> None:
    text = (tree / file).read_text()
    assert before in text
    (tree / file).write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("file", "before", "after", "path", "line"),
    [
        ("alpha/web.toml", "memory = 256", "memory = 300", "memory", 4),
        ("alpha/web.toml", "memory = 256", "memory = 300", "maxmem", 4),
        ("alpha/web.toml", "/dev/xvda ro", "/dev/xvda rw", "cmdline", 3),
        ("alpha/web.toml", 'b.img"\nsize = "1GiB"', 'b.img"\nsize = "2GiB"', "disk[xvdb].size", 14),
        ("alpha/web.toml", "br0", "br1", "vif[0].bridge", 17),
        ("alpha/web.toml", "nomigrate = 0", "nomigrate = 1", "xl.nomigrate", 20),
        ("profiles/small.toml", "vcpus = 3", "vcpus = 4", "vcpus", 3),
        ("profiles/base.toml", "cap = 50", "cap = 60", "cap", 2),
        ("reconciler.toml", "cpu_weight = 300", "cpu_weight = 400", "cpu_weight", 2),
    ],
)
def test_each_field_is_traced_to_the_line_that_says_it(
    run: Run, tree: Path, file: str, before: str, after: str, path: str, line: int
) -> None:
    write_files(LAYERS, tree)
    assert run("apply", "--yes").code == DONE
    edit(tree, f"specs/{file}", before, after)
    fields = {field["path"]: field for field in why(run, "alpha/web")["fields"]}
    assert (fields[path]["source"]["path"], fields[path]["source"]["line"]) == (f"specs/{file}", line)
    assert f"specs/{file}:{line}" in run("why", "alpha/web").out


def test_what_no_spec_says_has_no_line(run: Run, tree: Path) -> None:
    fields = {field["path"]: field for field in why(run, "alpha/web")["fields"]}
    assert fields["uuid"]["source"] is None
    assert "set by no spec" in run("why", "alpha/web").out


def test_an_interface_that_cannot_be_told_from_others_leads_to_the_key(run: Run, tree: Path) -> None:
    vifs = "[[vif]]\nmac = '00:16:3e:00:00:01'\n[[vif]]\nmac = '00:16:3e:00:00:02'\nbridge = 'br0'\n"
    (tree / "specs/alpha/web.toml").write_text(f'kernel = "/boot/vmlinuz"\nmemory = 64\n{vifs}')
    fields = {field["path"]: field for field in why(run, "alpha/web")["fields"]}
    assert fields["vif[1]"]["source"]["path"] == "specs/alpha/web.toml"


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(tree), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(tree: Path, message: str) -> str:
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", f"--message={message}")
    return git(tree, "rev-parse", "HEAD")


def test_the_commits_that_ask_for_it_and_that_of_the_host(run: Run, tree: Path) -> None:
    (tree / ".gitignore").write_text(".state\n")
    git(tree, "init", "--quiet")
    first = commit(tree, "Begin")
    run("apply", "--yes")
    edit(tree, "specs/alpha/web.toml", "256", "300")
    assert why(run, "alpha/web")["commits"]["specs/alpha/web.toml"].endswith("Ann: Begin (and changed since)")
    commit(tree, "Grow web")
    found = why(run, "alpha/web")
    assert found["commits"]["specs/alpha/web.toml"].endswith("Ann: Grow web")
    assert found["host_commit"] == first
    assert found["last_apply"]["commit"] == first
    (tree / "specs/alpha/web.toml").unlink()
    commit(tree, "Drop web")
    shown = run("why", "alpha/web").out
    assert "alpha/web  destroy: no spec names it any more" in shown
    assert "the last commit that touched it" in shown
    assert "Drop web" in shown


def test_outside_git_no_commit_is_named(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    found = why(run, "alpha/web")
    assert (found["commits"], found["host_commit"], found["action"]) == ({}, None, "no-op")
    assert "in no commit" in run("why", "alpha/web").out


def test_what_blocks_it_and_how_to_go_on(run: Run, tree: Path) -> None:
    run("sim", "alpha", "create", "web")
    shown = run("why", "alpha/web")
    assert shown.code == DONE
    assert shown.out.startswith("alpha/web  blocked: a domain of this name is there")
    assert "hint: reconciler apply --adopt alpha/web" in shown.out


def test_the_brake_of_the_whole_run_is_told(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    (tree / "specs/alpha/more.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\n')
    (tree / "specs/reconciler.toml").write_text("[brake]\nmax_destroy = 0\n")
    (tree / "specs/alpha/web.toml").unlink()
    shown = run("why", "alpha/web")
    assert "held: by the brake" in shown.out
    assert "--allow-destroy 1" in shown.err


def test_what_it_waits_for(run: Run, tree: Path) -> None:
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\ndepends_on = ["db"]\n')
    assert "It waits for alpha/db to be ready." in run("why", "alpha/web").out


def test_a_domain_that_is_kept_although_no_spec_names_it(run: Run, tree: Path) -> None:
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 64\nprevent_destroy = true\n')
    run("apply", "--yes")
    (tree / "specs/alpha/web.toml").unlink()
    shown = run("why", "alpha/web").out
    assert "prevent_destroy" in shown
    assert "there is no specs/alpha/web.toml" in shown


def test_the_last_apply_tells_what_failed(run: Run, tree: Path) -> None:
    run("apply", "--yes", "--target", "alpha/db")
    run("sim", "alpha", "fault", "create-fails")
    run("apply", "--yes")
    assert "start failed: xl create of web failed" in run("why", "alpha/web").out
    steps = why(run, "alpha/db")["last_apply"]["steps"]
    assert {step["address"] for step in steps} == {"alpha/db"}


def test_the_console_of_a_boot_that_failed_is_kept_whole(run: Run, tree: Path) -> None:
    said = "".join(f"line {number}\\n" for number in range(40))
    kernel = f'#!simulated-kernel\nboot = "panic"\nconsole = "{said}\\u001b[2Jlast words"\n'
    write_files({"specs/kernels/bad": kernel, "specs/alpha/web.toml": 'kernel = "kernels/bad"\nmemory = 256\n'}, tree)
    assert run("apply", "--yes", "--target", "alpha/db").code == DONE
    assert why(run, "alpha/db")["console"] is None
    assert run("apply", "--yes").code == FAILED
    console = why(run, "alpha/web")["console"]
    file = Path(console["path"])
    assert file == tree / ".state/consoles/alpha/web.log"
    assert file.stat().st_mode & 0o077 == 0
    kept = file.read_text()
    assert "line 0\n" in kept
    assert "last words" in kept
    assert "\x1b" not in kept
    shown = run("why", "alpha/web").out
    assert f"left this console in {file}:" in shown
    assert all(f"  {line}" in shown for line in console["lines"])
    assert why(run, "alpha/db")["console"] is None


def test_a_domain_that_is_not_ours(run: Run, tree: Path) -> None:
    run("sim", "alpha", "create", "legacy")
    assert run("why", "alpha/legacy").out.startswith("alpha/legacy  is not ours, so it is never changed\n")
    found = why(run, "alpha/legacy")
    assert (found["managed"], found["action"], found["file"]) == (False, None, None)


def test_a_host_that_does_not_answer(run: Run, tree: Path) -> None:
    run("sim", "alpha", "fault", "unreachable")
    shown = run("why", "alpha/web")
    assert shown.code == FAILED
    assert shown.out.startswith("alpha/web  its host did not answer\n")


def test_a_spec_with_errors(run: Run, tree: Path) -> None:
    run("apply", "--yes")
    (tree / "specs/alpha/web.toml").write_text("memroy = 1\n")
    shown = run("why", "alpha/web")
    assert shown.code == INVALID
    assert "its spec file has errors (specs/alpha/web.toml:1:1), so it is left alone" in shown.out
    assert "specs/alpha/web.toml:1:1" in shown.err
    assert run("why", "alpha/db").code == DONE


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("alpha/wbe", 'Did you mean "alpha/web"?'),
        ("alhpa/web", 'Did you mean "alpha"?'),
        ("wbe", "is not of the form host/domain"),
        ("alpha/web/x", "is not of the form host/domain"),
    ],
)
def test_an_unknown_address_is_refused_with_a_near_miss(run: Run, address: str, sentence: str) -> None:
    refused = run("why", address)
    assert (refused.code, refused.out) == (FAILED, "")
    assert sentence in refused.err
