"""Reads and writes the list of domains that a dom0 starts by itself at boot. Pure.

Debian's xendomains starts the links in /etc/xen/auto in the order of their names: ours are NNN-NAME. NetBSD's starts
the list `xendomains="foo bar"` of rc.conf in the order written. Its numbers are kept in a comment behind it, since the
list itself has no place for them. Only our own links and names are ever touched.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping

from reconciler.dom0.layout import Dom0

UNNUMBERED = 1000
"""The order of what was not numbered by us: behind all that was (numbers go to 999)."""

_LINK = re.compile(r"(?P<order>[0-9]{1,3})-.*")
_LIST = re.compile(
    r"""xendomains=(?:"(?P<double>[\w. \t-]*)"|'(?P<single>[\w. \t-]*)'|(?P<bare>[\w.-]*))[ \t]*"""
    r"(?:#(?P<comment>.*))?",
    re.ASCII,
)
_MENTION = re.compile(r"[ \t]*(?:export[ \t]+)?xendomains[+]?=")
_MARK = "reconciler:"


def read_links(lines: Iterable[str], dom0: Dom0) -> dict[str, int]:
    """Map each domain to its order, from lines "link<TAB>where it points".

    Links to other files than config files belong to somebody else and are left out.
    """
    orders: dict[str, int] = {}
    for line in lines:
        link, tab, target = line.partition("\t")
        domain = dom0.domain_of_config(posixpath.join(dom0.auto_dir, target)) if tab else None
        if domain is not None:
            orders[domain] = min(order_of_link(link), orders.get(domain, UNNUMBERED))
    return orders


def order_of_link(link: str) -> int:
    number = _LINK.fullmatch(link)
    return int(number["order"]) if number else UNNUMBERED


def names_a_list(text: str) -> bool:
    """Return whether an rc.conf sets the list at all, in whatever form."""
    return any(_MENTION.match(line) for line in text.splitlines())


def read_list(text: str) -> dict[str, int] | None:
    """Map each domain to its order, from an rc.conf; None when the list is missing or in a form that is not understood.

    The last line that sets the list counts, as for sh.
    """
    lines = [line for line in text.splitlines() if _MENTION.match(line)]
    found = _LIST.fullmatch(lines[-1]) if lines else None
    return None if found is None else _orders_of(found)


def write_list(text: str, domain: str, order: int | None) -> str:
    r"""Return the rc.conf with `domain` in the list at its place, or taken out of it. Other names keep their order.

    Raises ValueError (a sentence) for a list in a form that is not understood, which is then left alone.

    >>> before = 'xendomains="theirs web" # reconciler: web=20\n'
    >>> write_list(before, "db", 10)
    'xendomains="db theirs web" # reconciler: db=10 web=20\n'
    >>> write_list(before, "web", None)
    'xendomains="theirs"\n'
    """
    lines = text.splitlines()
    place_of_list = max((number for number, line in enumerate(lines) if _MENTION.match(line)), default=None)
    found = _LIST.fullmatch(lines[place_of_list]) if place_of_list is not None else None
    if place_of_list is not None and found is None:
        raise ValueError(f"the line {lines[place_of_list]!r} is not a plain list of names.")
    orders = _orders_of(found) if found else {}
    orders.pop(domain, None)
    names = list(orders)
    if order is not None:
        place = next((at for at, name in enumerate(names) if orders[name] > order), len(names))
        names.insert(place, domain)
        orders[domain] = order
    line = _line(names, orders)
    if place_of_list is not None:
        lines[place_of_list] = line
    elif order is not None:
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def _orders_of(found: re.Match[str]) -> dict[str, int]:
    names = (found["double"] or found["single"] or found["bare"] or "").split()
    numbers: dict[str, int] = {}
    comment = (found["comment"] or "").strip()
    if comment.startswith(_MARK):
        for word in comment.removeprefix(_MARK).split():
            name, _, number = word.partition("=")
            if re.fullmatch("[0-9]{1,3}", number):
                numbers[name] = int(number)
    return {name: numbers.get(name, UNNUMBERED) for name in names}


def _line(names: Iterable[str], orders: Mapping[str, int]) -> str:
    ours = " ".join(f"{name}={orders[name]}" for name in names if orders[name] != UNNUMBERED)
    return f'xendomains="{" ".join(names)}"' + (f" # {_MARK} {ours}" if ours else "")
