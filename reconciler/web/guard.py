"""Enforces what holds for every request, whatever it asks for. Wraps the application of `app`.

Requests that cannot be meant for us are answered before a route sees them, and every answer tells browsers what its
page may do: nothing but be shown.
"""

from __future__ import annotations

from email.utils import formatdate

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.web.address import is_loopback_name

_LARGEST_BODY_BYTES = 4096  # no route reads one


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, *, policy: str, loopback_names_only: bool) -> None:
        self._app = app
        self._loopback_names_only = loopback_names_only
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({"Date": formatdate(usegmt=True), **self._headers})
            await send(message)

        answer = self._refusal(Headers(scope=scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")  # only HTTP/1.0 may leave it out, and browsers never do
        if self._loopback_names_only and host and not is_loopback_name(host):
            return _refuse(
                421, "This server listens on the loopback address, and answers only to localhost, 127.0.0.1 and [::1]."
            )
        if "transfer-encoding" in headers:
            return _refuse(411, "A request with a body has to say how long it is (Content-Length).")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _LARGEST_BODY_BYTES:
            return _refuse(413, f"Nothing here reads a body of more than {_LARGEST_BODY_BYTES} bytes.")
        return None


def _refuse(status: int, sentence: str) -> PlainTextResponse:
    """Refuse a request and close the connection, so that the rest of a large body is not even received."""
    return PlainTextResponse(f"{sentence}\n", status, {"Connection": "close"})
