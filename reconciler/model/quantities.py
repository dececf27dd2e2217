"""Reads sizes, durations and shares as people write them: `"1GiB"`, `"90s"`, `"20%"`. Called by the models of specs.

Every function takes whatever TOML gave and raises `Unfit`, whose sentence says what is wrong and whose hint what to
write instead.
"""

from __future__ import annotations

import re

from reconciler.expressions import expression

_KIB_OF_UNIT = {"KiB": 1, "MiB": 1 << 10, "GiB": 1 << 20, "TiB": 1 << 30}
_SECONDS_OF_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}

_KIB_PER_MIB = 1024
SIZE_MAX_KIB = 1 << 40  # 1 PiB: far above any host, and far below where 64-bit sums would end
DURATION_MAX_SECONDS = 24 * 3600

_SIZE = expression(r"(?P<number>[0-9]{1,15})(?P<unit>[KMGT]iB)", re.ASCII)
_NEARLY_A_SIZE = expression(r"\s*(?P<number>[0-9]{1,15})\s*(?P<unit>[kmgt])(i?b)?\s*", re.ASCII | re.IGNORECASE)
_DURATION = expression(r"(?P<number>[0-9]{1,9})(?P<unit>ms|s|m|h)", re.ASCII)
_NEARLY_A_DURATION = expression(r"\s*(?P<number>[0-9]{1,9})\s*(?P<unit>[smh]).*", re.ASCII | re.IGNORECASE)
_DAYS = expression(r"(?P<number>[0-9]{1,9})d", re.ASCII)
_PERIOD_MAX_DAYS = 3660
_PERCENT = expression(r"(?P<number>[0-9]{1,3})%", re.ASCII)

SIZE_FORMS = 'an integer number of MiB, or a string such as "512MiB" or "2GiB"'
DURATION_FORMS = 'a string such as "90s", "2m", "1h" or "500ms"'
PERIOD_FORMS = 'a time such as "90s", "30m", "12h" or "7d"'
_RATE = expression(r"([0-9]{1,20})([GMK]?)([Bb])/s")
_INTERVAL = expression(r"([0-9]{1,20})([mu]?)s?")


class Unfit(ValueError):
    """A value that cannot be used: `str()` ends the sentence "KEY …", `hint` can be copied."""

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        super().__init__(sentence)
        self.hint = hint


def size_kib(value: object) -> int:
    """Return a memory or disk size in KiB. An integer counts MiB, as in xl.cfg. Only whole MiB from 0 on are sizes."""
    if isinstance(value, int) and not isinstance(value, bool):
        kib = value * _KIB_PER_MIB
    elif isinstance(value, str):
        kib = _kib_of_text(value)
    else:
        raise Unfit(f"must be {SIZE_FORMS}, not {kind_of(value)}")
    if kib < 0:
        raise Unfit("must not be negative")
    if kib > SIZE_MAX_KIB:
        raise Unfit("is larger than 1024TiB")
    if kib % _KIB_PER_MIB:
        raise Unfit("must be a whole number of MiB", f'Write "{kib // _KIB_PER_MIB + 1}MiB".')
    return kib


def _kib_of_text(text: str) -> int:
    if text == "0":  # zero needs no unit
        return 0
    if match := _SIZE.fullmatch(text):
        return int(match["number"]) * _KIB_OF_UNIT[match["unit"]]
    hint = None
    if match := _NEARLY_A_SIZE.fullmatch(text):
        hint = f'Write "{match["number"]}{match["unit"].upper()}iB".'
    elif text.isascii() and text.isdigit():
        hint = f"Write {text[:20]} without quotes for MiB."
    raise Unfit(f"must be {SIZE_FORMS}, not {quoted(text)}", hint)


def duration_seconds(value: object, longest_seconds: float = DURATION_MAX_SECONDS) -> float:
    """Return the seconds of a duration such as "90s", which is at most a day unless another bound is given."""
    if not isinstance(value, str):
        hint = f'Write "{value}s".' if isinstance(value, int) and not isinstance(value, bool) else None
        raise Unfit(f"must be {DURATION_FORMS}, not {kind_of(value)}", hint)
    match = _DURATION.fullmatch(value)
    if match is None:
        near = _NEARLY_A_DURATION.fullmatch(value)
        hint = f'Write "{near["number"]}{near["unit"].lower()}".' if near else None
        raise Unfit(f"must be {DURATION_FORMS}, not {quoted(value)}", hint)
    seconds = int(match["number"]) * _SECONDS_OF_UNIT[match["unit"]]
    if seconds > longest_seconds:
        days = round(longest_seconds / DURATION_MAX_SECONDS)
        raise Unfit("is longer than a day" if days == 1 else f"is longer than {days} days")
    return seconds


def period_seconds(value: object) -> float:
    """Return the seconds of a time to look back or ahead: a duration, or days such as "7d"; at most ten years.

    >>> period_seconds("7d") == period_seconds("168h")
    True
    """
    if not isinstance(value, str):
        raise Unfit(f"must be {PERIOD_FORMS}, not {kind_of(value)}")
    days, other = _DAYS.fullmatch(value), _DURATION.fullmatch(value)
    if days is not None:
        seconds: float = int(days["number"]) * DURATION_MAX_SECONDS
    elif other is not None:
        seconds = int(other["number"]) * _SECONDS_OF_UNIT[other["unit"]]
    else:
        raise Unfit(f"must be {PERIOD_FORMS}, not {quoted(value)}")
    if seconds > _PERIOD_MAX_DAYS * DURATION_MAX_SECONDS:
        raise Unfit("is longer than ten years")
    return float(seconds)


def count_or_share(value: object) -> int | float:
    """Return a count (5) or a share ("20%" gives 0.2)."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise Unfit("must not be negative")
        return value
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)) and int(match["number"]) <= 100:
        return int(match["number"]) / 100
    raise Unfit(f'must be a count or a share such as "20%", not {kind_of(value)}')


def size_or_share(value: object) -> int | float:
    """Return a size in bytes, or a share ("20%" gives 0.2).

    >>> size_or_share("1GiB"), size_or_share("20%")
    (1073741824, 0.2)
    """
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)) and int(match["number"]) <= 100:
        return int(match["number"]) / 100
    try:
        return size_kib(value) * 1024
    except Unfit as error:
        sentence = f'must be a size such as "2GiB" or a share such as "20%", not {kind_of(value)}'
        raise Unfit(sentence, error.hint) from None


def kind_of(value: object) -> str:
    """Name the kind of a TOML value as a person would."""
    match value:
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return quoted(value)
        case list() | tuple():
            return "an array"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def quoted(text: str) -> str:
    """Quote a string for a message: cut to a readable length, with control characters escaped."""
    return f'"{printable(text if len(text) <= 60 else text[:57] + "...")}"'


def printable(text: str) -> str:
    """Escape whatever is no visible character, so that a terminal can be trusted with the text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def number_shown(value: object) -> str:
    """Write a number for a message. (Python refuses to print integers of more than 4300 digits.)"""
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a number that large" if value > 0 else "a number that small"
    return str(value)


def rate_of(rate: str) -> tuple[int, int]:
    """Return what xl makes of a rate: bytes an interval, and the interval in microseconds.

    >>> rate_of("10Mb/s"), rate_of("1MB/s@20ms")
    ((62500, 50000), (20000, 20000))
    """
    speed_text, at, interval_text = rate.partition("@")
    speed = _RATE.fullmatch(speed_text)
    interval = _INTERVAL.fullmatch(interval_text) if at else _INTERVAL.fullmatch("50ms")
    if speed is None or interval is None:
        raise ValueError(f'The rate "{rate}" is not one that xl reads, such as "10Mb/s" or "1MB/s@20ms".')
    amount, length = _c_number(speed[1]), _c_number(interval[1])
    if not amount or not length or max(amount, length) > 0xFFFFFFFF:
        raise ValueError(f'The rate "{rate}" is zero or too large for xl.')
    bytes_a_second = amount * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}[speed[2]]
    if speed[3] == "b":
        bytes_a_second //= 8
    microseconds = length * {"u": 1, "m": 10**3, "": 10**6}[interval[2]]
    if microseconds > 0xFFFFFFFF or bytes_a_second * microseconds > 0xFFFFFFFFFFFFFFFF:
        raise ValueError(f'The rate "{rate}" is too large for xl.')
    if bytes_a_second * microseconds < 10**6:
        raise ValueError(f'The rate "{rate}" is less than a byte an interval, which xl takes for no limit at all.')
    return bytes_a_second * microseconds // 10**6, microseconds


def rate_text(bytes_per_interval: int, interval_microseconds: int) -> str:
    """Return a rate that xl turns into these numbers (to within a byte)."""
    return f"{-(-bytes_per_interval * 10**6 // max(interval_microseconds, 1))}B/s@{interval_microseconds}us"


def same_rate(one: str | None, other: str | None) -> bool:
    """Return whether two rates mean the same to xl, however they are written."""
    return one == other or (one is not None and other is not None and rate_of(one) == rate_of(other))


def _c_number(digits: str) -> int | None:
    """Read digits as C does: octal after a 0; None where C would stop before their end."""
    if digits.startswith("0") and not set(digits) <= set("01234567"):
        return None
    return int(digits, 8 if digits.startswith("0") else 10)
