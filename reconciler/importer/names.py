"""Finds names that a spec can have, for domains and files that are called otherwise."""

from __future__ import annotations

import re

from reconciler.specs.tree import HOST_FILE, TAKEN_NAMES
from reconciler.specs.value_types import NAME

_ENDINGS = (".rehearsal", "--incoming", "--migratedaway")
_FIRST = "vm-"


def is_name(name: str) -> bool:
    """Return whether a spec can have this name."""
    if name in TAKEN_NAMES or f"{name}.toml" == HOST_FILE or name.isdecimal() or name.endswith(_ENDINGS):
        return False
    return re.fullmatch(NAME, name) is not None


def near_name(name: str) -> str:
    """Return a name that a spec can have and that people recognize.

    >>> near_name("my web"), near_name("42"), near_name("auto"), near_name("web.example.org")
    ('my-web', 'vm-42', 'vm-auto', 'web.example.org')
    """
    if is_name(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "domain"
    for ending in _ENDINGS:
        plain = plain.removesuffix(ending)
    tries = (plain, f"{_FIRST}{plain}")
    return next(
        (short for one in tries for length in (len(one), 63, 40) if is_name(short := one[:length].rstrip("-._"))),
        f"{_FIRST}domain",
    )
