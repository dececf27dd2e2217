"""Writes config files of our domains with our mark at the head, and reads config files, whoever wrote them.

The file is a plain xl.cfg that works without us (`xl create FILE`). The mark is one comment line of JSON: it says whose
the file is, and carries what xl has no key for. Called by the hosts to write, and by `guests` and import to read.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal

from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif, XlValue, canonical_json, fingerprint
from reconciler.model.key_row import Choice, Key, Kind, Value, Whole
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.parts import KEPT, KEPT_OF_DISKS, KEPT_OF_POLICY, in_cfg, with_kept_policy
from reconciler.specs.secret_files import SECRET_FILES, as_keys, secret_line, without_values
from reconciler.texts.cfg_grammar import TEXT_MAX, CfgText, XlCfgError, quote, read_cfg
from reconciler.texts.cfg_reader import IMAGE_KEYS, OWN_KEYS, Reading, Remark, read_values, unknown_keys
from reconciler.texts.cfg_words import XL_WORDS, Words
from reconciler.texts.devices import disk_spec, vif_spec

MARK_PREFIX = "# reconciler-mark: "
FORMAT = 1
"""The format of the marks that are written here. It is raised when a mark says something that a version which does not
know it would have to heed; such a version then leaves the domain alone."""

_HEADLINE = "# Managed by reconciler, which undoes edits of this file: edit the spec of the domain instead."
_KEY = re.compile(r"[a-z][._0-9a-z]*")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_REMEMBERED_FILES = 8192
_KEPT = (*KEPT, *KEPT_OF_POLICY)
_ELSEWHERE = ("name", "uuid", "root", "extra")  # at the head, and in the cmdline
_WRITTEN = tuple(key for key in DOMAIN_KEYS if key.in_cfg and key.name not in _ELSEWHERE)

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


_MARK_FIELDS = {part.name for part in fields(Mark)} - {"kept", "kept_of_disks"}
_MARK_TEXTS = ("fleet", "name", "uuid", "spec", "body", "text", "kernel", "ramdisk")
UNKNOWN_FORMAT = -1
"""The format of a mark whose format is no number that any version of ours would have written so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """The result of reading a file. `domain` is None when xl would refuse the file, and `problem` says why."""

    domain: Domain | None = None
    mark: Mark | None = None
    intact: bool = False  # the body is the one that the mark was written for
    original: Domain | None = None  # what the mark was written for; differs from `domain` in an edited file
    problem: str | None = None
    ignored: tuple[str, ...] = ()  # sentences: what the file says and xl leaves out
    unsaid: tuple[str, ...] = ()  # sentences: what the file says to xl that a domain spec cannot
    comments: Mapping[str, list[str]] = field(default_factory=dict)  # by key; "": at the end
    reading: Reading | None = field(default=None, repr=False)  # all that with its places; None: it cannot be read
    disks: tuple[Disk, ...] = ()  # those that could be read, also without a domain
    vifs: tuple[Vif, ...] = ()


def render_file(
    domain: Domain,
    fleet: str,
    commit: str | None,
    *,
    proven: bool = True,
    booted: tuple[tuple[str, str], ...] = (),
    words: Words = XL_WORDS,
) -> str:
    """Write the config file of a domain. Raises ValueError with a sentence for what such a file cannot express."""
    body = render_body(domain, words)
    mark = replace(_mark_of(domain, fleet, commit, without_values(body)), proven=proven, booted=booted)
    text = _with_head(mark, body)
    if len(text) > TEXT_MAX:
        raise ValueError(f"The config file of {domain.name} would be longer than {TEXT_MAX} characters.")
    return text


def as_proven(text: str) -> str:
    """Return a config file of ours with the mark set to proven: the domain has been ready with it."""
    mark, body = split_mark(text)
    return text if mark is None else _with_head(replace(mark, proven=True), body)


def _with_head(mark: Mark, body: str) -> str:
    said = asdict(mark)
    said |= said.pop("kept") | said.pop("kept_of_disks")
    return f"{_HEADLINE}\n{MARK_PREFIX}{_ascii(canonical_json(said))}\n{body}"


def _ascii(text: str) -> str:
    """Write a JSON text in ASCII: xm reads the file as Python, whose comments may not hold anything else either."""
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def render_body(domain: Domain, words: Words = XL_WORDS) -> str:
    """Write the config below the mark. Raises ValueError with a sentence for what such a file cannot express."""
    return "".join(f"{_line(key, value)}\n" for key, value in words.write(domain, _pairs(domain)))


def _pairs(domain: Domain) -> Iterator[tuple[str, XlValue]]:
    """Yield all that the xl.cfg of a domain says."""
    yield from (("name", domain.name), ("uuid", domain.uuid))
    for row in _WRITTEN:
        spelled = _spelled(row, domain)
        if spelled is not None and spelled != ():
            yield row.name, spelled
    for key, value in domain.xl:
        if key in OWN_KEYS or not _KEY.fullmatch(key):
            raise ValueError(f'"{key}" cannot stand in [xl]: it is a key of the spec itself, or none that xl can read.')
        yield key, value


def _spelled(key: Key[Domain], domain: Domain) -> XlValue | None:
    """Return the value of a key in xl.cfg; None when it is left out."""
    match key.name, key.kind:
        case "vcpus" | "maxvcpus", _ if domain.leaves_open(getattr(domain, key.name)):
            return None
        case "disk", _:
            return tuple(disk_spec(disk) for disk in domain.disks)
        case "vif", _:
            return tuple(vif_spec(vif) for vif in domain.vifs)
        case _, Kind.FILE:
            return _staged(key.value(domain))
        case _, Kind.SIZE:
            return _mib(key.value(domain))
        case _:
            return in_cfg(key.value(domain))


def _line(key: str, value: XlValue) -> str:
    if key in SECRET_FILES:
        return secret_line(key, value)
    if isinstance(value, tuple):
        return f"{key} = [\n" + "".join(f"    {_atom(key, item)},\n" for item in value) + "]"
    return f"{key} = {_atom(key, value)}"


def _atom(key: str, value: XlValue) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_atom(key, item) for item in value)}]"
    if isinstance(value, str):
        return quote(value)
    if value < 0:
        raise ValueError(f'{key} = {value}: xl.cfg has no negative numbers; write it as a string, "{value}".')
    return str(int(value))


def _staged(image: Value) -> str | None:
    if not isinstance(image, Image):
        return None
    if not image.path:
        raise ValueError(f'The image "{image.source}" is not staged, so a config file cannot name it.')
    return image.path


def _mib(kib: Value) -> int:
    assert isinstance(kib, int)
    if kib % 1024:
        raise ValueError(f"{kib} KiB is not a whole number of MiB, in which xl.cfg counts memory.")
    return kib // 1024


def _mark_of(domain: Domain, fleet: str, commit: str | None, body: str) -> Mark:
    return Mark(
        fleet=fleet,
        name=domain.name,
        uuid=domain.uuid,
        spec=fingerprint(domain),
        body=_digest(body),
        text=body,
        commit=commit,
        kernel=domain.kernel.sha256 if domain.kernel else "",
        ramdisk=domain.ramdisk.sha256 if domain.ramdisk else "",
        kept={key.attribute: key.value(domain) for key in _KEPT},
        kept_of_disks={
            key.attribute: tuple((disk.devid, str(key.value(disk))) for disk in domain.disks) for key in KEPT_OF_DISKS
        },
        kinds=tuple((disk.devid, disk.kind) for disk in domain.disks),
        format=FORMAT,
        ready=astuple(domain.policy.ready),
    )


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def read_file(text: str, images: Mapping[str, str], words: Words = XL_WORDS) -> ConfigFile:
    """Read a config file, ours or not. `images` has the sha256 of staged files by path, `words` says whose file it is.

    Readings are remembered: `watch` finds the same texts at each pass, and would spend most of its time here.
    """
    return _read(text, tuple((path, images[path]) for path in _images_named(text) if path in images), words)


@lru_cache(maxsize=_REMEMBERED_FILES)
def _images_named(text: str) -> tuple[str, ...]:
    """List the paths whose digests a reading needs: of the file as it is, and as we wrote it."""
    mark, _ = split_mark(text)
    named = set()
    for part in (text, mark.text if mark is not None else ""):
        with suppress(XlCfgError):
            values = _text_of(part).values
            named |= {value for key in IMAGE_KEYS if isinstance(value := values.get(key), str)}
    return tuple(sorted(named))


@lru_cache(maxsize=_REMEMBERED_FILES)
def _read(text: str, digests: tuple[tuple[str, str], ...], words: Words) -> ConfigFile:
    images = dict(digests)
    mark, body = split_mark(text)
    intact = mark is not None and mark.body == _digest(without_values(body))
    original = None
    if mark is not None and not intact and mark.body == _digest(mark.text):
        original = read_file(_with_head(mark, mark.text), images, words).domain
    try:
        found = _text_of(text if mark is None else as_keys(text))
        values = words.read(found.values)
    except XlCfgError as error:
        return ConfigFile(mark=mark, original=original, problem=f"xl cannot read the file: {error}")
    reading = read_values(values, images)
    domain = reading.domain
    unknown = [] if mark is not None else list(unknown_keys(found.values, words.tool, words.known))
    if domain is not None and mark is not None:
        domain = _with_mark(domain, mark, intact)
    elif domain is not None:  # ours have what host.toml allows
        domain = replace(domain, xl=tuple((key, value) for key, value in domain.xl if key in words.known))
    return ConfigFile(
        domain=domain,
        mark=mark,
        intact=intact,
        original=domain if intact else original,
        problem=reading.problems[0].text if reading.problems else None,
        ignored=tuple(dict.fromkeys(_sentence(remark) for remark in (*reading.ignored, *unknown))),
        unsaid=tuple(remark.text for remark in reading.unsaid),
        comments=found.comments,
        reading=reading,
        disks=domain.disks if domain else reading.disks,
        vifs=reading.vifs,
    )


def _sentence(remark: Remark) -> str:
    return remark.text if remark.hint is None else f"{remark.text} {remark.hint}"


@lru_cache(maxsize=2)  # for `_images_named` and `_read`, one after the other
def _text_of(text: str) -> CfgText:
    """Read a text. Raises XlCfgError."""
    found = read_cfg(text, errors_max=1)
    if found.errors:
        raise found.errors[0]
    return found


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
        found = {key: _frozen(value) for key, value in json.loads(text).items()}
        if not _is_known(found.get("format", 0)):
            return _as_far_as_it_goes(found)
        kept = {key.attribute: found.pop(key.attribute, key.default) for key in _KEPT}
        of_disks = {key.attribute: found.pop(key.attribute, ()) for key in KEPT_OF_DISKS}
        known = {key: value for key, value in found.items() if key in _MARK_FIELDS}
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
    for name in sorted((_MARK_FIELDS & found.keys()) - {"format"}):
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
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _is_sound(mark: Mark) -> bool:
    """Return whether all fields of a mark have their types, since JSON can hold anything."""
    return (
        all(isinstance(getattr(mark, name), str) for name in _MARK_TEXTS)
        and isinstance(mark.format, int)
        and isinstance(mark.commit, str | None)
        and isinstance(mark.proven, bool)
        and (mark.booted is None or _are_texts(mark.booted))
        and _is_ready(mark.ready)
        and all(_is_a(key.kind, mark.kept[key.attribute]) for key in _KEPT)
        and all(_are_pairs(mark.kept_of_disks[key.attribute], key.kind) for key in KEPT_OF_DISKS)
        and _are_pairs(mark.kinds, Choice(("file", "lv", "device")))
    )


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


def _ready(mark: Mark) -> Ready:
    timeout_seconds, min_seconds, tcp, console = mark.ready
    return Ready(timeout_seconds=timeout_seconds, min_seconds=min_seconds, tcp=tcp, console=console)


def _with_mark(domain: Domain, mark: Mark, intact: bool) -> Domain:
    """Add to a domain what only its mark knows.

    Digests and kinds of disks belong to the body that we wrote, so they are added only if it was not edited since.
    """
    values: dict[str, Any] = {key.attribute: mark.kept[key.attribute] for key in KEPT}
    noted = {key.attribute: mark.kept[key.attribute] for key in KEPT_OF_POLICY}
    domain = replace(domain, policy=with_kept_policy(Policy(ready=_ready(mark)), noted), **values)
    if not intact:
        return domain
    return replace(
        domain,
        kernel=domain.kernel and replace(domain.kernel, sha256=mark.kernel),
        ramdisk=domain.ramdisk and replace(domain.ramdisk, sha256=mark.ramdisk),
        disks=tuple(_disk_with_mark(disk, mark) for disk in domain.disks),
    )


def _disk_with_mark(disk: Disk, mark: Mark) -> Disk:
    values: dict[str, Any] = {
        key.attribute: dict(mark.kept_of_disks[key.attribute]).get(disk.devid, key.default) for key in KEPT_OF_DISKS
    }
    return replace(disk, **values, kind=dict(mark.kinds).get(disk.devid, disk.kind))
