"""Parses `--listen`, opens its socket, and knows the names that a request may call us by.

Called by `server` before anything is served, and by `guard` for each request.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from typing import Final

from reconciler.expressions import expression
from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.records import dataclass
from reconciler.show.escape import plain

_FORM: Final = expression(r"(?:\[(?P<v6>[^\]]*)\]:|(?P<v4>[^:\[\]]*):)?(?P<port>[0-9]{1,5})", re.ASCII)
_HINT: Final = "give a port (--listen 8080, loopback only), or an address and a port: 0.0.0.0:8080, [::1]:8080"
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address and a TCP port; port 0 lets the system choose a free one."""

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host.is_loopback

    def with_port(self, port: int) -> Endpoint:
        return Endpoint(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Endpoint:
    """Parse an address to listen on.

    `8080` and `:8080` mean loopback, so that nobody opens a port to the world by leaving something out.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise _bad_listen(text, "is neither a port nor an address and a port")
    port = int(match["port"])
    if port > _HIGHEST_PORT:
        raise _bad_listen(text, f"names port {port}, and the highest there is is {_HIGHEST_PORT}")
    named = match["v4"] or "127.0.0.1"
    host = match["v6"] if match["v6"] is not None else "127.0.0.1" if named == "localhost" else named
    try:
        address = ipaddress.IPv6Address(host) if match["v6"] is not None else ipaddress.IPv4Address(host)
    except ValueError:
        raise _bad_listen(text, f"names {plain(host)!r}, which is no IP address") from None
    return Endpoint(address, port)


def _bad_listen(text: str, problem: str) -> ReconcilerError:
    return world_error("--listen cannot be understood", f"--listen {plain(text)!r} {problem}.", _HINT)


def bind(endpoint: Endpoint) -> socket.socket:
    """Open a listening socket. Connections wait in its queue from then on, so nobody is turned away at the start."""
    family = socket.AF_INET6 if endpoint.host.version == 6 else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        *_, sockaddr = socket.getaddrinfo(str(endpoint.host), endpoint.port, family, flags=socket.AI_NUMERICHOST)[0]
        bound.bind(sockaddr)
        bound.listen()
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise _cannot_listen(endpoint, error) from None
    return bound


def _cannot_listen(endpoint: Endpoint, error: OSError) -> ReconcilerError:
    summary = f"cannot listen on {endpoint}"
    match error.errno:
        case errno.EADDRINUSE:
            detail = f"Another program already listens on port {endpoint.port}, perhaps another watch."
            return world_error(summary, detail, "give another port with --listen, or stop that program")
        case errno.EACCES:
            detail = f"Port {endpoint.port} may only be opened by root."
            return world_error(summary, detail, "give a port above 1023 with --listen")
        case errno.EADDRNOTAVAIL:
            return world_error(summary, f"This machine has no address {endpoint.host}.", _HINT)
        case _:
            return world_error(summary, f"The system says: {error.strerror or error}.", _HINT)


def is_loopback_name(host_header: str) -> bool:
    """Return whether the Host header of a request names this machine itself.

    A page from anywhere can make a browser send requests to 127.0.0.1 under the page's own name and read the answers
    (DNS rebinding). Those requests carry that name; honest ones carry a loopback name.
    """
    name = re.sub(r":[0-9]*\Z", "", host_header).lower()
    if name == "localhost":
        return True
    try:
        if name.startswith("[") and name.endswith("]"):
            return ipaddress.IPv6Address(name[1:-1]).is_loopback
        return ipaddress.IPv4Address(name).is_loopback
    except ValueError:
        return False
