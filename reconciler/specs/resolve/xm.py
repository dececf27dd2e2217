"""Says what the config files of xm (Xen 4.1) cannot say of a domain. Called for each domain of a host that has xm.

`texts.cfg_words` writes such files and asks here first, so what validate passes can be written. xm ignores a key that
it does not know, so what is not named here counts as one. Facts from tools/python/xen/xm/create.py of Xen 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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

_SHARED_KEYS = _names("""
    acpi apic boot cpuid display gfx_passthru hap hpet ioports keymap localtime nographic nomigrate oos opengl pae
    pci_msitranslate pci_power_mgmt rtc_timeoffset sdl serial shadow_memory soundhw stdvga timer_mode tsc_mode usb
    usbdevice vfb videoram viridian vnc vncdisplay vnclisten vncpasswd vncunused vncviewer vpt_align vtpm xauthority
    xen_platform_pci
""")
_NOTHING = "Leave it out: xl needs no word of it."
_QEMU = "What qemu is told is written device_model_args = [ ... ]; host.toml has to allow it."
_ADDRESSES = "The guest is told in its command line: ip=ADDRESS::GATEWAY:NETMASK."
_DRIVER_DOMAIN = "Write driver_domain = 1."
_CANNOT = "xl has nothing in its place."
XM_ONLY: Mapping[str, tuple[str, str]] = {
    "access_control": ("the label of a security policy", "xl writes it seclabel."),
    "blkif": ("serving disks to others", _DRIVER_DOMAIN),
    "bootargs": ("what the bootloader is called with", "xl calls it bootloader_args."),
    "bootentry": ("what to boot from the disk", "Write what pygrub is to be called with into bootloader_args."),
    "cpu": ("the cpu that it runs on", 'Write cpus = "2" for the cpu that it shall run on.'),
    "cpu_cap": ("the most cpu time that it gets", "xl calls it cap."),
    "cpuid_check": ("what the cpus of the host must have", _CANNOT),
    "description": ("words for people", "Write them as a comment."),
    "device_model": ("the program that emulates its devices", "Leave it out: xl has its own."),
    "dhcp": ("how the guest finds its address", "The guest is told in its command line: ip=dhcp."),
    "fda": ("its floppy", _QEMU),
    "fdb": ("its second floppy", _QEMU),
    "features": ("features that its kernel must have", _NOTHING),
    "gateway": ("the gateway of the guest", _ADDRESSES),
    "guest_os_type": ("what runs in it", _NOTHING),
    "hostname": ("the name that the guest has for itself", "The guest knows its own name."),
    "interface": ("the interface that the guest is to set up", _ADDRESSES),
    "ip": ("the address of the guest", _ADDRESSES),
    "irq": ("interrupts that it is given", "xl calls it irqs."),
    "isa": ("having no PCI bus", _NOTHING),
    "loader": ("its firmware", "Leave it out: xl finds hvmloader itself."),
    "machine_address_size": ("how high its memory may lie", _NOTHING),
    "memory_sharing": ("sharing memory", _CANNOT),
    "monitor": ("the monitor of qemu", _QEMU),
    "netif": ("serving interfaces to others", _DRIVER_DOMAIN),
    "netmask": ("the netmask of the guest", _ADDRESSES),
    "nfs_root": ("the folder that the guest mounts as root", "The guest is told in its command line: nfsroot=."),
    "nfs_server": ("where the guest finds its root", "The guest is told in its command line: nfsroot=SERVER:FOLDER."),
    "on_xend_start": ("whether it starts with the host", "A spec says autostart = true."),
    "on_xend_stop": ("what becomes of it when the host stops", "That is said by the settings of xendomains."),
    "parallel": ("its parallel port", _QEMU),
    "restart": ("what becomes of it when it ends", "xl has on_poweroff, on_reboot and on_crash for it."),
    "s3_integrity": ("checking its memory after a sleep", _NOTHING),
    "superpages": ("having its memory in large pages", _NOTHING),
    "suppress_spurious_page_faults": ("keeping some faults from it", _NOTHING),
    "target": ("the domain that it serves", _NOTHING),
    "tpmif": ("serving a TPM to others", _DRIVER_DOMAIN),
    "vcpu_avail": ("which of its vcpus it has", "Write vcpus for how many it has, maxvcpus for the most."),
    "vhpt": ("a table of Itanium", _NOTHING),
    "vif2": ("an accelerated interface", _CANNOT),
    "vncconsole": ("opening a viewer", "Leave it out, and run xl vncviewer when it is wanted."),
    "vscsi": ("SCSI devices that it is given", _CANNOT),
    "vusb": ("USB devices that it is given", "xl has usbctrl and usbdev for it."),
    "watchdog": ("its watchdog device", _QEMU),
    "watchdog_action": ("what its watchdog does", _QEMU),
}
"""Keys of xm that xl does not know: what each was, and what there is in its place."""

_OWN_WORDS = {"cpu_cap": "cap", "bootargs": "bootloader_args", "vcpu_avail": "maxvcpus"}
_OF_CMDLINE = _names("ip gateway netmask hostname interface dhcp nfs_server nfs_root")
_OTHER_KEYS = _SHARED_KEYS | XM_ONLY.keys() - _OWN_WORDS.keys() - _OF_CMDLINE - {"restart"}
_NOT_ITS_WORDS = frozenset(("type", "cmdline", "cap", "bootloader_args"))
XM_KEYS = frozenset((_OF_DOMAINS - _NOT_ITS_WORDS) | _OTHER_KEYS | _OWN_WORDS.keys() | _OF_CMDLINE | {"builder"})
"""All that xm heeds of a config file."""


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
