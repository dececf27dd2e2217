"""Knows the words that the config files of a toolstack have for a domain: those of xl, and those of xm (Xen 4.1).

Called by `config_file`, which writes and reads the files, and by `xl.dialect` for what xm is told of new devices. Of
xm's files only literal ones are read: those that are written here, and others without Python code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from reconciler.model.domain import Disk, Domain, Vif, XlValue
from reconciler.model.keys import VIF_KEYS
from reconciler.model.parts import in_cfg
from reconciler.records import dataclass
from reconciler.specs.resolve.xm import DISK_DRIVERS, XM_KEYS, XM_VIF_KEYS, check_xm
from reconciler.texts.cfg_grammar import Value as CfgValue
from reconciler.texts.cfg_reader import KNOWN_KEYS

Pair = tuple[str, XlValue]
"""A key and its value, as they stand in a file."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a toolstack, by what turns those of xl into them and back.

    `write` raises ValueError with a sentence for what the toolstack cannot say. It ignores keys that are not `known`.
    """

    tool: str
    known: frozenset[str] = field(compare=False)

    write: Callable[[Domain, Iterator[Pair]], Iterator[Pair]]
    read: Callable[[Mapping[str, CfgValue]], Mapping[str, CfgValue]]


_XM_WORDS = {"cmdline": "extra", "cap": "cpu_cap", "bootloader_args": "bootargs"}
_XL_WORDS = {"cpu_cap": "cap", "bootargs": "bootloader_args"}
_LEFT_OUT = ("type", "on_watchdog")  # the first is `builder` there, the second is what xm does anyway
_ACCESS = {"rw": "w", "ro": "r"}


def _in_xm_words(domain: Domain, pairs: Iterator[Pair]) -> Iterator[Pair]:
    """Turn the pairs of key and value of an xl.cfg into those of xm. Raises ValueError for what xm cannot say."""
    for complaint in check_xm(domain):
        raise ValueError(complaint.detail)
    for key, value in pairs:
        if key == "disk":
            yield key, tuple(xm_disk(disk) for disk in domain.disks)
        elif key == "vif":
            yield key, tuple(xm_vif(vif) for vif in domain.vifs)
        elif key == "bootloader_args":
            yield _XM_WORDS[key], value if isinstance(value, str) else " ".join(map(str, _items(value)))
        elif key not in _LEFT_OUT:
            yield _XM_WORDS.get(key, key), value
    if domain.type == "hvm":
        yield "builder", "hvm"


def _in_xl_words(values: Mapping[str, CfgValue]) -> dict[str, CfgValue]:
    """Turn the values of a file of xm into those that an xl.cfg of the same domain has.

    xl's own word for these keys means nothing to xm, so where a file has both, xm's counts.
    """
    known = {key: value for key, value in values.items() if key not in _XL_WORDS.values()}
    found = {_XL_WORDS.get(key, key): value for key, value in known.items()}
    return {key: value for key, value in found.items() if (key, value) != ("builder", "linux")}  # xm's word for pv


def xm_disk(disk: Disk) -> str:
    """Write a disk as xm has it: `file:/srv/web.img,xvda,w`."""
    return ",".join(xm_disk_parts(disk))


def xm_disk_parts(disk: Disk) -> tuple[str, str, str]:
    """Return what xm is told of a disk: where its data is, its vdev, and how it may be used."""
    driver = DISK_DRIVERS[disk.format] or ("file:" if disk.kind == "file" else "phy:")
    return f"{driver}{disk.target}", disk.vdev, _ACCESS[disk.access]


def xm_vif(vif: Vif) -> str:
    """Write a vif as xm has it."""
    return ",".join(xm_vif_parts(vif))


def xm_vif_parts(vif: Vif) -> tuple[str, ...]:
    """Return what xm is told of an interface, key by key. It has no word for the interface's number."""
    spelled = ((key.name, in_cfg(key.value(vif))) for key in VIF_KEYS if key.name in XM_VIF_KEYS - {"mac"})
    parts = (f"mac={vif.mac}", *(f"{key}={value}" for key, value in spelled if value is not None))
    for part in parts:
        if "," in part:
            raise ValueError(f'The vif with mac {vif.mac} has "{part}": a comma would begin another key for xm.')
    return parts


def _items(value: XlValue) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


XL_WORDS = Words("xl", KNOWN_KEYS, lambda _domain, pairs: pairs, lambda values: values)
XM_WORDS = Words("xm", XM_KEYS, _in_xm_words, _in_xl_words)
