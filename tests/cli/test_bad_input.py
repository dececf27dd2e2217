"""Whatever is handed to the command, it answers in sentences: never a traceback, and 1 for wrong usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.transcript import write_files

COMMAND = str(Path(sys.executable).with_name("reconciler"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pln"], "There is no command 'pln'. Did you mean plan?"),
        (["plan", "--jsn"], "Did you mean '--json'?"),
        (["plan", "a", "b"], "unexpected extra argument"),
        (["validate", "--json=x"], "does not take a value"),
        (["plan", "--host", "alhpa"], 'Did you mean "alpha"?'),
        (["plan", "--target", "alpha/wbe"], 'Did you mean "alpha/web"?'),
        (["plan", "--target", "alpha"], "not of the form host/domain"),
        (["plan", "--target", "alpha/web/disk"], "not of the form host/domain"),
        (["apply", "--adopt", "alpha/bd"], 'Did you mean "alpha/db"?'),
        (["apply", "--restart", "alpha/bd"], 'Did you mean "alpha/db"?'),
        (["apply", "--retry", "alpha/dbb"], 'Did you mean "alpha/db"?'),
        (["apply", "--allow-destroy", "-1"], "-1 is not in the range"),
        (["apply", "--allow-destroy", "many"], "'many' is not a valid integer"),
        (["validate", "--format", "xml"], "'xml' is not one of"),
        (["render"], "Missing argument 'ADDRESS'"),
        (["render", "alpha/wbe"], 'Did you mean "alpha/web"?'),
        (["render", "wbe"], "not of the form host/domain"),
        (["apply", "missing.plan"], "neither a saved plan nor a folder of specs"),
        (["explain", "memroy"], 'Did you mean "memory"?'),
        (["explain", "keep_fre"], 'Did you mean "keep_free"?'),
        (["explain", "vnc"], "Write it under [xl]: vnc = …"),
        (["explain", "device_model_args"], 'xl_keys = ["device_model_args"]'),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["console", "alpha/-oProxyCommand=x"], "not of the form host/domain"),
        (["console", "beta/web"], 'no host "beta"'),
        (["schema", "disk"], "'disk' is not one of"),
        (["sim", "beta", "list"], "The hosts there are alpha"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(run: Run, arguments: list[str], said: str) -> None:
    ran = run(*arguments)
    assert ran.code == 1
    assert said in ran.err
    assert ran.err.startswith("error: ")
    assert ran.out == ""


def test_a_document_and_annotations_are_not_both_to_be_had(run: Run) -> None:
    ran = run("validate", "--json", "--format", "github")
    assert ran.code == 1
    assert "--json and --format github exclude each other" in ran.err
    assert run("validate", "--json", "--format", "text").code == 0


@pytest.mark.parametrize("command", ["validate", "plan", "status", "apply --yes"])
@pytest.mark.parametrize("specs", ["missing", "a-file", "link-to-itself", "empty"])
def test_a_tree_that_is_none(tree: Path, run: Run, command: str, specs: str) -> None:
    (tree / "a-file").write_text("")
    (tree / "link-to-itself").symlink_to("link-to-itself")
    (tree / "empty").mkdir()
    ran = run(*command.split(), specs)
    a_plan = command.startswith("apply") and specs == "a-file"  # which is refused
    assert ran.code == (0 if specs == "empty" else 3 if a_plan else 4)
    assert specs in ran.out + ran.err


def break_domain(tree: Path, how: str) -> None:
    file = tree / "specs/alpha/web.toml"
    match how:
        case "not UTF-8":
            file.write_bytes(b"cmdline = '\xff'")
        case "a directory":
            file.unlink()
            file.mkdir()
        case "NUL bytes":
            file.write_bytes(b"memory = 1\0")
        case "nested deeply":
            file.write_text("xl = " + "[" * 100_000)
        case "large":
            file.write_bytes(b"#" * 2_000_000)
        case "out of the tree":
            file.unlink()
            file.symlink_to("/etc/passwd")
        case "a pipe":
            file.unlink()
            os.mkfifo(file)


@pytest.mark.parametrize(
    "how", ["not UTF-8", "a directory", "NUL bytes", "nested deeply", "large", "out of the tree", "a pipe"]
)
def test_a_file_that_is_no_spec_freezes_only_its_domain(tree: Path, run: Run, how: str) -> None:
    break_domain(tree, how)
    ran = run("plan")
    assert ran.code == 4
    assert "specs/alpha/web.toml" in ran.err
    assert "+ alpha/db" in ran.out


def test_a_state_folder_that_is_a_file(tree: Path, run: Run) -> None:
    (tree / "state").write_text("")
    ran = run("--state-dir", "state", "apply", "--yes")
    assert ran.code == 1
    assert "state" in ran.err


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """A shell has what it starts in the background ignore them, and that is inherited, by tests as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_terminal_that_knows_only_ascii(tree: Path) -> None:
    process = start("plan", "--steps", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    (tree / "specs/alpha/web.toml").write_text('kernel = "/boot/vmlinuz"\nmemory = 256\ncmdline = "näh"\n')
    out, err = start("plan", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C").communicate(timeout=30)
    assert r"n\xe4h" in out


def test_a_reader_that_went_away(tree: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run([COMMAND, "plan"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, "")


def test_a_full_disk(tree: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([COMMAND, "plan"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (process.returncode, process.stderr) == (1, "error: No space left on device\n")


def test_a_bug_of_ours_is_one_sentence(tree: Path) -> None:
    broken = "import reconciler.specs as s, reconciler.cli.program as c\ns.read_tree = None\nc.main()"
    for debug, traceback in (("", False), ("1", True)):
        process = subprocess.run(
            [sys.executable, "-c", broken, "plan"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "RECONCILER_DEBUG": debug},
        )
        assert process.returncode == 1
        assert "please report this" in process.stderr
        assert ("Traceback" in process.stderr) is traceback


def test_the_json_of_a_plan_has_an_entry_for_domains_that_nobody_could_decide_about(tree: Path, run: Run) -> None:
    files = {
        "specs/alpha/broken.toml": "memory = ",
        "specs/beta/host.toml": 'toolstack = "simulated"\n',
        "specs/beta/far.toml": 'kernel = "/boot/vmlinuz"\nmemory = 64\n',
    }
    write_files(files, tree)
    assert run("sim", "beta", "fault", "unreachable").code == 0
    document = json.loads(run("plan", "--json").out)
    told = {change["address"]: (change["action"], change["reason"]) for change in document["changes"]}
    assert list(told) == ["alpha/broken", "alpha/db", "alpha/web", "beta/far"]
    why = "its spec file has errors (specs/alpha/broken.toml:1:10), so it is left alone"
    assert told["alpha/broken"] == ("no-op", why)
    assert told["beta/far"] == ("no-op", "beta could not be observed")
    assert document["summary"]["no-op"] == 2
