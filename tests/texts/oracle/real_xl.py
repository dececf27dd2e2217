"""The real xl of Debian 12 as a judge: what does it make of a config file? It needs neither Xen nor root.

The packages are downloaded and unpacked (not installed) once, into a cache folder; `shim.c` stands in for the
hypervisor. Used by the tests that compare our reading and writing of xl.cfg with xl's.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PACKAGES = (
    "libxenmisc4.17 libxentoolcore1 libxentoollog1 libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1"
    " libxengnttab1 libxenhypfs1 libxenstore4 xen-utils-4.17 xen-utils-common libyajl2"
)
_SHIM = Path(__file__).with_name("shim.c")


class Unavailable(Exception):
    """This machine cannot run the real xl; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`config` is the JSON that xl resolved the file to, None when it refused; `said` is its standard error."""

    config: dict[str, Any] | None
    said: str


class RealXl:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, text: str | bytes) -> Verdict:
        """What `xl -N create` says of a config file with this text."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        return self._run(data, "create")

    def attach(self, command: str, specs: list[str]) -> Verdict:
        """What `xl -N block-attach` or `network-attach` says of a device spec."""
        return self._run(None, command, "0", *specs)

    @property
    def environment(self) -> dict[str, str]:
        """What it needs in its environment."""
        return {
            "LD_LIBRARY_PATH": str(self._folder / "root/usr/lib/x86_64-linux-gnu"),
            "LD_PRELOAD": str(self._folder / "shim.so"),
            "XL_CONF": str(self._folder / "xl.conf"),
        }

    @property
    def program(self) -> str:
        return str(self._folder / "root/usr/lib/xen-4.17/bin/xl")

    def _run(self, file: bytes | None, *command: str) -> Verdict:
        environment = {**os.environ, **self.environment}
        argv = [self.program, "-N", *command]
        with tempfile.NamedTemporaryFile(suffix=".cfg") as config:
            if file is not None:
                config.write(file)
                config.flush()
                argv.append(config.name)
            done = subprocess.run(argv, capture_output=True, env=environment, timeout=30, check=False)
        said = done.stderr.decode(errors="replace")
        if done.returncode != 0:
            return Verdict(None, said)
        text = done.stdout.decode(errors="surrogateescape")
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
        return Verdict(found, said)


def real_xl() -> RealXl:
    """The judge, fetched and built if need be. Raises Unavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reconciler-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "xl-4.17"
    with (cache / "xl-4.17.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        if not (folder / "xl.conf").exists():
            _fetch(cache, folder)
        if not (folder / "shim.so").exists() or _shim_changed(folder):
            _build_shim(folder)
    return RealXl(folder)


def _fetch(cache: Path, folder: Path) -> None:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"the real xl needs {tool}, which is not here")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        try:
            _run_quietly(["apt-get", "download", *_PACKAGES.split()], Path(scratch))
            for package in Path(scratch).glob("*.deb"):
                _run_quietly(["dpkg", "-x", str(package), str(Path(scratch) / "root")], Path(scratch))
        except subprocess.SubprocessError as error:
            raise Unavailable(f"the packages of Xen 4.17 cannot be had from apt: {error}") from error
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (Path(scratch) / "root").rename(folder / "root")
        (folder / "xl.conf").touch()  # last: it says that the folder is whole


def _shim_changed(folder: Path) -> bool:
    return (folder / "shim.c").read_bytes() != _SHIM.read_bytes()


def _build_shim(folder: Path) -> None:
    if shutil.which("gcc") is None:
        raise Unavailable("the real xl needs gcc for its stand-in of a hypervisor")
    shutil.copy(_SHIM, folder / "shim.c")
    _run_quietly(["gcc", "-shared", "-fPIC", "-w", "-o", "shim.so", "shim.c", "-ldl"], folder)


def _run_quietly(argv: list[str], folder: Path) -> None:
    subprocess.run(argv, cwd=folder, capture_output=True, timeout=100, check=True)
