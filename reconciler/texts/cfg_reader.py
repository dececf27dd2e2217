"""Makes a `Domain` of the values of a config file, by xl's own rules and defaults (tools/xl/xl_parse.c).

Called by `config_file` for files of ours and of anybody else. What xl refuses is a problem. What xl ignores, and what a
domain spec has no word for, is left out and noted in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from reconciler.expressions import expression
from reconciler.model.domain import Disk, Domain, Image, Vif, XlAtom, XlValue
from reconciler.model.key_row import Choice, Key, Kind, Value, Whole
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.model.parts import CEILING_OF, key_named
from reconciler.model.pci import read_pci
from reconciler.model.quantities import Unfit
from reconciler.records import dataclass
from reconciler.specs.resolve.rules import OWN_KEYS as SPEC_KEYS
from reconciler.specs.resolve.xl_keys import HARMLESS, REACHES
from reconciler.specs.resolve.xm import XM_ONLY
from reconciler.specs.schema_errors import near_miss
from reconciler.texts.cfg_grammar import Loc, Number, number_of
from reconciler.texts.cfg_grammar import Value as CfgValue
from reconciler.texts.devices import read_disk, read_vif

MEMORY_DEFAULT_KIB = 32 * 1024  # what libxl gives a domain whose file names neither memory nor maxmem
OWN_KEYS = frozenset(key.name for key in DOMAIN_KEYS if key.in_cfg) | {"builder"}
"""Keys that a domain spec has itself, so that they never stand in its `[xl]` table."""

KNOWN_KEYS = OWN_KEYS | HARMLESS | REACHES.keys()
"""All keys that any xl reads. It ignores others without a word."""

IMAGE_KEYS = tuple(key.name for key in DOMAIN_KEYS if key.kind is Kind.FILE)
"""Those that name a file whose digest is looked up."""

_ORDINARY = tuple(key for key in DOMAIN_KEYS if key.in_cfg and key.is_ordinary)
_LEFT_OPEN = {key.attribute: key.default for key in _ORDINARY}  # what the values are of keys that are not there
_UUID = expression(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about a value of the file, and where that stands; `hint` can be copied or done."""

    loc: Loc
    text: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The result of reading. `domain` is None when xl would refuse the values, and `problems` say why."""

    domain: Domain | None
    type: Literal["pv", "pvh", "hvm"]  # also of a domain that xl refuses
    problems: tuple[Remark, ...]
    ignored: tuple[Remark, ...]  # what xl leaves out, too
    unsaid: tuple[Remark, ...]  # what xl heeds and a domain spec cannot say
    disks: tuple[Disk, ...]  # those that could be read, also without a domain
    vifs: tuple[Vif, ...]


def read_values(
    values: Mapping[str, CfgValue], images: Mapping[str, str], noted: Mapping[str, Any] | None = None
) -> Reading:
    """Read the domain that these values define. `images` has the sha256 of staged files by path.

    `noted` are fields of the domain that no xl.cfg has a word for.
    """
    reader = _Reader(values, images)
    domain = reader.domain(noted or {})
    return Reading(
        domain=None if reader.problems else domain,
        type=domain.type,
        problems=tuple(reader.problems),
        ignored=tuple(reader.ignored),
        unsaid=tuple(reader.unsaid),
        disks=domain.disks,
        vifs=domain.vifs,
    )


class _Reader:
    """Goes over the values once, and collects all problems and all that was left out."""

    def __init__(self, values: Mapping[str, CfgValue], images: Mapping[str, str]) -> None:
        self._values = values
        self._images = images
        self.problems: list[Remark] = []
        self.ignored: list[Remark] = []
        self.unsaid: list[Remark] = []

    def domain(self, noted: Mapping[str, Any]) -> Domain:
        given: dict[str, Any] = {key.attribute: self._value(key) for key in _ORDINARY if key.name in self._values}
        ordinary = {**_LEFT_OPEN, **given}
        kind = self._type()
        memory, maxmem, number = self._kib("memory"), self._kib("maxmem"), self._number("vcpus")
        vcpus = max(number or 1, 1)
        return Domain(
            name=self._name(),
            uuid=self._uuid(),
            type=kind,
            kernel=self._kernel(kind),
            ramdisk=self._image("ramdisk"),
            cmdline=self._cmdline(),
            memory_kib=next(kib for kib in (memory, maxmem, MEMORY_DEFAULT_KIB) if kib is not None),
            maxmem_kib=next(kib for kib in (maxmem, memory, MEMORY_DEFAULT_KIB) if kib is not None),
            vcpus=vcpus,
            vcpus_given=number is not None,
            disks=self._disks(),
            vifs=self._vifs(),
            pci=self._pci(),
            xl=self._other_keys(),
            **ordinary,
            **self._most("vcpus", vcpus),
            **noted,
        )

    def _value(self, key: Key[Domain]) -> Value:
        """Read a key that has no meaning of its own here, as xl reads values of its kind."""
        match key.kind:
            case Choice():
                return self._choice(key.name, key.kind, key.default)
            case Whole():
                return self._within(key.name, key.kind)
            case Kind.FLAG:
                number = self._number(key.name)
                return None if number is None else number != 0
            case Kind.WORDS:
                return self._words(key.name)
            case Kind.PER_VCPU if isinstance(self._values.get(key.name), tuple):
                return self._strings(key.name) or None
            case _:
                return self._string(key.name)

    def _refuse(self, problem: str, *loc: str | int, hint: str | None = None) -> None:
        self.problems.append(Remark(loc, problem, hint))

    def _leave_out(self, sentence: str, *loc: str | int, hint: str | None = None) -> None:
        self.ignored.append(Remark(loc, sentence, hint))

    def _cannot_say(self, sentence: str, *loc: str | int) -> None:
        self.unsaid.append(Remark(loc, sentence))

    def _string(self, key: str) -> str | None:
        value = self._values.get(key)
        if isinstance(value, tuple):
            self._leave_out(f"{key} is a list where xl expects one value, so xl leaves it out.", key)
            return None
        return None if value is None else str(value)

    def _strings(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, ())
        if isinstance(value, str):
            hint = f"Write {key} = [ ... ]."
            self._leave_out(f"{key} is one value where xl expects a list, so xl leaves it out.", key, hint=hint)
            return ()
        items: list[str] = []
        for index, item in enumerate(value):
            if isinstance(item, tuple):  # xl stops reading there, too
                self._leave_out(f"{key} has a list inside the list, where xl stops reading it.", key, index)
                break
            items.append(str(item))
        return tuple(items)

    def _number(self, key: str) -> int | None:
        text = self._string(key)
        number = None if text is None else number_of(text)
        if text is not None and number is None:
            self._leave_out(
                f'{key} is "{text[:40]}", no number, so xl leaves it out.', key, hint=_plain_number(key, text)
            )
        if number is not None and number < 0:
            self._refuse(f"{key} is negative.", key)
        return number

    def _within(self, key: str, kind: Whole) -> int | None:
        text = self._values.get(key)
        if isinstance(text, str) and number_of(text) == -1:
            self._leave_out(f"{key} is -1, which stands for the usual one in xl: it is left out.", key)
            return None
        number = self._number(key)
        if number is None or kind.least <= number <= kind.most:
            return number
        bounds = f"from {kind.least} to {kind.most}"
        self._leave_out(f"{key} is {number}, and no domain starts with one that is not {bounds}: it is left out.", key)
        return None

    def _kib(self, key: str) -> int | None:
        mib = self._number(key)
        if mib == 0:
            self._refuse(f"{key} is 0, with which no domain starts.", key)
        return None if mib is None else mib * 1024

    def _most(self, key: str, least: int) -> dict[str, Any]:
        """Read the ceiling of a key (maxvcpus for vcpus), which is at least the value of that key."""
        ceiling = CEILING_OF[key]
        most = self._number(ceiling.name) or least
        if most < least:
            self._refuse(f"{ceiling.name} ({most}) is less than {key} ({least}).", ceiling.name)
        return {ceiling.attribute: most}

    def _name(self) -> str:
        name = self._string("name")
        if name is None:
            self._refuse("It gives the domain no name (`name = …`).", "name")
        return name or ""

    def _uuid(self) -> str:
        uuid = (self._string("uuid") or "").lower()
        if uuid and not _UUID.fullmatch(uuid):
            self._refuse(f'uuid is "{uuid[:60]}", which is no UUID.', "uuid")
        return uuid

    def _type(self) -> Literal["pv", "pvh", "hvm"]:
        """Read the type. xl takes any beginning of its name, even the empty one."""
        asked, builder = self._string("type"), self._string("builder")
        kind = None if asked is None else next((k for k in ("hvm", "pv", "pvh") if k.startswith(asked)), "")
        older = None
        if builder is not None:
            older = "hvm" if "hvm".startswith(builder) else "pv" if "generic".startswith(builder) else ""
        if kind == "" or older == "":
            wrong = "type" if kind == "" else "builder"
            hint = 'The builder "linux" of xm is type = "pv".' if builder == "linux" else None
            self._refuse(
                f'{wrong} is "{asked if kind == "" else builder}"; xl knows pv, pvh and hvm.', wrong, hint=hint
            )
        if kind and older and kind != older:
            hint = "Take out the builder, which is older."
            contradiction = f'type is "{kind}" but builder is "{builder}": xl refuses the contradiction.'
            self._refuse(contradiction, "builder", hint=hint)
        match kind or older:
            case "hvm":
                return "hvm"
            case "pvh":
                return "pvh"
            case _:
                return "pv"

    def _kernel(self, kind: str) -> Image | None:
        image = self._image("kernel")
        if kind == "hvm" and image is not None and image.path.rpartition("/")[2] == "hvmloader":
            self._leave_out("kernel names hvmloader, which xl uses anyway.", "kernel")
            return None
        return image

    def _image(self, key: str) -> Image | None:
        path = self._string(key)
        if path == "":
            self._leave_out(f"{key} is empty, which means none.", key)
            return None
        return None if path is None else Image(sha256=self._images.get(path, ""), path=path)

    def _cmdline(self) -> str | None:
        cmdline, root, extra = self._string("cmdline"), self._string("root"), self._string("extra")
        if cmdline is not None:
            for key in [key for key, value in (("root", root), ("extra", extra)) if value is not None]:
                self._leave_out(f"{key} is given beside cmdline, so xl leaves it out.", key)
        if cmdline is not None or root is None:
            return cmdline if cmdline is not None else extra
        return f"root={root}" if extra is None else f"root={root} {extra}"

    def _words(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, ())
        return tuple(value.split()) if isinstance(value, str) else self._strings(key)

    def _choice(self, key: str, kind: Choice, default: Value) -> Value:
        word = self._string(key) or default
        if word is not None and word not in kind.words:
            hint = near_miss(str(word), kind.words)
            self._refuse(f'{key} is "{str(word)[:40]}"; xl knows {", ".join(kind.words)}.', key, hint=hint)
        return word

    def _disks(self) -> tuple[Disk, ...]:
        disks = []
        for index, spec in enumerate(self._strings("disk")):
            try:
                disk, others = read_disk(spec)
            except ValueError as error:
                self._refuse(str(error), "disk", index, hint=_hint(error))
                continue
            disks.append(disk)
            for part in others:
                self._cannot_say(f"disk {disk.vdev} has {part}, which a domain spec cannot say.", "disk", index)
        return tuple(disks)

    def _vifs(self) -> tuple[Vif, ...]:
        vifs = []
        for index, spec in enumerate(self._strings("vif")):
            try:
                vif, others, beyond = read_vif(spec, index)
            except ValueError as error:
                self._refuse(str(error), "vif", index, hint=_hint(error))
                continue
            vifs.append(vif)
            for part in others:
                blank = part.partition("=")[0].endswith(" ")
                hint = "No blank may stand before the `=`." if blank else None
                self._leave_out(f"vif {index} has {part}, which xl makes nothing of.", "vif", index, hint=hint)
            for part in beyond:
                self._cannot_say(f"vif {index} has {part}, which a domain spec cannot say.", "vif", index)
        return tuple(vifs)

    def _pci(self) -> tuple[str, ...]:
        devices = []
        for index, device in enumerate(self._strings("pci")):
            try:
                devices.append(str(read_pci(device)))
            except ValueError as error:
                self._refuse(str(error), "pci", index)
        return tuple(devices)

    def _other_keys(self) -> tuple[tuple[str, XlValue], ...]:
        """Return all other keys unchanged, for the `[xl]` table of a spec."""
        found: list[tuple[str, XlValue]] = []
        for key in sorted(self._values.keys() - OWN_KEYS):
            value = self._values[key]
            if key in SPEC_KEYS:
                _, instead = XM_ONLY.get(key, ("", None))
                sentence = f"{key} is a key that xl does not know, and in a spec it means something else."
                self._leave_out(sentence, key, hint=instead)
                continue
            if isinstance(value, str):
                found.append((key, _atom(value)))
                continue
            items = [_item(item) for item in value]
            found.append((key, tuple(item for item in items if item is not None)))
            if None in items:
                self._leave_out(f"{key} has lists nested more than two deep, which xl reads nowhere.", key)
        return tuple(found)


def unknown_keys(keys: Iterable[str], tool: str = "xl", known: frozenset[str] = KNOWN_KEYS) -> Iterator[Remark]:
    """List the keys that the tool does not read in any version, with what may have been meant."""
    words = known | XM_ONLY.keys()
    for count, key in enumerate(key for key in keys if key not in known):
        was, instead = XM_ONLY.get(key, ("", _MEANT.get(key)))
        if key not in XM_ONLY and key not in _MEANT and count < _HINTS_MAX:
            instead = near_miss(key, words, _NEAR)
        of_xm = f" (xm's word for {was})" if was else ""
        yield Remark((key,), f'{tool} knows no key "{key}"{of_xm} and ignores it, so it is left out.', instead)


_HINTS_MAX = 100  # of one file: to find what a key is near to takes a while
_NEAR = 0.8
"""Keys have much in common: `bridge` is 0.6 like `builder`, and a wrong one does harm."""
_MEANT = {
    "initrd": "The key is ramdisk.",
    "bridge": 'Write it into vif = [ "bridge=..." ].',
    "disc": "The key is disk.",
    "mem": "The key is memory.",
}


def _hint(error: ValueError) -> str | None:
    return error.hint if isinstance(error, Unfit) else None


def _plain_number(key: str, text: str) -> str | None:
    """Return how a number with a unit is written for xl, which counts MiB."""
    match = re.fullmatch(r"\s*([0-9]+)\s*([kKmMgGtT]?)i?[bB]?\s*", text)
    if match is None or key_named(key).kind is not Kind.SIZE:
        return None
    if re.fullmatch(r"0[0-9]+", match[1]):
        return f"Write {key} = {int(match[1])}: a number that begins with 0 is octal."
    mib = int(match[1]) * 1024 ** (" kmgt".index(match[2].lower() or " ")) // 1024**2
    if not match[2]:
        return f"Write {key} = {int(match[1])}."
    return f"xl counts MiB: write {key} = {mib}." if mib else None


def _item(value: CfgValue) -> XlAtom | tuple[XlAtom, ...] | None:
    """Return an item of a list; None for one that goes deeper than xl reads."""
    if isinstance(value, str):
        return _atom(value)
    atoms = [_atom(item) for item in value if isinstance(item, str)]
    return tuple(atoms) if len(atoms) == len(value) else None


def _atom(value: str) -> XlAtom:
    number = number_of(value) if isinstance(value, Number) else None
    return str(value) if number is None else number
