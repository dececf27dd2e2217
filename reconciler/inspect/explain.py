"""Says what a key of a domain spec means, from the table of keys: for `explain`, and for docs/reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.model.key_row import Choice, Key, Kind, Takes, Whole
from reconciler.model.keys import DISK_KEYS, DOMAIN_KEYS, READY_KEYS, VIF_KEYS

TABLES: tuple[tuple[str, str, tuple[Key[Any], ...]], ...] = (
    ("", "", DOMAIN_KEYS),
    ("disk.", "[[disk]]", DISK_KEYS),
    ("vif.", "[[vif]]", VIF_KEYS),
    ("ready.", "[ready]", READY_KEYS),
)
"""Prefix of its path, the table as TOML has it, and its keys."""

_KINDS = {
    Kind.ORDER: "`true`, `false`, or an integer from 0 to 999",
    Kind.SECONDS: "a number of seconds",
    Kind.FLAG: "`true` or `false`",
}
_SPELLED = {Kind.SIZE: "in MiB", Kind.FLAG: "as 1 or 0"}
_UNITS = {
    Kind.SIZE: 'an integer counts MiB; else "512MiB", "2GiB"',
    Kind.DURATION: '"90s", "2m", "1h", "500ms"',
    Kind.SECONDS: "seconds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A key, under its path: `memory`, `disk.size`."""

    path: str
    table: str
    key: Key[Any]

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what there is to say of it: a word for each fact, and the fact."""
        key = self.key
        yield "type", value_of(key.kind)
        if isinstance(key.kind, Kind) and key.kind in _UNITS:
            yield "unit", _UNITS[key.kind]
        yield "default", default_of(key) or "none: it may be left out"
        yield "change", change_of(key)
        if key.needs:
            yield "needs", f"`{key.needs}`"
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


def every_key() -> dict[str, Explained]:
    """Return all keys by their path."""
    return {
        f"{prefix}{key.name}": Explained(path=f"{prefix}{key.name}", table=table, key=key)
        for prefix, table, keys in TABLES
        for key in keys
        if key.in_spec
    }


def explained(named: str) -> list[Explained]:
    """Find a key by its path, also as plans write it (`disk[xvda].size`); by its name alone, wherever it is one."""
    keys = every_key()
    path = ".".join(part.partition("[")[0] for part in named.split("."))
    if path in keys:
        return [keys[path]]
    return [key for key in keys.values() if key.key.name == path]


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
