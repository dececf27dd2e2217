"""Makes facts of the lines that `examine.sh` prints. Pure; called by the observer of xl hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from reconciler.doctor.facts import FileDevices, Room
from reconciler.expressions import expression

_AUTOBALLOON = expression(r"""^[ \t]*autoballoon[ \t]*=[ \t]*["']?(\w+)""", re.MULTILINE)
_DF = expression(r".*?\s[0-9]+\s+-?[0-9]+\s+(?P<free>-?[0-9]+)\s+-?[0-9]+%\s.*")
_OF_XEND = expression(r"^[ \t]*\((enable-dom0-ballooning|dom0-min-mem)[ \t]+[\"']?(\w+)", re.MULTILINE)
_YES = ("yes", "y", "true", "t", "on", "1")
_QUOTED = expression(r"""["']?([^"'#\s]*).*""")


def autoballoon(text: str) -> Literal["on", "off", "auto"]:
    r"""Return what an xl.conf says of autoballoon; the last line counts, and without one it is "auto".

    With "auto" it is off where Xen's command line has dom0_mem, and on where it has not.

    >>> autoballoon('autoballoon=1\nautoballoon="off"\n'), autoballoon("#autoballoon=1\n")
    ('off', 'auto')
    """
    settings = _AUTOBALLOON.findall(text)
    match settings[-1] if settings else "auto":
        case "on" | "1":
            return "on"
        case "off" | "0":
            return "off"
        case _:
            return "auto"


def ballooning_of_xend(text: str) -> Literal["on", "off"]:
    r"""Return whether xend takes memory from dom0 where a domain needs it. Whatever Xen's command line says, it does
    where xend-config.sxp allows it, or gives dom0 a least memory and does not forbid it (XendOptions.py of Xen 4.1).

    >>> ballooning_of_xend("(dom0-min-mem 196)\n"), ballooning_of_xend("(enable-dom0-ballooning no)\n")
    ('on', 'off')
    >>> ballooning_of_xend("# (enable-dom0-ballooning yes)\n")
    'off'
    """
    told = dict(reversed(_OF_XEND.findall(text)))  # of two the first counts
    least = told.get("dom0-min-mem", "0")
    return "on" if told.get("enable-dom0-ballooning", "no" if least == "0" else "yes") in _YES else "off"


def room_in(lines: Iterable[str]) -> Room | None:
    """Read the lines of kernel_dir; None when `df` has not told how much is free.

    >>> room = room_in(["folder /var/lib/xen", "room /dev/sda1 1000 600 400 60% /", "kind ext2/ext3", "used 12 /k"])
    >>> room.free_kib, room.used_kib, room.writable
    (400, 12, True)
    """
    told = _told(lines)
    df = _DF.fullmatch(f"{told.get('room', '')} ")
    if df is None:
        return None
    used = told.get("used", "").split()
    return Room(
        folder=told.get("folder", "/"),
        free_kib=int(df["free"]),
        used_kib=int(used[0]) if used and used[0].isdecimal() else 0,
        kind=told.get("kind", ""),
        writable="read-only" not in told,
    )


def saving_in(lines: Iterable[str]) -> tuple[str, str]:
    """Read where xendomains saves domains to ("" when it does not, or is not run) and the file that says so.

    >>> saving_in(["file /etc/default/xendomains", 'save "/var/lib/xen/save"', "run-by /etc/rc3.d/S21xendomains"])
    ('/var/lib/xen/save', '/etc/default/xendomains')
    >>> saving_in(["file /etc/default/xendomains", 'save ""', "run-by /etc/rc3.d/S21xendomains"])[0]
    ''
    """
    told = _told(lines)  # of several lines the last one counts, as for sh
    saves_to = _QUOTED.fullmatch(told.get("save", ""))
    return saves_to[1] if saves_to is not None and "run-by" in told else "", told.get("file", "")


def file_devices_in(lines: Iterable[str]) -> FileDevices | None:
    told = _told(lines)
    if not (told.get("total", "").isdecimal() and told.get("used", "").isdecimal()):
        return None
    return FileDevices(total=int(told["total"]), used=int(told["used"]), more_on_demand="more-on-demand" in told)


def limits_in(lines: Iterable[str]) -> Mapping[str, float] | None:
    """Read what `ulimit` said of each letter. A shell that does not know one says nothing; None: it knows none.

    >>> limits_in(["f unlimited", "n 1024", "v "])
    {'f': inf, 'n': 1024.0}
    """
    limits: dict[str, float] = {}
    for letter, said in _told(lines).items():
        if said == "unlimited":
            limits[letter] = float("inf")
        elif said.isdecimal():
            limits[letter] = float(said)
    return limits or None


def max_sessions_in(lines: Iterable[str]) -> int | None:
    number = next((line.split()[1] for line in lines if len(line.split()) == 2), "")
    return int(number) if number.isdecimal() else None


def _told(lines: Iterable[str]) -> dict[str, str]:
    return {word: rest.strip() for word, _, rest in (line.partition(" ") for line in lines)}
