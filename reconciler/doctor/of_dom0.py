"""Judges what a dom0 tells of itself: its memory, what it does at boot and at a shutdown, its clock, its room."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator

from reconciler.doctor.case import Case, Defect, known
from reconciler.doctor.facts import Room
from reconciler.model.host import Owner, Power

_KIB_PER_MIB = 1024
_DOM0_LEAST_KIB, _DOM0_MOST_KIB = 512 * _KIB_PER_MIB, 4096 * _KIB_PER_MIB  # of what is proposed for dom0
_ROOM_LEAST_KIB = 256 * _KIB_PER_MIB  # for a kernel and a ramdisk or two
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs", "mfs"})
CLOCK_SECONDS = 10
"""By how much two clocks may differ. An answer takes its time to arrive, on a busy machine a few seconds."""

_SESSIONS_BESIDE_STEPS = 3  # the lock, what listens for events, and a look
_TOOLSTACK_OF = {
    "libvirtd": "libvirt",
    "virtxend": "libvirt",
    "xend": "xend",
    "qubesd": "qubes",
    "xapi": "xapi",
    "squeezed": "xapi",
}
_NODES_MADE = 4  # by the hint for NetBSD
_BYTES_PER_BLOCK = 512  # of `ulimit -f`
_LEAST_FILE_BYTES = 1 << 30
_LIMITS = {  # letter of `ulimit` -> the least that is enough, and what it counts
    "n": (64, "files open at once"),
    "v": (256 * 1024, "KiB of memory"),
    "d": (256 * 1024, "KiB of data"),
}


_NO_COMMAND_LINE = "the host does not tell Xen's command line"


def autoballoon(case: Case) -> Iterator[Defect]:
    facts = case.facts
    match known(facts.autoballoon, "the settings of the toolstack could not be read"):
        case "off":
            return
        case "on" if facts.tool == "xm":
            conf = f"{facts.xen_dir}/xend-config.sxp"
            yield Defect(f"{conf} lets xend take memory from dom0", f"xend-{facts.flavour}", {"conf": conf})
        case "on":
            conf = f"{facts.xen_dir}/xl.conf"
            yield Defect(f'{conf} says autoballoon = "on"', "on", {"conf": conf})
        case "auto":
            if not known(facts.dom0_mem, _NO_COMMAND_LINE):
                yield Defect(
                    'autoballoon is "auto", which is on as long as Xen\'s command line has no dom0_mem', "auto"
                )


def dom0_mem(case: Case) -> Iterator[Defect]:
    facts = case.facts
    if known(facts.dom0_mem, _NO_COMMAND_LINE):
        return
    has_kib = facts.dom0_kib if facts.dom0_kib is not None else _DOM0_MOST_KIB
    mib = str(min(max(has_kib, _DOM0_LEAST_KIB), _DOM0_MOST_KIB) // _KIB_PER_MIB)
    mend = "grub" if facts.has_grub else facts.flavour
    yield Defect("Xen's command line has no dom0_mem", mend, {"mib": mib})


def xendomains_save(case: Case) -> Iterator[Defect]:
    facts = case.facts
    folder = known(facts.saves_to, "the settings of xendomains could not be read")
    if folder:
        what = f"at a shutdown of the host, xendomains saves all domains to {folder} ({facts.xendomains_file})"
        yield Defect(what, "linux", {"file": facts.xendomains_file})


def autostart(case: Case) -> Iterator[Defect]:
    """Find what the dom0 starts at boot and that is not ours, or not the config file of what is ours."""
    facts = case.facts
    entries = known(facts.at_boot, "the list of what the host starts at boot is in a form that is not understood")
    host = case.seen if entries else None
    ours = {name for name, guest in host.guests.items() if guest.owner is Owner.OURS} if host is not None else set()
    auto = posixpath.join(facts.xen_dir, "auto")
    places = {"xen_dir": facts.xen_dir, "host": case.settings.name}
    for entry in entries:
        if entry.domain in ours:
            continue
        values = {**places, "path": f"{auto}/{entry.name}", "name": entry.name}
        if facts.flavour == "netbsd":
            yield Defect(f"the host starts {entry.name} at boot, which is not ours", "netbsd", values)
        else:
            what = f"the host starts {auto}/{entry.name} at boot, which is no config file of ours"
            yield Defect(what, "link" if entry.is_link else "file", values)


def room(case: Case) -> Iterator[Defect]:
    there = known(case.facts.room, "`df` does not tell how much room there is")
    values = {"folder": there.folder}
    kernel_dir = case.settings.kernel_dir
    if not there.writable:
        yield Defect(f"kernel_dir {kernel_dir} is on a file system that cannot be written to", "read-only", values)
    if there.kind in _IN_MEMORY:
        what = f"kernel_dir {kernel_dir} is in memory ({there.kind}): a reboot of the host takes all kernels with it"
        yield Defect(what, "in-memory", values)
    if there.free_kib < room_needed_kib(there):
        free, needed = (kib // _KIB_PER_MIB for kib in (there.free_kib, room_needed_kib(there)))
        what = f"{free} MiB are free where kernel_dir {kernel_dir} is, and updates may take {needed} MiB"
        yield Defect(what, "full", values)


def room_needed_kib(there: Room) -> int:
    """Return the room that updates need: while new kernels prove themselves, the old ones stay."""
    return max(_ROOM_LEAST_KIB, there.used_kib)


def clock(case: Case) -> Iterator[Defect]:
    ahead = known(case.facts.clock_ahead_seconds, "`date` does not tell the time there")
    if abs(ahead) >= CLOCK_SECONDS:
        what = f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        yield Defect(what, case.facts.flavour)


def second_toolstack(case: Case) -> Iterator[Defect]:
    running = known(case.facts.toolstacks, "the processes there could not be listed")
    for process in running:
        if process == "xend" and case.facts.tool == "xm":
            continue
        other = _TOOLSTACK_OF.get(process, "xapi")
        whose = "part of Qubes OS" if other == "qubes" else f"the toolstack {other}"
        yield Defect(f"{process} runs there, which is {whose}", other, {"host": case.settings.name})


def file_devices(case: Case) -> Iterator[Defect]:
    devices = known(case.facts.file_devices, "the host does not tell its devices for disks in files")
    if devices.more_on_demand:
        return
    is_netbsd = case.facts.flavour == "netbsd"
    kind = "vnd" if is_netbsd else "loop"
    waiting = [domain for name, domain in case.domains.items() if domain.state == "running" and not _exists(case, name)]
    wanted = sum(disk.kind == "file" and disk.format == "raw" for domain in waiting for disk in domain.disks)
    uses_files = any(disk.kind == "file" for domain in case.domains.values() for disk in domain.disks)
    free = devices.total - devices.used
    if free < wanted or (uses_files and free <= 0):
        what = f"{free} of {devices.total} {kind} devices are free, and domains that do not run yet need {wanted}"
        nodes = {f"node{at}": f"{kind}{devices.total + at}" for at in range(_NODES_MADE)}
        yield Defect(what, "netbsd" if is_netbsd else ("linux" if devices.total else "none"), nodes)


def _exists(case: Case, name: str) -> bool:
    guest = case.seen.guests.get(name)
    return guest is not None and guest.exists


def limits(case: Case) -> Iterator[Defect]:
    told = known(case.facts.limits, "the shell there does not tell its limits (`ulimit`)")
    disks = [disk for domain in case.domains.values() for disk in domain.disks if disk.kind == "file"]
    largest = max((disk.size_bytes or 0 for disk in disks), default=0)
    file_bytes = told.get("f", math.inf) * _BYTES_PER_BLOCK
    if file_bytes < max(largest, _LEAST_FILE_BYTES):
        yield Defect(f"no file may grow beyond {file_bytes // (1 << 20):.0f} MiB (ulimit -f)", case.facts.flavour)
    for letter, (least, unit) in _LIMITS.items():
        limit = told.get(letter, math.inf)
        if limit < least:
            yield Defect(f"a command may have {limit:.0f} {unit} and no more (ulimit -{letter})", case.facts.flavour)


def ssh(case: Case) -> Iterator[Defect]:
    way = case.facts.ssh
    if way is None:
        return
    if not way.shares_connection:
        yield Defect("this machine's ssh keeps no connection open that later commands could share", "client")
        return
    sessions = known(way.max_sessions, "sshd there does not tell its settings (`sshd -T`)")
    needed = case.settings.parallel + _SESSIONS_BESIDE_STEPS
    if sessions < needed:
        what = (
            f"sshd there lets a connection carry {sessions} commands at once, and parallel = {case.settings.parallel}"
        )
        yield Defect(f"{what} needs {needed}", case.facts.flavour)


def daemons(case: Case) -> Iterator[Defect]:
    """Find domains that nobody will restart or clear away: the process of xl that would do it is gone."""
    for name, guest in sorted(case.seen.guests.items()):
        if guest.served is False and guest.power in (Power.RUNNING, Power.PAUSED):
            mend = "ours" if guest.owner is Owner.OURS else "theirs"
            what = f"xl's process for {name} is gone, so nobody acts when its guest powers off, reboots or crashes"
            yield Defect(what, mend, {"name": name}, domain=name)
