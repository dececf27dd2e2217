"""Asks a Xen dom0 about itself, for `doctor`: the lines of `examine.sh` become facts. Called by the observer."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Iterator
from importlib.resources import files as resources
from typing import TypeVar

from reconciler.doctor.facts import AtBoot, Facts, Ssh
from reconciler.doctor.reading import (
    autoballoon,
    ballooning_of_xend,
    file_devices_in,
    limits_in,
    max_sessions_in,
    room_in,
    saving_in,
)
from reconciler.dom0 import rc_conf
from reconciler.dom0.answer import Answer
from reconciler.dom0.connection import Connection
from reconciler.dom0.layout import Dom0
from reconciler.model.fleet import HostSettings
from reconciler.model.paths import disk_root
from reconciler.texts.listing import Row, XlOutputError, parse_info

T = TypeVar("T")


def script(connection: Connection, settings: HostSettings) -> str:
    """Return what is sent behind the script that observes."""
    over_ssh = "0" if connection.is_local else "1"
    roots = shlex.quote("\n".join(disk_root(root) for root in settings.disk_roots))
    return (
        f"over_ssh={over_ssh}\ndisk_roots={roots}\n" + resources("reconciler.dom0").joinpath("examine.sh").read_text()
    )


def facts_of(
    answer: Answer, dom0: Dom0, connection: Connection, now: float, rows: Callable[[str], tuple[Row, ...]], tool: str
) -> Facts:
    """Make the facts of an answer that arrived at `now`, in seconds since 1970 by this machine's clock.

    `rows` reads the list of domains of this toolstack, xl or xm.
    """
    ballooning = ballooning_of_xend if tool == "xm" else autoballoon

    def told(name: str, read: Callable[[list[str]], T]) -> T | None:
        """Read a section; None when it is not there or what wrote it failed."""
        return read(answer.lines(name)) if answer.has(name) and answer.status(name) == 0 else None

    saving = told("xendomains", saving_in)
    tools = told("tools", frozenset)
    return Facts(
        flavour="netbsd" if dom0.flavour == "netbsd" else "linux",
        tool=tool,
        xen_dir=next(iter(told("place", list) or ()), "/etc/xen"),
        autoballoon=told("xl_conf", lambda lines: ballooning("\n".join(lines))),
        dom0_mem=_dom0_mem(answer),
        dom0_kib=_dom0_kib(answer, rows),
        has_grub=tools is not None and {"update-grub", "grub"} <= tools,
        saves_to=saving[0] if saving is not None else None,
        xendomains_file=saving[1] if saving is not None else "",
        at_boot=_names_at_boot(answer) if dom0.flavour == "netbsd" else told("at_boot", lambda it: _links(it, dom0)),
        has_lvm=None if tools is None else "vgs" in tools,
        room=told("room", room_in),
        clock_ahead_seconds=told("clock", lambda lines: _seconds_ahead(lines, now)),
        toolstacks=told("toolstacks", tuple),
        file_devices=told("file_devices", file_devices_in),
        in_roots=told("roots", _in_roots),
        limits=told("limits", limits_in),
        ssh=None
        if connection.is_local
        else Ssh(max_sessions=told("sshd", max_sessions_in), shares_connection=connection.is_shared),
    )


def _in_roots(lines: list[str]) -> dict[str, int]:
    """Read files as `stat` tells them (kind, size, …, path), and volumes: kind, size, path."""
    parts = [line.split("|", 2 if line.startswith("volume|") else 6) for line in lines]
    return {part[-1]: int(part[1]) for part in parts if len(part) in (3, 7) and part[1].isdecimal()}


def _dom0_mem(answer: Answer) -> bool | None:
    try:
        return parse_info(answer.text("info")).dom0_mem
    except XlOutputError:
        return None


def _dom0_kib(answer: Answer, rows: Callable[[str], tuple[Row, ...]]) -> int | None:
    try:
        return next(row.memory_kib for row in rows(answer.text("list")) if row.domid == 0)
    except XlOutputError:
        return None


def _links(lines: list[str], dom0: Dom0) -> tuple[AtBoot, ...]:
    return tuple(_read_links(lines, dom0))


def _read_links(lines: list[str], dom0: Dom0) -> Iterator[AtBoot]:
    for line in lines:
        name, _, target = line.partition("\t")
        path = posixpath.join(dom0.auto_dir, target)
        yield AtBoot(name=name, domain=dom0.domain_of_config(path) if target else None, is_link=bool(target))


def _names_at_boot(answer: Answer) -> tuple[AtBoot, ...] | None:
    """Read the list of rc.conf; None when it is in a form that is not understood."""
    texts = answer.files("texts")
    lists = {name: text for name in rc_conf.LISTS for path, text in texts.items() if path.endswith(name)}
    try:
        return tuple(AtBoot(name=name, domain=name) for name in rc_conf.read_lists(lists))
    except rc_conf.NotUnderstoodError:
        return None


def _seconds_ahead(lines: list[str], now: float) -> float | None:
    return float(lines[0]) - now if lines and lines[0].isdecimal() else None
