"""Types of single values in spec files: the checks that pydantic calls, and the sentences for what does not pass.

Patterns are understood by pydantic and by JSON Schema alike; each has the sentence a person reads in its place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

from reconciler.model.domain import XlAtom, XlValue, driver_domain
from reconciler.model.quantities import (
    DURATION_FORMS,
    DURATION_MAX_SECONDS,
    SIZE_FORMS,
    Unfit,
    count_or_share,
    duration_seconds,
    kind_of,
    number_shown,
    quoted,
    size_kib,
    size_or_share,
)
from reconciler.shapes import AfterValidator, BeforeValidator, Field, Strict, StringConstraints, WithJsonSchema
from reconciler.specs.urls import receiver_url


def _positive_size_kib(value: object) -> int:
    kib = size_kib(value)
    if kib == 0:
        raise Unfit("must be more than 0")
    return kib


def _positive_seconds(value: object, longest_seconds: float = DURATION_MAX_SECONDS) -> float:
    seconds = duration_seconds(value, longest_seconds)
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
        return tuple(map(_xl_item, value))
    return _xl_atom(value)


def _xl_item(value: object) -> XlAtom | tuple[XlAtom, ...]:
    if not isinstance(value, list):
        return _xl_atom(value)
    if any(isinstance(item, list) for item in value):
        raise Unfit("must not have arrays nested more than two deep, which xl reads nowhere")
    return tuple(map(_xl_atom, value))


def _xl_atom(value: object) -> XlAtom:
    if isinstance(value, bool):
        raise Unfit("must be a string, a number or an array of them, not a boolean", f"Write {int(value)}.")
    if isinstance(value, int):
        if not 0 <= value < 2**63:
            raise Unfit("must be a number from 0 to 2^63 - 1")
        return value
    if isinstance(value, str):
        if re.match(TEXT, value) is None:
            raise Unfit(PATTERN_SENTENCES[TEXT])
        return value
    raise Unfit(f"must be a string, a number or an array of them, not {kind_of(value)}")


def _cpus(value: object) -> str | tuple[str, ...]:
    if isinstance(value, list):
        return tuple(entry for item in value for entry in (_cpus(item),) if isinstance(entry, str))
    if not isinstance(value, str):
        raise Unfit(f"must be a string or an array of strings, not {kind_of(value)}")
    if re.match(CPUS, value) is None:
        raise Unfit(f"{PATTERN_SENTENCES[CPUS]}, not {kind_of(value)}")
    return value


def pci_table(value: object) -> object:
    """Take an address alone for a table with nothing else in it."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str):
        raise Unfit(f"must be a string or a table, not {kind_of(value)}")
    if re.match(BDF, value) is None:
        raise Unfit(f"{PATTERN_SENTENCES[BDF]}, not {kind_of(value)}")
    return {"bdf": value}


def _colo(value: object) -> tuple[tuple[str, str], ...]:
    """Check a table of texts, and make of it what can be hashed."""
    if isinstance(value, tuple):
        return value  # the default
    if not isinstance(value, Mapping):
        raise Unfit(f"must be a table, not {kind_of(value)}")
    for key, text in value.items():
        if re.match(COLO_KEY, key) is None or not isinstance(text, str) or re.match(VIF_TEXT, text) is None:
            raise Unfit('must have options such as sock_mirror_id = "0", in lower case, with texts without commas')
    return tuple(sorted(value.items()))


def _schedule(value: object) -> object:
    """Check the five fields of a cron line, and that it comes round at all."""
    from cronsim import CronSim, CronSimError  # only for trees with windows

    if not isinstance(value, str):
        raise Unfit(f"must be a string, not {kind_of(value)}")
    if len(value.split()) != 5:
        hint = 'Write minute, hour, day of month, month and day of week, such as "0 2 * * SAT".'
        raise Unfit(f"must have the five fields of a cron line, not {quoted(value)}", hint)
    try:
        next(CronSim(value, _ANY_MOMENT))
    except CronSimError as error:
        what = str(error).removeprefix("Bad ")
        raise Unfit(f"is no cron line that ever comes: {quoted(value)} has a wrong {what}") from None
    except StopIteration:
        raise Unfit(f"never comes: no day is like {quoted(value)}") from None
    return value


def _timezone(value: object) -> object:
    from zoneinfo import ZoneInfo, available_timezones

    if not isinstance(value, str):
        raise Unfit(f"must be a string, not {kind_of(value)}")
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        near = difflib.get_close_matches(value[:60], available_timezones(), n=1)
        hint = f'Did you mean "{near[0]}"?' if near else 'Write one such as "Europe/Berlin".'
        raise Unfit(f"must be the name of a time zone, which {quoted(value)} is not on this machine", hint) from None
    return value


_ANY_MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_WINDOW_SECONDS_MAX: Final = 31 * DURATION_MAX_SECONDS
DEFAULT_AUTOSTART: Final = 500

_CONTROL = r"\x00-\x1f\x7f-\x9f"
TEXT: Final = r"^[^\x00-\x08\x0a-\x1f\x7f-\x9f]*$"
WORD: Final = rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$"
VIF_TEXT: Final = rf"^[^\s,{_CONTROL}]([^,{_CONTROL}]*[^\s,{_CONTROL}])?$"
NAME: Final = r"^([a-zA-Z]|[0-9]+[a-zA-Z._-])[a-zA-Z0-9._-]*$"  # of digits only, xl would take it for a domid
NAME_MAX: Final = 63
NAME_FORM: Final = "a letter or digit, then up to 62 letters, digits, dots, underscores or dashes, not digits alone"
SHA256: Final = r"^[0-9a-fA-F]{64}$"
UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
MAC: Final = r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"
MAC_PREFIX: Final = r"^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){0,4}$"
RATE: Final = r"^[0-9]{1,12}[GMK]?[Bb]/s(@[0-9]{1,9}[mu]?s)?$"
INTERFACE: Final = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$"
BRIDGE: Final = r"^[a-zA-Z0-9][a-zA-Z0-9._:-]{0,63}$"  # Open vSwitch: NAME.VLAN:VLAN
BDF: Final = r"^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7*]$"
PCI_DEVICE: Final = rf"{BDF[:-1]}$|^name=[^,\s{_CONTROL}]+$"
PCI_SLOT: Final = r"^[01]?[0-9a-fA-F]$"
COLO_KEY: Final = r"^[a-z][a-z0-9_]*$"
SCRIPT_TARGET: Final = rf"^([^{_CONTROL}]*[^,{_CONTROL}])?$"
_CPU_RANGE = r"\^?(nodes?:)?(all|[0-9]{1,4}(-[0-9]{1,4})?)"
CPUS: Final = rf"^{_CPU_RANGE}(, ?{_CPU_RANGE})*$"
LOGICAL_VOLUME: Final = r"^[a-zA-Z0-9+_][a-zA-Z0-9+_.-]{0,126}/[a-zA-Z0-9+_][a-zA-Z0-9+_.-]{0,126}$"
TCP: Final = r"^([a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$"
CONNECT: Final = (
    r"^(local|ssh://([a-zA-Z0-9_][a-zA-Z0-9._-]*@)?([a-zA-Z0-9][a-zA-Z0-9._-]*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?)$"
)
XL_KEY: Final = r"^[a-z][a-z0-9._]*$"

PATTERN_SENTENCES: Final = {
    TEXT: "must not contain line breaks or other control characters than tabs",
    WORD: "must not be empty, begin or end with a blank, or contain line breaks or other control characters",
    VIF_TEXT: "must not be empty, begin or end with a blank, or contain commas or control characters",
    NAME: f"must be a name: {NAME_FORM}",
    SHA256: "must be a sha256: 64 hexadecimal digits",
    UUID: 'must be a UUID such as "8b3c1f0e-5d6a-5c1e-9f57-1b2d3c4e5f60"',
    MAC: 'must be a MAC address such as "00:16:3e:12:34:56"',
    MAC_PREFIX: 'must be one to five octets of a MAC address, the first of them even, such as "00:16:3e"',
    RATE: 'must be a rate such as "10Mb/s" or "1MB/s@20ms"',
    INTERFACE: "must be the name of a network interface: at most 15 letters, digits, dots, underscores or dashes",
    BRIDGE: "must be the name of a bridge: letters, digits, dots, underscores, dashes or colons",
    BDF: 'must be the address of a PCI device such as "0000:03:00.0", or "0000:03:00.*" for all its functions',
    PCI_DEVICE: 'must be the address of a PCI device such as "0000:03:00.0", or "name=NAME"',
    PCI_SLOT: "must be a slot of the guest: a hexadecimal number from 0 to 1f",
    SCRIPT_TARGET: "must not end with a comma or contain control characters",
    CPUS: 'must be a list of cpus such as "0-3,^1" or "nodes:0"',
    LOGICAL_VOLUME: 'must be a logical volume written as "group/volume"',
    TCP: 'must be an address and a port such as "10.0.0.9:22"',
    CONNECT: 'must be "local" or "ssh://[user@]name[:port]"',
    XL_KEY: "must be a key of xl.cfg: lower-case letters, digits, dots and underscores",
}

Text = Annotated[str, StringConstraints(pattern=TEXT, max_length=4096)]
Word = Annotated[str, StringConstraints(pattern=WORD, max_length=1024)]
VifText = Annotated[str, StringConstraints(pattern=VIF_TEXT, max_length=255)]
Backend = Annotated[VifText | None, AfterValidator(driver_domain)]
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=NAME_MAX)]
MacPrefix = Annotated[str, StringConstraints(pattern=MAC_PREFIX)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]
OneOrMore = Annotated[int, Field(ge=1)]

_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^(0|[0-9]+[KMGT]iB)$"}]}
_DURATION_SCHEMA = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
_STRINGS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SHARE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,3}%$"}]}
_AUTOSTART_SCHEMA = {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 999}]}
_XL_SCALAR_SCHEMA = [{"type": "string"}, {"type": "integer", "minimum": 0}]
_XL_LIST_SCHEMA = {"type": "array", "items": {"anyOf": _XL_SCALAR_SCHEMA}}
_XL_SCHEMA = {
    "anyOf": [*_XL_SCALAR_SCHEMA, {"type": "array", "items": {"anyOf": [*_XL_SCALAR_SCHEMA, _XL_LIST_SCHEMA]}}]
}
_COLO_SCHEMA = {"type": "object", "additionalProperties": {"type": "string", "pattern": VIF_TEXT}}
_CPUS_SCHEMA = {"type": "string", "pattern": CPUS}
_PER_VCPU_SCHEMA = {"anyOf": [_CPUS_SCHEMA, {"type": "array", "items": _CPUS_SCHEMA}]}

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
WindowSeconds = Annotated[
    float,
    BeforeValidator(lambda value: _positive_seconds(value, _WINDOW_SECONDS_MAX)),
    WithJsonSchema({**_DURATION_SCHEMA, "description": DURATION_FORMS}),
]
Schedule = Annotated[str, BeforeValidator(_schedule)]
Timezone = Annotated[str, BeforeValidator(_timezone)]
ReceiverUrl = Annotated[str, BeforeValidator(receiver_url)]
Share = Annotated[int | float, BeforeValidator(count_or_share), WithJsonSchema(_SHARE_SCHEMA)]
SizeOrShare = Annotated[
    int | float,
    BeforeValidator(size_or_share),
    WithJsonSchema({"anyOf": [_SIZE_SCHEMA, {"type": "string", "pattern": "^(100|[0-9]{1,2})%$"}]}),
]
Autostart = Annotated[int | None, BeforeValidator(_autostart), WithJsonSchema(_AUTOSTART_SCHEMA)]
XlKey = Annotated[str, StringConstraints(pattern=XL_KEY)]
XlSetting = Annotated[XlValue, BeforeValidator(_xl_value), WithJsonSchema(_XL_SCHEMA)]
Names = Annotated[tuple[Name, ...], Strict(False)]
NameOrNames = Annotated[tuple[Name, ...], BeforeValidator(_one_or_many), WithJsonSchema(_STRINGS_SCHEMA)]
Arguments = Annotated[tuple[Text, ...], BeforeValidator(_words), WithJsonSchema(_STRINGS_SCHEMA)]
Words = Annotated[tuple[Word, ...], Strict(False)]
Colo = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_colo), WithJsonSchema(_COLO_SCHEMA)]
PerVcpu = Annotated[str | tuple[str, ...], BeforeValidator(_cpus), WithJsonSchema(_PER_VCPU_SCHEMA)]


def is_name(text: str) -> bool:
    """Return whether a host, a fleet, a profile or (if nothing else takes it) a domain can be called so."""
    return len(text) <= NAME_MAX and re.fullmatch(NAME, text) is not None
