"""Says what a key of a spec, of host.toml or of reconciler.toml means: for `explain`, and for docs/reference.

The keys of a domain are told from their table, `model.keys`; the others from `specs.setting_keys` and the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from reconciler.model.key_row import Choice, Key, Kind, Takes, Whole
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, READY_KEYS, VIF_KEYS
from reconciler.model.quantities import DURATION_FORMS, SIZE_FORMS
from reconciler.records import dataclass
from reconciler.specs import setting_keys
from reconciler.specs.schema import SpecKind, schema
from reconciler.specs.setting_keys import Setting

TABLES: tuple[tuple[str, str, tuple[Key[Any], ...]], ...] = (
    ("", "", DOMAIN_KEYS),
    ("disk.", "[[disk]]", DISK_KEYS),
    ("vif.", "[[vif]]", VIF_KEYS),
    ("ready.", "[ready]", READY_KEYS),
)
"""Prefix of its path, the table as TOML has it, and its keys."""

PCI_TABLES = (("pci.", "[[pci]]", setting_keys.PCI_KEYS),)
HOST_TABLES: tuple[tuple[str, str, tuple[Setting, ...]], ...] = (
    ("", "", setting_keys.HOST_KEYS),
    ("allow.", "[allow]", setting_keys.ALLOW_KEYS),
    ("window.", "[[window]]", setting_keys.WINDOW_KEYS),
    ("simulated.", "[simulated]", setting_keys.SIMULATED_KEYS),
)
TREE_TABLES: tuple[tuple[str, str, tuple[Setting, ...]], ...] = (
    ("", "", setting_keys.TREE_KEYS),
    ("brake.", "[brake]", setting_keys.BRAKE_KEYS),
    ("git.", "[git]", setting_keys.GIT_KEYS),
    ("window.", "[[window]]", setting_keys.WINDOW_KEYS),
    ("notify.", "[[notify]]", setting_keys.NOTIFY_KEYS),
)
_SETTINGS: tuple[tuple[SpecKind, str, tuple[tuple[str, str, tuple[Setting, ...]], ...]], ...] = (
    ("domain", "", PCI_TABLES),
    ("host", "host.toml", HOST_TABLES),
    ("tree", "reconciler.toml", TREE_TABLES),
)

_KINDS = {
    Kind.ORDER: "`true`, `false`, or an integer from 0 to 999",
    Kind.SECONDS: "a number of seconds",
    Kind.FLAG: "`true` or `false`",
}
_SPELLED = {Kind.SIZE: "in MiB", Kind.FLAG: "as 1 or 0"}
_SIZE_UNIT = 'an integer counts MiB; else "512MiB", "2GiB"'
_DURATION_UNIT = '"90s", "2m", "1h", "500ms"'
_UNITS = {Kind.SIZE: _SIZE_UNIT, Kind.DURATION: _DURATION_UNIT, Kind.SECONDS: "seconds"}
_NONE = "none: it may be left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A key, under its path: `memory`, `disk.size`, `allow.pci`."""

    path: str
    where: str  # the table of a domain spec, or the file and its table; "": the top of a domain spec
    doc: str
    facts: tuple[tuple[str, str], ...]  # what there is to say of it: a word for each fact, and the fact


@cache
def every_key() -> tuple[Explained, ...]:
    """Return all keys: of a domain spec, of host.toml, of reconciler.toml."""
    of_domains = tuple(
        Explained(path=f"{prefix}{key.name}", where=table, doc=key.doc, facts=tuple(_facts(key)))
        for prefix, table, keys in TABLES
        for key in keys
        if key.in_spec
    )
    return of_domains + tuple(
        Explained(
            path=f"{prefix}{row.name}",
            where=" of ".join(word for word in (table, file) if word),
            doc=row.doc,
            facts=tuple(_facts_of_setting(row, of_key, is_required=is_required)),
        )
        for kind, file, tables in _SETTINGS
        for prefix, table, rows in tables
        for row, of_key, is_required in with_schema(kind, table, rows)
    )


def explained(named: str) -> list[Explained]:
    """Find a key by its path, also as plans write it (`disk[xvda].size`); by its name alone, wherever it is one."""
    path = ".".join(part.partition("[")[0] for part in named.split("."))
    keys = every_key()
    found = [key for key in keys if key.path == path]
    return found or [key for key in keys if key.path.rpartition(".")[2] == path]


def with_schema(
    kind: SpecKind, table: str, rows: tuple[Setting, ...]
) -> Iterator[tuple[Setting, Mapping[str, Any], bool]]:
    """Yield the rows of a table, each with what the JSON Schema says of the key, and whether it has to be there."""
    described = schema(kind)
    if table:
        model = f"{table.strip('[]').capitalize()}Spec"
        described = described["$defs"][model] if model in described["$defs"] else _pci(described)
    for row in rows:
        yield row, described["properties"][row.name], row.name in described.get("required", ())


def _pci(described: Mapping[str, Any]) -> Any:
    return described["properties"]["pci"]["items"]["anyOf"][1]


def _facts(key: Key[Any]) -> Iterator[tuple[str, str]]:
    yield "type", value_of(key.kind)
    if isinstance(key.kind, Kind) and key.kind in _UNITS:
        yield "unit", _UNITS[key.kind]
    yield "default", default_of(key) or _NONE
    yield "change", change_of(key)
    if key.needs:
        yield "needs", " or ".join(f"`{other}`" for other in key.needs)
    if key.allowed_by:
        yield "allowed by", f"`[allow] {key.allowed_by}` in host.toml"
    if key.kept:
        yield "kept", "with the domain on its host, so it holds after the spec file is gone"
    yield "xl.cfg", f"`{key.name}`{spelling_of(key)}" if key.in_cfg else "has no such key"
    if key.listed:
        yield "xl list -l", f"`{'.'.join(key.listed)}`"
    if key.example:
        yield "example", key.example
    yield "since", key.since


def _facts_of_setting(row: Setting, of_key: Mapping[str, Any], *, is_required: bool) -> Iterator[tuple[str, str]]:
    yield "type", row.value or value_in(of_key)
    for forms, unit in ((SIZE_FORMS, _SIZE_UNIT), (DURATION_FORMS, _DURATION_UNIT)):
        if forms in of_key["description"]:
            yield "unit", unit
    yield "default", "none: it has to be written" if is_required else default_in(row, of_key) or _NONE
    if row.example:
        yield "example", row.example
    yield "since", row.since


def value_in(of_key: Mapping[str, Any]) -> str:
    """Say which values a JSON Schema takes."""
    if SIZE_FORMS in of_key.get("description", ""):
        return "a size"
    if DURATION_FORMS in of_key.get("description", ""):
        return "a duration"
    match of_key:
        case {"anyOf": forms}:
            return " or ".join(dict.fromkeys(value_in(form) for form in forms if form.get("type") != "null"))
        case {"enum": words}:
            return ", ".join(f"`{word}`" for word in words)
        case {"type": "integer", "minimum": least, "maximum": most}:
            return f"an integer from {least} to {most}"
        case {"type": "integer", "minimum": least}:
            return f"an integer from {least} on"
        case {"type": "boolean"}:
            return "`true` or `false`"
        case {"type": "array", "items": {"enum": words}}:
            return f"an array of {', '.join(f'`{word}`' for word in words)}"
        case {"type": "array"}:
            return "an array of strings"
        case {"type": "string", "pattern": pattern} if pattern.endswith("%$"):
            return "a share of them, such as `20%`"
        case _:
            return "a string"


def default_in(row: Setting, of_key: Mapping[str, Any]) -> str | None:
    """Say what holds where a setting is left out; None where that is nothing."""
    if row.default:
        return row.default
    match of_key.get("default"):
        case None | "" | []:
            return None
        case bool() as flag:
            return f"`{str(flag).lower()}`"
        case list() as words:
            return ", ".join(f"`{word}`" for word in words)
        case value:
            return f"`{value}`"


def value_of(kind: Kind | Whole | Choice) -> str:
    """Say which values a kind of key takes."""
    match kind:
        case Whole():
            return f"an integer from {kind.least} to {kind.most}"
        case Choice():
            return ", ".join(f"`{word}`" for word in kind.words)
        case _:
            article = "an" if kind.value.startswith("array") else "a"
            return _KINDS.get(kind, f"{article} {kind.value}")


def default_of(key: Key[Any]) -> str | None:
    """Say what holds where a key is left out; None where that is nothing."""
    if key.floor is not None:
        return f"as `{key.floor}`"
    meant = key.unset if key.default is None else key.default
    match key.kind, meant:
        case Kind.ORDER, None:
            return "`false`"
        case _, None | ():
            return None
        case Kind.DURATION, float() as seconds:
            return f'`"{seconds:g}s"`'
        case _, bool():
            return f"`{str(meant).lower()}`"
        case _, int() | float():
            return f"{meant:g}"
        case _:
            return f"`{meant}`"


def change_of(key: Key[Any]) -> str:
    """Say what it takes to give a running domain another value."""
    if key.takes is Takes.NOTHING:
        return "nothing: it says how the domain is treated"
    if key.kind is Kind.TABLES:
        return "live to add one, as said above; else as its keys say"
    return str(key.takes.value)


def spelling_of(key: Key[Any]) -> str:
    """Say how xl.cfg writes its value, where it does so otherwise."""
    spelled = _SPELLED.get(key.kind) if isinstance(key.kind, Kind) else None
    return f", {spelled}" if spelled else ""
