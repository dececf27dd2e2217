"""Finds names that a spec can have, for domains and files that are called otherwise."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container

from reconciler.specs.tree import HOST_FILE, TAKEN_ENDINGS, TAKEN_NAMES
from reconciler.specs.value_types import NAME_MAX
from reconciler.specs.value_types import is_name as is_name_of_any

_FIRST = "vm-"


def is_name(name: str) -> bool:
    """Return whether a spec can have this name."""
    taken = name in TAKEN_NAMES or f"{name}.toml" == HOST_FILE or name.endswith(TAKEN_ENDINGS)
    return is_name_of_any(name) and not taken


def near_name(name: str) -> str:
    """Return a name that a spec can have and that people recognize.

    >>> near_name("my web"), near_name("42"), near_name("auto"), near_name("web.example.org")
    ('my-web', 'vm-42', 'vm-auto', 'web.example.org')
    """
    if is_name(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "domain"
    for ending in TAKEN_ENDINGS:
        plain = plain.removesuffix(ending)
    tries = (one[:NAME_MAX].rstrip("-._") for one in (plain, f"{_FIRST}{plain}"))
    return next((one for one in tries if is_name(one)), f"{_FIRST}domain")


def free_name(name: str, taken: Container[str]) -> str:
    """Return the name itself where a spec can have it, else a near one that is not taken.

    >>> free_name("my web", {"my-web"}), free_name("web", {"web"})
    ('my-web-2', 'web')
    """
    near = near_name(name)
    if near == name:
        return name
    numbers = itertools.count(2)
    tries = itertools.chain([near], (f"{near[:50]}-{number}" for number in numbers))
    return next(one for one in tries if one not in taken)
