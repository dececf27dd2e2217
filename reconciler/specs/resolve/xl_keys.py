"""Knows the keys of xl.cfg(5) that go under `[xl]`: which of them reach the dom0, so that host.toml has to allow them.

A key is harmless if no value of it can name a file, a program or a device of the dom0, or give a domain rights that
others lack: it shapes the virtual machine, and what is wrong with it hurts that domain alone. The keys are those that
xl 4.17 to 4.21 read (tools/xl/xl_parse.c); docs/reference/xl-keys.md is made from this page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reconciler.model.domain import XlValue

_ABOUT: Final[Mapping[str, str]] = {
    "The virtual machine: its tables, cpu features, timers": """
        acpi acpi_laptop_slate acpi_s3 acpi_s4 altp2m altp2m_count altp2mhvm apic boot cpuid e820_host gic_version hap
        hdtype hpet hvm_pirq localtime mca_caps mmio_hole ms_vm_genid msr_relaxed nestedhvm nx oos pae pvshim
        pvshim_cmdline pvshim_extra rtc_timeoffset smbios sve timer_mode trap_unmapped_accesses tsc_mode vendor_device
        viridian vpmu vpt_align vuart xen_platform_pci xen_platform_pci_bar_uc xend_suspend_evtchn_compat""",
    "Limits, memory and scheduling of this domain": """
        cpus_soft extratime latency llc_colors max_event_channels max_grant_frames max_grant_version
        max_maptrack_frames nr_spis period rdm rdm_mem_boundary shadow_memory slice stubdomain_memory vmtrace_buf_kb
        vnuma xenstore_feature_mask xenstore_quota""",
    "What becomes of it": "nomigrate on_soft_reset",
    "Emulated and virtual devices that have no other end in the dom0": """
        nographic stdvga usb usbctrl usbversion vga videoram vkb_device""",
    "Its screen over the network": """
        keymap opengl spice spice_clipboard_sharing spice_image_compression spice_streaming_video spiceagent_mouse
        spicedisable_ticketing spicehost spicepasswd spiceport spicetls_port spiceusbredirection spicevdagent vnc
        vncdisplay vnclisten vncpasswd vncunused""",
    "Fewer rights for its device model": "bootloader_restrict dm_restrict",
}

HARMLESS: Final = frozenset(key for keys in _ABOUT.values() for key in keys.split())
"""Those that need no allowance."""

HARMLESS_BY_SUBJECT: Final = {subject: tuple(keys.split()) for subject, keys in _ABOUT.items()}

REACHES: Final[Mapping[str, str]] = {
    "acpi_firmware": "a file of the dom0",
    "arm_sci": "the system controller of the machine",
    "bios": "chooses a file of the dom0",
    "bios_path_override": "a file of the dom0",
    "blkdev_start": "where disks are found in the dom0 at boot",
    "bootloader_user": "an account of the dom0",
    "channel": "a socket of the dom0",
    "device_model_args": "whatever qemu can do in the dom0",
    "device_model_args_hvm": "whatever qemu can do in the dom0",
    "device_model_args_pv": "whatever qemu can do in the dom0",
    "device_model_override": "a program of the dom0",
    "device_model_stubdomain_override": "chooses what runs the device model",
    "device_model_stubdomain_seclabel": "a security label",
    "device_model_user": "an account of the dom0",
    "device_model_version": "chooses a program of the dom0",
    "device_tree": "a file of the dom0",
    "display": "a display of the dom0",
    "driver_domain": "lets it serve devices to others",
    "dtdev": "a device of the machine",
    "firmware_override": "a file of the dom0",
    "gfx_passthru": "the graphics card of the machine",
    "init_seclabel": "a security label",
    "iomem": "memory of the machine",
    "ioports": "ports of the machine",
    "irqs": "interrupts of the machine",
    "p9": "a folder of the dom0",
    "passthrough": "how devices of the machine are given away",
    "pci_msitranslate": "how devices of the machine are given away",
    "pci_permissive": "lets it write to all registers of its devices",
    "pci_power_mgmt": "the power of devices of the machine",
    "pci_seize": "takes devices away from the dom0",
    "pvcalls": "sockets of the dom0",
    "pvshim_path": "a file of the dom0",
    "sdl": "the screen of the dom0",
    "seclabel": "a security label",
    "serial": "may name a device, a file or a port of the dom0",
    "smbios_firmware": "a file of the dom0",
    "soundhw": "sounds in the dom0",
    "spicepasswd_file": "a file of the dom0",
    "stubdomain_cmdline": "what the domain of the device model is told",
    "stubdomain_kernel": "a file of the dom0",
    "stubdomain_ramdisk": "a file of the dom0",
    "tee": "the secure world of the machine",
    "usbdev": "a device of the machine",
    "usbdevice": "may name a device of the machine",
    "vdispl": "a display of another domain",
    "vfb": "may name a file and a display of the dom0",
    "viommu": "how devices of the machine are given away",
    "virtio": "devices that another domain serves",
    "vkb": "a keyboard of another domain",
    "vncpasswd_file": "a file of the dom0",
    "vncviewer": "a program of the dom0",
    "vsnd": "sound devices of another domain",
    "vtpm": "a TPM that another domain serves",
    "xauthority": "a file of the dom0",
}
"""The others that xl reads, with what of the dom0, of the machine or of other domains they reach."""

_ON = """
    acpi acpi_s3 acpi_s4 apic hap hpet nx oos pae spiceagent_mouse vkb_device vncunused vpt_align xen_platform_pci"""
_OFF = """
    acpi_laptop_slate altp2mhvm dm_restrict driver_domain gfx_passthru localtime msr_relaxed nestedhvm nographic
    nomigrate opengl pvshim rtc_timeoffset sdl spice spice_clipboard_sharing spicedisable_ticketing spicevdagent
    stdvga usb viridian vpmu xend_suspend_evtchn_compat"""
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(_ON.split(), ("1",)),
    **dict.fromkeys(_OFF.split(), ("0",)),
    "altp2m": ("0", "disabled"),
    "bios": ("seabios",),
    "blkdev_start": ("xvda",),
    "boot": ("cda",),
    "device_model_version": ("qemu-xen",),
    "hdtype": ("ide",),
    "max_event_channels": ("1023",),
    "on_soft_reset": ("soft-reset",),
    "rdm_mem_boundary": ("2048",),
    "timer_mode": ("1", "no_delay_for_missed_ticks"),
    "tsc_mode": ("0", "default"),
    "vga": ("cirrus",),
    "vnclisten": ("127.0.0.1",),
}
"""What xl does where a key is left out, as a number or as a word. (Xen 4.17 to 4.21: parse_config_data of
tools/xl/xl_parse.c, libxl__domain_build_info_setdefault of tools/libs/light/libxl_create.c.)"""


def is_usual(key: str, value: XlValue, kind: str) -> bool:
    """Return whether a domain of this type gets the same without the key.

    >>> is_usual("acpi", 1, "hvm"), is_usual("acpi", 0, "hvm"), is_usual("vnc", 1, "hvm"), is_usual("vnc", 1, "pv")
    (True, False, True, False)
    """
    if key == "vnc":  # which gives another one a frame buffer of its own
        return str(value) == ("1" if kind == "hvm" else "0")
    return str(value) in _USUAL.get(key, ())
