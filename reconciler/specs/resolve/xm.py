"""Says what the config files of xm (Xen 4.1) cannot say of a domain. Called for each domain of a host that has xm.

`texts.cfg_words` writes such files and asks here first, so what validate passes can be written. xm ignores a key that
it does not know, so what is not named here counts as one. Facts from tools/python/xen/xm/create.py of Xen 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.model.disks import place_of
from reconciler.model.domain import Disk, Domain, Vif
from reconciler.model.key_row import Key, Owner
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.model.pci import read_pci
from reconciler.specs.schema_errors import Complaint, Loc, spell

DISK_DRIVERS = {"raw": "", "qcow": "tap:qcow:", "qcow2": "tap:qcow2:"}
"""How xm names the format of a disk; a raw one is a file or a device."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_DOMAINS = _names("""
    name uuid type kernel ramdisk cmdline root extra bootloader bootloader_args memory maxmem vcpus maxvcpus
    cpus cpu_weight cap pool disk vif pci on_poweroff on_reboot on_crash
""")
_OF_DISKS = frozenset(("vdev", "format", "access"))
XM_VIF_KEYS = frozenset(("mac", "bridge", "ip", "script", "rate", "model", "type", "vifname"))
_EVENTS = ("on_poweroff", "on_reboot", "on_crash")
_ACTIONS = frozenset(("destroy", "restart", "rename-restart", "preserve"))
_ACTIONS_OF_CRASH = _ACTIONS | {"coredump-destroy", "coredump-restart"}
_PCI_OPTIONS = ("msitranslate=", "power_mgmt=")

_OTHER_KEYS = _names("""
    acpi access_control apic blkif boot bootentry cpu cpuid cpuid_check description device_model display fda fdb
    features gfx_passthru guest_os_type hap hpet ioports irq isa keymap loader localtime machine_address_size
    memory_sharing monitor netif nographic nomigrate on_xend_start on_xend_stop oos opengl pae parallel
    pci_msitranslate pci_power_mgmt rtc_timeoffset s3_integrity sdl serial shadow_memory soundhw stdvga
    superpages suppress_spurious_page_faults target timer_mode tpmif tsc_mode usb usbdevice vfb vhpt videoram
    vif2 viridian vnc vncconsole vncdisplay vnclisten vncpasswd vncunused vncviewer vpt_align vscsi vtpm vusb
    watchdog watchdog_action xauthority xen_platform_pci
""")
_OWN_WORDS = {"cpu_cap": "cap", "bootargs": "bootloader_args", "vcpu_avail": "maxvcpus"}
_OF_CMDLINE = frozenset(("ip", "gateway", "netmask", "hostname", "interface", "dhcp", "nfs_server", "nfs_root"))


def check_xm(domain: Domain) -> Iterator[Complaint]:
    """Report all that a domain asks for and a config file of xm has no words for."""
    yield from _unknown(DOMAIN_KEYS, domain, _OF_DOMAINS, ())
    if domain.type == "pvh":
        yield _complaint(("type",), "xm knows no pvh domains.", 'Write type = "pv" or type = "hvm".')
    if domain.type == "hvm" and domain.kernel is not None:
        detail = "xm takes the kernel of an hvm domain for the loader of its firmware."
        yield _complaint(("kernel",), detail, "Leave kernel out, and let the domain boot from its disk.")
    for event in _EVENTS:
        action = getattr(domain, event)
        if action not in (_ACTIONS_OF_CRASH if event == "on_crash" else _ACTIONS):
            yield _complaint((event,), f'xm knows no {event} = "{action}".', None)
    for index, disk in enumerate(domain.disks):
        yield from _check_disk(disk, index)
    for index, vif in enumerate(domain.vifs):
        yield from _check_vif(vif, index)
    for index, device in enumerate(domain.pci):
        if not read_pci(device).bdf or read_pci(device).bdf.endswith("*"):
            yield _complaint(("pci", index), "xm takes PCI devices one by one, by their addresses.", None)
        for option in device.split(",")[1:]:
            if not option.startswith(_PCI_OPTIONS):
                yield _complaint(("pci", index), f'xm knows no "{option}" of a PCI device.', None)
    for key, _ in domain.xl:
        if key not in _OTHER_KEYS:
            yield _complaint(("xl", key), f"xm knows no {key}, and would ignore it.", _hint(key), at_key=True)
    yield from _check_ascii(domain)


def limits_of(toolstack: str) -> Callable[[Domain], Iterator[Complaint]]:
    """Return what reports all that a toolstack cannot say of a domain. xl, and who plays it, can say all of a spec."""
    return _LIMITS.get(toolstack, lambda _domain: iter(()))


_LIMITS: dict[str, Callable[[Domain], Iterator[Complaint]]] = {"xm": check_xm}


def _unknown(keys: tuple[Key[Owner], ...], owner: Owner, known: frozenset[str], loc: Loc) -> Iterator[Complaint]:
    for key in keys:
        if key.name in known or not key.in_cfg or key.of is None:
            continue
        if key.value(owner) not in (None, (), key.default):
            here = (*loc, key.name)
            yield _complaint(here, f"A config file of xm cannot say {spell(here)}.", "Leave it out.", at_key=True)


def _check_disk(disk: Disk, index: int) -> Iterator[Complaint]:
    yield from _unknown(DISK_KEYS, disk, _OF_DISKS, ("disk", index))
    if disk.format not in DISK_DRIVERS:
        yield _complaint(("disk", index, "format"), f"xm knows no disks of the format {disk.format}.", None)
    if "," in disk.target:
        key, _ = place_of(disk)
        detail = f"{disk.target} has a comma, at which xm would end the path."
        yield _complaint(("disk", index, key), detail, "Give it a name without a comma.")


def _check_vif(vif: Vif, index: int) -> Iterator[Complaint]:
    yield from _unknown(VIF_KEYS, vif, XM_VIF_KEYS, ("vif", index))
    if vif.devid != index:
        detail = f"xm numbers interfaces in their order, so this one cannot have the number {vif.devid}."
        yield _complaint(("vif", index), detail, None)


def _check_ascii(domain: Domain) -> Iterator[Complaint]:
    """Report other characters than those of ASCII: xm reads the file as Python 2, which stops at them."""
    texts: list[tuple[Loc, object]] = [((key.name,), key.value(domain)) for key in DOMAIN_KEYS if _is_text(key)]
    texts += [(("disk", index), disk.target) for index, disk in enumerate(domain.disks)]
    texts += [
        (("vif", index), key.value(vif))
        for index, vif in enumerate(domain.vifs)
        for key in VIF_KEYS
        if key.name in XM_VIF_KEYS
    ]
    texts += [(("xl", key), value) for key, value in domain.xl]
    for loc, value in texts:
        words = value if isinstance(value, tuple) else (value,)
        if any(isinstance(word, str) and not word.isascii() for word in words):
            detail = f"{spell(loc)} has characters beyond ASCII, at which xm stops reading the file."
            yield _complaint(loc, detail, None)


def _is_text(key: Key[Domain]) -> bool:
    return key.in_cfg and key.of is not None and key.name in _OF_DOMAINS


def _hint(key: str) -> str:
    if key in _OWN_WORDS:
        return f"Write {_OWN_WORDS[key]} at the top of the file."
    return "Write it into cmdline." if key in _OF_CMDLINE else "Leave it out."


def _complaint(loc: Loc, detail: str, hint: str | None, *, at_key: bool = False) -> Complaint:
    return Complaint(loc=loc, summary="Nothing that xm can do", detail=detail, hint=hint, at_key=at_key)
