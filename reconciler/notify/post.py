"""Posts one document to one URL, and waits for the answer. Called by `delivery`.

All of it takes ten seconds at most, of whatever a receiver sends back only the head is read, and nobody is followed
elsewhere: the document and its token are for the URL that was written down.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import suppress
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from reconciler.notify.documents import Message
from reconciler.records import dataclass

ANSWER_SECONDS: Final = 10.0
_HEAD_MAX: Final = 16 * 1024
_BODY_MAX: Final = 4096  # of a refusal
_RETRY_AFTER_MAX: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver answered. `text` is the beginning of its body."""

    status: int
    location: str | None = None
    retry_after: float | None = None
    text: str = ""


class NoAnswerError(Exception):
    """The reason why there was no answer, as the end of a sentence."""


async def post(message: Message, seconds: float = ANSWER_SECONDS) -> Answer:
    """Post, and return the answer. Raises NoAnswerError."""
    parts = urlsplit(message.url)
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(message, parts.scheme == "https", parts.hostname or "", parts.port)
    except TimeoutError:
        raise NoAnswerError(f"it did not answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        _trust.cache_clear()  # whoever mends what is trusted need not restart watch
        raise NoAnswerError(f"its certificate is not to be trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise NoAnswerError(f"no TLS connection can be made: {error.reason or error}") from None
    except (OSError, UnicodeError) as error:
        raise NoAnswerError(f"it cannot be reached: {_reason(error)}") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        raise NoAnswerError("what it answers is not HTTP, or its head is too large") from None


def _reason(error: OSError | UnicodeError) -> str:
    """Return the system's words; asyncio's own repeat the address."""
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error)


@cache
def _trust() -> ssl.SSLContext:
    """Return what certificates are trusted: those of the system, or of $SSL_CERT_FILE and $SSL_CERT_DIR."""
    return ssl.create_default_context()  # it reads hundreds of them


async def _exchange(message: Message, secure: bool, host: str, port: int | None) -> Answer:
    context = await asyncio.to_thread(_trust) if secure else None
    reader, writer = await asyncio.open_connection(host, port or (443 if secure else 80), ssl=context, limit=_HEAD_MAX)
    try:
        writer.write(_request(message))
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.transport.abort()  # a receiver that does not let go must not hold us


def _request(message: Message) -> bytes:
    parts = urlsplit(message.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Host": parts.netloc,
        "User-Agent": "reconciler",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Content-Length": str(len(message.body)),
        "Connection": "close",
        **message.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + message.body


async def _answer(reader: asyncio.StreamReader) -> Answer:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdecimal() and len(code) == 3):
            raise ValueError(first)
        if not code.startswith("1"):
            break
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wait = fields.get("retry-after", "")
    text = b""
    if not code.startswith("2"):
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                text = await reader.read(_BODY_MAX)
    return Answer(
        status=int(code),
        location=fields.get("location"),
        retry_after=min(float(wait), _RETRY_AFTER_MAX) if wait.isascii() and wait.isdecimal() else None,
        text=text.decode("utf-8", "replace"),
    )
