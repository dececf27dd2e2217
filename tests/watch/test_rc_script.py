"""The rc.d script, run by a shell with a stand-in for NetBSD's rc.subr."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "contrib/reconciler.rc"
RC_SUBR = """
load_rc_config() { . "$HERE/rc.conf"; command="$HERE/reconciler"; pidfile="$HERE/pid"; }
run_rc_command() {
    for dir in $required_dirs; do [ -d "$dir" ] || { echo "$dir is missing"; exit 1; }; done
    eval "\\${${1}_cmd}"
}
"""


@pytest.mark.parametrize(
    ("conf", "arguments"),
    [
        ("reconciler_specs=$HERE/specs", "watch {here}/specs"),
        ("reconciler_specs=; reconciler_flags='--git https://git.example/x --branch b'",
         "watch --git https://git.example/x --branch b"),
    ],
    ids=["a folder", "a branch"],
)  # fmt: skip
def test_start_passes_on_what_rc_conf_says(tmp_path: Path, conf: str, arguments: str) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "rc.subr").write_text(RC_SUBR)
    (tmp_path / "rc.conf").write_text(f"{conf}\nreconciler_state=$HERE/state\nreconciler_log=$HERE/log\n")
    (tmp_path / "reconciler").write_text('#!/bin/sh\necho "$@" >"$HERE/arguments.draft"\n'
                                         'mv "$HERE/arguments.draft" "$HERE/arguments"\n')  # fmt: skip
    (tmp_path / "reconciler").chmod(0o700)
    script = tmp_path / "script"
    script.write_text(SCRIPT.read_text().replace("$_rc_subr_loaded . /etc/rc.subr", '. "$HERE/rc.subr"'))
    done = subprocess.run(["sh", script, "start"], env={"HERE": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=False)
    assert done.returncode == 0
    deadline = time.monotonic() + 10
    while not (tmp_path / "arguments").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    said = (tmp_path / "arguments").read_text().strip()
    assert said == f"--state-dir {tmp_path}/state " + arguments.format(here=tmp_path)
