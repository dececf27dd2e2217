"""A dom0 with state: the real executor's scripts run for real, under an `xl` that remembers, in a folder of one host.

Scripts run to their end before the loop goes on, so that a run is the same each time. They may be cut short at any of
their commands, as by a power cut, and what they print may be lost or be nonsense.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import py_compile
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.dom0 import connection as door
from reconciler.dom0.connection import Connection, Result
from reconciler.model.diagnostics import refused
from reconciler.model.fleet import HostSettings
from reconciler.plan.plan import Plan
from reconciler.plan.steps import HostStep, SetMemory, SetVcpus, Shutdown, Start, domain_of
from reconciler.texts.config_file import read_file
from reconciler.texts.mark import split_mark
from reconciler.xl import observe
from tests.both import fake_xl
from tests.fake_dom0 import write_tool

FAKE = Path(fake_xl.__file__)
_SECONDS = 100.0
_TOTAL_MIB = 4096 - 128
doing: ContextVar[tuple[str, str]] = ContextVar("doing", default=("look", ""))
"""The kind and the address of the step that a script is part of."""

# Ends all of a script before one of its commands, as if the power went. The rest of the script is the product's.
_CUT = """
set -o posix; set -T
cut_count=0
cut() {{ cut_count=$((cut_count + 1)); [ "$cut_count" -ne {number} ] || kill -KILL 0; }}
trap cut DEBUG
"""


# `lie` makes the next command that changes something lie: it does nothing and says that all went well, or that it
# failed, or it does all and says that it failed, or crashes then.
_XL = """
case $1 in list | info | daemons) exec {python} "$@" ;; esac
[ -e {folder}/lie ] || exec {python} "$@"
read -r how <{folder}/lie
rm {folder}/lie
case $how in well) exit 0 ;; idle) exit 1 ;; esac
{python} "$@"
case $how in crash) kill -SEGV $$ ;; esac
exit 1
"""

FULL = -1
_FULL = "trap '' XFSZ; ulimit -f 0\n"  # nothing can be written, as on a disk without room


@dataclass
class Dom0:
    """The host alpha, in a folder."""

    folder: Path

    def make(self) -> None:
        for name in ("etc", "kernels", "disks", "boot", "xen", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "disks" / "common").write_bytes(b"read by many")
        tools, fake = self.folder / "bin", self.folder / "xen" / "fake_xl.pyc"
        py_compile.compile(str(FAKE), str(fake), doraise=True)
        python = f"exec {shutil.which('python3')} -IS {fake}"
        write_tool(tools, "xl", _XL.format(folder=self.folder / "xen", python=python.removeprefix("exec ")))
        write_tool(tools, "ps", f"{python} daemons")
        write_tool(tools, "xenstore-read", "case $1 in */state) echo 4 ;; *) echo /path ;; esac")
        write_tool(tools, "id", 'case $1 in -u) echo 0 ;; *) exec /usr/bin/id "$@" ;; esac')
        write_tool(tools, "ovs-vsctl", "echo xenbr0")
        for name in ("xenstore-ls", "sleep", "sync"):
            write_tool(tools, name, "exit 0")

    @property
    def settings(self) -> HostSettings:
        return HostSettings(
            name="alpha",
            toolstack="xl",
            config_dir=str(self.folder / "etc"),
            kernel_dir=str(self.folder / "kernels"),
            disk_roots=(str(self.folder / "disks"),),
        )

    def domains(self) -> fake_xl.Domains:
        file = self.folder / "xen" / "domains"
        found: fake_xl.Domains = ast.literal_eval(file.read_text()) if file.exists() else []
        return found

    def write(self, domains: fake_xl.Domains) -> None:
        (self.folder / "xen" / "domains").write_text(repr(domains))

    def files(self) -> dict[str, str]:
        """Return the digest of each file that a dom0 keeps."""
        found = {}
        for folder in ("etc", "kernels", "disks"):
            for path in (self.folder / folder).rglob("*"):
                if path.is_file():
                    found[str(path.relative_to(self.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def boots(self) -> dict[str, str]:
        return {
            f"alpha/{one['name']}": str(one["domid"]) for one in self.domains() if one["state"] in ("-b----", "r-----")
        }

    def end_faults(self) -> None:
        (self.folder / "xen" / "lie").unlink(missing_ok=True)

    def make_well(self) -> None:
        """Have all guests do as they should, and let go on what is paused."""
        domains = self.domains()
        for one in domains:
            one["behaviour"] = {}
            one["state"] = "-b----" if one["state"] == "--p---" else one["state"]
        self.write(domains)

    def by_hand(self, deed: str) -> None:
        """Do what a person with xl does, or what happens to a guest. See `play.by_hand`."""
        verb, _, rest = deed.partition("/")
        name, _, value = rest.partition("/")
        domains = self.domains()
        one = next((domain for domain in domains if domain["name"] == name), None)
        match verb:
            case "dom0":
                domains = []
            case "lie":
                (self.folder / "xen" / "lie").write_text(f"{name}\n")
                return
            case "create" if one is None:
                domains.append(_stranger(name, int(value or 64), fake_xl.next_domid(domains)))
            case "destroy" | "poweroff" | "save" if one is not None:
                domains.remove(one)
            case "crash" if one is not None:
                one["state"] = "---sc-"
            case "pause" if one is not None and one["state"] == "-b----":
                one["state"] = "--p---"
            case "unpause" if one is not None and one["state"] == "--p---":
                one["state"] = "-b----"
            case "reboot" if one is not None:
                one["domid"] = fake_xl.next_domid(domains)
            case "set" if one is not None:
                key, _, text = value.partition(":")
                if key == "memory":
                    one["mib"] = int(text)
                    one["config"]["b_info"]["target_memkb"] = int(text) * 1024
                else:
                    one["behaviour"][key] = text
            case _:
                return
        self.write(domains)


def _stranger(name: str, mib: int, domid: int) -> dict[str, Any]:
    uuid = f"eeeeeeee-0000-4000-8000-{domid:012}"
    built = {"max_vcpus": 1, "avail_vcpus": [0], "max_memkb": mib * 1024, "target_memkb": mib * 1024}
    config = {"c_info": {"type": "pv", "name": name, "uuid": uuid}, "b_info": built, "disks": [], "nics": []}
    row = {"name": name, "uuid": uuid, "vcpus": 1, "domid": domid, "mib": mib, "state": "-b----"}
    return row | {"config": config, "behaviour": {}}


@dataclass
class Scripts:
    """Runs the scripts that the product sends to the host, one at a time."""

    dom0: Dom0
    command: Callable[..., Any]  # Between.command

    def stand(self) -> None:
        scripts = self

        async def script(
            connection: Connection,
            text: str,
            *,
            input: Iterable[bytes] | None = None,
            timeout_seconds: float = 60,
            lasts: bool = False,
        ) -> Result:
            kind, address = doing.get()
            does = lambda cut: scripts.run(text, None if input is None else b"".join(input), cut)  # noqa: E731
            result: Result = await scripts.command("alpha", kind, does, address)
            return result

        async def nothing(*_: Any) -> None: ...

        vars(observe)["_ROOT"] = str(self.dom0.folder)
        setattr(Connection, "script", script)  # noqa: B010
        setattr(Connection, "close", nothing)  # noqa: B010

    async def run(self, text: str, sent: bytes | None, cut: int) -> Result:
        """Run a script to its end, or to the `cut`th of its commands."""
        whole = door._as_main(text, "" if sent is not None else "</dev/null")
        shell = ["/bin/bash", "-c", _CUT.format(number=cut) + whole] if cut > 0 else ["/bin/sh", "-c", whole]
        if cut == FULL:
            shell[2] = _FULL + whole
        environment = {**os.environ, "PATH": f"{self.dom0.folder}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            shell,
            input=sent or b"",
            capture_output=True,
            env=environment,
            start_new_session=True,
            timeout=_SECONDS,
            check=False,
        )
        code = done.returncode
        return Result(exit_code=code if code >= 0 else 128 - code, stdout=done.stdout, stderr=done.stderr)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Have the lock of the host; it ends with this process."""
        opened = os.open(self.dom0.folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(opened)
            raise refused("host is locked", "alpha is being changed by another run.", "wait", "alpha") from None
        try:
            yield
        finally:
            os.close(opened)


@dataclass
class Dom0Laws:
    """The laws of `laws.Laws`, judged on what a dom0 holds."""

    dom0: Dom0
    strangers: set[str]
    broken: Callable[[str, str], None]
    gone: frozenset[str] = frozenset()  # names that some spec had and then no more
    by_hand: bool = False  # as in `Laws`
    known: dict[str, Any] = field(default_factory=dict)
    disks: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None: ...

    def plan_made(self, plan: Plan) -> None: ...

    def before(self, host: str, step: HostStep) -> None:
        self.known = self._foreign()
        self.disks = self._disks()
        if f"{host}/{domain_of(step)}" in self.strangers:
            self.broken("not ours", f"{step.kind} of {host}/{domain_of(step)}, which is not ours")

    def after(self, host: str, step: HostStep) -> None:
        if self._foreign() != self.known:
            self.broken("not ours", f"{step.kind} of {domain_of(step)} changed what is not ours")
        self.look(f"{step.kind} of {domain_of(step)}")
        self._judge_confirmed(step)
        now = self._disks()
        for path, size in self.disks.items():
            if now.get(path, -1) < size and step.kind != "delete_disk":
                self.broken("disks are kept", f"{step.kind} of {domain_of(step)} took {path} away, or shrank it")

    def _judge_confirmed(self, step: HostStep) -> None:
        """A step that ended well has its effect, whatever xl said."""
        one = next((one for one in self.dom0.domains() if one["name"] == domain_of(step)), None)
        match step:
            case SetMemory() if one is not None and one["config"]["b_info"]["target_memkb"] != step.memory_kib:
                self.broken("seen, not believed", f"{step.domain} was not given {step.memory_kib} KiB")
            case SetVcpus() if one is not None and one["vcpus"] != step.vcpus:
                self.broken("seen, not believed", f"{step.domain} was not given {step.vcpus} vcpus")
            case Start() if one is None:
                self.broken("seen, not believed", f"{step.definition.name} was started, and is not there")
            case Shutdown() if one is not None and one["uuid"] == step.uuid:
                self.broken("seen, not believed", f"{step.domain} was shut down, and is there")
            case _:
                pass

    def look(self, doing: str) -> None:
        """Judge what is there now, in the middle of whatever is done."""
        domains = self.dom0.domains()
        writers = Counter(d["pdev_path"] for one in domains for d in one["config"]["disks"] if d["readwrite"])
        told = {
            "uuid": Counter(one["uuid"] for one in domains),
            "name": Counter(one["name"] for one in domains),
            "disk": writers,
        }
        for what, counted in told.items():
            for value, count in counted.items():
                if count > 1:
                    self.broken("never twice", f"after {doing}, {count} domains have the {what} {value}")
        if (held := sum(one["mib"] for one in domains)) > _TOTAL_MIB:
            self.broken("memory", f"after {doing}, {held} MiB are promised of {_TOTAL_MIB}")
        for path in sorted((self.dom0.folder / "etc").glob("*.cfg")):
            self._judge_config(path, doing)

    def _judge_config(self, path: Path, doing: str) -> None:
        text = path.read_text()
        mark, body = split_mark(text)
        if mark is None:
            return
        if not read_file(text, {}).intact:
            self.broken("files are whole", f"after {doing}, {path.name} is no whole file of ours")
            return
        said: dict[str, Any] = {}
        exec(body, {}, said)
        kernel = Path(said["kernel"])
        goes = path.stem in self.gone and all(one["name"] != path.stem for one in self.dom0.domains())
        if not kernel.exists() and goes:
            return  # of a domain that is destroyed, or was about to be, the config file goes last
        if not kernel.exists():
            self.broken("files are whole", f"after {doing}, {path.name} names {kernel}, which is not there")
        elif not kernel.name.endswith(hashlib.sha256(kernel.read_bytes()).hexdigest()[:12]):
            self.broken("files are whole", f"after {doing}, {path.name} names {kernel}, which holds other bytes")

    def _foreign(self) -> dict[str, Any]:
        names = {address.partition("/")[2] for address in self.strangers}
        return {one["name"]: one for one in self.dom0.domains() if one["name"] in names}

    def _disks(self) -> dict[str, int]:
        return {str(path): path.stat().st_size for path in (self.dom0.folder / "disks").iterdir()}
