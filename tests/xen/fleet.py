"""A spec tree for the lab, and the `reconciler` command run on it as a user would: a process and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tests.xen.lab import Lab

HOST_TOML = """
toolstack = "xl"
connect = "ssh://root@lab"
kernel_roots = ["/boot/guest"]
disk_roots = ["/srv", "vg0"]
"""
# A small guest, which says on its console when it has booted.
GUEST = """
kernel = "/boot/guest/vmlinuz-amd64"
ramdisk = "/boot/guest/initrd-amd64.gz"
cmdline = "console=hvc0"
memory = 96
maxmem = 128
shutdown_timeout = "120s"
ready = { min_seconds = 1, timeout = "300s", console = "GUEST-READY" }
"""
REFUSED = 3
LOCK_SECONDS = 240  # a lock frees itself 30 s after its holder fell silent; the rest is for a busy machine
RUN_SECONDS = 1200  # what takes 60 s on an idle machine may take ten minutes on a busy one


class Fleet:
    """One host, `lab`; its domains are the files that a test writes."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.specs = folder / "specs"
        self._ever_written: set[str] = set()
        (self.specs / "lab").mkdir(parents=True)
        (self.specs / "lab" / "host.toml").write_text(HOST_TOML)
        (self.specs / "reconciler.toml").write_text('fleet = "default"\n[brake]\nmax_destroy = 1\n')

    def write(self, domain: str, text: str) -> None:
        self._ever_written.add(domain)
        (self.specs / "lab" / f"{domain}.toml").write_text(text)

    def edit(self, domain: str, before: str, after: str) -> None:
        """Replace a piece of a spec that is there exactly once."""
        file = self.specs / "lab" / f"{domain}.toml"
        text = file.read_text()
        assert text.count(before) == 1, f"{before!r} in {file.name}"
        file.write_text(text.replace(before, after))

    def remove(self, domain: str) -> None:
        (self.specs / "lab" / f"{domain}.toml").unlink()

    def start(self, *arguments: str, log: TextIO | None = None) -> subprocess.Popen[str]:
        """The command, begun and not waited for; all that it says goes to `log` if there is one."""
        path = f"{self.lab.ssh_folder}:{os.environ['PATH']}"
        return subprocess.Popen(
            [Path(sys.executable).with_name("reconciler"), "--state-dir", self.folder / "state", *arguments],
            env={**os.environ, "PATH": path, "RECONCILER_SPECS": str(self.specs), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log or subprocess.PIPE,
            stderr=log or subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """The command, waited for; fails with all that it said when it exits otherwise than expected."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        finally:
            process.kill()
        said = f"reconciler {' '.join(arguments)}: exit code {process.returncode}\n{out}{err}"
        assert process.returncode == exit_code, said
        assert "Traceback" not in err, said
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def apply(self, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run("apply", "--yes", *arguments, exit_code=exit_code)

    def apply_after_a_kill(self, *arguments: str, exit_code: int = 0) -> str:
        """Apply as soon as the lock of an apply that was killed is free; returns all that was said."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            process = self.start("apply", "--yes", *arguments)
            out, err = process.communicate(timeout=RUN_SECONDS)
            if process.returncode != REFUSED or time.monotonic() > deadline:
                assert process.returncode == exit_code, f"apply: exit code {process.returncode}\n{out}{err}"
                return out + err

    def kill_an_apply_after(self, ended: str) -> None:
        """Apply, and kill the controller as soon as a step whose line has these words has ended."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            process = self.start("apply", "--yes")
            assert process.stderr
            said = ""
            for line in process.stderr:
                said += line
                if ended in line and ": done (" in line:
                    process.kill()
                    process.communicate()
                    return
            out, _ = process.communicate()
            assert process.returncode == REFUSED, f"no step that says {ended!r}: {said}{out}"
            assert time.monotonic() < deadline, f"the lock of an apply that was killed is still held: {said}"

    def plan(self, exit_code: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("plan", "--json", exit_code=exit_code).stdout)
        return document

    def actions(self, exit_code: int = 0) -> dict[str, str]:
        """What a plan would do to each of our domains."""
        changes = self.plan(exit_code)["changes"]
        return {change["address"].removeprefix("lab/"): change["action"] for change in changes}

    def assert_nothing_to_do(self) -> None:
        self.run("plan", "--detailed-exitcode", exit_code=0)

    def tear_down(self, *domains: str) -> None:
        """Rid the lab of our domains, or of these, by plain xl, whatever state a failed test has left them in."""
        for domain in domains:
            (self.specs / "lab" / f"{domain}.toml").unlink(missing_ok=True)
        names = " ".join(sorted(domains or self._ever_written))
        remove = "rm -rf /etc/xen/$name.cfg /etc/xen/auto/*$name.cfg /var/lib/xen/kernels/$name /srv/$name*.img"
        self.lab.ssh(
            f"for name in {names}; do xl destroy $name; {remove} /var/log/xen/console/guest-$name.log; "
            "lvremove -y vg0/$name; done",
            check=False,
            timeout_seconds=RUN_SECONDS,
        )


def until_done(process: subprocess.Popen[str], step: str) -> None:
    """Read what an apply says until a step of these words has ended."""
    assert process.stderr
    assert any(step in line and ": done (" in line for line in process.stderr), f"no step that says {step!r}"


def rows_of(lab: Lab, domain: str) -> int:
    """How often `xl list` has a domain of this name: more than once would be one that was made twice."""
    return [line.split()[0] for line in lab.xl("list").splitlines()[1:]].count(domain)
