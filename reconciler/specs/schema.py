"""Declares what users write: one `Spec` for each kind of spec file. Resolve and `reconciler schema` call it.

Keys are named as in xl.cfg(5). A profile and the `[defaults]` table are domain specs too, so no key is required here:
resolve checks what a whole domain needs, after merging. Python names carry units, aliases are the keys of the file.
Rules about several keys at once, or about a host, are resolve's. A new key of a domain begins as a row of `model.keys`;
one that is passed on as it stands needs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from reconciler.model.key_row import LATER, Choice, Key, Kind, Owner, Whole
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, READY_KEYS, VCPUS_MAX, VIF_KEYS
from reconciler.shapes import BeforeValidator, Field, Strict, StringConstraints
from reconciler.specs import setting_keys
from reconciler.specs.spec import Spec, json_schema
from reconciler.specs.value_types import (
    BDF,
    BRIDGE,
    CONNECT,
    INTERFACE,
    LOGICAL_VOLUME,
    MAC,
    PCI_DEVICE,
    PCI_SLOT,
    RATE,
    SCRIPT_TARGET,
    TCP,
    UUID,
    Arguments,
    Autostart,
    Backend,
    Colo,
    MacPrefix,
    Name,
    NameOrNames,
    Names,
    OneOrMore,
    PerVcpu,
    PositiveSeconds,
    PositiveSizeKib,
    ReceiverUrl,
    Schedule,
    Seconds,
    Sha256,
    Share,
    SizeKib,
    SizeOrShare,
    Text,
    Timezone,
    VifText,
    WindowSeconds,
    Word,
    Words,
    XlKey,
    XlSetting,
    pci_table,
)


def _ordinary(name: str, keys: Iterable[Key[Owner]], word: Any) -> type[Spec]:
    """Make a model of the keys that are passed on as they stand, each checked by its kind. `word` types strings."""
    kinds: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for key in keys:
        if key.is_ordinary:
            kind = _type_of(key.kind, word)
            alias = key.name if key.name != key.attribute else None
            kinds[key.attribute] = kind if key.default is not None else kind | None
            defaults[key.attribute] = Field(key.default, alias=alias)
    return type(name, (Spec,), {"__annotations__": kinds, **defaults})


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
    """One virtual disk; one of path, lv and device says what it is, or a script by its target. A drive may be empty."""

    vdev: Word
    cdrom: bool = False
    target: Annotated[str, StringConstraints(pattern=SCRIPT_TARGET, max_length=1024)] | None = None
    script: VifText | None = None
    backend: Backend = None
    path: Word | None = None
    lv: Annotated[str, StringConstraints(pattern=LOGICAL_VOLUME)] | None = None
    device: Word | None = None
    size_kib: PositiveSizeKib | None = Field(default=None, alias="size")
    format: Literal["raw", "qcow", "qcow2", "vhd", "qed"] = "raw"
    access: Literal["rw", "ro"] = "rw"
    source: Word | None = None
    allocate: Literal["sparse", "full"] = "sparse"
    on_delete: Literal["keep", "delete"] = "keep"


class VifSpec(OrdinaryKeysOfVifs):
    """One virtual interface; an empty table leaves everything to xl."""

    bridge: Annotated[str, StringConstraints(pattern=BRIDGE)] | None = None
    mac: Annotated[str, StringConstraints(pattern=MAC)] | None = None
    devid: Annotated[int, Field(ge=0, le=1023)] | None = None
    script: VifText | None = None
    rate: Annotated[str, StringConstraints(pattern=RATE)] | None = None
    model: VifText | None = None
    type: Literal["ioemu", "vif"] | None = None
    backend: Backend = None
    vifname: Annotated[str, StringConstraints(pattern=INTERFACE)] | None = None
    colo: Colo = ()


class PciSpec(Spec):
    """A PCI device of the host, by its address or its name."""

    bdf: Annotated[str, StringConstraints(pattern=BDF)] | None = None
    name: VifText | None = None
    vslot: Annotated[str, StringConstraints(pattern=PCI_SLOT)] | None = None
    permissive: bool | None = None
    msitranslate: bool | None = None
    power_mgmt: bool | None = None
    seize: bool | None = None
    rdm_policy: Literal["strict", "relaxed"] | None = None


class _AddressOrTable:
    """Says of a PCI device, in a JSON Schema, that its address alone may stand for it."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": BDF}, json_schema(PciSpec)]}


_Pci = Annotated[PciSpec, BeforeValidator(pci_table), _AddressOrTable()]


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
    cpus: PerVcpu | None = None
    disk: Annotated[tuple[DiskSpec, ...], Strict(False)] = ()
    vif: Annotated[tuple[VifSpec, ...], Strict(False)] = ()
    pci: Annotated[tuple[_Pci, ...], Strict(False)] = ()
    depends_on: Names = ()
    wave: Annotated[int, Field(ge=-999, le=999)] = 0
    reconcile: bool = True
    restart: Literal["auto", "defer"] = "auto"
    rehearse: Literal["off", "if-possible", "required"] = "off"
    ready: ReadySpec = Field(default_factory=ReadySpec.usual)
    xl: dict[XlKey, XlSetting] = Field(default={})
    uuid: Annotated[str, StringConstraints(pattern=UUID)] | None = None
    renamed_from: Name | None = None

    @classmethod
    def lift(cls, table: Any) -> Any:
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
    pci: Annotated[tuple[Annotated[str, StringConstraints(pattern=PCI_DEVICE)], ...], Strict(False)] = ()


class RehearsalSpec(Spec):
    """What a rehearsal on this host may take, and how it is made."""

    memory_kib: PositiveSizeKib | None = Field(default=None, alias="memory")
    bridge: Annotated[str, StringConstraints(pattern=BRIDGE)] | None = None
    timeout_seconds: PositiveSeconds | None = Field(default=None, alias="timeout")
    snapshot_size: SizeOrShare = 0.2
    keep_free: SizeOrShare = 0.1
    copy_limit_kib: SizeKib = Field(default=0, alias="copy_limit")
    pause: bool = False


class SimulatedSpec(Spec):
    """The size and temper of a simulated host."""

    memory_kib: PositiveSizeKib = Field(default=8 * 1024 * 1024, alias="memory")
    cpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)] = 8
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    latency_seconds: Seconds = Field(default=0.0, alias="latency")


WindowAction = Literal["restart", "destroy", "stop", "update", "create", "start"]


class WindowSpec(Spec):
    """When some actions may happen, or may not."""

    kind: Literal["allow", "deny"]
    schedule: Schedule
    duration_seconds: WindowSeconds = Field(alias="duration")
    timezone: Timezone = "UTC"
    actions: Annotated[tuple[WindowAction, ...], Strict(False), Field(min_length=1)] = ("restart", "destroy")
    domains: Annotated[tuple[Word, ...], Strict(False), Field(min_length=1)] = ("*",)
    reason: Text = ""


Windows = Annotated[tuple[WindowSpec, ...], Strict(False)]


class HostSpec(Spec):
    """A host.toml."""

    toolstack: Literal["xl", "simulated", "xm"]
    connect: Annotated[str, StringConstraints(pattern=CONNECT)] = "local"
    config_dir: Word | None = None
    kernel_dir: Word = "/var/lib/xen/kernels"
    kernel_roots: Words | None = None
    disk_roots: Words = ()
    allow: AllowSpec = Field(default_factory=AllowSpec.usual)
    keep_free_kib: SizeKib = Field(default=0, alias="keep_free")
    overcommit_vcpus: bool = True
    parallel: Annotated[int, Field(ge=1, le=1000)] = 4
    max_unavailable: OneOrMore = 1
    reconcile: bool = True
    window: Windows = ()
    rehearsal: RehearsalSpec = Field(default_factory=RehearsalSpec.usual)
    simulated: SimulatedSpec = Field(default_factory=SimulatedSpec.usual)


MAC_PREFIX: Final = "00:16:3e"
"""The range that Xen guests share."""


class BrakeSpec(Spec):
    """The most that one run may destroy or restart."""

    max_destroy: Share = 0.2
    max_restart: Share | None = None


class GitSpec(Spec):
    """The rule for the commits that `watch` accepts."""

    require_signed: Literal["none", "head", "all"] = "none"
    allowed_signers: Word | None = None


NotifyEvent = Literal["applied", "failed", "drifted", "stalled", "recovered", "refused", "commit"]


class NotifySpec(Spec):
    """Who is told what happens. A path that is not absolute is a file of the tree."""

    url: ReceiverUrl | None = None
    url_file: Word | None = None
    events: Annotated[tuple[NotifyEvent, ...], Strict(False), Field(min_length=1)] = (
        "applied",
        "failed",
        "stalled",
        "recovered",
        "refused",
        "commit",
    )
    format: Literal["json", "github", "gitlab", "forgejo", "alertmanager"] = "json"
    secret_file: Word | None = None
    token_file: Word | None = None


class TreeSpec(Spec):
    """A reconciler.toml."""

    fleet: Name = "default"
    mac_prefix: MacPrefix = MAC_PREFIX
    max_unavailable: OneOrMore | None = None
    brake: BrakeSpec = Field(default_factory=BrakeSpec.usual)
    git: GitSpec = Field(default_factory=GitSpec.usual)
    window: Windows = ()
    notify: Annotated[tuple[NotifySpec, ...], Strict(False)] = ()
    defaults: DomainSpec = Field(default_factory=DomainSpec.usual)


SpecKind = Literal["domain", "host", "tree"]
MODELS: Final[dict[SpecKind, type[Spec]]] = {"domain": DomainSpec, "host": HostSpec, "tree": TreeSpec}


_SENTENCES: Final[dict[type[Spec], dict[str, str]]] = {
    **{
        model: {key.name: key.doc for key in keys}
        for model, keys in (
            (DomainSpec, DOMAIN_KEYS),
            (DiskSpec, DISK_KEYS),
            (VifSpec, VIF_KEYS),
            (ReadySpec, READY_KEYS),
        )
    },
    **{
        model: {key.name: key.doc for key in keys}
        for model, keys in (
            (PciSpec, setting_keys.PCI_KEYS),
            (HostSpec, setting_keys.HOST_KEYS),
            (AllowSpec, setting_keys.ALLOW_KEYS),
            (RehearsalSpec, setting_keys.REHEARSAL_KEYS),
            (SimulatedSpec, setting_keys.SIMULATED_KEYS),
            (WindowSpec, setting_keys.WINDOW_KEYS),
            (TreeSpec, setting_keys.TREE_KEYS),
            (BrakeSpec, setting_keys.BRAKE_KEYS),
            (GitSpec, setting_keys.GIT_KEYS),
            (NotifySpec, setting_keys.NOTIFY_KEYS),
        )
    },
}
"""What each key of a model means."""


def schema(kind: SpecKind) -> dict[str, Any]:
    """Return the JSON Schema of a kind of spec file, for editors."""
    described = json_schema(MODELS[kind])
    named = {model.__name__: sentences for model, sentences in _SENTENCES.items()}
    _describe(described, named)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def _describe(part: Any, named: Mapping[str, Mapping[str, str]]) -> None:
    """Put its sentence to each key, in the tables of our models wherever they stand."""
    if isinstance(part, list):
        for item in part:
            _describe(item, named)
    if not isinstance(part, dict):
        return
    if "properties" in part and (sentences := named.get(part.get("title", ""))):
        of_keys = part["properties"]
        part["properties"] = {key: _described(doc, of_keys[key]) for key, doc in sentences.items() if key in of_keys}
    for item in part.values():
        _describe(item, named)


def _described(doc: str, of_key: dict[str, Any]) -> dict[str, Any]:
    """Put the sentence to a key. A default that no file could say (KiB, a share of 1, our own tables) is taken out."""
    forms = of_key.get("description")
    if forms is not None or "$ref" in of_key or isinstance(of_key.get("default"), float):
        of_key = {word: value for word, value in of_key.items() if word != "default"}
    return {**of_key, "description": doc if forms is None else f"{doc} Written as {forms}."}
