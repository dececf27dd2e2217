"""What a create that failed says, in the words of real xl: of the kernel, of the host, or nothing."""

from __future__ import annotations

import pytest

from reconciler.texts.create_failures import Cause, cause_of

AFTERMATH = """libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 12:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 12:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 12:Destruction of domain failed
"""
NO_KERNEL = """xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel
libxl: error: libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 12:cannot (re-)build domain: -3
"""
TOO_LARGE = """xc: error: panic: xg_dom_core.c:536: xc_dom_chk_alloc_pages: segment kernel too large (0x2e00 > 0x2000 - 0x1000 pages): Out of memory
libxl: error: libxl_dom.c:594:libxl__build_dom: xc_dom_build_image failed: No such file or directory
"""  # noqa: E501  # as it was printed
EMPTY = """xc: error: panic: xg_dom_core.c:227: '/k/empty': zero length file: Internal error
libxl: error: libxl_dom.c:664:libxl__build_dom: xc_dom_kernel_file failed: No such file or directory
"""
NO_MEMORY = """xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory
libxl: error: libxl_dom.c:586:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
"""  # noqa: E501  # as it was printed
NO_LOOP = """libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/block add [4321] exited with error status 1
libxl: error: libxl_device.c:1337:device_hotplug_child_death_cb: script: Failed to find an unused loop device
libxl: error: libxl_create.c:1672:domcreate_launch_dm: Domain 3:unable to add disk devices
"""  # noqa: E501  # as it was printed
OF_XEND = {  # written after xend's sources
    "Error: (2, 'Invalid kernel', 'xc_dom_find_loader: no loader found\\n')": Cause.BOOT,
    "Error: Boot loader didn't return any data!": Cause.BOOT,
    "Error: Device 51712 (vbd) could not be connected. Hotplug scripts not working.": Cause.HOST,
    "Error: Unable to connect to xend: Connection refused. Is xend running?": Cause.HOST,
    "Error: Not enough free memory so I cannot release any more.": Cause.HOST,
    "Error: Domain 'web' already exists with ID '4'": Cause.UNKNOWN,
}
NO_MODEL = """libxl: error: libxl_dm.c:2857:device_model_spawn_outcome: Domain 3:domain 3 device model: spawn failed (rc=-3)
libxl: error: libxl_create.c:1800:domcreate_devmodel_started: Domain 3:device model did not start: -3
"""  # noqa: E501  # as libxl's source has it
NO_VND = NO_LOOP.replace("Failed to find an unused loop device", "no available vnd device")
TIMED_OUT = """libxl: error: libxl_aoutils.c:539:async_exec_timeout: killing execution of /etc/xen/scripts/block add because of timeout
libxl: error: libxl_create.c:1672:domcreate_launch_dm: Domain 3:unable to add disk devices
"""  # noqa: E501  # as it was printed
NO_BRIDGE = """libxl: error: libxl_device.c:1337:device_hotplug_child_death_cb: script: Could not find bridge device nobr
libxl: error: libxl_create.c:1921:domcreate_attach_devices: Domain 19:unable to add vif devices
"""  # noqa: E501  # as it was printed
NO_FILE = """xc: error: panic: xg_dom_core.c:205: failed to open file '/boot/guest/nope': No such file or directory: Internal error
libxl: error: libxl_dom.c:659:libxl__build_pv: xc_dom_ramdisk_file failed: No such file or directory
"""  # noqa: E501  # as it was printed
NO_DISK = """libxl: error: libxl_device.c:455:libxl__device_disk_set_backend: Disk vdev=xvda failed to stat: /srv/nope.img: No such file or directory
libxl: error: libxl_create.c:1318:initiate_domain_create: Domain 17:Unable to set disk defaults for disk 0
"""  # noqa: E501  # as it was printed
NAME_TAKEN = """libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain 15:Domain with name "g2" already exists.
libxl: error: libxl_create.c:1296:initiate_domain_create: Domain 15:cannot make domain: -6
"""
PYGRUB = """libxl: error: libxl_bootloader.c:649:bootloader_finished: Domain 42:bootloader failed - consult logfile /var/log/xen/bootloader.42.log
libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: bootloader [4242] exited with error status 1
"""  # noqa: E501  # as it was printed
KILLED_PYGRUB = PYGRUB.replace("exited with error status 1", "died due to fatal signal Killed")
SLOW_PYGRUB = (
    "libxl: error: libxl_bootloader.c:737:bootloader_timeout: Domain 4:killing bootloader because of timeout\n"
)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        pytest.param(NO_KERNEL, Cause.BOOT, id="no kernel"),
        pytest.param(TOO_LARGE, Cause.BOOT, id="larger than its domain"),
        pytest.param(EMPTY, Cause.BOOT, id="an empty kernel"),
        pytest.param(PYGRUB, Cause.BOOT, id="pygrub finds nothing"),
        pytest.param(NO_KERNEL + TIMED_OUT, Cause.BOOT, id="no kernel on a busy host"),
        pytest.param(NO_MEMORY, Cause.HOST, id="no memory"),
        pytest.param("failed to free memory for the domain\n", Cause.HOST, id="autoballoon"),
        pytest.param(NO_LOOP, Cause.HOST, id="no loop device"),
        pytest.param(NO_VND, Cause.HOST, id="no vnd device"),
        pytest.param(TIMED_OUT, Cause.HOST, id="a hotplug script is slow"),
        pytest.param(NO_BRIDGE, Cause.HOST, id="no bridge"),
        pytest.param(NO_FILE, Cause.HOST, id="a file is gone"),
        pytest.param(NO_DISK, Cause.HOST, id="a disk is gone"),
        pytest.param(NAME_TAKEN, Cause.HOST, id="right after a shutdown"),
        pytest.param(SLOW_PYGRUB + PYGRUB, Cause.HOST, id="pygrub is slow"),
        pytest.param(KILLED_PYGRUB, Cause.HOST, id="pygrub is killed, as by a dom0 without memory"),
        pytest.param(KILLED_PYGRUB.replace("Killed", "Segmentation fault"), Cause.BOOT, id="pygrub crashes"),
        pytest.param(NO_MODEL, Cause.HOST, id="no device model"),
        pytest.param(
            NO_MODEL + "qemu-system-i386: qemu: could not load kernel '/k': Invalid argument\n",
            Cause.BOOT,
            id="of qemu",
        ),
        pytest.param(PYGRUB + "RuntimeError: Unable to find partition containing kernel\n", Cause.BOOT, id="its log"),
        pytest.param(PYGRUB + "OSError: [Errno 28] No space left on device\n", Cause.HOST, id="pygrub has no room"),
        pytest.param(
            PYGRUB + "OSError: [Errno 30] Read-only file system: '/run'\n", Cause.HOST, id="a dom0 gone read-only"
        ),
        pytest.param(PYGRUB + "OSError: [Errno 5] Input/output error\n", Cause.HOST, id="pygrub cannot read the disk"),
        pytest.param(PYGRUB + "MemoryError\n", Cause.HOST, id="pygrub has no memory"),
        pytest.param(NO_LOOP + PYGRUB, Cause.HOST, id="pygrub gets no disk"),
        pytest.param("Domain name must be specified.\n", Cause.UNKNOWN, id="a config xl refuses"),
        pytest.param("", Cause.UNKNOWN, id="nothing"),
        pytest.param(AFTERMATH, Cause.UNKNOWN, id="only what followed"),
    ],
)
def test_what_it_says(said: str, cause: Cause) -> None:
    assert cause_of(f"Parsing config from /etc/xen/web.cfg\n{said}{AFTERMATH}") is cause


@pytest.mark.parametrize("said", OF_XEND)
def test_what_xend_says(said: str) -> None:
    assert cause_of(f"{said}\n") is OF_XEND[said]
