"""A dom0 that is this machine: the scripts run for real, in a temporary folder, with a fake `xl` on the PATH."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0.connection import Connection
from reconciler.dom0.layout import Dom0
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.domain import Disk, Domain, Image, Vif
from reconciler.model.fleet import HostSettings

UUID = "00000002-1111-2222-3333-444444444444"
INFO = """host                   : xenhost
nr_cpus                : 2
total_memory           : 1535
free_memory            : 1132
outstanding_claims     : 0
xen_version            : 4.17.7
xen_scheduler          : credit2
xen_commandline        : com1=115200,8n1 dom0_mem=384M,max:384M
"""
TABLE_HEAD = (
    "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID"
    "                            Reason-Code\tSecurity Label\n"
    "Domain-0                                     0   384     2     r-----     308.9"
    " 00000000-0000-0000-0000-000000000000        -                -\n"
)


class FastClock:
    """The machine's clock, thirty times faster: the waits of a real host, by scripts that run in real time."""

    speed = 30.0

    def now(self) -> float:
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


def table_row(
    name: str, domid: int, state: str = "-b----", uuid: str = UUID, mib: int = 96, seconds: float = 8.0
) -> str:
    """One line of `xl list -v`."""
    return f"{name:<40} {domid:>5} {mib:>5} {1:>5}     {state}  {seconds:>8.1f} {uuid}        -                -\n"


def running_json(domid: int, domain: Domain) -> dict[str, object]:
    """An entry of `xl list -l`, trimmed from a recorded one."""
    assert domain.kernel is not None
    return {
        "domid": domid,
        "config": {
            "c_info": {"type": "pv", "name": domain.name, "domid": 4294967295, "uuid": domain.uuid},
            "b_info": {
                "max_vcpus": 1,
                "avail_vcpus": [0],
                "max_memkb": domain.maxmem_kib,
                "target_memkb": domain.memory_kib,
                "kernel": domain.kernel.path,
                **({"cmdline": domain.cmdline} if domain.cmdline is not None else {}),
                "type.pv": {},
            },
            "disks": [{"pdev_path": d.target, "vdev": d.vdev, "format": "raw", "readwrite": 1} for d in domain.disks],
            "nics": [{"devid": v.devid, "mac": v.mac, "bridge": v.bridge, "nictype": "vif"} for v in domain.vifs],
            "on_reboot": "restart",
        },
    }


def with_part(script: str, part: str, other: str) -> str:
    """A script with one part of it exchanged; a part that is not in it would leave a test that proves nothing."""
    assert part in script
    return script.replace(part, other)


def write_tool(folder: Path, name: str, body: str) -> Path:
    """An executable sh script."""
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return tool


@contextmanager
def process_of_xl(folder: Path, *arguments: str, log: str | None = None) -> Iterator[None]:
    """A process that looks like xl with these arguments: one that makes a domain, or a daemon that writes to `log`."""
    command = folder / "processes" / "xl"
    command.parent.mkdir(exist_ok=True)
    if not command.exists():
        command.symlink_to("/bin/sh")
        (command.parent / arguments[0]).write_text("echo begins >&2; read -r _\n")
    with open("/dev/null" if log is None else command.parent / log, "w") as output:  # noqa: PTH123 -- either is a path
        process = subprocess.Popen(
            ["xl", *arguments],
            executable=command,
            cwd=command.parent,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
        )
    with process:
        assert process.stderr is not None
        process.stderr.readline()
        yield


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tools_on_path(tmp_path, monkeypatch)


def tools_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the head of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def xen(tmp_path: Path, tools: Path) -> Path:
    return write_xl(tmp_path, tools)


def write_xl(tmp_path: Path, tools: Path) -> Path:
    """What the fake `xl` prints, as files: `info`, `list`, `long`; `root` is run as root, whoever runs the tests."""
    folder = tmp_path / "xen"
    folder.mkdir()
    (folder / "info").write_text(INFO)
    (folder / "list").write_text(TABLE_HEAD)
    (folder / "long").write_text("[]\n")
    write_tool(
        tools,
        "xl",
        f"""cd {folder}
echo "$@" >>calls
[ ! -x "$1" ] || exec ./"$@"
case "$1 $2" in
"info "*) cat info ;;
"list -v") cat list ;;
"list -l") cat long ;;
*) echo "no such command: $*" >&2; exit 2 ;;
esac""",
    )
    write_tool(tools, "id", 'case $1 in -u) echo 0 ;; *) exec /usr/bin/id "$@" ;; esac')
    # other tests beside this one have processes of xl, too: only ours are on this dom0
    write_tool(tools, "ps", f'shift\nexec {shutil.which("ps")} --ppid {os.getpid()} "$@"')
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    for folder in ("etc", "kernels", "disks"):
        (tmp_path / folder).mkdir()
    return HostSettings(
        name="alpha",
        toolstack="xl",
        config_dir=str(tmp_path / "etc"),
        kernel_dir=str(tmp_path / "kernels"),
        disk_roots=(str(tmp_path / "disks"),),
    )


@pytest.fixture
def shell(settings: HostSettings) -> Dom0Shell:
    assert settings.config_dir is not None
    dom0 = Dom0(flavour="debian", config_dir=settings.config_dir, kernel_dir=settings.kernel_dir)
    return Dom0Shell(Connection(settings.name), settings, dom0)


@pytest.fixture
def make_domain(settings: HostSettings) -> Callable[..., Domain]:
    def make(**changes: object) -> Domain:
        sha256 = "51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275"
        kernel = Image(sha256=sha256, path=f"{settings.kernel_dir}/web/vmlinuz.{sha256[:12]}", source="kernels/vmlinuz")
        disk = Disk(vdev="xvda", devid=51712, kind="file", target=f"{settings.disk_roots[0]}/web.img", size_bytes=4096)
        domain = Domain(
            name="web",
            uuid=UUID,
            kernel=kernel,
            memory_kib=96 * 1024,
            maxmem_kib=160 * 1024,
            disks=(disk,),
            vifs=(Vif(devid=0, mac="00:16:3e:00:00:02", bridge="xenbr0"),),
        )
        return replace(domain, **changes)  # type: ignore[arg-type]  # tests name fields of Domain

    return make
