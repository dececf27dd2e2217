"""Declares what users write: one pydantic model for each kind of spec file. Resolve and `reconciler schema` call it.

Keys are named as in xl.cfg(5). A profile and the `[defaults]` table are domain specs too, so no key is required here:
resolve checks what a whole domain needs, after merging. Python names carry units, aliases are the keys of the file.
Rules about several keys at once, or about a host, are resolve's. A new key of a domain begins as a row of `model.keys`;
one that is passed on as it stands needs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    WithJsonSchema,
    create_model,
    model_validator,
)

from reconciler.model.domain import XlValue
from reconciler.model.key_row import LATER, Choice, Key, Kind, Owner, Whole
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, READY_KEYS, VCPUS_MAX, VIF_KEYS
from reconciler.model.quantities import (
    DURATION_FORMS,
    SIZE_FORMS,
    Unfit,
    count_or_share,
    duration_seconds,
    kind_of,
    number_shown,
    size_kib,
)


def _positive_size_kib(value: object) -> int:
    kib = size_kib(value)
    if kib == 0:
        raise Unfit("must be more than 0")
    return kib


def _positive_seconds(value: object) -> float:
    seconds = duration_seconds(value)
    if seconds == 0:
        raise Unfit("must be longer than 0s")
    return seconds


def _one_or_many(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(value)
    raise Unfit(f"must be a string or an array of strings, not {kind_of(value)}")


def _words(value: object) -> object:
    """Split a string at blanks, as xl does."""
    return tuple(value.split()) if isinstance(value, str) else _one_or_many(value)


def _autostart(value: object) -> int | None:
    if isinstance(value, bool):
        return DEFAULT_AUTOSTART if value else None
    if isinstance(value, int) and 0 <= value <= 999:
        return value
    shown = number_shown(value) if isinstance(value, int) else kind_of(value)
    raise Unfit(f"must be true, false or an order from 0 to 999, not {shown}")


def _xl_value(value: object) -> XlValue:
    """Check a value of `[xl]`. xl.cfg knows strings, numbers without a sign, and lists of them.

    (xl would take `true` for the name of a variable.)
    """
    if isinstance(value, list):
        if any(isinstance(item, list) for item in value):
            raise Unfit("must not be an array of arrays")
        return tuple(item for item in map(_xl_value, value) if not isinstance(item, tuple))
    if isinstance(value, bool):
        raise Unfit("must be a string, a number or an array of them, not a boolean", f"Write {int(value)}.")
    if isinstance(value, int):
        if not 0 <= value < 2**63:
            raise Unfit("must be a number from 0 to 2^63 - 1")
        return value
    if isinstance(value, str):
        if any(c < " " or "\x7f" <= c <= "\x9f" for c in value):
            raise Unfit(PATTERN_SENTENCES[TEXT])
        return value
    raise Unfit(f"must be a string, a number or an array of them, not {kind_of(value)}")


DEFAULT_AUTOSTART: Final = 500

# Patterns are understood by pydantic and by JSON Schema alike; each has the sentence a person reads in its place.
_CONTROL = r"\x00-\x1f\x7f-\x9f"
TEXT: Final = rf"^[^{_CONTROL}]*$"
WORD: Final = rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$"
VIF_TEXT: Final = rf"^[^\s,{_CONTROL}]([^,{_CONTROL}]*[^\s,{_CONTROL}])?$"
NAME: Final = r"^[a-zA-Z][a-zA-Z0-9._-]{0,39}$"
SHA256: Final = r"^[0-9a-fA-F]{64}$"
UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
MAC: Final = r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"
RATE: Final = r"^[0-9]{1,12}[GMK]?[Bb]/s(@[0-9]{1,9}[mu]?s)?$"
INTERFACE: Final = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$"
BRIDGE: Final = r"^[a-zA-Z0-9][a-zA-Z0-9._:-]{0,63}$"  # Open vSwitch: NAME.VLAN:VLAN
BDF: Final = r"^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$"
_CPU_RANGE = r"\^?(nodes?:)?(all|[0-9]{1,4}(-[0-9]{1,4})?)"
CPUS: Final = rf"^{_CPU_RANGE}(, ?{_CPU_RANGE})*$"
LOGICAL_VOLUME: Final = r"^[a-zA-Z0-9+_][a-zA-Z0-9+_.-]{0,126}/[a-zA-Z0-9+_][a-zA-Z0-9+_.-]{0,126}$"
TCP: Final = r"^([a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$"
CONNECT: Final = (
    r"^(local|ssh://([a-zA-Z0-9_][a-zA-Z0-9._-]*@)?([a-zA-Z0-9][a-zA-Z0-9._-]*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?)$"
)
XL_KEY: Final = r"^[a-z][a-z0-9._]*$"

PATTERN_SENTENCES: Final = {
    TEXT: "must not contain line breaks or other control characters",
    WORD: "must not be empty, begin or end with a blank, or contain line breaks or other control characters",
    VIF_TEXT: "must not be empty, begin or end with a blank, or contain commas or control characters",
    NAME: "must be a name: a letter, then up to 39 letters, digits, dots, underscores or dashes",
    SHA256: "must be a sha256: 64 hexadecimal digits",
    UUID: 'must be a UUID such as "8b3c1f0e-5d6a-5c1e-9f57-1b2d3c4e5f60"',
    MAC: 'must be a MAC address such as "00:16:3e:12:34:56"',
    RATE: 'must be a rate such as "10Mb/s" or "1MB/s@20ms"',
    INTERFACE: "must be the name of a network interface: at most 15 letters, digits, dots, underscores or dashes",
    BRIDGE: "must be the name of a bridge: letters, digits, dots, underscores, dashes or colons",
    BDF: 'must be the address of a PCI device such as "0000:03:00.0"',
    CPUS: 'must be a list of cpus such as "0-3,^1" or "nodes:0"',
    LOGICAL_VOLUME: 'must be a logical volume written as "group/volume"',
    TCP: 'must be an address and a port such as "10.0.0.9:22"',
    CONNECT: 'must be "local" or "ssh://[user@]name[:port]"',
    XL_KEY: "must be a key of xl.cfg: lower-case letters, digits, dots and underscores",
}

Text = Annotated[str, StringConstraints(pattern=TEXT, max_length=4096)]
Word = Annotated[str, StringConstraints(pattern=WORD, max_length=1024)]
VifText = Annotated[str, StringConstraints(pattern=VIF_TEXT, max_length=255)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]
OneOrMore = Annotated[int, Field(ge=1)]

_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^(0|[0-9]+[KMGT]iB)$"}]}
_DURATION_SCHEMA = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
_STRINGS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SHARE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,3}%$"}]}
_AUTOSTART_SCHEMA = {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 999}]}
_XL_SCALAR_SCHEMA = [{"type": "string"}, {"type": "integer", "minimum": 0}]
_XL_SCHEMA = {"anyOf": [*_XL_SCALAR_SCHEMA, {"type": "array", "items": {"anyOf": _XL_SCALAR_SCHEMA}}]}

SizeKib = Annotated[int, BeforeValidator(size_kib), WithJsonSchema({**_SIZE_SCHEMA, "description": SIZE_FORMS})]
PositiveSizeKib = Annotated[
    int, BeforeValidator(_positive_size_kib), WithJsonSchema({**_SIZE_SCHEMA, "description": SIZE_FORMS})
]
Seconds = Annotated[
    float, BeforeValidator(duration_seconds), WithJsonSchema({**_DURATION_SCHEMA, "description": DURATION_FORMS})
]
PositiveSeconds = Annotated[
    float, BeforeValidator(_positive_seconds), WithJsonSchema({**_DURATION_SCHEMA, "description": DURATION_FORMS})
]
Share = Annotated[int | float, BeforeValidator(count_or_share), WithJsonSchema(_SHARE_SCHEMA)]
Autostart = Annotated[int | None, BeforeValidator(_autostart), WithJsonSchema(_AUTOSTART_SCHEMA)]
XlKey = Annotated[str, StringConstraints(pattern=XL_KEY)]
XlSetting = Annotated[XlValue, BeforeValidator(_xl_value), WithJsonSchema(_XL_SCHEMA)]
Names = Annotated[tuple[Name, ...], Strict(False)]
NameOrNames = Annotated[tuple[Name, ...], BeforeValidator(_one_or_many), WithJsonSchema(_STRINGS_SCHEMA)]
Arguments = Annotated[tuple[Text, ...], BeforeValidator(_words), WithJsonSchema(_STRINGS_SCHEMA)]
Words = Annotated[tuple[Word, ...], Strict(False)]


class Spec(BaseModel):
    """Strict, so that `memory = true` or `vcpus = "2"` is an error and not a guess; a key nobody knows is one too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _ordinary(name: str, keys: Iterable[Key[Owner]], word: Any) -> type[Spec]:
    """Make a model of the keys that are passed on as they stand, each checked by its kind. `word` types strings."""
    fields: dict[str, Any] = {}
    for key in keys:
        if key.is_ordinary:
            kind = _type_of(key.kind, word)
            alias = key.name if key.name != key.attribute else None
            fields[key.attribute] = (kind if key.default is not None else kind | None, Field(key.default, alias=alias))
    return create_model(name, __base__=Spec, **fields)


def _type_of(kind: Kind | Whole | Choice, word: Any) -> Any:
    match kind:
        case Choice():
            return Literal[kind.words]
        case Whole():
            return Annotated[int, Field(ge=kind.least, le=kind.most)]
        case Kind.FLAG:
            return bool
        case Kind.ORDER:
            return Autostart
        case Kind.WORDS:
            return Arguments
        case Kind.DURATION:
            return PositiveSeconds
        case _:
            return word


LIFTED: Final = {key.name: key for key in DOMAIN_KEYS if key.is_ordinary and key.boot_entry == LATER}
"""Those that `[xl]` may have as well."""

if TYPE_CHECKING:  # what these add to a Spec is never named, only passed on
    OrdinaryKeys = Spec
    OrdinaryKeysOfDisks = Spec
    OrdinaryKeysOfVifs = Spec
else:
    OrdinaryKeys = _ordinary("OrdinaryKeys", DOMAIN_KEYS, Word)
    OrdinaryKeysOfDisks = _ordinary("OrdinaryKeysOfDisks", DISK_KEYS, VifText)
    OrdinaryKeysOfVifs = _ordinary("OrdinaryKeysOfVifs", VIF_KEYS, VifText)


class DiskSpec(OrdinaryKeysOfDisks):
    """One virtual disk; exactly one of path, lv and device says what it is."""

    vdev: Word
    path: Word | None = None
    lv: Annotated[str, StringConstraints(pattern=LOGICAL_VOLUME)] | None = None
    device: Word | None = None
    size_kib: PositiveSizeKib | None = Field(default=None, alias="size")
    format: Literal["raw", "qcow2"] = "raw"
    access: Literal["rw", "ro"] = "rw"
    source: Word | None = None
    allocate: Literal["sparse", "full"] = "sparse"
    on_delete: Literal["keep", "delete"] = "keep"


class VifSpec(OrdinaryKeysOfVifs):
    """One virtual interface; an empty table leaves everything to xl."""

    bridge: Annotated[str, StringConstraints(pattern=BRIDGE)] | None = None
    mac: Annotated[str, StringConstraints(pattern=MAC)] | None = None
    script: VifText | None = None
    rate: Annotated[str, StringConstraints(pattern=RATE)] | None = None
    model: VifText | None = None
    type: Literal["ioemu", "vif"] | None = None
    vifname: Annotated[str, StringConstraints(pattern=INTERFACE)] | None = None


class ReadySpec(Spec):
    """The signs by which a started domain counts as ready."""

    timeout_seconds: PositiveSeconds = Field(default=120.0, alias="timeout")
    min_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 5.0
    tcp: Annotated[str, StringConstraints(pattern=TCP)] | None = None
    console: Text | None = None


class DomainSpec(OrdinaryKeys):
    """A domain, a profile, or the `[defaults]` of the tree: its ordinary keys, and those that rules speak of."""

    profile: NameOrNames = ()
    type: Literal["pv", "pvh", "hvm"] = "pv"
    kernel: Word | None = None
    ramdisk: Word | None = None
    kernel_sha256: Sha256 | None = None
    ramdisk_sha256: Sha256 | None = None
    cmdline: Text | None = None
    root: Text | None = None
    extra: Text | None = None
    memory_kib: PositiveSizeKib | None = Field(default=None, alias="memory")
    maxmem_kib: PositiveSizeKib | None = Field(default=None, alias="maxmem")
    vcpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)] = 1
    maxvcpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)] | None = None
    cpus: Annotated[str, StringConstraints(pattern=CPUS)] | None = None
    disk: Annotated[tuple[DiskSpec, ...], Strict(False)] = ()
    vif: Annotated[tuple[VifSpec, ...], Strict(False)] = ()
    pci: Annotated[tuple[Annotated[str, StringConstraints(pattern=BDF)], ...], Strict(False)] = ()
    depends_on: Names = ()
    wave: Annotated[int, Field(ge=-999, le=999)] = 0
    reconcile: bool = True
    restart: Literal["auto", "defer"] = "auto"
    ready: ReadySpec = ReadySpec()
    xl: dict[XlKey, XlSetting] = Field(default={})
    uuid: Annotated[str, StringConstraints(pattern=UUID)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _lift(cls, table: Any) -> Any:
        """Lift keys out of `[xl]`: those that came after 0.1 stood there, and still may. The key itself is stronger."""
        below = table.get("xl") if isinstance(table, Mapping) else None
        if not isinstance(below, Mapping):
            return table
        lifted = {name: _as_flag(key.kind, below[name]) for name, key in LIFTED.items() if name in below}
        return {**lifted, **table, "xl": {name: value for name, value in below.items() if name not in lifted}}


def _as_flag(kind: Kind | Whole | Choice, value: object) -> object:
    """Turn the 1 and 0 of `[xl]` into true and false for a key that is a flag."""
    return bool(value) if kind is Kind.FLAG and value in (0, 1) else value


class AllowSpec(Spec):
    """The things that specs of a host may use; each of these runs as root in dom0 or reaches hardware."""

    bootloaders: Words = ()
    scripts: Words = ()
    xl_keys: Annotated[tuple[XlKey, ...], Strict(False)] = ()
    pci: Annotated[tuple[Annotated[str, StringConstraints(pattern=BDF)], ...], Strict(False)] = ()


class SimulatedSpec(Spec):
    """The size and temper of a simulated host."""

    memory_kib: PositiveSizeKib = Field(default=8 * 1024 * 1024, alias="memory")
    cpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)] = 8
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    latency_seconds: Seconds = Field(default=0.0, alias="latency")


class HostSpec(Spec):
    """A host.toml."""

    toolstack: Literal["xl", "simulated", "xm"]
    connect: Annotated[str, StringConstraints(pattern=CONNECT)] = "local"
    config_dir: Word | None = None
    kernel_dir: Word = "/var/lib/xen/kernels"
    kernel_roots: Words | None = None
    disk_roots: Words = ()
    allow: AllowSpec = AllowSpec()
    keep_free_kib: SizeKib = Field(default=0, alias="keep_free")
    overcommit_vcpus: bool = True
    parallel: Annotated[int, Field(ge=1, le=1000)] = 4
    max_unavailable: OneOrMore = 1
    reconcile: bool = True
    simulated: SimulatedSpec = SimulatedSpec()


class BrakeSpec(Spec):
    """The most that one run may destroy or restart."""

    max_destroy: Share = 0.2
    max_restart: Share | None = None


class GitSpec(Spec):
    """The rule for the commits that `watch` accepts."""

    require_signed: Literal["none", "head", "all"] = "none"
    allowed_signers: Word | None = None


class TreeSpec(Spec):
    """A reconciler.toml."""

    fleet: Name = "default"
    brake: BrakeSpec = BrakeSpec()
    git: GitSpec = GitSpec()
    defaults: DomainSpec = DomainSpec()


SpecKind = Literal["domain", "host", "tree"]
MODELS: Final[dict[SpecKind, type[Spec]]] = {"domain": DomainSpec, "host": HostSpec, "tree": TreeSpec}


_TABLES: Final[dict[type[Spec], Iterable[Key[Any]]]] = {
    DomainSpec: DOMAIN_KEYS,
    DiskSpec: DISK_KEYS,
    VifSpec: VIF_KEYS,
    ReadySpec: READY_KEYS,
}


def schema(kind: SpecKind) -> dict[str, Any]:
    """Return the JSON Schema of a kind of spec file, for editors."""
    described = MODELS[kind].model_json_schema()
    for model, keys in _TABLES.items():
        table = described if model is MODELS[kind] else described.get("$defs", {}).get(model.__name__)
        if table is not None:
            properties = table["properties"]
            names = [key.name for key in keys if key.name in properties]
            docs = {key.name: key.doc for key in keys}
            table["properties"] = {name: _described(docs[name], properties[name]) for name in names}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def _described(doc: str, of_key: dict[str, Any]) -> dict[str, Any]:
    forms = of_key.get("description")
    return {**of_key, "description": doc if forms is None else f"{doc} Written as {forms}."}
