"""Checks the URL of a receiver, from reconciler.toml or from the file that holds a secret one. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from reconciler.model.quantities import Unfit, kind_of, quoted

_LONGEST: Final = 2048
_FORM: Final = 'Write one such as "https://hooks.example.org/reconciler".'


def receiver_url(value: object) -> str:
    """Return a URL that can be posted to. Raises `Unfit`, whose sentence never holds a password of it.

    >>> receiver_url("https://hooks.example.org:8443/reconciler?room=ops")
    'https://hooks.example.org:8443/reconciler?room=ops'
    """
    if not isinstance(value, str):
        raise Unfit(f"must be a string, not {kind_of(value)}")
    if len(value) > _LONGEST:
        raise Unfit(f"is longer than {_LONGEST} characters")
    if any(not "!" <= letter <= "~" for letter in value):
        hint = "Write other characters of a path as %XX, and a name in its xn-- form."
        raise Unfit("must not contain blanks, line breaks or characters beyond ASCII", hint)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Unfit("is no URL: its address or its port cannot be read", _FORM) from None
    if parts.username is not None or parts.password is not None:
        hint = "Put the whole URL into a file and name that with url_file, or write token_file."
        raise Unfit("must not contain a name or password before @", hint)
    if parts.scheme not in ("http", "https"):
        what = "no scheme" if not parts.scheme or not host else f"the scheme {quoted(parts.scheme)}"
        raise Unfit(f"must be an http or https URL, and has {what}", _FORM)
    if not host or port == 0:
        raise Unfit(f"names no {'host' if not host else 'port that can be reached'}", _FORM)
    if parts.fragment or value.endswith("#"):
        raise Unfit("must not have a part after #, which no server sees")
    return value
