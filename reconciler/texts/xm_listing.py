"""Reads `xm list --long` into what `xl list -v` and `xl list -l` say of the same domains.

So all that reads domains of xl hosts reads those of xm hosts, too. Written after XendConfig.py, netif.py and blkif.py
of Xen 4.1 and 4.2. xend tells a domain's memory as it was asked for; how much of it the guest has, it does not tell. An
interface has no number there: it is known by its mac. How xend writes an expression is in its sxp.py and
PrettyPrint.py: an atom stands as it is, or in quotes as Python writes a string; a list stands in parentheses.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from reconciler.expressions import expression
from reconciler.model.pci import read_pci
from reconciler.texts.listing import Row, XlOutputError, power_of

Sxp = str | tuple["Sxp", ...]
"""An atom, or a list of atoms and lists."""

_TEXT_MAX = 16 * 1024 * 1024  # characters; a domain has a few thousand
_DEPTH_MAX = 50  # of lists in lists; xend's own have seven
_TOKEN = expression(
    r"""[ \t\r\n]*+(?:(?P<sign>[()])|(?P<quoted>'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")|(?P<atom>[^ \t\r\n()'"]++))"""
)
_BLANKS = expression(r"[ \t\r\n]*")
_MIB_KIB = 1024
_STATE = expression(r"[r-][b-][p-][s-][c-][d-]")
_UUID = expression(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DISKS = ("vbd", "tap", "tap2")
_FORMATS = ("qcow2", "qcow", "vhd")
_PREFIX = expression(r"(?:(?:tap2?|tapdisk|aio|sync|file|phy|raw|qcow2?|vhd):)+")
_QUIET = ["-q"]  # what `xm create` itself calls a bootloader with, unless it is told something else
_EMULATED = {"ioemu": "vif_ioemu"}
_EVENTS = ("on_poweroff", "on_reboot", "on_crash")
_KNOWN_DEVICES = ("vif", *_DISKS, "pci", "console", "vkbd")

_Fields = dict[str, Sxp]


def parse_xm_rows(text: str) -> tuple[Row, ...]:
    """Return a row for each domain that lives; xend lists those of `xm new` that do not, too.

    Raises XlOutputError where domains may be missing, as in a text that was cut short: Domain-0 is always there.
    """
    rows = tuple(_row(domid, domain) for domid, domain in _live(text))
    if not any(row.domid == 0 for row in rows):
        raise XlOutputError("`xm list --long` printed a list without Domain-0, so it is not all there is.")
    return rows


def parse_xm_configs(text: str) -> tuple[tuple[int, dict[str, Any]], ...]:
    """Return domid and configuration of each domain that lives, in the words of `xl list -l`."""
    return tuple((domid, _config(domain)) for domid, domain in _live(text))


def _live(text: str) -> Iterator[tuple[int, _Fields]]:
    for part, domain in _domains(text):
        number = domain.get("domid")
        if number is None:  # made by `xm new` and not started
            continue
        if not isinstance(number, str) or not number.isdecimal():
            raise XlOutputError(f"`xm list --long` printed a domain with the domid {number!r}.")
        yield int(number), domain | {"device": part}


def _domains(text: str) -> Iterator[tuple[Sxp, _Fields]]:
    """Yield of each domain all its devices, and its other values by name."""
    try:
        parts = parse_sxp(text)
    except SxpError as error:
        raise XlOutputError(f"`xm list --long` printed no S-expressions: {error}.") from error
    for part in parts:
        if not isinstance(part, tuple) or part[:1] != ("domain",):
            raise XlOutputError("`xm list --long` printed something that is no domain.")
        devices = tuple(
            entry[1] for entry in part if isinstance(entry, tuple) and entry[:1] == ("device",) and entry[1:]
        )
        yield devices, _fields(part)


def _fields(part: Sxp) -> _Fields:
    """Return the values of `(name value)` by name; "" for one without a value."""
    entries = [entry for entry in part if isinstance(entry, tuple) and entry and isinstance(entry[0], str)]
    return {str(entry[0]): entry[1] if len(entry) > 1 else "" for entry in entries}


def _row(domid: int, domain: _Fields) -> Row:
    name, state, uuid = _text(domain, "name"), _text(domain, "state"), _text(domain, "uuid").lower()
    if not _STATE.fullmatch(state) or not _UUID.fullmatch(uuid):
        raise XlOutputError(f"`xm list --long` does not tell state and uuid of the domain {name or domid}.")
    return Row(
        name=name or None,
        domid=domid,
        memory_kib=_needed(domain, "memory") * _MIB_KIB,
        vcpus=_number(domain, "online_vcpus") or _needed(domain, "vcpus"),
        power=power_of(state),
        uuid=uuid,
        has_run=_text(domain, "cpu_time").strip("0.") != "",
    )


def _config(domain: _Fields) -> dict[str, Any]:
    kind, image = _image(domain)
    vcpus, memory = _needed(domain, "vcpus"), _needed(domain, "memory")
    built: dict[str, Any] = {
        "max_vcpus": vcpus,
        "avail_vcpus": _available(domain, vcpus),
        "max_memkb": (_number(domain, "maxmem") or memory) * _MIB_KIB,
        "target_memkb": memory * _MIB_KIB,
        "sched_params": {"weight": _number(domain, "cpu_weight"), "cap": _number(domain, "cpu_cap")},
        "kernel": _text(image, "kernel"),
        "ramdisk": _text(image, "ramdisk"),
        "cmdline": _text(image, "args"),
        "bootloader": _text(domain, "bootloader"),
        "bootloader_args": _bootloader_args(domain),
    }
    created = {"type": kind, "name": _text(domain, "name"), "uuid": _text(domain, "uuid").lower()}
    if pool := _text(domain, "pool_name"):
        created["pool_name"] = pool
    devices = [(str(part[0]), part) for part in domain["device"] if isinstance(part, tuple) and part]
    others = sorted({name for name, _ in devices if name not in _KNOWN_DEVICES})
    return {
        "c_info": created,
        "b_info": {key: value for key, value in built.items() if value not in ("", [], None)},
        "disks": [_disk(_fields(part)) for name, part in devices if name in _DISKS],
        "nics": [_nic(_fields(part)) for name, part in devices if name == "vif"],
        "pcidevs": [device for name, part in devices if name == "pci" for device in _pci(part)],
        **{name: [_text(_fields(part), "uuid") for found, part in devices if found == name] for name in others},
        **{key: _text(domain, key).replace("-", "_") for key in _EVENTS if _text(domain, key)},
    }


def _image(domain: _Fields) -> tuple[str, _Fields]:
    image = domain.get("image")
    if not isinstance(image, tuple) or not image:
        return "pv", {}
    if image[0] != "hvm":
        return "pv", _fields(image)
    fields = _fields(image)  # its loader was called its kernel once, and is the same for all
    return "hvm", {key: value for key, value in fields.items() if key != "kernel" or "hvmloader" not in value}


def _bootloader_args(domain: _Fields) -> list[str]:
    args = _text(domain, "bootloader_args").split()
    return [] if args == _QUIET else args


def _available(domain: _Fields, vcpus: int) -> list[int]:
    """List the vcpus that the guest may use. 4.0 tells them only where they are not all."""
    mask = _number(domain, "vcpu_avail")
    return [cpu for cpu in range(vcpus) if mask is None or mask >> cpu & 1]


def _disk(device: _Fields) -> dict[str, Any]:
    name = _text(device, "uname")
    vdev, _, kind = _text(device, "dev").removeprefix("ioemu:").partition(":")
    prefix = _PREFIX.match(name)
    drivers = prefix[0].split(":") if prefix is not None else []
    return {
        "pdev_path": name[prefix.end() :] if prefix is not None else name,
        "vdev": vdev,
        "format": next((word for word in _FORMATS if word in drivers), "raw") if name else "empty",
        "readwrite": int(_text(device, "mode") != "r"),
        **({"removable": 1, "is_cdrom": 1} if kind == "cdrom" else {}),
    }


def _nic(device: _Fields) -> dict[str, Any]:
    nic: dict[str, Any] = {"nictype": _EMULATED.get(_text(device, "type"), "vif")}
    for key, listed in (("mac", "mac"), ("bridge", "bridge"), ("ip", "ip"), ("script", "script"), ("model", "model")):
        if text := _text(device, key):
            nic[listed] = text
    if name := _text(device, "vifname"):
        nic["ifname"] = name
    amount, _, interval = _text(device, "rate").partition(",")
    if amount.isdecimal() and interval.isdecimal():  # as xend keeps it: bytes, and microseconds
        nic |= {"rate_bytes_per_interval": int(amount), "rate_interval_usecs": int(interval)}
    return nic


def _pci(part: tuple[Sxp, ...]) -> Iterator[dict[str, int]]:
    for entry in part:
        if isinstance(entry, tuple) and entry[:1] == ("dev",):
            found = _fields(entry)
            numbers = {key: _text(found, key).removeprefix("0x") for key in ("domain", "bus", "slot", "func")}
            with suppress(ValueError):  # what is no address
                parts = re.split("[:.]", read_pci("{domain}:{bus}:{slot}.{func}".format(**numbers)).bdf)
                yield dict(zip(("domain", "bus", "dev", "func"), (int(part, 16) for part in parts), strict=True))


def _text(fields: _Fields, key: str) -> str:
    value = fields.get(key, "")
    return value if isinstance(value, str) else ""


def _number(fields: _Fields, key: str) -> int | None:
    text = _text(fields, key)
    return int(text) if text.isdecimal() and len(text) <= 20 else None


def _needed(fields: _Fields, key: str) -> int:
    number = _number(fields, key)
    if number is None:
        raise XlOutputError(f"`xm list --long` does not tell {key} of the domain {_text(fields, 'name')}.")
    return number


class SxpError(ValueError):
    """Reports a text that is no whole S-expression. The message is a clause with the place."""


def parse_sxp(text: str) -> tuple[Sxp, ...]:
    """Parse all expressions of a text. Raises SxpError, also where the text was cut short.

    >>> parse_sxp("(domain (name web) (args 'root=/dev/xvda ro') (cpus (())) (bootloader ))")
    (('domain', ('name', 'web'), ('args', 'root=/dev/xvda ro'), ('cpus', ((),)), ('bootloader',)),)
    """
    if len(text) > _TEXT_MAX:
        raise SxpError(f"it is longer than {_TEXT_MAX} characters")
    open_lists: list[list[Sxp]] = [[]]
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        if match["sign"] == "(":
            open_lists.append([])
            if len(open_lists) > _DEPTH_MAX:
                raise SxpError(f"more than {_DEPTH_MAX} parentheses are open at character {at}")
        elif match["sign"] == ")":
            closed = tuple(open_lists.pop())
            if not open_lists:
                raise SxpError(f"a parenthesis is closed at character {at} that was never opened")
            open_lists[-1].append(closed)
        else:
            open_lists[-1].append(match["atom"] or _unquoted(match["quoted"], at))
    if blanks := _BLANKS.match(text, at):
        at = blanks.end()
    if at < len(text):
        raise SxpError(f"{text[at]!r} has no place at character {at + 1}")
    if len(open_lists) > 1:
        raise SxpError("a parenthesis is never closed, so it was cut short")
    return tuple(open_lists[0])


def _unquoted(text: str, at: int) -> str:
    try:
        return str(ast.literal_eval(text.replace("\n", "\\n")))
    except (SyntaxError, ValueError):
        raise SxpError(f"a string that ends at character {at} has an escape that Python does not know") from None
