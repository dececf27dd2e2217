"""Tells what the dom0 of a simulated host says of itself, for `doctor`. Called by its observer; changes nothing.

It is as a dom0 should be, but for what was put there by hand: xl.conf, the settings of xendomains, files that are
started at boot; and its disk is full while that fault is pending.
"""

from __future__ import annotations

from reconciler.doctor.facts import AtBoot, Facts, FileDevices, Room
from reconciler.doctor.reading import autoballoon, saving_in
from reconciler.model.fleet import HostSettings
from reconciler.model.paths import disk_root, is_inside
from reconciler.simulated.store import Store, StoredHost
from reconciler.simulated.view import XEN_AND_DOM0_KIB, HostPaths

_XEN_DIR = "/etc/xen"
_XENDOMAINS = "/etc/default/xendomains"
_SAVE = "XENDOMAINS_SAVE="
_FREE_KIB = 1 << 30  # 1 TiB


def facts_of(settings: HostSettings, store: Store, stored: StoredHost) -> Facts:
    """Return the facts about a stored host."""

    def text(path: str) -> str:
        return store.content(stored, path).decode(errors="replace") if path in stored.files else ""

    lines = (line.strip() for line in text(_XENDOMAINS).splitlines())
    saves = [f"save {line.removeprefix(_SAVE)}" for line in lines if line.startswith(_SAVE)]
    saves_to, _ = saving_in([*saves, "run-by init"])
    auto = f"{_XEN_DIR}/auto/"
    at_boot = [path.removeprefix(auto) for path in stored.files if path.startswith(auto)]
    is_full = "disk-full" in store.read_faults()
    return Facts(
        xen_dir=_XEN_DIR,
        autoballoon=autoballoon(text(f"{_XEN_DIR}/xl.conf")),
        dom0_mem=True,
        dom0_kib=XEN_AND_DOM0_KIB,
        saves_to=saves_to,
        xendomains_file=_XENDOMAINS,
        at_boot=tuple(AtBoot(name=name, is_link=False) for name in sorted(at_boot)),
        has_lvm=True,
        room=Room(folder=HostPaths(settings).kernel_dir, free_kib=0 if is_full else _FREE_KIB),
        clock_ahead_seconds=0.0,  # its clock is its own
        toolstacks=(),
        file_devices=FileDevices(total=0, used=0, more_on_demand=True),
        in_roots=_in_roots(settings, stored),
        limits={},
    )


def _in_roots(settings: HostSettings, stored: StoredHost) -> dict[str, int]:
    roots = [disk_root(root) for root in settings.disk_roots]
    return {path: file.size_bytes for path, file in stored.files.items() if any(is_inside(path, one) for one in roots)}
