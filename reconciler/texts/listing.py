"""Parses what `xl info`, `xl list -v` and `xl list -l` print. Called by the observer of xl hosts and by `guests`.

The facts come from Xen 4.17's sources and from recorded output. Where the text leaves a doubt, an error is raised: a
domain that is missing here would be taken for absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reconciler.expressions import expression
from reconciler.model.host import NAMELESS, Power
from reconciler.records import dataclass

_ROW = expression(
    r"(?P<name>.*\S)[ \t]+(?P<domid>[0-9]+)[ \t]+(?P<mib>[0-9]+)[ \t]+(?P<vcpus>[0-9]+)[ \t]+"
    r"(?P<state>[r-][b-][p-][s-][a-zA-Z?-][d-])[ \t]+(?P<seconds>[0-9.]+)"
    r"(?:[ \t]+(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:[ \t].*)?)?[ \t]*"
)


_BLANKS = expression(r"[ \t\r\n]*")
MIGRATION_SUFFIXES = ("--incoming", "--migratedaway")
"""What `xl migrate` puts behind the name of a domain that is on its way, on the host it goes to and on its own."""


class XlOutputError(ValueError):
    """Reports output of xl or xm that is not understood. The message is a sentence, and so is the hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """The parts of `xl info` that matter here. Outstanding claims are subtracted from the free memory already."""

    total_kib: int
    free_kib: int
    cpus: int
    xen_version: str
    scheduler: str
    dom0_mem: bool  # given on Xen's command line, which turns `autoballoon = "auto"` off


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `xl list`. `name` is None for a domain that has no name any more."""

    name: str | None
    domid: int
    memory_kib: int
    vcpus: int
    power: Power
    uuid: str  # "" in the output of a plain `xl list`
    has_run: bool = True  # it has used a cpu since it was made


def is_migrating(name: str | None) -> bool:
    """Return whether a host lists a domain as one that is on its way. A migration cut short leaves one, too."""
    return name is not None and name.endswith(MIGRATION_SUFFIXES)


def power_of_row(row: Row, *, is_told: bool) -> Power:
    """Refine the state of a row by its name and by `xl list -l`.

    libxl lists a configuration only once a domain is complete, so a paused one without it is still being built.
    """
    if row.power is Power.DYING:
        return Power.DYING
    if is_migrating(row.name):
        return Power.MIGRATING
    if row.power is Power.PAUSED and not row.has_run and not is_told:
        return Power.UNFINISHED
    return row.power


def parse_info(text: str) -> Info:
    """Parse `xl info`. Raises XlOutputError when a needed line is missing."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return Info(
        total_kib=_info_number(found, "total_memory") * 1024,
        free_kib=_info_number(found, "free_memory") * 1024,
        cpus=_info_number(found, "nr_cpus"),
        xen_version=found.get("xen_version", "") or _version_of(found),
        scheduler=found.get("xen_scheduler", ""),
        dom0_mem=re.search(r"(^| )dom0_mem=", found.get("xen_commandline", "")) is not None,
    )


def _version_of(found: Mapping[str, str]) -> str:
    """Put the version together as Xen itself does: until 4.1 its parts were told, and not the whole."""
    parts = (found.get("xen_major", ""), found.get("xen_minor", ""))
    return ".".join(parts) + found.get("xen_extra", "") if all(parts) else ""


def _info_number(found: Mapping[str, str], key: str) -> int:
    text = found.get(key, "")
    if re.fullmatch("[0-9]{1,15}", text):
        return int(text)
    raise XlOutputError(f"`xl info` does not tell {key}.")


def parse_list(text: str) -> tuple[Row, ...]:
    """Parse `xl list -v` or a plain `xl list`. Raises XlOutputError for a line that is not understood."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or not lines[0].startswith("Name"):
        raise XlOutputError("`xl list` printed no table of domains.")
    return tuple(_row(line) for line in lines[1:])


def parse_whole_list(text: str) -> tuple[Row, ...]:
    """Parse `xl list -v`. Raises XlOutputError where domains may be missing, as in a text that was cut short.

    A whole list has Domain-0 in it, and a UUID on each line.
    """
    rows = parse_list(text)
    if not text.endswith("\n") or not all(row.uuid for row in rows):
        raise XlOutputError("`xl list` printed a table that was cut short.")
    if not any(row.domid == 0 for row in rows):
        raise XlOutputError("`xl list` printed a table without Domain-0, so it is not all there is.")
    return rows


def _row(line: str) -> Row:
    # the name takes all that the columns leave, since it can be long, and a foreign toolstack's can hold blanks
    match = _ROW.fullmatch(line)
    if match is None:
        raise XlOutputError(f'`xl list` printed the line "{line[:200]}", which is no row of its table.')
    return Row(
        name=None if match["name"] == NAMELESS else match["name"],
        domid=int(match["domid"]),
        memory_kib=int(match["mib"]) * 1024,
        vcpus=int(match["vcpus"]),
        power=power_of(match["state"]),
        uuid=match["uuid"] or "",
        has_run=match["seconds"].strip("0.") != "",
    )


def power_of(state: str) -> Power:
    """Read the six letters of `xl list`: r b p s, the reason of a shutdown, d. A live domain may have no letter at all.

    >>> [str(power_of(letters)) for letters in ("-b----", "------", "--p---", "---s--", "---sc-", "-----d")]
    ['running', 'running', 'paused', 'shutdown', 'crashed', 'dying']
    """
    if state[5] == "d":
        return Power.DYING
    if state[3] == "s" or state[4] == "c":
        match state[4]:
            case "c" | "w":  # crashed, or stopped by its watchdog
                return Power.CRASHED
            case "r" | "S":  # rebooting, also by a soft reset: it comes back
                return Power.REBOOTING
            case "s":
                return Power.SUSPENDED
            case _:
                return Power.SHUTDOWN
    if state[2] == "p" and state[:2] == "--":  # beside r or b, the p is spurious
        return Power.PAUSED
    return Power.RUNNING


def parse_list_long(text: str) -> tuple[tuple[int, dict[str, Any]], ...]:
    """Parse `xl list -l` into domid and configuration of each domain. Raises XlOutputError for what is no such JSON.

    A domain that is missing here may exist all the same: xl leaves out what it cannot read.
    """
    if not text.strip():
        return ()
    if text.lstrip().startswith("("):
        raise XlOutputError(
            "`xl list -l` printed S-expressions, as xl does before Xen 4.2 and where xl.conf asks for it.",
            'Write output_format = "json" into xl.conf there. The xl of Xen 4.1 has no JSON: where xend runs, '
            'write toolstack = "xm" in host.toml, else have a newer Xen.',
        )
    try:
        entries = _json_entries(text)
    except (ValueError, RecursionError) as error:
        raise XlOutputError(f"`xl list -l` printed no JSON: {str(error)[:200]}.") from error
    domains: list[tuple[int, dict[str, Any]]] = []
    for entry in entries:
        domid = entry.get("domid") if isinstance(entry, dict) else None
        if not isinstance(domid, int) or not isinstance(entry.get("config"), dict):
            raise XlOutputError("`xl list -l` printed an entry without domid or config.")
        domains.append((domid, entry["config"]))
    return tuple(domains)


def _json_entries(text: str) -> list[Any]:
    """Yield the entries of a JSON list, or the one value that is no list. What follows it is ignored.

    They are read one by one: Python's decoder lets no other thread run until it has read all that it was given.
    """
    decoder = json.JSONDecoder()
    at = _after_blanks(text, 0)
    if text[at] != "[":
        return [decoder.raw_decode(text, at)[0]]
    entries: list[Any] = []
    at = _after_blanks(text, at + 1)
    while not (text.startswith("]", at) and not entries):
        entry, at = decoder.raw_decode(text, at)
        entries.append(entry)
        at = _after_blanks(text, at)
        if text.startswith("]", at):
            break
        if not text.startswith(",", at):
            raise ValueError(f"Expecting ',' or ']': char {at}")
        at = _after_blanks(text, at + 1)
    return entries


def _after_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()
