"""A real Xen hypervisor with a Debian dom0, in a QEMU of this machine: built once, booted for each test session.

The tests get it as the fixture `lab` (conftest.py). By hand, from the top of the checkout:

    python -m tests.xen.lab build     build the image, if this version of it is not built yet
    python -m tests.xen.lab           boot, print how to log in, and power off at Ctrl-C

The image is built by `image/build` and kept under the user's cache directory by the digest of its sources. Every
boot writes to a throw-away overlay. QEMU is started so that the kernel ends it when its starter dies, however.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MEMORY_MIB = 3072
DOM0_MEMORY_MIB = 1024  # one `xl create` takes 90 of them, for the unpacked kernel
CPUS = 2
MONITOR_SECONDS = 300  # a snapshot writes all memory that was used
BOOT_TIMEOUT_SECONDS = 240
# What QEMU's emulation gets wrong: with smap the dom0 crashes early, with rdtscp PVH guests do. The others were taken
# away when programs of the dom0 now and then crashed in libc's fork and string functions; none has since.
QEMU_CPU = "max,-smap,-rdtscp,-fsgsbase,-avx,-avx2,-xsave"
FOLDER_PREFIX = "xen-lab-"
IMAGE_SOURCES = Path(__file__).parent / "image"


class LabError(Exception):
    """The lab cannot be built or booted here; the message says why and what to do."""


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reconciler-lab"


def build_image() -> Path:
    """The folder of the built image; building takes one to two minutes, and happens once for each version."""
    key = hashlib.sha256()
    for source in sorted(IMAGE_SOURCES.iterdir()):
        key.update(source.name.encode() + b"\0" + source.read_bytes())
    folder = cache_folder() / f"image-{key.hexdigest()[:12]}"
    if folder.exists():
        return folder
    if os.geteuid() != 0:
        raise LabError("Building the Xen lab takes root (debootstrap): run it with sudo, or in a container.")
    if shutil.which("apt-get") is None:
        raise LabError("The Xen lab is made of Debian 12 packages and needs apt-get, which is not here.")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # someone else has just built it
            return folder
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        if subprocess.run([IMAGE_SOURCES / "build", unfinished], check=False).returncode != 0:
            raise LabError("The Xen lab could not be built: see the lines above.")
        unfinished.rename(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Lab:
    """A booted lab. `folder` holds what belongs to this boot: overlays, console log, and the ssh to reach it with."""

    folder: Path

    @property
    def ssh_folder(self) -> Path:
        """Put first in PATH, it makes a plain `ssh root@lab` reach this lab."""
        return self.folder / "bin"

    def ssh(
        self, command: str, *, check: bool = True, text_in: str | None = None, timeout_seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the dom0."""
        # One connection is kept open: under emulation a handshake costs a second.
        keep_open = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
        result = subprocess.run(
            [self.ssh_folder / "ssh", "-S", self._control, *keep_open, "root@lab", command],
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
            capture_output=True,
            text=True,
            errors="replace",  # a booting kernel may print any byte
            timeout=timeout_seconds,
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"dom0: {command!r} exited with {result.returncode}: {result.stderr.strip()}")
        return result

    @property
    def _control(self) -> Path:
        return self.folder / "control"

    def hang_up(self) -> None:
        """End the connection that is kept open."""
        subprocess.run(
            [self.ssh_folder / "ssh", "-S", self._control, "-O", "exit", "root@lab"], capture_output=True, check=False
        )
        self._control.unlink(missing_ok=True)

    def monitor(self, command: str) -> None:
        """Have QEMU's monitor do something with the machine."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(MONITOR_SECONDS)
            monitor.connect(str(self.folder / "monitor"))
            _read_prompt(monitor)
            monitor.sendall(f"{command}\n".encode())
            said = _read_prompt(monitor)
        if "Error" in said:
            raise LabError(f"QEMU's monitor: {command}: {said}")

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """The cable is out: what is sent is lost, and nobody is told."""
        self.monitor("set_link net0 off")
        try:
            yield
        finally:
            self.monitor("set_link net0 on")

    def xl(self, *arguments: str, check: bool = True) -> str:
        """What an xl command prints."""
        return self.ssh(shlex.join(["xl", *arguments]), check=check).stdout

    def domains(self) -> dict[str, str]:
        """The domid of each domain but dom0, by name."""
        rows = [line.split() for line in self.xl("list").splitlines()[1:]]
        return {row[0]: row[1] for row in rows if row[1] != "0"}

    def put(self, path: str, text: str) -> None:
        """Write a file in the dom0."""
        self.ssh(f"cat > {shlex.quote(path)}", text_in=text)

    def console(self, domain: str, command: str) -> str:
        """What a guest answers to a command typed into its console."""
        return self.ssh(shlex.join(["guest-says", domain, command])).stdout.strip()

    def console_log(self, domain: str) -> str:
        """All that domains of this name ever printed, oldest first."""
        return self.ssh(f"cat /var/log/xen/console/guest-{domain}.log", check=False).stdout

    def wait_until(self, what: str, probe: Callable[[], bool], timeout_seconds: float = 60) -> None:
        """Ask `probe` until it says yes; fails with `what` after the timeout."""
        deadline = time.monotonic() + timeout_seconds
        began = time.monotonic()
        while not probe():
            if time.monotonic() > deadline:
                raise AssertionError(f"after {timeout_seconds:g} s still not: {what}")
            time.sleep(max(0.5, 2 * (time.monotonic() - began)))  # asking takes the one cpu from what is waited for
            began = time.monotonic()

    def wait_for_guest(self, domain: str, boots: int = 1) -> None:
        """Wait until a domain of this name has reported ready so many times since the lab booted."""
        self.wait_until(
            f"{domain} is up", lambda: self.console_log(domain).count("GUEST-READY") >= boots, timeout_seconds=240
        )


class Machine:
    """The emulated machine that a lab runs on: its power can be cut, and it can go back to a moment that was kept."""

    def __init__(self, lab: Lab, *, dom0_memory_mib: int, cpus: int, safe_disks: bool) -> None:
        self.lab = lab
        self._image = build_image()
        self._port = _free_port()
        self._dom0_memory_mib, self._cpus, self._safe_disks = dom0_memory_mib, cpus, safe_disks
        _write_ssh(lab, self._image, self._port)
        _make_disks(lab.folder, self._image)
        self._qemu: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start it from its disks, as they are, and wait until `xl list` answers."""
        (self.lab.folder / "console.log").unlink(missing_ok=True)
        self._qemu = _start_qemu(
            self.lab.folder,
            self._image,
            self._port,
            dom0_memory_mib=self._dom0_memory_mib,
            cpus=self._cpus,
            safe_disks=self._safe_disks,
        )
        _await_dom0(self.lab, self._qemu)
        self.lab.ssh("vgchange --quiet -ay vg0")  # volumes of an earlier boot

    def cut_power(self) -> None:
        """What the dom0 had not yet written to its disks is lost."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self.lab.hang_up()

    def keep(self) -> None:
        """Keep this very moment: memory, processors and disks."""
        self.lab.monitor("savevm kept")

    def go_back(self) -> None:
        """Go on from the moment that was kept, as if nothing had happened since."""
        self.lab.hang_up()
        self.lab.monitor("loadvm kept")


def _read_prompt(monitor: socket.socket) -> str:
    said = b""
    while not said.endswith(b"(qemu) "):
        piece = monitor.recv(4096)
        if not piece:
            raise LabError(f"QEMU has ended. It said: {said.decode(errors='replace')}")
        said += piece
    return said.decode(errors="replace")


@contextmanager
def machine(dom0_memory_mib: int = DOM0_MEMORY_MIB, cpus: int = CPUS, *, safe_disks: bool = False) -> Iterator[Machine]:
    """Boot a lab and end it on the way out; its disks are thrown away.

    With `safe_disks` what the dom0 has synced outlives a cut of the power. One cpu is emulated several times faster
    than two on a machine that does other things as well.
    """
    _sweep_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{FOLDER_PREFIX}{os.getpid()}-") as name:
        one = Machine(Lab(Path(name)), dom0_memory_mib=dom0_memory_mib, cpus=cpus, safe_disks=safe_disks)
        try:
            one.boot()
            yield one
        finally:
            one.cut_power()


@contextmanager
def booted(dom0_memory_mib: int = DOM0_MEMORY_MIB, cpus: int = CPUS) -> Iterator[Lab]:
    """Boot a lab, wait until its `xl list` answers over ssh, and end it on the way out."""
    with machine(dom0_memory_mib, cpus) as one:
        yield one.lab


def _sweep_leftovers() -> None:
    """Remove the folders of sessions that were killed (their QEMU died with them)."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        if not Path("/proc", folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _write_ssh(lab: Lab, image: Path, port: int) -> None:
    """An `ssh` which knows the host `lab`, its port, our key and its host key, and is otherwise the system's."""
    config = lab.folder / "ssh_config"
    config.write_text(
        f"Host lab\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias lab\n  UserKnownHostsFile {image}/known_hosts\n"
        f"  StrictHostKeyChecking yes\n  IdentityFile {image}/id\n  IdentitiesOnly yes\n  ConnectTimeout 15\n"
    )
    lab.ssh_folder.mkdir()
    for program in ("ssh", "scp", "sftp"):
        wrapper = lab.ssh_folder / program
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which(program)} -F {config} "$@"\n')
        wrapper.chmod(0o755)


def _make_disks(folder: Path, image: Path) -> None:
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, "-b", image / "dom0.img", "-F", "raw", folder / "root.qcow2"], check=True)
    subprocess.run([*create, folder / "vg0.qcow2", "1G"], check=True)


def _start_qemu(
    folder: Path, image: Path, port: int, *, dom0_memory_mib: int, cpus: int, safe_disks: bool
) -> subprocess.Popen[bytes]:
    arguments = [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-name", "reconciler-xen-lab"),
        *("-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", QEMU_CPU, "-smp", str(cpus), "-m", str(MEMORY_MIB)),
        *("-monitor", f"unix:{folder}/monitor,server=on,wait=off"),
        *("-display", "none", "-nodefaults", "-no-user-config", "-serial", f"file:{folder}/console.log"),
        *("-kernel", f"{image}/xen.elf", "-append"),
        f"com1=115200,8n1 console=com1 noreboot dom0_mem={dom0_memory_mib}M,max:{dom0_memory_mib}M "
        f"dom0_max_vcpus={cpus} spec-ctrl=eager-fpu",  # lazy switching loses registers under emulation
        "-initrd",
        f"{image}/vmlinuz-dom0 console=hvc0 quiet loglevel=4 mitigations=off net.ifnames=0,{image}/initrd-dom0",
        *("-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-rng-pci"),
        *("-device", "virtio-net-pci,netdev=net0,romfile="),
    ]
    for overlay in ("root", "vg0"):  # /dev/vda and /dev/vdb
        cache = "writeback" if safe_disks else "unsafe"
        arguments += ["-drive", f"if=none,id={overlay},format=qcow2,cache={cache},file={folder}/{overlay}.qcow2"]
        arguments += ["-device", f"virtio-blk-pci,drive={overlay}"]
    with (folder / "qemu.log").open("wb") as log:
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _await_dom0(lab: Lab, qemu: subprocess.Popen[bytes]) -> None:
    console = lab.folder / "console.log"
    deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
    while True:
        said = console.read_text(errors="replace") if console.exists() else ""
        # Asking before sshd is up only takes the emulated cpu away from the boot.
        if "dom0-init:" in said and " ready" in said and lab.ssh("xl list", check=False).returncode == 0:
            return
        if qemu.poll() is not None or time.monotonic() > deadline:
            complaint = (lab.folder / "qemu.log").read_text(errors="replace")
            last_lines = "\n".join(said.splitlines()[-20:])
            raise LabError(f"The Xen lab did not boot. QEMU said:\n{complaint}\nIts console ends with:\n{last_lines}")
        time.sleep(0.5)


def main(arguments: list[str]) -> int:
    try:
        if arguments == ["build"]:
            sys.stderr.write(f"lab: built in {build_image()}\n")
            return 0
        begin = time.monotonic()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that a `kill`, too, ends QEMU by way of `booted`
        with booted() as lab:
            sys.stderr.write(f"lab: booted in {time.monotonic() - begin:.1f} s; log in with\n")
            sys.stderr.write(f"  {lab.ssh_folder}/ssh root@lab\nTests use it with RECONCILER_LAB={lab.folder}\n")
            sys.stderr.write("Press Ctrl-C to power it off.\n")
            while True:
                time.sleep(3600)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
