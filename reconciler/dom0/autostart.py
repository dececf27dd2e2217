"""Reads the links that Debian's xendomains starts at boot, and knows the order of what is started. Pure.

The links in /etc/xen/auto are started in the order of their names: ours are NNN-NAME. NetBSD has a list instead, which
`rc_conf` reads and writes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from reconciler.dom0.layout import Dom0
from reconciler.expressions import expression

UNNUMBERED = 1000
"""The order of what was not numbered by us: behind all that was (numbers go to 999)."""

_LINK = expression(r"(?P<order>[0-9]{1,3})-.*")


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
