"""A dom0 of another system, played on this machine: a shell, the tools of that system, and nothing else on its PATH.

It is reached through a fake `ssh`, which has a login's short PATH: xl and LVM are where only our own PATH leads.
"""

from __future__ import annotations

import asyncio
import py_compile
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from reconciler.dom0 import connection, rc_conf
from reconciler.dom0.connection import Connection, Result
from reconciler.dom0.layout import Dom0
from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif
from reconciler.model.fleet import HostSettings
from reconciler.xl import observe
from reconciler.xl.dialect import XL, XM, Dialect
from reconciler.xl.execute import XlExecutor
from reconciler.xl.observe import XlObserver
from tests.both.sides import FLEET, MIB_KIB
from tests.fake_dom0 import write_tool
from tests.flavours import stand_ins

Flavour = Literal["netbsd", "alpine"]
SHELLS: dict[Flavour, tuple[str, ...]] = {"netbsd": ("dash", "mksh", "posh"), "alpine": ("busybox",)}
"""posh reads scripts as the sh of NetBSD 5 did, mksh hides from commands what `exec` opened, as NetBSD's sh does."""

_FAKES = Path(__file__).parents[1] / "both"
_APPLETS = """
awk basename blockdev cat chmod cp cut date dd df dirname du fallocate find grep head id kill ln losetup ls mkdir
mkfifo mktemp mv
printf readlink realpath rm rmdir sed setsid sha256sum sleep sort stat sync sysctl tail tar timeout touch tr uname wc
"""
# What Debian's BusyBox lacks and Alpine's has, without what neither knows.
_FLOCK = """case $1 in -*[!nsxu]*) echo "flock: unrecognized option" >&2; exit 1 ;; esac
exec /usr/bin/flock "$@\""""
_PS = """for word do case $word in -*w*) echo "ps: unrecognized option: w" >&2; exit 1 ;; esac; done"""
# Knows what each command of LVM may be given, and keeps a volume as a file that holds its size.
_LVM = """command=$1 && shift
size='' name='' fields=''
while [ $# -gt 0 ]; do
    case $command$1 in
    lvcreate-[LnW] | lvextend-L) case $1 in -L) size=${{2%b}} ;; -n) name=$2 ;; esac; shift ;;
    lvcreate-y | lvremove-f | lvs--noheadings | lvs--nosuffix | vgs--noheadings | vgs--nosuffix) ;;
    lvs--units | lvs-o | lvs--separator | vgs--units | vgs-o | vgs--separator) [ "$1" != -o ] || fields=$2; shift ;;
    lvcreate--help) echo 'lvcreate -L size -n name{wipes}'; exit ;;
    lv*-* | vg*-*) refuse "$command $1" ;;
    *) break ;;
    esac
    shift
done
case " $* " in *' -'*) refuse "$command $*" ;; esac
cd {folder}
case $command in
lvcreate) echo "$size" >"$1.$name" ;;
lvextend) echo "$size" >"$(echo "$1" | tr / .)" ;;
lvremove) rm "$(echo "$1" | tr / .)" ;;
lvrename) mv "$1.$2" "$1.$3" ;;
vgs) echo '  vg0|1073741824' ;;
lvs) case $fields in
    lv_size) echo "  $(cat "$(echo "$1" | tr / .)")" ;;
    '') cat "$(echo "$1" | tr / .)" ;;
    lv_attr*) for file in vg0.*; do [ ! -e "$file" ] || echo "  -wi-a-----|$(cat "$file")|vg0|${{file#vg0.}}"; done ;;
    *) for file in vg0.*; do [ ! -e "$file" ] || echo "  vg0|${{file#vg0.}}|$(($(cat "$file") / 512))"; done ;;
    esac ;;
esac"""


class WaitingClock:
    """Time passes only while somebody waits, thirty times as fast: a slow machine costs no patience."""

    def __init__(self) -> None:
        self._waited = 0.0

    def now(self) -> float:
        return self._waited

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 30)
        self._waited += seconds


class Recording(Connection):
    """Keeps what it sends."""

    def __init__(self, host: str, connect: str, sent: list[str]) -> None:
        super().__init__(host, connect)
        self._sent = sent

    async def script(
        self, text: str, *, input: Iterable[bytes] | None = None, timeout_seconds: float = 60, lasts: bool = False
    ) -> Result:
        self._sent.append(text)
        return await super().script(text, input=input, timeout_seconds=timeout_seconds, lasts=lasts)

    async def change(self, text: str, **how: Any) -> Result:
        self._sent.append(text)  # as it is before it is quoted
        return await super().change(text, **how)

    @asynccontextmanager
    async def process(self, text: str, *, takes_input: bool = True, lasts: bool = False) -> AsyncIterator[Any]:
        self._sent.append(text)
        async with super().process(text, takes_input=takes_input, lasts=lasts) as process:
            yield process


@dataclass(frozen=True)
class Played:
    """`root` has the folders of the system; `sent` is every script that went there."""

    flavour: Flavour
    root: Path
    settings: HostSettings
    sent: list[str] = field(default_factory=list)
    dialect: Dialect = XL

    def executor(self) -> XlExecutor:
        return XlExecutor(
            self.settings,
            FLEET,
            None,
            self.root / "specs",
            connection=self.connection(),
            clock=WaitingClock(),
            dialect=self.dialect,
        )

    def observer(self) -> XlObserver:
        return XlObserver(self.settings, FLEET, None, self.connection(), clock=WaitingClock(), dialect=self.dialect)

    def connection(self) -> Recording:
        return Recording(self.settings.name, self.settings.connect, self.sent)

    def kernel(self, name: str, content: str) -> Image:
        """A kernel among those of the dom0, as the HOWTO has it."""
        (self.root / "boot" / name).write_text(content)
        return Image(sha256="", source=f"{self.root}/boot/{name}")

    def domain(self, kernel: Image, **changes: Any) -> Domain:
        """The domain of the HOWTO, with disks of two mebibytes."""
        folder = self.settings.disk_roots[0]
        disks = tuple(
            Disk(vdev=f"0x{at}", devid=at, kind="file", target=f"{folder}/foo-wd{at}", size_bytes=1 << 21)
            for at in range(2)
        )
        given = {
            "memory_kib": 128 * MIB_KIB,
            "maxmem_kib": 512 * MIB_KIB,
            "maxvcpus": 4,
            "disks": disks,
            "vifs": (Vif(devid=0, mac="aa:00:00:d1:00:09", bridge="bridge0"),),
            "policy": Policy(ready=Ready(min_seconds=0, timeout_seconds=60)),
        }
        named = {"name": "foo", "uuid": "00000000-0000-4000-8000-000000000009"}
        return Domain(kernel=kernel, **{**named, **given, **changes})

    @property
    def refused(self) -> list[str]:
        """What the tools refused, each once."""
        file = self.root / "refused"
        return sorted(set(file.read_text().splitlines())) if file.exists() else []


def make_dom0(
    flavour: Flavour, shell: str, root: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect = XL
) -> Played:
    """Skips where the shell is not installed: apt install dash mksh posh busybox."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    config_dir = root / ("usr/pkg/etc/xen" if flavour == "netbsd" else "etc/xen")
    for folder in (config_dir, *(root / name for name in ("kernels", "n0", "boot", "xen", "bin", "sbin", "specs"))):
        folder.mkdir(parents=True)
    for name in ("etc/rc.conf.d", "var/run", "lvm", "local", "tmp"):
        (root / name).mkdir(parents=True)
    _write_tools(flavour, shell, root, dialect)
    _lead_there(flavour, root, monkeypatch)
    settings = HostSettings(
        name="dom0",
        toolstack=dialect.tool,  # type: ignore[arg-type]  # its names are those of toolstacks
        connect="ssh://root@dom0",
        config_dir=str(config_dir),
        kernel_dir=str(root / "kernels"),
        disk_roots=(str(root / "n0"), "vg0"),
    )
    return Played(flavour, root, settings, dialect=dialect)


def _write_tools(flavour: Flavour, shell: str, root: Path, dialect: Dialect) -> None:
    bin_, sbin, refused = root / "bin", root / "sbin", root / "refused"
    words = [shutil.which(shell) or shell, *(["sh"] if shell == "busybox" else [])]
    write_tool(bin_, "sh", f'exec {shlex.join(words)} "$@"')
    for name in ("fake_xl", "fake_xm", "fake_store"):
        py_compile.compile(str(_FAKES / f"{name}.py"), f"{root}/xen/{name}.pyc", doraise=True)
    python = f"{sys.executable} -IS {root}/xen"
    write_tool(sbin, dialect.tool, f'exec {python}/fake_{dialect.tool}.pyc "$@"')
    for what in ("ls", "read", "list", "watch"):
        store = f"fake_store.pyc {what}" if dialect is not XM else f"fake_xm.pyc store {what}"
        body = "exit 0" if (dialect, what) == (XM, "ls") else f'exec {python}/{store} "$@"'
        write_tool(sbin, f"xenstore-{what}", body)
    lists = f"exec {python}/fake_xl.pyc daemons"
    if flavour == "netbsd":
        for name, tool in stand_ins.TOOLS.items():
            stand_ins.write_stand_in(bin_, name, tool, refused)
        stand_ins.write_stand_in(bin_, "ps", replace(stand_ins.PS, works=lists), refused)
        lvm = replace(stand_ins.LVM, works=_LVM.format(wipes="", folder=root / "lvm"))
        stand_ins.write_stand_in(sbin, "lvm", lvm, refused)
        return
    for name in _APPLETS.split():
        write_tool(bin_, name, f'exec {shutil.which("busybox")} {name} "$@"')
    write_tool(bin_, "id", "echo 0")
    write_tool(bin_, "flock", _FLOCK)
    write_tool(bin_, "ps", f"{_PS}\n{lists}")
    write_tool(bin_, "nc", "exit 0")
    write_tool(bin_, "ovs-vsctl", "echo bridge0; echo bridge1")
    for command in ("lvs", "vgs", "lvcreate", "lvrename", "lvextend", "lvremove"):
        body = f'PATH=/usr/bin:/bin; set -- {command} "$@"; refuse() {{ exit 3; }}'
        write_tool(sbin, command, f"{body}\n{_LVM.format(wipes=' --wipesignatures', folder=root / 'lvm')}")


def _lead_there(flavour: Flavour, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `ssh` lead to that dom0, whose folders are below `root`."""
    write_tool(
        root / "local",
        "ssh",
        f"""for last do :; done
case " $* " in *" -O "*) exit 0 ;; esac
case $last in /bin/sh*) ;; *) echo "a login shell that is no sh reads: $last" >&2; exit 1 ;; esac
exec /usr/bin/env -i HOME=/root TMPDIR={root}/tmp PATH={root}/bin {root}/bin/sh -c "{root}/bin/sh${{last#/bin/sh}}\"""",
    )
    monkeypatch.setenv("PATH", f"{root}/local:/usr/bin:/bin")
    monkeypatch.setattr(connection, "_PROLOGUE", connection._PROLOGUE.replace(connection.SBIN, str(root / "sbin")))
    monkeypatch.setattr(Dom0, "lock_path", str(root / "var/run/reconciler.lock"))
    monkeypatch.setattr(Dom0, "auto_dir", str(root / "etc/xen/auto"))
    lists = tuple(f"{root}{path}" for path in rc_conf.LISTS)
    monkeypatch.setattr(rc_conf, "LISTS", lists)
    monkeypatch.setattr(observe, "_ROOT", str(root))
    monkeypatch.setattr(observe, "_lists", lambda texts: {path: texts[path] for path in lists if path in texts})
    monkeypatch.setattr(observe, "_SECOND_LOOK_SECONDS", 0)
