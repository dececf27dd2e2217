"""Random trees, edits, drift, faults and killed runs, through the command line alone, on two simulated hosts.

`make chaos SEED=7 ROUNDS=30` plays one seed. In each round specs are edited, the hosts drift or fail, and runs are made
or cut short. What nobody asked for has to keep its domid all the while. Then the faults end, what was asked for is made
possible, and one apply has to make all of it true.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import tomli_w

from reconciler import cli
from tests.cli.conftest import Ran

HOSTS = ("alpha", "beta")
_NAMES = [f"d{number}" for number in range(15)]
_NEVER_SAID = ("internal error", "has a bug", "Traceback", "circle", "in no order")
_BAD = ("panic", "hang", "reboot-loop")
_FAULTS = ("unreachable", "create-fails", "lost-reply", "slow", "disk-full")
# fmt: off
_EDITS = (
    "kernel", "kernel", "bad", "memory", "vcpus", "wave", "depends", "state", "reconcile", "restart",
    "remove", "add", "limit", "brake", "error", "swap", "cmdline", "timeout", "vif",
)
# fmt: on
_DRIFTS = ("reboot", "destroy", "crash", "pause", "poweroff", "save", "memory", "stranger", "dom0", "fault", "fault")
_COMMAND = "import sys; from reconciler.cli import run; sys.exit(run(sys.argv[1:]))"
_WAIT_SECONDS = 90.0


class Broken(AssertionError):
    """Says what was seen that must never be, and all that led to it."""


@dataclass
class Spec:
    """A declared domain: its keys as in its file, and whether that file has an error for now."""

    host: str
    keys: dict[str, Any]
    error: bool = False


@dataclass
class Chaos:
    """One seed's fleet. `said` is what was done, to be read when something is wrong."""

    seed: int
    folder: Path
    random: random.Random = field(init=False)
    specs: dict[str, Spec] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    brake: dict[str, Any] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    strangers: dict[str, str] = field(default_factory=dict)  # domains that are not ours, and their hosts
    saved: dict[str, str] = field(default_factory=dict)  # domains that were saved, and their hosts
    moved: set[str] = field(default_factory=set)  # domains of which something was asked, or to which something happened
    ties: dict[str, set[str]] = field(default_factory=dict)  # domain -> all that it ever depended on
    said: list[str] = field(default_factory=list)
    serial: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        for host in HOSTS:
            self.settings[host] = {"toolstack": "simulated", "disk_roots": ["/srv"], "max_unavailable": 1}
            self.settings[host]["simulated"] = {"memory": "4GiB", "cpus": 8}
        for name in self.random.sample(_NAMES, self.random.randint(5, 15)):
            self.add(name)
        self.write()

    # what is asked for

    def add(self, name: str) -> None:
        host = self.random.choice(HOSTS)
        self.specs[name] = Spec(host=host, keys={"memory": self.random.choice((128, 256, 512))})
        self.new_kernel(name, "ok")
        self.specs[name].keys["ready"] = {"timeout": "20s", "min_seconds": 1}
        if self.random.random() < 0.5:
            self.specs[name].keys["disk"] = [{"vdev": "xvda", "path": f"/srv/{name}", "size": "16MiB"}]
        if self.random.random() < 0.5:
            self.depend(name)
        self.specs[name].keys["wave"] = self.random.choice((-1, 0, 0, 1))
        self.moved.add(name)

    def depend(self, name: str) -> None:
        """Let it depend on domains of its host with a lower number, so never in a circle."""
        here = [one for one in self.specs if self.specs[one].host == self.specs[name].host]
        below = [one for one in here if int(one[1:]) < int(name[1:])]
        chosen = self.random.sample(below, min(len(below), self.random.randint(0, 2)))
        self.specs[name].keys["depends_on"] = sorted(chosen)
        self.ties.setdefault(name, set()).update(chosen)

    def new_kernel(self, name: str, boot: str) -> None:
        """Write the bytes of a new kernel for this domain; half of the time others take the same bytes too."""
        self.serial += 1
        text = f'#!simulated-kernel\nboot = "{boot}"\nconsole = "kernel {self.serial}"\n'
        if self.random.random() < 0.1:
            text += 'balloon = "refuse"\n'
        if self.random.random() < 0.1:
            text += 'shutdown = "ignore"\n'
        sharing = self.random.sample(sorted(self.specs), min(len(self.specs), self.random.choice((0, 0, 2, 4))))
        for one in {name, *sharing}:
            self.kernels[one] = text
            self.specs[one].keys["kernel"] = f"kernels/{one}"
        self.moved |= {name, *sharing}
        self.log(f"kernel {self.serial} ({boot}) for {sorted({name, *sharing})}")

    def edit(self) -> None:
        name = self.random.choice(sorted(self.specs))
        keys = self.specs[name].keys
        kind = self.random.choice(_EDITS)
        match kind:
            case "kernel":
                self.new_kernel(name, "ok")
            case "bad":
                self.new_kernel(name, self.random.choice(_BAD))
            case "memory":
                keys["memory"] = self.random.choice((64, 128, 256, 512, 1024, 2048))
                keys["maxmem"] = max(keys["memory"], self.random.choice((128, 1024, 2048)))
            case "vcpus":
                keys |= {"vcpus": self.random.randint(1, 4), "maxvcpus": 4}
            case "wave":
                keys["wave"] = self.random.choice((-1, 0, 1, 2))
            case "depends":
                self.depend(name)
            case "state":
                keys["state"] = self.random.choice(("running", "stopped"))
            case "reconcile":
                keys["reconcile"] = self.random.random() < 0.5
            case "restart":
                keys["restart"] = self.random.choice(("auto", "defer"))
            case "remove" if len(self.specs) > 3:
                del self.specs[name]
                for other in self.specs.values():
                    other.keys["depends_on"] = [one for one in other.keys.get("depends_on", ()) if one != name]
            case "add" if len(self.specs) < len(_NAMES):
                name = self.random.choice(sorted(set(_NAMES) - set(self.specs) - self.moved) or [name])
                if name not in self.specs:
                    self.add(name)
            case "limit":
                self.settings[self.random.choice(HOSTS)]["max_unavailable"] = self.random.randint(1, 3)
                return
            case "brake":
                self.brake = self.random.choice(({}, {"max_restart": 2}, {"max_destroy": "0%"}, {"max_restart": "20%"}))
                return
            case "error":
                self.specs[name].error = not self.specs[name].error
            case "swap":
                self.swap_disks(name)
            case "cmdline":
                self.serial += 1
                keys["cmdline"] = f"root=/dev/xvda serial={self.serial}"
            case "timeout":
                keys["on_shutdown_timeout"] = self.random.choice(("fail", "destroy"))
            case "vif":
                keys["vif"] = [{"bridge": "xenbr0"}] * self.random.randint(0, 2)
            case _:
                return
        self.moved.add(name)
        self.log(f"edit {kind} of {name}: {self.specs[name].keys if name in self.specs else 'gone'}")

    def keep_waves(self) -> None:
        """Put no domain into an earlier wave than what it depends on, which would be an error."""
        for name in sorted(self.specs, key=lambda one: int(one[1:])):
            keys = self.specs[name].keys
            bases = [self.specs[base].keys["wave"] for base in keys.get("depends_on", ())]
            keys["wave"] = max((keys["wave"], *bases))

    def keep_running(self) -> None:
        """Stop nothing under a domain that is to run and depends on it."""
        for name in sorted(self.specs, key=lambda one: -int(one[1:])):
            if self.specs[name].keys.get("state") != "stopped":
                for base in self.specs[name].keys.get("depends_on", ()):
                    self.specs[base].keys["state"] = "running"

    def swap_disks(self, name: str) -> None:
        here = [one for one in sorted(self.specs) if self.specs[one].host == self.specs[name].host and one != name]
        others = [one for one in here if "disk" in self.specs[one].keys]
        if others and "disk" in self.specs[name].keys and not self.moved:
            other = self.random.choice(others)
            mine, theirs = self.specs[name].keys, self.specs[other].keys
            mine["disk"], theirs["disk"] = theirs["disk"], mine["disk"]
            self.moved.add(other)

    def write(self) -> None:
        """Write the tree as it is now."""
        tree = self.folder / "specs"
        for path in [*tree.glob("*/*.toml"), *tree.glob("kernels/*")]:
            path.unlink()
        files = {"reconciler.toml": tomli_w.dumps({"brake": self.brake} if self.brake else {})}
        files |= {f"{host}/host.toml": tomli_w.dumps(self.settings[host]) for host in HOSTS}
        files |= {f"kernels/{name}": self.kernels[name] for name in self.specs}
        for name, spec in self.specs.items():
            files[f"{spec.host}/{name}.toml"] = ("memroy = 5\n" if spec.error else "") + tomli_w.dumps(spec.keys)
        for path_name, text in files.items():
            (tree / path_name).parent.mkdir(parents=True, exist_ok=True)
            (tree / path_name).write_text(text)

    # what happens to the hosts

    def drift(self) -> None:
        host = self.random.choice(HOSTS)
        there = [one["name"] for one in self.look(host) if one["managed"]]
        match self.random.choice(_DRIFTS):
            case "fault":
                fault = self.random.choice(_FAULTS)
                self.sim(host, "fault", fault, "--times", str(self.random.randint(1, 3)))
            case "dom0":
                self.sim(host, "reboot")
                self.moved |= set(there)
            case "stranger":
                self.serial += 1
                self.strangers[f"x{self.serial}"] = host
                self.sim(host, "create", f"x{self.serial}", "--memory", self.random.choice(("64", "512")))
            case "memory" if there:
                name = self.random.choice(there)
                self.moved.add(name)
                self.sim(host, "set", name, f"memory={self.random.choice((64, 100, 200, 300))}")
            case kind if there:
                name = self.random.choice(there)
                self.moved.add(name)
                self.sim(host, kind, name)
                if kind == "save":
                    self.saved[name] = host

    def sim(self, host: str, *arguments: str) -> Ran:
        return self.run("sim", host, *arguments)

    def look(self, host: str) -> list[dict[str, Any]]:
        ran = self.run("sim", host, "list", "--json", quiet=True)
        found: list[dict[str, Any]] = json.loads(ran.out)["domains"]
        return found

    def boots(self) -> dict[str, str]:
        """Tell one boot of each domain from the next."""
        return {one["name"]: str(one["boot"]) for host in HOSTS for one in self.look(host) if one["power"] == "running"}

    # what is run

    def run(self, *arguments: str, quiet: bool = False) -> Ran:
        """Run a command in this process."""
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.run(arguments)
        ran = Ran(code, out.getvalue(), err.getvalue())
        if not quiet:
            self.log(f"$ reconciler {' '.join(arguments)}\n{ran.out}{ran.err}[{code}]")
        self.check_said(ran.out + ran.err)
        return ran

    def check_said(self, text: str) -> None:
        for never in _NEVER_SAID:
            if never in text:
                self.fail(f"it says {never!r}")

    def run_cut_short(self) -> None:
        """Run an apply that gets a signal at a random moment."""
        for host in HOSTS:
            self.settings[host]["simulated"]["latency"] = "15ms"
        self.write()
        how = self.random.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
        after_seconds = self.random.uniform(0.2, 2.5)
        self.log(f"$ reconciler apply --yes, {how.name} after {after_seconds:.2f} s")
        command = [sys.executable, "-c", _COMMAND, "apply", "--yes"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(after_seconds)
        process.send_signal(how)
        try:
            out, _ = process.communicate(timeout=_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            self.fail(f"apply did not end within {_WAIT_SECONDS} s of {how.name}")
        self.log(f"{out}[{process.returncode}]")
        if out.count("in <module>") < 2:  # else it came while Python still read the program
            self.check_said(out)
        for host in HOSTS:
            del self.settings[host]["simulated"]["latency"]
        self.write()

    def act(self) -> None:
        """Make one run, and see that it leaves alone what it has to."""
        before = self.boots()
        match self.random.choice(("apply", "apply", "apply", "watch", "cut", "cut", "target")):
            case "apply":
                self.run("apply", "--yes")
            case "watch":
                self.run("watch", "--once")
            case "cut":
                self.run_cut_short()
            case "target":
                name = self.random.choice(sorted(self.specs))
                address = f"{self.specs[name].host}/{name}"
                self.run("apply", "--yes", "--target", address, self.random.choice(("--retry", "--restart")), address)
                self.moved.add(name)
        self.check_untouched(before)

    def may_move(self) -> set[str]:
        """Return who may go down: what was asked for or has drifted, and all that depends or depended on it."""
        found, grown = set[str](), set(self.moved)
        while grown - found:
            found |= grown
            grown |= {name for name, bases in self.ties.items() if bases & found}
        return found

    def check_untouched(self, before: dict[str, str]) -> None:
        now, free = self.boots(), self.may_move()
        for name, boot in before.items():
            if name not in free and now.get(name) != boot:
                self.fail(f"{name} went from boot {boot} to {now.get(name)}, and nobody asked for that")

    def check_shown(self) -> None:
        """See that every declared domain is shown by name, in every form."""
        text, document, status = self.run("plan"), self.run("plan", "--json", quiet=True), self.run("status")
        if not document.out.startswith("{"):
            return
        told = {change["address"] for change in json.loads(document.out)["changes"]}
        for name, spec in self.specs.items():
            address = f"{spec.host}/{name}"
            if address not in told:
                self.fail(f"{address} is not in the JSON of its plan")
            if name not in status.out and f"{spec.host}: not observed" not in status.out:
                self.fail(f"{address} is not in status")
            if spec.error and address not in text.out:
                self.fail(f"{address} is frozen, and the plan does not say so")

    def check_comes_to_rest(self) -> None:
        """See that what is left alone stays as it is, however often it is applied."""
        self.end_faults()
        for _ in range(len(self.specs) + 4):
            before = self.boots()
            self.run("apply", "--yes")
            if self.boots() == before:
                break
        else:
            self.fail("domains are restarted at every apply")
        for arguments in (("watch", "--once"), ("apply", "--yes"), ("watch", "--once")):
            self.run(*arguments)
            if self.boots() != before:
                self.fail(f"what was at rest has moved: {before} {self.boots()}")

    def end_faults(self) -> None:
        for host in HOSTS:
            for fault in _FAULTS:
                self.sim(host, "fault", fault, "--times", "0")

    def heal(self) -> None:
        """End all faults, ask only for what can be, and see that one apply makes it true."""
        self.end_faults()
        for host in HOSTS:
            for one in self.look(host):
                if one["power"] == "paused":
                    self.sim(host, "unpause", one["name"])
                if one["power"] == "rebooting":  # which takes time, and none passes where nothing is done
                    self.sim(host, "destroy", one["name"])
            self.settings[host]["max_unavailable"] = len(_NAMES)
        for name, host in self.saved.items():
            self.sim(host, "restore", name)
        for name, host in self.strangers.items():
            self.sim(host, "destroy", name)
        self.saved.clear()
        self.strangers.clear()
        self.brake = {}
        for name, spec in self.specs.items():
            spec.error = False
            spec.keys |= {"reconcile": True, "memory": 128, "on_shutdown_timeout": "destroy"}
            if any(bad in self.kernels[name] for bad in _BAD) or "refuse" in self.kernels[name]:
                self.kernels[name] = '#!simulated-kernel\nconsole = "healed"\n'
        self.keep_waves()
        self.keep_running()
        self.write()
        addresses = [f"{spec.host}/{name}" for name, spec in sorted(self.specs.items())]
        options = [word for address in addresses for word in ("--retry", address, "--restart", address)]
        healed = self.run("apply", "--yes", "--allow-destroy", "15", *options)
        for _ in range(5):
            if "which is no state to act on" in healed.out:  # say, a reboot, which ends by itself
                healed = self.run("apply", "--yes", "--allow-destroy", "15", *options)
        again = self.run("plan", "--detailed-exitcode")
        if healed.code or again.code:
            self.fail(f"apply ended with {healed.code}, and a second plan with {again.code}")
        self.moved.clear()
        self.ties = {name: set(spec.keys.get("depends_on", ())) for name, spec in self.specs.items()}

    def log(self, text: str) -> None:
        self.said.append(text)

    def fail(self, why: str) -> None:
        raise Broken(f"seed {self.seed}: {why}\n" + "\n".join(self.said[-60:]))

    def play(self, rounds: int) -> None:
        self.heal()
        for number in range(rounds):
            self.log(f"--- round {number}")
            _times(self.edit, self.random.randint(0, 5))
            if self.random.random() < 0.9:
                self.keep_waves()
            _times(self.drift, self.random.choice((0, 0, 1, 2)))
            self.write()
            self.check_shown()
            _times(self.act, self.random.randint(1, 3))
            if self.random.random() < 0.5:
                self.check_comes_to_rest()
            if self.random.random() < 0.6:
                self.heal()
        self.heal()


def _times(what: Callable[[], None], count: int) -> None:
    for _ in range(count):
        what()


def main(arguments: Iterable[str]) -> int:
    seed, rounds = (int(argument) for argument in arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RECONCILER_STATE_DIR": f"{folder}/state", "RECONCILER_SPECS": f"{folder}/specs"}
        try:
            Chaos(seed=seed, folder=Path(folder)).play(rounds)
        except Broken as broken:
            sys.stdout.write(f"{broken}\n")
            return 1
    sys.stdout.write(f"seed {seed}: {rounds} rounds, all well\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
