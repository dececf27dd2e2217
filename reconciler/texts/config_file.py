"""Writes config files of our domains with our mark at the head, and reads config files, whoever wrote them.

The file is a plain xl.cfg that works without us (`xl create FILE`). The mark is one comment line of JSON: it says whose
the file is, and carries what xl has no key for. Called by the hosts to write, and by `guests` and import to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, field
from functools import lru_cache
from operator import is_
from typing import Any

from reconciler.expressions import expression
from reconciler.model.copies import replace
from reconciler.model.domain import Disk, Domain, Image, Policy, Ready, Vif, XlValue, canonical_json, fingerprint
from reconciler.model.key_row import Key, Kind, Value
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.parts import KEPT, KEPT_OF_DISKS, KEPT_OF_POLICY, in_cfg, with_kept_policy
from reconciler.records import dataclass
from reconciler.specs.secret_files import SECRET_FILES, as_keys, secret_line, without_values
from reconciler.texts.cfg_grammar import TEXT_MAX, XlCfgError, quote, read_cfg, read_plain
from reconciler.texts.cfg_grammar import Value as CfgValue
from reconciler.texts.cfg_reader import IMAGE_KEYS, OWN_KEYS, Reading, Remark, read_values, unknown_keys
from reconciler.texts.cfg_words import XL_WORDS, Words
from reconciler.texts.devices import disk_spec, vif_spec
from reconciler.texts.mark import FORMAT, MARK_FIELDS, MARK_PREFIX, Mark, split_mark

_HEADLINE = "# Managed by reconciler, which undoes edits of this file: edit the spec of the domain instead."
_KEY = expression(r"[a-z][._0-9a-z]*")
_BEYOND_ASCII = expression(r"[^\x00-\x7f]")
_REMEMBERED_FILES = 8192
_KEPT = (*KEPT, *KEPT_OF_POLICY)
_ELSEWHERE = ("name", "uuid", "root", "extra")  # at the head, and in the cmdline
_WRITTEN = tuple(key for key in DOMAIN_KEYS if key.in_cfg and key.name not in _ELSEWHERE)


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
    said = {**{name: getattr(mark, name) for name in MARK_FIELDS}, **mark.kept, **mark.kept_of_disks}
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
    file = _taken_apart(text)
    named = _images_in(file.values)
    if file.mark is not None and not file.is_intact:
        named |= _images_in(_taken_apart(file.mark.text).values)
    return tuple(sorted(named))


def _images_in(values: Mapping[str, CfgValue]) -> set[str]:
    return {value for key in IMAGE_KEYS if isinstance(value := values.get(key), str)}


@lru_cache(maxsize=_REMEMBERED_FILES)
def _read(text: str, digests: tuple[tuple[str, str], ...], words: Words) -> ConfigFile:
    images, file = dict(digests), _taken_apart(text)
    mark, original = file.mark, None
    if mark is not None and not file.is_intact and mark.body == _digest(mark.text):
        original = read_file(_with_head(mark, mark.text), images, words).domain
    try:
        values = words.read(file.values)
    except XlCfgError as error:
        return ConfigFile(mark=mark, original=original, problem=f"xl cannot read the file: {error}")
    if file.error is not None:
        return ConfigFile(mark=mark, original=original, problem=f"xl cannot read the file: {file.error}")
    if mark is not None and file.is_intact:
        images |= _digests_of(values, mark)
    reading = read_values(values, images, _noted(mark) if mark is not None else {})
    domain = reading.domain
    unknown = [] if mark is not None else list(unknown_keys(file.values, words.tool, words.known))
    if domain is not None and mark is not None:
        domain = _with_disks_of(domain, mark) if file.is_intact else domain
    elif domain is not None:  # ours have what host.toml allows
        domain = replace(domain, xl=tuple((key, value) for key, value in domain.xl if key in words.known))
    return ConfigFile(
        domain=domain,
        mark=mark,
        intact=file.is_intact,
        original=domain if file.is_intact else original,
        problem=reading.problems[0].text if reading.problems else None,
        ignored=tuple(dict.fromkeys(_sentence(remark) for remark in (*reading.ignored, *unknown))),
        unsaid=tuple(remark.text for remark in reading.unsaid),
        comments=file.comments,
        reading=reading,
        disks=domain.disks if domain else reading.disks,
        vifs=reading.vifs,
    )


def _sentence(remark: Remark) -> str:
    return remark.text if remark.hint is None else f"{remark.text} {remark.hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apart:
    """A file before anything is made of its values."""

    mark: Mark | None
    is_intact: bool
    values: Mapping[str, CfgValue]
    comments: Mapping[str, list[str]]
    error: XlCfgError | None = None  # xl cannot read it


@lru_cache(maxsize=2)  # for `_images_named` and `_read`, one after the other
def _taken_apart(text: str) -> _Apart:
    """Take a file apart. What we wrote ourselves is read line by line, anything else by all the rules of xl."""
    mark, body = split_mark(text)
    is_intact = mark is not None and mark.body == _digest(without_values(body))
    if is_intact and (values := read_plain(body)) is not None and len(text) <= TEXT_MAX:
        return _Apart(mark=mark, is_intact=True, values=values, comments={})
    found = read_cfg(text if mark is None else as_keys(text), errors_max=1)
    error = found.errors[0] if found.errors else None
    return _Apart(
        mark=mark,
        is_intact=is_intact,
        values=found.values if error is None else {},
        comments=found.comments,
        error=error,
    )


@lru_cache(typed=True)  # most domains are treated alike
def _policy(timeout_seconds: float, min_seconds: float, tcp: str | None, console: str | None, *noted: Value) -> Policy:
    """Return the policy of a mark, with what it notes by KEPT_OF_POLICY."""
    ready = Ready(timeout_seconds=timeout_seconds, min_seconds=min_seconds, tcp=tcp, console=console)
    values = dict(zip((key.attribute for key in KEPT_OF_POLICY), noted, strict=True))
    return with_kept_policy(Policy(ready=ready), values)


def _noted(mark: Mark) -> dict[str, Any]:
    """Return by field what only the mark knows of a domain."""
    values: dict[str, Any] = {key.attribute: mark.kept[key.attribute] for key in KEPT}
    return values | {"policy": _policy(*mark.ready, *(mark.kept[key.attribute] for key in KEPT_OF_POLICY))}


def _digests_of(values: Mapping[str, CfgValue], mark: Mark) -> dict[str, str]:
    """Return the digests of kernel and ramdisk by path. They belong to the body that we wrote: it was not edited since.

    (One file that is both has one digest.)
    """
    told = (("kernel", mark.kernel), ("ramdisk", mark.ramdisk))
    return {path: digest for key, digest in told if isinstance(path := values.get(key), str)}


def _with_disks_of(domain: Domain, mark: Mark) -> Domain:
    """Add to the disks of a domain what only its mark knows, which belongs to the body as we wrote it."""
    disks = tuple(_disk_with_mark(disk, mark) for disk in domain.disks)
    return domain if all(map(is_, disks, domain.disks)) else replace(domain, disks=disks)


def _disk_with_mark(disk: Disk, mark: Mark) -> Disk:
    values: dict[str, Any] = {
        key.attribute: dict(mark.kept_of_disks[key.attribute]).get(disk.devid, key.default) for key in KEPT_OF_DISKS
    }
    values["kind"] = dict(mark.kinds).get(disk.devid, disk.kind)
    differs = any(getattr(disk, name) != value for name, value in values.items())
    return replace(disk, **values) if differs else disk
