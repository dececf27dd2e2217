"""Who may read and who may act, by the token of `--token-file`: programs show it, browsers get a cookie for it.

Where watch listens on loopback only, or with `--public-read`, everybody who reaches the port may read. Without a token
nobody may act. Called by `app`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from reconciler.records import dataclass
from reconciler.web.token import Token

COOKIE: Final = "reconciler"
_LASTS_SECONDS: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules. `over_tls` says that the cookie has to stay within TLS."""

    token: Token | None
    anybody_reads: bool
    over_tls: bool = False

    @property
    def reading_is_open(self) -> bool:
        return self.anybody_reads or self.token is None

    def may_read(self, headers: Mapping[str, str], cookie: str | None, now: float) -> bool:
        return self.reading_is_open or self._is_known(headers, cookie, now)

    def may_act(self, headers: Mapping[str, str], cookie: str | None, now: float) -> bool:
        """Return whether a request may change something. With a cookie it has to come from the page itself."""
        if self.token is None:
            return False
        if self.token.allows(headers.get("authorization", "")):
            return True
        return self._holds(cookie, now) and _is_from_the_page(headers)

    def logged_in(self, secret: str, now: float) -> str | None:
        """Return the Set-Cookie header for who knows the token; None for who does not."""
        if self.token is None or not self.token.is_secret(secret):
            return None
        ends = int(now) + _LASTS_SECONDS
        secure = "; Secure" if self.over_tls else ""
        value = f"{ends}.{_sealed(self.token, ends)}"
        return f"{COOKIE}={value}; Max-Age={_LASTS_SECONDS}; HttpOnly; SameSite=Strict{secure}"

    def _is_known(self, headers: Mapping[str, str], cookie: str | None, now: float) -> bool:
        assert self.token is not None
        return self.token.allows(headers.get("authorization", "")) or self._holds(cookie, now)

    def _holds(self, cookie: str | None, now: float) -> bool:
        if cookie is None or self.token is None:
            return False
        ends, _, seal = cookie.partition(".")
        if not (ends.isascii() and ends.isdecimal() and len(ends) <= 12 and seal.isascii()):
            return False
        return hmac.compare_digest(seal, _sealed(self.token, int(ends))) and now < int(ends)


def _sealed(token: Token, ends: int) -> str:
    """Bind the end of a cookie to the token, so that another token ends all cookies."""
    return hmac.new(token.secret, f"page until {ends}".encode(), hashlib.sha256).hexdigest()


def _is_from_the_page(headers: Mapping[str, str]) -> bool:
    """Return whether a browser says that the page itself asks, and not one of somebody else's.

    Each browser says `Sec-Fetch-Site` over TLS and on loopback, and `Origin` with every POST.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is not None and urlsplit(origin).netloc == headers.get("host")
