"""Which controller a host should belong to, by rendezvous hashing. Pure.

Each pair of a controller and a host has a number; the controller with the greatest has the host. So one that comes or
goes moves its own share only, and all who know the same controllers agree without asking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def in_order(host: str, controllers: Iterable[str]) -> list[str]:
    """Return the controllers in the order in which they should have a host.

    >>> in_order("alpha", ["one", "two", "three"]) == in_order("alpha", ["three", "one", "two"])
    True
    """
    return sorted(controllers, key=lambda controller: (_weight(controller, host), controller), reverse=True)


def _weight(controller: str, host: str) -> bytes:
    return hashlib.blake2b(f"{controller}\0{host}".encode(errors="surrogatepass"), digest_size=8).digest()
