"""Requests to `watch --listen`, as the routes get them."""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp, Message

from reconciler.web import app
from reconciler.web.access import Access
from reconciler.web.token import Token
from tests.web.fleet import FakeView

_TOKEN = "Authorization: Bearer 0123456789abcdef"
REQUESTS = (
    "GET / HTTP/1.1\nHost: localhost\nAccept: text/html\n\n",
    "GET /api/status?domain=alpha/web HTTP/1.1\nHost: 127.0.0.1:8080\nAccept: */*\n\n",
    "GET /metrics HTTP/1.1\nHost: [::1]:8080\nCookie: reconciler=1700000000.abcdef\n\n",
    f"POST /reconcile HTTP/1.1\nHost: localhost\n{_TOKEN}\nContent-Length: 0\n\n",
    f"POST /hold HTTP/1.1\nHost: localhost\n{_TOKEN}\nContent-Type: application/json\nContent-Length: 70\n\n"
    '{"address": "alpha/web", "seconds": 3600, "reason": "disk check"}',
    f'POST /unhold HTTP/1.1\nHost: localhost\n{_TOKEN}\nContent-Length: 24\n\n{{"address": "alpha/web"}}',
    "POST /login HTTP/1.1\nHost: localhost\nOrigin: http://localhost\nSec-Fetch-Site: same-origin\n"
    "Content-Length: 22\n\ntoken=0123456789abcdef",
)
_BODY_MAX = 4096


@cache
def _site() -> ASGIApp:
    app._WRONG_TOKEN_SECONDS = 0.0  # who guesses waits; here nobody does
    access = Access(token=Token(b"0123456789abcdef"), anybody_reads=False)
    site, _ = app.build_app(FakeView(), access, loopback_names_only=True)
    return site


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _asked(text: str) -> tuple[dict[str, Any], bytes] | None:
    """Make of a text what the server makes of a request; None for what it refuses by itself."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.split("\n")
    method, _, target = first.partition(" ")
    path, _, query = target.rpartition(" ")[0].partition("?")
    if not re.fullmatch(r"[A-Z]+", method) or not path.isascii() or urlsplit(path).path == "/events":
        return None  # the last one never ends
    headers = [line.partition(":")[::2] for line in lines]
    raw = [
        (name.lower().encode(), value.strip().encode("latin-1"))
        for name, value in headers
        if re.fullmatch(r"[A-Za-z-]+", name) and re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value)
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode("ascii", "replace"),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
    return scope, body.encode(errors="surrogateescape")[:_BODY_MAX]


def check_request(text: str) -> None:
    asked = _asked(text)
    if asked is None:
        return
    scope, body = asked
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    _loop().run_until_complete(_site()(scope, receive, send))
    status, headers = sent[0]["status"], dict(sent[0]["headers"])
    assert status < 500 or status in (502, 503), status
    assert headers[b"content-security-policy"].startswith(b"default-src 'none'"), headers
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert all(b"\n" not in value and b"\r" not in value for value in headers.values())
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    assert b"<script>alert" not in answer
    if b"text/plain" in headers.get(b"content-type", b""):
        assert b"\x1b" not in answer, answer
