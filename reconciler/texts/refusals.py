"""Says what xl would refuse or leave out of the keys that a spec passes on unread, by the rules of tools/xl/xl_parse.c.

Called by import for config files of others, so that what would not start is told with its place, and not met at the
first start. The rules are those of Xen 4.17, with the words that later releases added: a value that any of them takes
is not refused here. What depends on the host (its NUMA nodes, say) is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from reconciler.expressions import expression
from reconciler.specs.schema_errors import near_miss
from reconciler.texts.cfg_grammar import Value, number_of
from reconciler.texts.cfg_reader import Remark
from reconciler.texts.listed_keys import VIRIDIAN

Type = Literal["pv", "pvh", "hvm"]
_Values = Mapping[str, Value]

_INT_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1
_MMIO_HOLE = range(256, 3840 + 1)  # MiB, from HVM_BELOW_4G_MMIO_LENGTH to HVM_BELOW_4G_MMIO_START

_ACTIONS = "destroy restart rename-restart preserve coredump-destroy coredump-restart soft-reset"
_WORDS = {
    "on_soft_reset": _ACTIONS,
    "passthrough": "default disabled enabled sync_pt share_pt",
    "tsc_mode": "default always_emulate native native_paravirt",
    "altp2m": "disabled mixed external limited",
    "device_model_version": "qemu-xen qemu-xen-traditional",
    "gic_version": "default v2 v3",
    "tee": "none optee ffa",
    "vuart": "unknown sbsa_uart",
}
_WORDS_OF_HVM = {
    "bios": "rombios seabios ovmf unknown",
    "gfx_passthru": "default igd",
    "hdtype": "ide ahci",
    "ms_vm_genid": "generate none",
    "vendor_device": "none xenserver",
    "vga": "stdvga cirrus none qxl",
}
_TIMER_MODES = "delay_for_missed_ticks no_delay_for_missed_ticks no_missed_ticks_pending one_missed_tick_pending"
_NUMBERED = {"tsc_mode": 3, "altp2m": 3, "timer_mode": 3, "gfx_passthru": _UINT32_MAX}
"""Keys whose words may be given by number, with the highest."""

_CASE_COUNTS = frozenset({"on_soft_reset", "device_model_version", "ms_vm_genid", "vga"})
_NUMBERS = """
    acpi acpi_laptop_slate acpi_s3 acpi_s4 altp2mhvm apic device_model_stubdomain_override dm_restrict driver_domain
    e820_host extratime hap hpet latency localtime max_event_channels msr_relaxed nestedhvm nographic nomigrate nx oos
    opengl pae pci_msitranslate pci_permissive pci_power_mgmt pci_seize period pvshim rdm_mem_boundary rtc_timeoffset
    sdl shadow_memory slice spice spice_clipboard_sharing spiceagent_mouse spicedisable_ticketing spiceport
    spicetls_port spiceusbredirection spicevdagent stdvga stubdomain_memory usb usbversion videoram vkb_device
    vmtrace_buf_kb vnc vncdisplay vncunused vpmu vpt_align xen_platform_pci xend_suspend_evtchn_compat"""
_LISTS = "channel dtdev iomem ioports irqs p9 pvcalls usbctrl usbdev vdispl vfb virtio vkb vsnd vtpm"
_YES_AND_NO = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}


def left_out(values: _Values) -> Iterator[Remark]:
    """List what xl leaves out of these keys since it is of the wrong kind; xl only warns of it."""
    for key in sorted(values.keys() & _NUMBERS.split()):
        value = values[key]
        if isinstance(value, tuple) or number_of(value) is None:
            word = "a list" if isinstance(value, tuple) else f'"{value[:40]}"'
            meant = None if isinstance(value, tuple) else _YES_AND_NO.get(value.strip().lower())
            hint = None if meant is None else f"Write {key} = {meant}."
            yield Remark((key,), f"{key} is {word}, no number, so xl leaves it out.", hint)
    for key in sorted(values.keys() & _LISTS.split()):
        if isinstance(values[key], str):
            hint = f"Write {key} = [ ... ]."
            yield Remark((key,), f"{key} is one value where xl expects a list, so xl leaves it out.", hint)


def refusals(values: _Values, kind: Type) -> Iterator[Remark]:
    """List what xl refuses of these keys in a domain of this type."""
    of_type = {} if kind == "pv" else {"timer_mode": _TIMER_MODES}
    yield from _words(values, _WORDS | of_type | (_WORDS_OF_HVM if kind == "hvm" else {}))
    if kind == "hvm":
        yield from _of_hvm(values)
    elif "firmware" in values:
        yield from _firmware(values)
    elif not any(isinstance(values.get(key), str) for key in ("kernel", "bootloader")):
        detail = f"A {kind} domain needs a kernel, a bootloader or a firmware."
        yield Remark(("kernel",), detail, 'Add kernel = "PATH", or bootloader = "pygrub" where the guest has its own.')
    if kind == "pv" and isinstance(values.get("timer_mode"), str):
        yield Remark(("timer_mode",), "timer_mode is refused by xl for a pv domain.", "Take it out.")
    yield from _affinities(values)
    for key in ("max_grant_frames", "max_maptrack_frames", "max_grant_version"):
        value = values.get(key)
        number = number_of(value) if isinstance(value, str) else None
        if value is not None and not (number is not None and 0 <= number <= _INT_MAX):
            yield Remark((key,), f"{key} must be a number from 0 to {_INT_MAX}.")
    for key in ("device_model_args", "device_model_args_pv", "device_model_args_hvm"):
        if isinstance(values.get(key), str):
            yield Remark((key,), f"{key} must be a list of strings.", f"Write {key} = [ ... ].")
    if isinstance(arguments := values.get("bootloader_args"), str) and not arguments.strip():
        yield Remark(("bootloader_args",), "bootloader_args is empty.", "Leave it out.")
    for key, check in _OF_ITEMS.items():
        items = values.get(key, ())
        for index, item in enumerate(items if isinstance(items, tuple) else ()):
            if isinstance(item, tuple):
                if key not in _STOPS_AT_A_LIST:
                    yield Remark((key, index), f"{key} has a list where xl expects a string.")
                break
            if (wrong := check(item)) is not None:
                yield Remark((key, index), f'{key} has "{item[:60]}", {wrong}.')


def _words(values: _Values, choices: Mapping[str, str]) -> Iterator[Remark]:
    for key, known in choices.items():
        value = values.get(key)
        if not isinstance(value, str):
            continue
        number = number_of(value) if key in _NUMBERED else None
        words = known.split()
        spelled = value if key in _CASE_COUNTS else value.lower()
        if spelled not in words if number is None else not 0 <= number <= _NUMBERED[key]:
            hint = near_miss(value.lower(), words)
            yield Remark((key,), f'{key} is "{value[:40]}"; xl knows {", ".join(words)}.', hint)


def _of_hvm(values: _Values) -> Iterator[Remark]:
    hole = values.get("mmio_hole")
    number = number_of(hole) if isinstance(hole, str) else None
    if number is not None and number not in _MMIO_HOLE:
        yield Remark(("mmio_hole",), f"mmio_hole must be from {_MMIO_HOLE[0]} to {_MMIO_HOLE[-1]} MiB.")
    yield from _items(values, "viridian", ["all", "defaults", *VIRIDIAN])
    yield from _items(values, "mca_caps", ["lmce"])
    if isinstance(values.get("mca_caps"), str):
        yield Remark(("mca_caps",), "mca_caps must be a list.", 'Write mca_caps = [ "lmce" ].')
    listen, display = values.get("vnclisten"), values.get("vncdisplay")
    if isinstance(listen, str) and ":" in listen and isinstance(display, str) and number_of(display):
        detail = "vnclisten names a display, and so does vncdisplay."
        yield Remark(("vncdisplay",), detail, "Leave out one of the two.")


def _items(values: _Values, key: str, known: list[str]) -> Iterator[Remark]:
    items = values.get(key, ())
    for index, item in enumerate(items if isinstance(items, tuple) else ()):
        if not isinstance(item, str) or item.removeprefix("!").lower() not in known:
            word = item if isinstance(item, str) else "a list"
            detail = f'{key} has "{word[:40]}"; xl knows {", ".join(known)}.'
            yield Remark((key, index), detail, near_miss(word, known))


def _firmware(values: _Values) -> Iterator[Remark]:
    firmware = values["firmware"]
    if isinstance(firmware, str) and not any(known.startswith(firmware) for known in ("pvgrub32", "pvgrub64")):
        hint = 'Of a pv or pvh domain, firmware is "pvgrub32" or "pvgrub64".'
        yield Remark(("firmware",), f'firmware is "{firmware[:40]}", which only hvm domains can have.', hint)
    if isinstance(firmware, str) and isinstance(values.get("kernel"), str):
        yield Remark(("firmware",), "kernel and firmware cannot be given together.", "Leave out one of the two.")


_CPU_RANGE = expression(r"(?P<not>\^?)(?:nodes?:)?(?:(?P<all>all)|\s*(?P<first>[0-9]+)(?:-\s*(?P<last>[0-9]+))?)")


def _affinities(values: _Values) -> Iterator[Remark]:
    numbers = (number_of(value) for key in ("maxvcpus", "vcpus") if isinstance(value := values.get(key), str))
    vcpus = max((number for number in numbers if number is not None), default=0)
    for key in ("cpus", "cpus_soft"):
        value = values.get(key)
        items: Iterable[tuple[int | None, Value]] = (
            ((None, value),) if isinstance(value, str) else enumerate((value or ())[:vcpus])
        )
        for index, item in items:
            parts = [] if isinstance(item, tuple) else list(filter(None, item.split(",")))
            wrong = [part for part in parts if not _is_cpus(part)]
            if key == "cpus" and isinstance(item, str) and all(part.startswith("^") for part in parts):
                wrong = wrong or [item]
            if wrong:
                loc = (key,) if index is None else (key, index)
                detail = f'{key} has "{wrong[0][:40]}", which names no cpus.'
                yield Remark(loc, detail, 'Write cpus as in "0-3,^1", "all" or "nodes:0".')


def _is_cpus(text: str) -> bool:
    match = _CPU_RANGE.fullmatch(text)
    if match is None or (match["not"] and match["all"]):
        return False
    return match["last"] is None or int(match["first"]) <= int(match["last"])


def _ioport(text: str) -> str | None:
    match = re.match(r"\s*(?:0[xX])?([0-9a-fA-F]{1,16})(-(?:\s*(?:0[xX])?[0-9a-fA-F]{1,16}$)?)?", text)
    if match is None or match[2] == "-":
        return "which is no port or range of ports in hexadecimal, such as 2f8-2ff"
    return None if int(match[1], 16) < _UINT32_MAX else "which is too large for a port"


def _irq(text: str) -> str | None:
    match = re.fullmatch(r"\s*\+?([0-9]+)", text)
    return None if match is not None and int(match[1][:20]) < _UINT32_MAX else "which is no number of an interrupt"


def _iomem(text: str) -> str | None:
    number = r"\s*(?:0[xX])?[0-9a-fA-F]+"
    if re.fullmatch(rf"{number},{number}(?:@{number})?", text):
        return None
    return "which is not START,COUNT or START,COUNT@GFN, all hexadecimal"


def _option_list(*known: str, needs: tuple[str, ...] = (), ends: bool = False) -> Callable[[str], str | None]:
    """Make the check of a device that xl.cfg writes as `key=value,key=value`.

    With `ends`, xl reads on only to the first part without `=`.
    """

    def check(text: str) -> str | None:
        found = set()
        for part in filter(None, text.split(",")):
            key, equals, _ = part.lstrip(" ").partition("=")
            if not equals and ends:
                break
            if not equals or key not in known:
                return f'in which xl does not know "{key[:40]}"'
            found.add(key)
        missing = [key for key in needs if key not in found]
        return f"which lacks {' and '.join(missing)}" if missing else None

    return check


def _channel(text: str) -> str | None:
    pairs = [part.partition("=") for part in filter(None, text.split(","))]
    if not all(key and value for key, _, value in pairs):
        return "which is not made of KEY=VALUE"
    options = {key.strip(): value.strip() for key, _, value in pairs}
    match options.get("connection"):
        case "pty":
            return None
        case "socket":
            return None if "path" in options else "which lacks the path of its socket"
        case None:
            return "which lacks connection=pty or connection=socket"
        case _:
            return "whose connection is neither pty nor socket"


def _usb_device(text: str) -> str | None:
    wrong = re.search(r"(?:^|,) *type=(?!(?i:hostdev)(?:,|$))", text)
    known = _option_list("type", "hostbus", "hostaddr", "controller", "port")
    return "whose type xl does not know" if wrong else known(text)


def _usb_controller(text: str) -> str | None:
    wrong = re.search(r"(?:^|,) *type=(?!(?i:auto|pv|devicemodel|qusb)(?:,|$))", text)
    return "whose type xl does not know" if wrong else _option_list("type", "version", "ports")(text)


def _display(text: str) -> str | None:
    connectors = re.search(r"(?:^|,) *connectors=([^,]+)", text)
    if connectors is None:
        return "which lacks connectors"
    return _option_list("backend", "be-alloc", "connectors")(text)


_KEYBOARD = (
    "backend backend-type unique-id width height feature-disable-keyboard feature-disable-pointer feature-abs-pointer"
    " feature-raw-pointer feature-multi-touch multi-touch-width multi-touch-height multi-touch-num-contacts"
)
_OF_ITEMS: Mapping[str, Callable[[str], str | None]] = {
    "ioports": _ioport,
    "irqs": _irq,
    "iomem": _iomem,
    "channel": _channel,
    "usbdev": _usb_device,
    "usbctrl": _usb_controller,
    "vdispl": _display,
    "vkb": _option_list(*_KEYBOARD.split(), needs=("backend-type",)),
    "p9": _option_list(
        *("backend", "path", "security_model", "tag"),
        *("type", "max-space", "max-files", "max-open-files", "auto-delete"),
        needs=("path", "security_model", "tag"),
        ends=True,
    ),
    "vtpm": _option_list("backend", "uuid", needs=("backend",), ends=True),
    "pvcalls": _option_list("backend", ends=True),
}
_STOPS_AT_A_LIST = frozenset(_OF_ITEMS) - {"ioports", "irqs", "iomem"}
