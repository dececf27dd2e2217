"""Knows which version of Xen brought which key of xl.cfg. Pure.

Source: xl_parse.c (xl_cmdimpl.c before 4.9) and libxlu_disk_l.l of the stable branches 4.4 to 4.22 of Xen: the first
branch whose xl asks for the key. An older xl leaves a key out that it does not know, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from reconciler.expressions import expression
from reconciler.model.domain import Domain, Image
from reconciler.texts.cfg_grammar import XlCfgError, parse_cfg
from reconciler.texts.config_file import render_body

Version = tuple[int, int]

_KEYS = {
    (4, 5): "channel cmdline cpus_soft mmio_hole ms_vm_genid pci_seize",
    (4, 6): "altp2mhvm device_tree dtdev gic_version hdtype rdm rdm_mem_boundary vnuma",
    (4, 7): "device_model_user on_soft_reset usbctrl usbdev",
    (4, 8): "bios_path_override",
    (4, 9): "acpi_laptop_slate altp2m p9",
    (4, 10): "dm_restrict firmware max_grant_frames max_maptrack_frames mca_caps pvshim pvshim_cmdline pvshim_extra"
    " pvshim_path type vdispl vuart",
    (4, 11): "pvcalls",
    (4, 12): "vkb vsnd",
    (4, 13): "passthrough tee vkb_device",
    (4, 14): "stubdomain_kernel stubdomain_memory stubdomain_ramdisk xend_suspend_evtchn_compat",
    (4, 15): "msr_relaxed vmtrace_buf_kb",
    (4, 16): "max_grant_version stubdomain_cmdline vpmu",
    (4, 18): "bootloader_restrict bootloader_user smbios sve virtio",
    (4, 19): "hvm_pirq nr_spis",
    (4, 20): "llc_colors",
    (4, 21): "altp2m_count arm_sci trap_unmapped_accesses xen_platform_pci_bar_uc xenstore_feature_mask",
    (4, 22): "xenstore_quota",
}
_OF_DISKS = {
    (4, 5): "direct-io-safe discard no-discard",
    (4, 7): "colo",
    (4, 17): "specification trusted untrusted",
    (4, 19): "grant_usage",
}
_OF_VIFS = {(4, 15): "mtu", (4, 17): "trusted", (4, 19): "vlan"}
_VERSION = expression(r"(?P<major>[0-9]{1,3})\.(?P<minor>[0-9]{1,3})(?:\D.*)?", re.DOTALL)


def _by_key(table: dict[Version, str]) -> dict[str, Version]:
    return {key: version for version, keys in table.items() for key in keys.split()}


_SINCE = {"": _by_key(_KEYS), "disk": _by_key(_OF_DISKS), "vif": _by_key(_OF_VIFS)}


def version_of(text: str) -> Version | None:
    """Read a version of Xen; None for what is none.

    >>> version_of("4.17.7"), version_of("4.8-unstable"), version_of("simulated")
    ((4, 17), (4, 8), None)
    """
    found = _VERSION.fullmatch(text)
    return None if found is None else (int(found["major"]), int(found["minor"]))


def needs_of(domain: Domain) -> tuple[tuple[str, Version], ...]:
    """Return the keys that not every xl knows in the config file of a domain, each with the version that brought it.

    >>> web = Domain(name="web", uuid="", type="pvh", memory_kib=1 << 20, maxmem_kib=1 << 20, cmdline="quiet")
    >>> needs_of(web)
    (('type', (4, 10)), ('cmdline', (4, 5)))
    """
    return tuple(_needs(domain))


def _needs(domain: Domain) -> Iterator[tuple[str, Version]]:
    named = replace(domain, kernel=_named(domain.kernel), ramdisk=_named(domain.ramdisk))
    try:
        values = parse_cfg(render_body(named))
    except (ValueError, XlCfgError):
        return  # no file can be written, which `validate` tells
    for key, value in values.items():
        if key in _SINCE[""] and not (key == "type" and value == "pv"):  # the only one that an older xl knows
            yield key, _SINCE[""][key]
        if key in ("disk", "vif") and isinstance(value, tuple):
            before_targets = (str(one).partition("target=")[0] for one in value)
            options = {option.strip().partition("=")[0] for text in before_targets for option in text.split(",")}
            yield from ((f"{key}: {option}", _SINCE[key][option]) for option in sorted(options & _SINCE[key].keys()))


def _named(image: Image | None) -> Image | None:
    """Return an image with a path, which one has only when its bytes are known."""
    return image if image is None or image.path else replace(image, path=image.source or "/")
