"""Reads one xl.cfg file for import: its domain, what xl refuses, and what a person should know, each with its place.

Called by the command `import`. Pure: text in, values out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.expressions import expression
from reconciler.model.diagnostics import Diagnostic, Kind, Source
from reconciler.model.domain import Domain
from reconciler.records import dataclass
from reconciler.texts.cfg_grammar import CfgText, Number, Value, XlCfgError, as_latin1, number_of, read_cfg
from reconciler.texts.cfg_reader import KNOWN_KEYS, MEMORY_DEFAULT_KIB, Reading, Remark, read_values, unknown_keys
from reconciler.texts.config_file import read_file
from reconciler.texts.mark import MARK_PREFIX
from reconciler.texts.refusals import left_out, refusals

_LINES_SHOWN = 5
_TOLD_MAX = 200  # remarks of one kind, of one file
_SECRETS = expression(r"(?:vnc|spice)passwd\s*=\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFound:
    """What was found in a file. `domain` is None when xl refuses the file, and `problems` say why."""

    domain: Domain | None
    problems: tuple[Diagnostic, ...]
    notes: tuple[Diagnostic, ...]
    unsaid: tuple[str, ...]
    comments: Mapping[str, list[str]]  # by key; "": at the end


def read_domain_file(text: str, path: str, stem: str) -> FileFound:
    """Read the text of a file. `path` is for messages, `stem` the name of a domain whose file gives none."""
    found = read_cfg(text)
    values = {"name": stem, **found.values}
    reading = read_values(values, {})
    teller = _Teller(found, path)
    errors = [XlCfgError(1, 1, "It is no text file.")] if found.errors and "\0" in text else found.errors
    problems = [teller.syntax(error.line, error.column, error.message, error.hint) for error in errors]
    wrong = [*reading.problems, *refusals(values, reading.type)]
    if found.errors:  # what seems to be missing may stand in a line that could not be read
        wrong = [remark for remark in wrong if remark.loc[0] in found.values]
    problems += teller.tell(wrong, Kind.WORLD, "xl refuses it")
    ours = read_file(text, {})
    domain = ours.domain if ours.mark is not None else reading.domain
    if domain is not None:
        domain = replace(domain, xl=tuple((key, value) for key, value in domain.xl if key in KNOWN_KEYS))
    return FileFound(
        domain=None if problems else domain,
        problems=tuple(problems),
        notes=tuple(teller.tell(_worth_telling(found, values, reading, stem), Kind.NOTE, "worth knowing")),
        unsaid=tuple(as_latin1(remark.text) for remark in reading.unsaid),
        comments={key: [line for line in lines if not _is_mark(line)] for key, lines in found.comments.items()},
    )


def _is_mark(line: str) -> bool:
    return line.startswith((MARK_PREFIX.strip(), "# Managed by reconciler"))


class _Teller:
    """Makes diagnostics of remarks, with the places where their values stand."""

    def __init__(self, found: CfgText, path: str) -> None:
        self._found = found
        self._path = path
        self._lines = as_latin1(found.text).split("\n")  # character by character

    def syntax(self, line: int, column: int, message: str, hint: str | None) -> Diagnostic:
        """Make the diagnostic of an error of the grammar."""
        return Diagnostic(
            kind=Kind.WORLD,
            summary="xl cannot read the file",
            detail=f"xl cannot read the file, so it is not imported: {message}",
            hint=None if hint is None else hint.replace("FILE", shlex.quote(self._path)),
            source=self._source(line, column),
        )

    def tell(self, remarks: Iterable[Remark], kind: Kind, summary: str) -> Iterator[Diagnostic]:
        """Make the diagnostics of these remarks, in the order of their places, up to a bound."""
        found = [(self._found.offset(remark.loc), remark) for remark in remarks]
        placed = sorted(found, key=lambda one: one[0] or 0)
        for count, (at, remark) in enumerate(placed[: _TOLD_MAX + 1]):
            line, column = (1, 1) if at is None else self._found.line_and_column(at)
            more = f"There are {len(placed) - _TOLD_MAX} more like this, from here on."
            text = more if count == _TOLD_MAX else as_latin1(remark.text)
            detail = f"xl would refuse it, too: {text}" if kind is Kind.WORLD and count < _TOLD_MAX else text
            source = self._source(line, column)
            hint = None if count == _TOLD_MAX else remark.hint
            yield Diagnostic(kind=kind, summary=summary, detail=detail, hint=hint, source=source)

    def _source(self, line: int, column: int) -> Source:
        text = self._lines[line - 1] if line <= len(self._lines) else ""
        return Source(path=self._path, line=line, column=column, text=text)


def _worth_telling(found: CfgText, values: Mapping[str, Value], reading: Reading, stem: str) -> Iterator[Remark]:
    if "name" not in found.values:
        yield Remark(("name",), f"It gives no name, so the domain gets the name of the file: {stem}.")
    yield from reading.ignored
    yield from left_out(values)
    told = {remark.loc for remark in reading.ignored}
    yield from (remark for remark in unknown_keys(found.values) if remark.loc not in told)
    yield from _overruled(found)
    yield from _numbers(found.values)
    if not any(
        isinstance(size := values.get(key), str) and number_of(size) is not None for key in ("memory", "maxmem")
    ):
        detail = f"It gives no memory that xl can read, and so it gets {MEMORY_DEFAULT_KIB // 1024} MiB."
        yield Remark(("memory",), detail, "Write memory = 1024 (MiB).")
    yield from _pinned(found.values)
    yield from _secrets(found.values)
    if "pnode=" in str(values.get("vnuma", "")):
        yield Remark(
            ("vnuma",), "vnuma names nodes of the host, and a host that lacks them refuses to start the domain."
        )


def _overruled(found: CfgText) -> Iterator[Remark]:
    """List the keys that are given more than once: only the last time counts."""
    lines: dict[str, list[int]] = {}
    for key, at in found.overruled:
        lines.setdefault(key, []).append(found.line_and_column(at)[0])
    for key, before in lines.items():
        shown = f"{', '.join(map(str, before[:_LINES_SHOWN]))}{' …' if len(before) > _LINES_SHOWN else ''}"
        those = f"the one in line {shown} is" if len(before) == 1 else f"those in lines {shown} are"
        often = "twice" if len(before) == 1 else f"{len(before) + 1} times"
        yield Remark((key,), f"{key} is given {often}, and the last time counts: {those} left out.")


def _numbers(values: Mapping[str, Value]) -> Iterator[Remark]:
    """List numbers that xl reads otherwise than most people do."""
    for key, value in values.items():
        if isinstance(value, Number) and re.fullmatch(r"0[0-7]+", value) and key not in ("name", "uuid"):
            yield Remark(
                (key,),
                f"{key} = {value} is octal: xl reads {number_of(value)}.",
                f"Write {int(value)} if that is meant.",
            )


def _pinned(values: Mapping[str, Value]) -> Iterator[Remark]:
    """Name what only newer releases of xl heed: they count one vcpu where a file gives none."""
    if any(isinstance(text := values.get(key), str) and number_of(text) for key in ("vcpus", "maxvcpus")):
        return
    for key in values.keys() & {"cpus", "cpus_soft"}:
        detail = f"xl before 4.21 makes nothing of {key} where the file gives no vcpus; with its spec, {key} holds."
        yield Remark((key,), detail, f"Take {key} out of the spec where the domain shall run on any cpu.")


def _secrets(values: Mapping[str, Value]) -> Iterator[Remark]:
    """List passwords, which the spec shows to whoever can read it."""
    for key, value in values.items():
        parts = [(item,) for item in value] if isinstance(value, tuple) else [(value,)]
        for index, (part,) in enumerate(parts):
            texts = part.split(",") if isinstance(part, str) and key == "vfb" else [f"{key}={part}"]
            if any((match := _SECRETS.fullmatch(text.strip())) is not None and match[1] for text in texts):
                loc = (key, index) if isinstance(value, tuple) else (key,)
                yield Remark(loc, _IN_CLEAR, KEEP_OUT)


_IN_CLEAR = "The password of its screen stands in the spec in clear, for all who can read the specs and their history."
KEEP_OUT = (
    'To keep it out of git, leave it out, write vnclisten = "127.0.0.1", and look through ssh:'
    " ssh -L 5900:127.0.0.1:5900 root@HOST; or put it into a file of the host, and name that under [xl]:"
    ' vncpasswd_file = "/etc/xen/NAME.vncpasswd"'
)
