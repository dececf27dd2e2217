"""Sizes, durations and the values of changed fields, in the units that people write them in."""

from __future__ import annotations

from reconciler.decide.diff import FieldChange, Pending
from reconciler.expressions import expression
from reconciler.model.domain import Scalar
from reconciler.model.key_row import Kind
from reconciler.model.keys import DOMAIN_KEYS
from reconciler.show.escape import plain

_KINDS = {key.name: key.kind for key in DOMAIN_KEYS}
_SIZE_IN_SUMMARY = expression(r"(?<=\bsize=)([0-9]+)$")
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_NONE = "(none)"


def memory(kib: int) -> str:
    """Write KiB in the largest unit that needs at most one decimal. Without a decimal it is exact.

    >>> memory(512 * 1024), memory(8252 * 1024)
    ('512 MiB', '8.1 GiB')
    """
    amount, unit = float(abs(kib)), 0
    if kib == 0:
        return "0 MiB"
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount /= 1024
        unit += 1
    sign = "-" if kib < 0 else ""
    return f"{sign}{amount:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


def exact_memory(kib: int) -> str:
    """Write KiB in the largest unit that divides it, so that no difference is lost: `1536 MiB`, `1 GiB`."""
    unit = 0
    while kib and kib % 1024 == 0 and unit < len(_UNITS) - 1:
        kib //= 1024
        unit += 1
    return f"{kib} {_UNITS[unit]}"


def size(size_bytes: int) -> str:
    """Write bytes exactly."""
    return exact_memory(size_bytes // 1024) if size_bytes and size_bytes % 1024 == 0 else f"{size_bytes} bytes"


def duration(seconds: float) -> str:
    """Write seconds as people say them: `4.2 s`, `1 min 30 s`, `2 h`."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def before_and_after(change: FieldChange) -> tuple[str, str]:
    """Write both values of a changed field, readable and safe to print."""
    return _value(change.path, change.before), _value(change.path, change.after)


def pending(waiting: Pending) -> str:
    """Write what has to wait, with both values: `maxmem needs a restart: 256 MiB → 384 MiB`."""
    before, after = before_and_after(waiting.field)
    return f"{plain(str(waiting))}: {before} → {after}"


def _value(path: str, value: Scalar) -> str:
    match value:
        case None:
            return _NONE
        case bool():
            return "true" if value else "false"
        case int() if _KINDS.get(path) is Kind.SIZE:
            return exact_memory(value)
        case int() if path.startswith("disk[") and path.endswith("].size"):
            return size(value)
        case int() | float() if _KINDS.get(path) is Kind.DURATION:
            return duration(value)
        case str() if path.startswith("disk["):
            return _SIZE_IN_SUMMARY.sub(lambda match: size(int(match[1])), plain(value)) or '""'
        case str():
            return plain(value) or '""'
        case _:
            return str(value)
