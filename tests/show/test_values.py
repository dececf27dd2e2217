"""Units as people write them; no difference is rounded away."""

from __future__ import annotations

import pytest

from reconciler.decide.diff import Effect, FieldChange
from reconciler.model.domain import Scalar
from reconciler.show import values

_MIB = 1024


@pytest.mark.parametrize(
    ("kib", "rounded", "exact"),
    [
        (0, "0 MiB", "0 KiB"),
        (1, "1 KiB", "1 KiB"),
        (512 * _MIB, "512 MiB", "512 MiB"),
        (1536 * _MIB, "1.5 GiB", "1536 MiB"),
        (1025 * _MIB, "1 GiB", "1025 MiB"),
        (-518 * _MIB, "-518 MiB", "-518 MiB"),
        (3 * _MIB**3, "3 TiB", "3 TiB"),
    ],
)
def test_memory(kib: int, rounded: str, exact: str) -> None:
    assert (values.memory(kib), values.exact_memory(kib)) == (rounded, exact)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (4.25, "4.2 s"), (59, "59 s"), (60, "1 min"), (90, "1 min 30 s"), (7200, "2 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert values.duration(seconds) == text


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("memory", 512 * _MIB, "512 MiB"),
        ("disk[xvda].size", 1 << 30, "1 GiB"),
        ("disk[xvda].size", 1000, "1000 bytes"),
        ("disk[xvda]", "path=/srv/a, size=1073741824", "path=/srv/a, size=1 GiB"),
        ("shutdown_timeout", 90.0, "1 min 30 s"),
        ("prevent_destroy", True, "true"),
        ("vcpus", 2, "2"),
        ("cmdline", "", '""'),
        ("cmdline", None, "(none)"),
    ],
)
def test_values_of_fields(path: str, value: Scalar, text: str) -> None:
    change = FieldChange(path=path, before=value, after=None, effect=Effect.LIVE)
    assert values.before_and_after(change) == (text, "(none)")
