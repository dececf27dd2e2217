"""Turns what `xl list -l` tells of a domain back into keys of xl.cfg, where no config file says how it was started.

Called by `guests` for domains whose file is not at hand. It is the reverse of what tools/xl/xl_parse.c does. What has a
row in the table of keys is read by `running`; here is the rest, for `[xl]`. What is not understood is named, so that
nothing is lost without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from reconciler.model.domain import XlValue
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, VIF_KEYS
from reconciler.records import dataclass

VIRIDIAN = (
    *("base", "freq", "time_ref_count", "reference_tsc", "hcall_remote_tlb_flush", "apic_assist", "crash_ctl"),
    *("synic", "stimer", "hcall_ipi", "ex_processor_masks", "no_vp_limit", "cpu_hotplug"),
)
"""The words of the key viridian, by libxl's number of each."""

_Json = dict[str, Any]
_How = Callable[[Any], XlValue | None]


@dataclass(frozen=True, slots=True)
class ListedKeys:
    """What no key of a spec covers: for `[xl]`, the cpus that it is bound to, and what cannot be said, in sentences."""

    xl: tuple[tuple[str, XlValue], ...]
    cpus: str | tuple[str, ...] | None
    untold: tuple[str, ...]


def listed_keys(config: Mapping[str, Any]) -> ListedKeys:
    """Read one entry of `xl list -l`.

    >>> found = listed_keys({"b_info": {"nested_hvm": "True", "type.hvm": {"boot": "dc"}, "new": 5}})
    >>> found.xl, found.untold
    ((('boot', 'dc'), ('nestedhvm', 1)), ('`xl list -l` shows b_info.new = 5, which no key of xl.cfg is known for.',))
    """
    rest = deepcopy(dict(config))
    found: dict[str, XlValue] = {}
    for path, key, how in _SIMPLE:
        if (value := _look(rest, path)) is not None and (said := how(value)) is not None:
            found.setdefault(key, said)
            _take(rest, path)
    if label := _text(_take(rest, "c_info/ssid_label")):  # with one of its own for running, the first is that of init
        found["init_seclabel" if "seclabel" in found else "seclabel"] = label
    _read_enlightenments(rest, found)
    _read_devices(rest, found)
    cpus = _cpus(_take(rest, "b_info/vcpu_hard_affinity"))
    if (soft := _cpus(_take(rest, "b_info/vcpu_soft_affinity"))) is not None:
        found["cpus_soft"] = soft
    for path in _COVERED:
        _take(rest, path)
    return ListedKeys(tuple(sorted(found.items())), cpus, tuple(_untold(rest)))


def _look(part: Any, path: str) -> Any:
    for step in path.split("/"):
        part = part.get(step) if isinstance(part, dict) else None
    return part


def _take(part: _Json, path: str) -> Any:
    *above, last = path.split("/")
    for step in above:
        inner = part.get(step)
        if not isinstance(inner, dict):
            return None
        part = inner
    return part.pop(last, None)


def _flag(value: Any) -> XlValue | None:
    return {"True": 1, "False": 0, True: 1, False: 0}.get(value) if isinstance(value, str | bool) else None


def _text(value: Any) -> XlValue | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> XlValue | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if value >= 0 else str(value)


def _mib(value: Any) -> XlValue | None:
    return value // 1024 if isinstance(value, int) and value > 0 and value % 1024 == 0 else None


def _list(value: Any) -> XlValue | None:
    fits = isinstance(value, list) and value and all(isinstance(item, str | int) for item in value)
    return tuple(value) if fits else None


def _word(**words: str) -> _How:
    """Make the reading of a word that xl.cfg spells otherwise."""
    return lambda value: words.get(value, value) if isinstance(value, str) else None


def _hyphens(value: Any) -> XlValue | None:
    return value.replace("_", "-") if isinstance(value, str) else None


def _hexadecimal(spell: Callable[[_Json], str], *known: str) -> _How:
    def read(value: Any) -> XlValue | None:
        if not isinstance(value, list) or not value:
            return None
        fits = all(_has_numbers(item, known) for item in value)
        return tuple(spell(item) for item in value) if fits else None

    return read


def _has_numbers(item: Any, known: tuple[str, ...]) -> bool:
    """Return whether all that an item has is known and a number; the first two it needs."""
    if not isinstance(item, dict) or not set(known[:2]) <= item.keys() <= set(known):
        return False
    return all(isinstance(value, int) for value in item.values())


def _port(item: _Json) -> str:
    first, number = item["first"], item["number"]
    return f"{first:x}" if number == 1 else f"{first:x}-{first + number - 1:x}"


def _memory(item: _Json) -> str:
    return f"{item['start']:x},{item['number']:x}" + (f"@{item['gfn']:x}" if "gfn" in item else "")


def _cpuid(value: Any) -> XlValue | None:
    leaves = value.get("cpuid") if isinstance(value, dict) and not value.get("msr") else value
    if not isinstance(leaves, list) or not leaves:
        return None
    said = []
    for leaf in leaves:
        known = {"leaf", "subleaf", "eax", "ebx", "ecx", "edx"}
        if not isinstance(leaf, dict) or not {"leaf"} <= leaf.keys() <= known:
            return None
        registers = ",".join(f"{name}={leaf[name]}" for name in ("eax", "ebx", "ecx", "edx") if name in leaf)
        place = f"{leaf['leaf']}" + (f",{leaf['subleaf']}" if "subleaf" in leaf else "")
        said.append(f"{place}:{registers}")
    return tuple(said)


def _action(value: Any) -> XlValue | None:
    return None if not isinstance(value, str) or value == "soft_reset" else value.replace("_", "-")


def _capabilities(value: Any) -> XlValue | None:
    return ("lmce",) if value == 1 else None


def _nodes(value: Any) -> XlValue | None:
    """Spell the nodes of a vnuma: each a list of its own."""
    if not isinstance(value, list) or not value or not all(isinstance(node, dict) for node in value):
        return None
    said: list[Any] = []
    for node in value:
        lists = [node.get("vcpus", []), node.get("distances", [])]
        whole = isinstance(node.get("memkb"), int) and all(isinstance(one, list) for one in lists)
        if not whole or not node.keys() <= {"pnode", "memkb", "vcpus", "distances"}:
            return None
        parts = [f"pnode={node.get('pnode', 0)}", f"size={node['memkb'] // 1024}"]
        parts += [f"vcpus={_range(node['vcpus'])}"] if node.get("vcpus") else []
        parts += [f"vdistances={','.join(map(str, node['distances']))}"] if node.get("distances") else []
        said.append(tuple(parts))
    return tuple(said)


def _range(cpus: list[int]) -> str:
    return ",".join(map(str, cpus))


def _cpus(value: Any) -> str | tuple[str, ...] | None:
    """Spell the cpus that vcpus are bound to: once if all are bound alike."""
    if not isinstance(value, list) or not value or not all(isinstance(item, list) and item for item in value):
        return None
    each = tuple(_range(item) for item in value)
    return each[0] if len(set(each)) == 1 else each


_PVH, _HVM = "b_info/type.pvh", "b_info/type.hvm"
_SAME: tuple[tuple[str, _How, str], ...] = (
    ("c_info", _flag, "hap oos driver_domain xend_suspend_evtchn_compat"),
    ("c_info", _text, "passthrough"),
    ("b_info", _flag, "localtime acpi apic dm_restrict vpmu"),
    ("b_info", _text, "tsc_mode timer_mode device_tree device_model_user stubdomain_kernel stubdomain_cmdline"),
    ("b_info", _text, "stubdomain_ramdisk tee altp2m"),
    ("b_info", _number, "max_grant_frames max_maptrack_frames max_grant_version rtc_timeoffset vmtrace_buf_kb"),
    ("b_info", _list, "irqs"),
    ("b_info/sched_params", _number, "period slice latency extratime"),
    ("b_info/type.pv", _flag, "e820_host"),
    (_PVH, _flag, "pvshim"),
    (_PVH, _text, "pvshim_path pvshim_cmdline pvshim_extra timer_mode"),
    (
        _HVM,
        _flag,
        "pae apic acpi acpi_s3 acpi_s4 acpi_laptop_slate nx hpet vpt_align viridian nographic usb vkb_device",
    ),
    (_HVM, _flag, "xen_platform_pci"),
    (
        _HVM,
        _text,
        "bios smbios_firmware acpi_firmware hdtype keymap boot usbdevice soundhw vendor_device timer_mode serial",
    ),
    (_HVM, _number, "usbversion"),
    ("b_info/arch_arm", _text, "gic_version vuart"),
)
"""Where the key has the name that xl lists it under."""

_SIMPLE: tuple[tuple[str, str, _How], ...] = (
    *((f"{part}/{name}", name, how) for part, how, names in _SAME for name in names.split()),
    ("b_info/exec_ssid_label", "seclabel", _text),
    ("b_info/event_channels", "max_event_channels", _number),
    ("b_info/disable_migrate", "nomigrate", _flag),
    ("b_info/nested_hvm", "nestedhvm", _flag),
    (f"{_HVM}/nested_hvm", "nestedhvm", _flag),
    (f"{_HVM}/altp2m", "altp2mhvm", _flag),
    ("b_info/video_memkb", "videoram", _mib),
    ("b_info/shadow_memkb", "shadow_memory", _mib),
    ("b_info/stubdomain_memkb", "stubdomain_memory", _mib),
    ("b_info/device_model", "device_model_override", _text),
    ("b_info/device_model_version", "device_model_version", _hyphens),
    ("b_info/device_model_stubdomain", "device_model_stubdomain_override", _flag),
    ("b_info/device_model_ssid_label", "device_model_stubdomain_seclabel", _text),
    ("b_info/extra", "device_model_args", _list),
    ("b_info/extra_pv", "device_model_args_pv", _list),
    ("b_info/extra_hvm", "device_model_args_hvm", _list),
    ("b_info/cpuid", "cpuid", _cpuid),
    ("b_info/ioports", "ioports", _hexadecimal(_port, "first", "number")),
    ("b_info/iomem", "iomem", _hexadecimal(_memory, "start", "number", "gfn")),
    ("b_info/vnuma_nodes", "vnuma", _nodes),
    (f"{_HVM}/firmware", "firmware_override", _text),
    (f"{_HVM}/system_firmware", "bios_path_override", _text),
    (f"{_HVM}/mmio_hole_memkb", "mmio_hole", _mib),
    (f"{_HVM}/rdm_mem_boundary_memkb", "rdm_mem_boundary", _mib),
    (f"{_HVM}/mca_caps", "mca_caps", _capabilities),
    (f"{_HVM}/ms_vm_genid", "ms_vm_genid", lambda value: "generate" if value else None),  # another at each start
    (f"{_HVM}/vga/kind", "vga", _word(std="stdvga")),
    (f"{_HVM}/gfx_passthru_kind", "gfx_passthru", _text),
    (f"{_HVM}/gfx_passthru", "gfx_passthru", _flag),
    (f"{_HVM}/serial_list", "serial", _list),
    (f"{_HVM}/usbdevice_list", "usbdevice", _list),
    *((f"{_HVM}/vnc/{name}", key, how) for name, key, how in (
        ("enable", "vnc", _flag), ("listen", "vnclisten", _text), ("passwd", "vncpasswd", _text),
        ("display", "vncdisplay", _number), ("findunused", "vncunused", _flag),
    )),
    *((f"{_HVM}/sdl/{name}", key, how) for name, key, how in (
        ("enable", "sdl", _flag), ("opengl", "opengl", _flag), ("display", "display", _text),
        ("xauthority", "xauthority", _text),
    )),
    *((f"{_HVM}/spice/{name}", key, how) for name, key, how in (
        ("enable", "spice", _flag), ("port", "spiceport", _number), ("tls_port", "spicetls_port", _number),
        ("host", "spicehost", _text), ("disable_ticketing", "spicedisable_ticketing", _flag),
        ("passwd", "spicepasswd", _text), ("agent_mouse", "spiceagent_mouse", _flag),
        ("vdagent", "spicevdagent", _flag), ("clipboard_sharing", "spice_clipboard_sharing", _flag),
        ("usbredirection", "spiceusbredirection", _number), ("image_compression", "spice_image_compression", _text),
        ("streaming_video", "spice_streaming_video", _text),
    )),
    ("b_info/arch_x86/msr_relaxed", "msr_relaxed", lambda value: 1 if value == "True" else None),
    ("on_soft_reset", "on_soft_reset", _action),
)  # fmt: skip

_COVERED = (
    *("/".join(key.listed) for key in DOMAIN_KEYS if len(key.listed) > 1 or key.name.startswith("on_")),
    "domid",
    "c_info/name",
    "c_info/uuid",
    "c_info/domid",
    "c_info/type",
    "c_info/run_hotplug_scripts",
    *(f"b_info/{name}" for name in ("max_vcpus", "avail_vcpus", "max_memkb", "target_memkb", "claim_mode")),
    *(f"b_info/type.{kind}/{name}" for kind in ("pv", "pvh") for name in ("kernel", "ramdisk", "cmdline")),
    *(f"b_info/type.{kind}/{name}" for kind in ("pv", "pvh") for name in ("bootloader", "bootloader_args")),
    *("b_info/sched_params/sched", "b_info/numa_placement", "b_info/arch_x86/msr_relaxed"),
    *("b_info/video_memkb", "b_info/gfx_passthru", f"{_HVM}/gfx_passthru", "on_soft_reset"),
    *(f"b_info/{name}" for name in ("iommu_memkb", "shadow_memkb", "blkdev_start", "type")),
)
"""What other code reads, and what libxl works out by itself at each start."""


def _read_enlightenments(rest: _Json, found: dict[str, XlValue]) -> None:
    """Spell what of viridian is switched on and off one by one."""
    words: list[str] = ["defaults"] if found.get("viridian") == 1 else []
    for name, sign in (("viridian_disable", "!"), ("viridian_enable", "")):
        bits = _look(rest, f"{_HVM}/{name}")
        if not isinstance(bits, list) or not all(isinstance(bit, int) for bit in bits):
            continue
        known = [VIRIDIAN[bit] for bit in bits if bit < len(VIRIDIAN)]
        if len(known) == len(bits) or (not sign and len(known) == len(VIRIDIAN)):
            words += [f"{sign}{word}" for word in known] if len(known) == len(bits) else ["all"]
            _take(rest, f"{_HVM}/{name}")
    if words not in ([], ["defaults"]):
        found["viridian"] = tuple(words)


def _options(names: Mapping[str, str], *first: str) -> Callable[[_Json], str | None]:
    """Make the spelling of a device as `key=value,key=value`; None for one that has what no option is known for."""

    def spell(item: _Json) -> str | None:
        flat: dict[str, Any] = {}
        for name, value in item.items():
            inner = value.items() if isinstance(value, dict) else ()
            flat |= {f"{name}/{one}": told for one, told in inner} if isinstance(value, dict) else {name: value}
        said = list(first)
        for name, value in flat.items():
            if name in ("devid", "backend_domid") or value in ("", None):
                continue
            option = names.get(name)
            spelled = {"True": 1, "False": 0, True: 1}.get(value, value) if isinstance(value, str | bool) else value
            if option is None or not isinstance(spelled, str | int) or "," in str(spelled):
                return None
            said.append(f"{option}={spelled}")
        return ",".join(said)

    return spell


def _channel(item: _Json) -> str | None:
    kinds = [name.removeprefix("connection.") for name in item if name.startswith("connection.")]
    if len(kinds) != 1:
        return None
    names = {"name": "name", "backend_domname": "backend", "connection.socket/path": "path"}
    return _options(names, f"connection={kinds[0]}")(item)


def _usb_device(item: _Json) -> str | None:
    names = {
        "type.hostdev/hostbus": "hostbus",
        "type.hostdev/hostaddr": "hostaddr",
        "ctrl": "controller",
        "port": "port",
    }
    return _options(names, "type=hostdev")(item) if "type.hostdev" in item else None


def _display(item: _Json) -> str | None:
    connectors = item.get("connectors")
    if not isinstance(connectors, list):
        return None
    if not all(isinstance(one, dict) for one in connectors):
        return None
    each = [f"{one.get('unique_id')}:{one.get('width', 0)}x{one.get('height', 0)}" for one in connectors]
    rest = {name: value for name, value in item.items() if name != "connectors"}
    options = _options({"backend_domname": "backend", "be_alloc": "be-alloc"})(rest)
    return None if options is None else ",".join(filter(None, [options, f"connectors={';'.join(each)}"]))


_OF_KEYBOARDS = (
    "unique_id feature_disable_keyboard feature_disable_pointer feature_abs_pointer feature_raw_pointer"
    " feature_multi_touch multi_touch_width multi_touch_height multi_touch_num_contacts width height backend_type"
)
_SCREEN = {
    **{
        f"vnc/{name}": f"vnc{option}" for name, option in {"enable": "", "listen": "listen", "passwd": "passwd"}.items()
    },
    **{"vnc/display": "vncdisplay", "vnc/findunused": "vncunused", "sdl/enable": "sdl", "sdl/opengl": "opengl"},
    **{"sdl/display": "display", "sdl/xauthority": "xauthority", "keymap": "keymap"},
}
_BACKEND = {"backend_domname": "backend"}
_DEVICES: Mapping[str, tuple[str, Callable[[_Json], str | None]]] = {
    "vfbs": ("vfb", _options(_SCREEN)),
    "vkbs": ("vkb", _options(_BACKEND | {name: name.replace("_", "-") for name in _OF_KEYBOARDS.split()})),
    "channels": ("channel", _channel),
    "usbctrls": ("usbctrl", _options({"type": "type", "version": "version", "ports": "ports"})),
    "usbdevs": ("usbdev", _usb_device),
    "p9s": ("p9", _options(_BACKEND | {name: name for name in ("tag", "path", "security_model")})),
    "vtpms": ("vtpm", _options(_BACKEND | {"uuid": "uuid"})),
    "pvcallsifs": ("pvcalls", _options(_BACKEND)),
    "vdispls": ("vdispl", _display),
    "dtdevs": ("dtdev", lambda item: path if isinstance(path := item.get("path"), str) and len(item) == 1 else None),
}


def _read_devices(rest: _Json, found: dict[str, XlValue]) -> None:
    """Spell the lists of devices that are understood whole, and take them out of the rest."""
    screens, keyboards = (rest.get(name) or [] for name in ("vfbs", "vkbs"))
    if not isinstance(screens, list) or not isinstance(keyboards, list):
        screens, keyboards = [], []
    plain = [one for one in keyboards if isinstance(one, dict) and one.keys() <= {"devid", "backend_domid"}]
    if plain and len(plain) >= len(screens):  # each screen brings a keyboard of its own
        rest["vkbs"] = [one for one in keyboards if one not in plain]
    for name, (key, spell) in _DEVICES.items():
        items = rest.get(name)
        if isinstance(items, list) and all(isinstance(item, dict) for item in items):
            said = [spell(item) for item in items]
            spelled = tuple(one for one in said if one is not None)
            if len(spelled) == len(items):
                del rest[name]
                found |= {key: spelled} if spelled else {}


_INSIDE = {
    "disks": {"pdev_path", "vdev", "format", "readwrite", "removable", "is_cdrom", "backend_domid"}
    | {key.listed[0] for key in DISK_KEYS if key.listed},
    "nics": {"devid", "mac", "nictype", "rate_bytes_per_interval", "rate_interval_usecs", "backend_domid"}
    | {key.listed[0] for key in VIF_KEYS if key.listed},
    "pcidevs": {"domain", "bus", "dev", "func", "vdevfn", "vfunc_mask", "name", "rdm_policy"}
    | {"msitranslate", "power_mgmt", "permissive", "seize"},
}
"""What `running` reads of devices that have tables of their own."""


def _untold(rest: _Json) -> Iterator[str]:
    for name, known in _INSIDE.items():
        items = rest.pop(name, None)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue
            others = {key: value for key, value in item.items() if key not in known and not key.startswith("colo")}
            yield from _leaves(f"{name}[{index}]", others)
    for name, value in rest.items():
        leaves = list(_leaves(name, value))
        if not leaves and isinstance(value, list) and value:
            leaves = [f"`xl list -l` shows {name} without a word of how they were asked for."]
        yield from leaves


def _leaves(path: str, value: Any) -> Iterator[str]:
    """Name each value that says something. (What is empty does not, nor what is not so by default.)"""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}", inner)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    elif value not in ("", None, [], False, 0):
        yield f"`xl list -l` shows {path} = {str(value)[:60]}, which no key of xl.cfg is known for."
