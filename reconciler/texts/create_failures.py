"""Judges why `xl create` failed, by what xl, libxl and the hotplug scripts printed: is it the kernel, or the host?

Called by `xl.starting` after a create without a domain. A boot is held to have failed only when the toolstack says
that the kernel is none. What the host lacked is tried again. A text that is in no row counts for neither.
A boot loader and a device model say why in logs of their own, whose last lines are behind what xl said.
The texts were read in Xen 4.11 to 4.22; the second column says where.

>>> str(cause_of("xc: error: panic: xg_dom_core.c: zero length file"))
'boot'
>>> str(cause_of("libxl: error: script: Failed to find an unused loop device"))
'host'
"""

from __future__ import annotations

import re
from enum import StrEnum


class Cause(StrEnum):
    """The cause of a create that failed."""

    BOOT = "boot"  # what was to boot is nothing that boots
    HOST = "host"  # the host could not, this time; nothing is known of what was to boot
    UNKNOWN = "unknown"


# The first row that is found in what was said decides. A kernel is read before any device is made, so that it is none
# goes before everything; a boot loader reads a disk, and libxl's sentences follow each other from cause to effect, so
# what the host lacked goes before the general rows.
_ROWS: tuple[tuple[str, str, Cause], ...] = (
    (r"'Invalid kernel'", "libxc's error as xend tells it: a Python tuple", Cause.BOOT),
    (r"Device \S+ \(\w+\) could not be connected", "xend's DevController.py: a hotplug script, most often", Cause.HOST),
    (r"Unable to connect to xend", "xm's main.py", Cause.HOST),
    (r"Not enough free memory", "xend's balloon.py", Cause.HOST),
    (r"Disk '.*' isn't accessible", "xend's XendBootloader.py", Cause.HOST),
    (r"Boot loader didn't return any data", "xend's XendBootloader.py, as for pygrub", Cause.BOOT),
    (r": Invalid kernel$", "xc_private.c: XC_INVALID_KERNEL, behind each xc_dom_panic about an image", Cause.BOOT),
    (r"zero length file", "xg_dom_core.c: xc_dom_malloc_filemap", Cause.BOOT),
    (r"^.*: file \S+ for .* is empty$", "libxl_dom.c: libxl__load_hvm_firmware_module", Cause.BOOT),
    (
        r"segment \S+ too large",
        "xg_dom_core.c: xc_dom_chk_alloc_pages; the image is larger than its domain",
        Cause.BOOT,
    ),
    (
        r"could not load kernel|invalid kernel header|kernel too old to load a ram disk|initrd is too large",
        "qemu's hw/i386/x86.c: what an hvm domain boots directly",
        Cause.BOOT,
    ),
    (r"unused loop device", "hotplug/Linux/block: fatal", Cause.HOST),
    (r"no available vnd device", "hotplug/NetBSD/block: error", Cause.HOST),
    (r"killing (execution of .*|bootloader) because of timeout", "libxl_aoutils.c, libxl_bootloader.c", Cause.HOST),
    (r"died due to fatal signal (Killed|Terminated|Hangup)", "libxl_exec.c: libxl_report_child_exitstatus", Cause.HOST),
    (r"device model.* (spawn failed|died)", "libxl_dm.c: device_model_spawn_outcome", Cause.HOST),
    (r"\bscript: ", "libxl_device.c: device_hotplug_child_death_cb, with what the script said", Cause.HOST),
    (r"unable to add \S+ devices", "libxl_create.c: domcreate_launch_dm, domcreate_attach_devices", Cause.HOST),
    (r"Unable to set \S+ defaults for", "libxl_create.c: initiate_domain_create", Cause.HOST),
    (r"failed to stat|no suitable backend for disk", "libxl_device.c: libxl__device_disk_set_backend", Cause.HOST),
    (r"unable locally attach device|failed to attach local disk", "libxl_disk.c, libxl_bootloader.c", Cause.HOST),
    (r"failed to open file|failed to mmap file", "xg_dom_core.c: xc_dom_malloc_filemap; a file is gone", Cause.HOST),
    (r": Out of memory$", "xc_private.c: XC_OUT_OF_MEMORY", Cause.HOST),
    (r"Cannot allocate memory|No space left on device", "strerror: ENOMEM, ENOSPC", Cause.HOST),
    (r"Resource temporarily unavailable|Too many open files", "strerror: EAGAIN, EMFILE", Cause.HOST),
    (r"Device or resource busy|Input/output error", "strerror: EBUSY, EIO", Cause.HOST),
    (r"Read-only file system|Transport endpoint|Stale file handle", "strerror: EROFS, ENOTCONN, ESTALE", Cause.HOST),
    (r"^MemoryError", "pygrub, in a dom0 without memory", Cause.HOST),
    (r"failed to free memory for the domain", "xl_vmcontrol.c: create_domain, with autoballoon", Cause.HOST),
    (r"cannot (open the lockfile|acquire lock)", "xl_vmcontrol.c: acquire_lock", Cause.HOST),
    (r"unable to fork|cannot execute", "libxl_aoutils.c, libxl_exec.c", Cause.HOST),
    (r"timed out|device model did not start", "libxl_exec.c, libxl_create.c: console, device model", Cause.HOST),
    (r"Domain with name \".*\" already exists", "libxl_domain.c: libxl__domain_rename", Cause.HOST),
    (r"device already exists in xenstore", "libxl_device.c: libxl__device_add_async", Cause.HOST),
    (r"xenstore transaction|xs transaction|xs_transaction", "libxl_create.c, libxl_device.c", Cause.HOST),
    (r"xc_dom_parse_image failed", "libxl_dom.c: libxl__build_dom", Cause.BOOT),
    (r"bootloader failed - consult logfile", "libxl_bootloader.c: bootloader_finished, as for pygrub", Cause.BOOT),
)

_HINTS = (
    (
        r"no available vnd device",
        "Each disk in a file takes a vnd device, and a NetBSD dom0 has four unless more were made there: "
        "`cd /dev && sh MAKEDEV vnd4 vnd5 vnd6 vnd7`.",
    ),
)


def hint_of(said: str) -> str | None:
    """Return what would mend what the stderr of an xl command tells, as a sentence; None where that is not known.

    >>> hint_of("libxl: error: script: no available vnd device").rpartition("&& ")[2]
    'sh MAKEDEV vnd4 vnd5 vnd6 vnd7`.'
    """
    return next((hint for pattern, hint in _HINTS if re.search(pattern, said)), None)


def cause_of(said: str) -> Cause:
    """Find the cause in the whole stderr of a failed `xl create`. The first row that matches decides."""
    for pattern, _where, cause in _ROWS:
        if re.search(pattern, said, re.MULTILINE):
            return cause
    return Cause.UNKNOWN
