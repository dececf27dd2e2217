"""Finds the place of a virtual disk: `xvda`, `0xca00` and `51712` are three names of one place.

Specs, config files and `xl list -l` name disks in different ways, so everybody compares the device id that xl makes of
the name, never the name. Called by resolve (specs) and by the xl.cfg reader (config files).

The rules are those of libxl__device_disk_dev_number (tools/libs/light/libxl_device.c).

>>> devid_of("xvda"), devid_of("0xca00"), devid_of("hda"), devid_of("0x300")
(51712, 51712, 768, 768)
"""

from __future__ import annotations

import re
from functools import lru_cache

from reconciler.expressions import expression

_XEN_DISK = expression(r"xvd(?P<letters>[a-z]{1,5})(?P<partition>[1-9][0-9]{0,2})?")
_XEN_DISK_BY_NUMBER = expression(r"d(?P<disk>[0-9]{1,7})p(?P<partition>[0-9]{1,3})")
_IDE_DISK = expression(r"hd(?P<letters>[a-d])(?P<partition>[1-9][0-9]?)?")
_SCSI_DISK = expression(r"sd(?P<letters>[a-p])(?P<partition>[1-9][0-9]?)?")
_NUMBER = expression(r"0[xX](?P<hex>[0-9a-fA-F]{1,20})|(?P<octal>0[0-7]{0,20})|(?P<decimal>[1-9][0-9]{0,20})")

_DISKS_MAX = 1 << 20
_PARTITIONS_MAX = 256
_IDE_PARTITIONS_MAX = 64
_SCSI_PARTITIONS_MAX = 16
_NUMBER_MAX = 2**31 - 1


@lru_cache(maxsize=4096)  # a fleet has few, and asks for each very often
def devid_of(vdev: str) -> int:
    """Return the device id of a `vdev`. Raises ValueError with a sentence for what xl would not understand."""
    if match := _NUMBER.fullmatch(vdev):
        number = _number(match)
        if number <= _NUMBER_MAX:
            return number
    elif match := _XEN_DISK.fullmatch(vdev):
        return _xen_devid(vdev, _disk_index(match), _partition(match))
    elif match := _XEN_DISK_BY_NUMBER.fullmatch(vdev):
        return _xen_devid(vdev, int(match["disk"]), _partition(match))
    elif (match := _IDE_DISK.fullmatch(vdev)) and _partition(match) < _IDE_PARTITIONS_MAX:
        # two disks on each of two controllers, whose majors are 3 and 22
        disk = _disk_index(match)
        return (3 if disk < 2 else 22) << 8 | (disk & 1) << 6 | _partition(match)
    elif (match := _SCSI_DISK.fullmatch(vdev)) and _partition(match) < _SCSI_PARTITIONS_MAX:
        return 8 << 8 | _disk_index(match) << 4 | _partition(match)
    raise _not_a_vdev(vdev)


def _xen_devid(vdev: str, disk: int, partition: int) -> int:
    """Number a Xen disk: the first 16 have the 8-bit layout of Linux's major 202, all others the extended one."""
    if disk >= _DISKS_MAX or partition >= _PARTITIONS_MAX:
        raise _not_a_vdev(vdev)
    if disk <= 15 and partition <= 15:
        return 202 << 8 | disk << 4 | partition
    return 1 << 28 | disk << 8 | partition


def _disk_index(match: re.Match[str]) -> int:
    """Read letters as the columns of a spreadsheet: a is 0, z is 25, aa is 26."""
    index = -1
    for letter in match["letters"]:
        index = (index + 1) * 26 + ord(letter) - ord("a")
    return index


def _partition(match: re.Match[str]) -> int:
    return int(match["partition"] or 0)


def _number(match: re.Match[str]) -> int:
    if match["hex"]:
        return int(match["hex"], 16)
    return int(match["octal"], 8) if match["octal"] else int(match["decimal"])


def _not_a_vdev(vdev: str) -> ValueError:
    return ValueError(
        f'"{vdev[:40]}" names no virtual disk: use a name such as xvda, xvdb1, hda or sda, or a number such as 0x0.'
    )
