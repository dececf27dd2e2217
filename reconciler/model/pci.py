"""Reads and writes the PCI devices of a domain, as xl.cfg has them: an address or a name, and options behind it.

A device is one text everywhere: `0000:01:00.0`, `0000:01:00.*,permissive=1`, `name=nic0`. Specs may have a table
instead. The rules are those of xlu_pci_parse_spec_string (tools/libs/util/libxlu_pci.c); what later options say again
counts, as there.

>>> str(read_pci("1:0.0@3,permissive=1,seize=0"))
'0000:01:00.0@03,permissive=1,seize=0'
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.expressions import expression
from reconciler.records import dataclass

FLAGS = ("permissive", "msitranslate", "power_mgmt", "seize")
RDM_POLICIES = ("strict", "relaxed")
_ADDRESS = expression(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.(\*|[0-7](?![0-9a-fA-F]))")
_SLOT = expression(r"(?:0[xX])?0*([01]?[0-9a-fA-F])(?![0-9a-fA-F])")
_NUMBER = expression(r"[ \t]*([+-]?[0-9]+)")  # atoi: what does not begin with a number is 0
_SLOT_MAX = 0x1F


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """A device of the host by its address, with `*` for all functions, or by the name that xl gave it."""

    bdf: str = ""  # 0000:01:00.0
    name: str = ""  # exactly one of the two
    vslot: int | None = None  # the guest's slot
    flags: Mapping[str, bool] | None = None  # by name, those that are said
    rdm_policy: str | None = None

    @property
    def device(self) -> str:
        """Return the device alone, as host.toml allows it."""
        return self.bdf or f"name={self.name}"

    @property
    def is_one_function(self) -> bool:
        """Return whether it is named by the address of one function, so that nobody has to ask what it stands for."""
        return bool(self.bdf) and not self.bdf.endswith("*")

    @property
    def functions(self) -> tuple[str, ...]:
        """Return each function that it may be, or its name."""
        return tuple(f"{self.bdf[:-1]}{at}" for at in range(8)) if self.bdf.endswith("*") else (self.device,)

    def on(self, there: Mapping[str, str] | None) -> tuple[str, ...]:
        """Return what it stands for on a host that has these addresses, with the names that xl gave them.

        None: a host that does not tell which it has. What is not there stands for itself.

        >>> read_pci("01:00.*").on({"0000:01:00.0": "nic0", "0000:02:00.0": ""})
        ('0000:01:00.0',)
        >>> read_pci("name=nic0").on({"0000:01:00.0": "nic0"}), read_pci("name=nic1").on(None)
        (('0000:01:00.0',), ('name=nic1',))
        """
        if there is None:
            return self.functions
        if self.name:
            found = tuple(address for address, name in there.items() if name == self.name)
        else:
            found = tuple(address for address in self.functions if address in there)
        return found or self.functions

    def __str__(self) -> str:
        slot = "" if self.vslot is None else f"@{self.vslot:02x}" if self.bdf else f",vslot={self.vslot:02x}"
        flags = self.flags or {}
        options = [f"{name}={int(flags[name])}" for name in FLAGS if name in flags]
        options += [f"rdm_policy={self.rdm_policy}"] if self.rdm_policy is not None else []
        return ",".join([self.device + slot, *options])


def read_pci(text: str) -> PciDevice:
    """Read a device as xl.cfg has it. Raises ValueError with a sentence for what xl refuses."""
    device, rest = PciDevice(), text
    if match := _ADDRESS.match(text):
        device, rest = PciDevice(bdf=_address(text, match)), text[match.end() :]
        if rest.startswith("@"):
            slot = _SLOT.match(rest, 1)
            device = replace(device, vslot=_slot(text, slot))
            rest = rest[slot.end() :] if slot else ""
        if rest and not rest.startswith(","):
            raise _not_a_device(text)
        rest = rest[1:]
    while rest:
        key, equals, rest = rest.partition("=")
        if not equals:
            raise _not_a_device(text)
        value, _, rest = rest.partition(",")
        device = _with_option(device, key, value, text)
    if bool(device.bdf) == bool(device.name):
        raise _not_a_device(text)
    return device


def is_allowed(device: PciDevice, allowed: Sequence[str], there: Mapping[str, str] | None = None) -> bool:
    """Return whether a device may be given away by a host that has these: itself, or all that it stands for there."""
    return device.device in allowed or all(
        address in allowed or f"{address[:-1]}*" in allowed for address in device.on(there)
    )


def may_be_allowed(device: PciDevice, allowed: Sequence[str]) -> bool:
    """Return whether there could be a host on which it is allowed, by the functions that it has or whom it names.

    >>> may_be_allowed(read_pci("01:00.*"), ("0000:01:00.0",)), may_be_allowed(read_pci("01:00.1"), ("0000:01:00.0",))
    (True, False)
    """
    if device.name:
        return device.device in allowed or any(not entry.startswith("name=") for entry in allowed)
    return is_allowed(device, allowed) or any(function in allowed for function in device.functions)


def _with_option(device: PciDevice, key: str, value: str, text: str) -> PciDevice:
    match key:
        case "bdf" if match := _ADDRESS.match(value):
            return replace(device, bdf=_address(text, match))
        case "vslot":
            return replace(device, vslot=_slot(text, _SLOT.match(value)))
        case "rdm_policy" if value in RDM_POLICIES:
            return replace(device, rdm_policy=value)
        case "name" if value:
            return replace(device, name=value)
        case _ if key in FLAGS:
            number = _NUMBER.match(value)
            return replace(device, flags={**(device.flags or {}), key: number is not None and int(number[1]) != 0})
        case _:
            raise ValueError(f'The PCI device "{text[:60]}" has "{key[:30]}={value[:30]}", which xl does not know.')


def _address(text: str, match: re.Match[str]) -> str:
    domain, bus, slot = (int(number or "0", 16) for number in match.groups()[:3])
    if slot > _SLOT_MAX:
        raise _not_a_device(text)
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{match[4]}"


def _slot(text: str, match: re.Match[str] | None) -> int:
    if match is None:
        raise ValueError(f'The PCI device "{text[:60]}" has a slot that is not a number from 0 to 1f.')
    return int(match[1], 16)


def _not_a_device(text: str) -> ValueError:
    return ValueError(
        f'"{text[:60]}" names no PCI device: use an address such as 01:00.0 (01:00.* for all its functions), '
        "or name=NAME, with options such as permissive=1 behind it."
    )
