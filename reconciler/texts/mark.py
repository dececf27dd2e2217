"""Reads the marks at the head of config files: whose a file is, and what xl has no key for.

Called by `config_file`, which also writes them, and by what keeps files on a host.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, field, fields, replace
from functools import lru_cache
from typing import Any, Literal

from reconciler.model.domain import Ready
from reconciler.model.key_row import Choice, Kind, Value, Whole
from reconciler.model.parts import KEPT, KEPT_OF_DISKS, KEPT_OF_POLICY
from reconciler.records import dataclass
from reconciler.texts.cfg_grammar import TEXT_MAX

MARK_PREFIX = "# reconciler-mark: "
FORMAT = 1
"""The format of the marks that are written here. It is raised when a mark says something that a version which does not
know it would have to heed; such a version then leaves the domain alone."""

_KEPT = (*KEPT, *KEPT_OF_POLICY)
Pairs = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The mark of a file: whose it is, and what the file itself cannot say of the domain.

    One whose format is newer than FORMAT is read as far as it goes, and its domain is left alone.
    """

    fleet: str
    name: str
    uuid: str  # name and uuid again, so that a body edited to nonsense does not disown the domain
    spec: str  # fingerprint of the definition
    body: str  # sha256 of the body's text
    text: str = ""  # the body itself: after an edit it still tells what the domain was started with
    commit: str | None = None
    kernel: str = ""  # sha256
    ramdisk: str = ""
    kept: Mapping[str, Value] = field(default_factory=dict)  # by field: what must outlive the spec
    kept_of_disks: Mapping[str, Pairs] = field(default_factory=dict)  # the same of disks, by field and devid
    kinds: tuple[tuple[int, Literal["file", "lv", "device"]], ...] = ()  # by devid: how the spec named each disk
    proven: bool = True  # whether a domain has got ready from this definition
    format: int = 0  # of the mark; 0: written by 0.1, which noted none
    # what the domain runs that was adopted: path and sha256 of files that are not staged; None: written by 0.1
    booted: tuple[tuple[str, str], ...] | None = None
    ready: tuple[float, float, str | None, str | None] = astuple(Ready())  # how that is told: the fields of Ready

    @property
    def newer(self) -> str | None:
        """Return in words which format it is that only a newer version knows; None when this one knows it."""
        if _is_known(self.format):
            return None
        return "an unknown format" if self.format == UNKNOWN_FORMAT else f"format {self.format}"


MARK_FIELDS = {part.name for part in fields(Mark)} - {"kept", "kept_of_disks"}
_KEPT_KINDS = tuple((key.attribute, key.kind, key.default) for key in _KEPT)
_KINDS_OF_DISKS = tuple((key.attribute, key.kind) for key in KEPT_OF_DISKS)
_KIND_OF_DISK = Choice(("file", "lv", "device"))
_MARK_TEXTS = ("fleet", "name", "uuid", "spec", "body", "text", "kernel", "ramdisk")
UNKNOWN_FORMAT = -1
"""The format of a mark whose format is no number that any version of ours would have written so far."""


def split_mark(text: str) -> tuple[Mark | None, str]:
    """Split a file into the mark at its head and the body behind it. Without a mark, all of it is body."""
    at = 0
    while text.startswith("#", at):
        end = text.find("\n", at)
        line = text[at:] if end < 0 else text[at:end]
        if line.startswith(MARK_PREFIX):
            return _read_mark(line.removeprefix(MARK_PREFIX)), "" if end < 0 else text[end + 1 :]
        if end < 0:
            break
        at = end + 1
    return None, text


def _read_mark(text: str) -> Mark | None:
    """Read a mark; None when it is damaged. People can edit it, and then the file counts as theirs."""
    if len(text) > TEXT_MAX:
        return None
    try:
        found = {key: _frozen(value) if type(value) is list else value for key, value in json.loads(text).items()}
        if not _is_known(found.get("format", 0)):
            return _as_far_as_it_goes(found)
        kept = _kept(*(found.pop(name, default) for name, _, default in _KEPT_KINDS))
        of_disks = {name: found.pop(name, ()) for name, _ in _KINDS_OF_DISKS}
        known = {key: value for key, value in found.items() if key in MARK_FIELDS}
        mark = Mark(**known, kept=kept, kept_of_disks=of_disks)
    except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, no object, or a key is missing
        return None
    return mark if _is_sound(mark) else None


def _is_known(number: object) -> bool:
    """Return whether marks of this format are understood. What is no number of ours is taken for a newer one."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= FORMAT


def _as_far_as_it_goes(found: Mapping[str, Any]) -> Mark:
    """Read a mark that a newer version wrote: whose it is and what is kept, where that has the shape that we know."""
    number = found.get("format")
    texts: dict[str, Any] = {name: value if isinstance(value := found.get(name), str) else "" for name in _MARK_TEXTS}
    mark = Mark(
        **texts,
        format=number if isinstance(number, int) and number > FORMAT else UNKNOWN_FORMAT,
        kept={key.attribute: key.default for key in _KEPT},
        kept_of_disks={key.attribute: () for key in KEPT_OF_DISKS},
    )
    for name in sorted((MARK_FIELDS & found.keys()) - {"format"}):
        mark = _if_sound(mark, replace(mark, **{name: found[name]}))
    for key in _KEPT:
        kept = {**mark.kept, key.attribute: found.get(key.attribute, key.default)}
        mark = _if_sound(mark, replace(mark, kept=kept))
    for of_disk in KEPT_OF_DISKS:
        pairs = {**mark.kept_of_disks, of_disk.attribute: found.get(of_disk.attribute, ())}
        mark = _if_sound(mark, replace(mark, kept_of_disks=pairs))
    return mark


def _if_sound(before: Mark, after: Mark) -> Mark:
    return after if _is_sound(after) else before


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _is_sound(mark: Mark) -> bool:
    """Return whether all fields of a mark have their types, since JSON can hold anything."""
    return (
        all(isinstance(getattr(mark, name), str) for name in _MARK_TEXTS)
        and isinstance(mark.format, int)
        and isinstance(mark.commit, str | None)
        and isinstance(mark.proven, bool)
        and (mark.booted is None or _are_texts(mark.booted))
        and _is_ready(mark.ready)
        and _is_kept(mark.kept)
        and all(_are_pairs(mark.kept_of_disks[name], kind) for name, kind in _KINDS_OF_DISKS)
        and _are_pairs(mark.kinds, _KIND_OF_DISK)
    )


@lru_cache(typed=True)  # most domains have the same
def _kept(*values: Value) -> Mapping[str, Value]:
    """Return what is kept by field, of the values in the order of KEPT and KEPT_OF_POLICY."""
    return {name: value for (name, _, _), value in zip(_KEPT_KINDS, values, strict=True)}


def _is_kept(kept: Mapping[str, Value]) -> bool:
    try:
        return _are_kept(*kept.values())
    except TypeError:  # a table is among them
        return False


@lru_cache(typed=True)
def _are_kept(*values: Value) -> bool:
    return all(_is_a(kind, value) for (_, kind, _), value in zip(_KEPT_KINDS, values, strict=True))


def _is_a(kind: Kind | Whole | Choice, value: object) -> bool:
    """Return whether a value that outlives the spec is of the kind of its key."""
    match kind:
        case Choice():
            return value in kind.words
        case Whole():
            return isinstance(value, int) and not isinstance(value, bool) and kind.least <= value <= kind.most
        case Kind.FLAG:
            return isinstance(value, bool)
        case Kind.DURATION:
            return _are_seconds(value)
        case Kind.NAMES:
            return isinstance(value, tuple) and all(isinstance(name, str) for name in value)
        case _:
            return isinstance(value, str)


def _are_seconds(value: object) -> bool:
    with suppress(OverflowError):  # a whole number that is too large for a float
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return False


def _are_texts(value: object) -> bool:
    """Return whether a value is a tuple of pairs of strings."""
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    )


def _is_ready(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 4
        and all(_are_seconds(seconds) for seconds in value[:2])
        and all(isinstance(sign, str | None) for sign in value[2:])
    )


def _are_pairs(value: object, kind: Kind | Whole | Choice) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], int) and _is_a(kind, pair[1])
        for pair in value
    )
