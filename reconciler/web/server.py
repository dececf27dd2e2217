"""The web server beside the watch loop: in its event loop, and with bounds on what a client can hold on to.

Called by `commands.watch`, through `reconciler.web.serve`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.records import dataclass
from reconciler.watch.view import WatchView
from reconciler.web.access import Access
from reconciler.web.address import Endpoint, bind, parse_listen
from reconciler.web.app import build_app
from reconciler.web.feed import MOST_READERS
from reconciler.web.tls import Tls
from reconciler.web.token import read_token

_MOST_CONNECTIONS: Final = MOST_READERS + 100
_REQUEST_SECONDS: Final = 30  # for a request to arrive and its answer to be taken
_IDLE_SECONDS: Final = 5  # between two requests of a connection
_LAST_ANSWERS_SECONDS: Final = 2  # at the end, for what is being answered
_LARGEST_HEAD_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that runs: where, and what its user should know (a token file that others can read)."""

    url: str
    notes: tuple[Diagnostic, ...]
    tls: Tls | None = None
    context: ssl.SSLContext | None = None

    def renew(self) -> None:
        """Read the certificate again, which may have been renewed. Raises `ReconcilerError`; then the old one stays."""
        if self.tls is not None and self.context is not None:
            self.tls.context()  # that is, first try it on another
            self.tls.renew(self.context)


@asynccontextmanager
async def serve(
    view: WatchView, listen: str, token_file: Path | None, *, public_read: bool = False, tls: Tls | None = None
) -> AsyncIterator[Serving]:
    """Serve HTTP while the context lasts, in the caller's event loop. Signals are left to the caller.

    `listen` is a port, or an address and a port; without an address it is loopback. Elsewhere reading needs the token,
    too, unless `public_read`. Raises `ReconcilerError` when it cannot be understood, the port cannot be had, the token
    file holds no token, or the certificate cannot be used.
    """
    endpoint = parse_listen(listen)
    token, notes = read_token(token_file) if token_file is not None else (None, ())
    if not endpoint.is_loopback and not public_read and token is None:
        notes = (*notes, _open_to_all(endpoint))
    context = tls.context() if tls is not None else None
    access = Access(token=token, anybody_reads=public_read or endpoint.is_loopback, over_tls=tls is not None)
    app, feed = build_app(view, access, loopback_names_only=endpoint.is_loopback)
    with bind(endpoint) as listening:
        port = listening.getsockname()[1]
        config = Config(
            app,
            http=_BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # a request that is no HTTP is its sender's affair
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
            h11_max_incomplete_event_size=_LARGEST_HEAD_BYTES,
        )
        config.load()
        config.ssl = context
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]), name="http")
        try:
            scheme = "http" if tls is None else "https"
            yield Serving(url=f"{scheme}://{endpoint.with_port(port)}/", notes=notes, tls=tls, context=context)
        finally:
            feed.close()
            server.end()
            await running


def _open_to_all(endpoint: Endpoint) -> Diagnostic:
    return Diagnostic(
        kind=Kind.NOTE,
        summary="everybody who reaches the port can read",
        detail=f"It listens on {endpoint}, and there is no --token-file, so nobody is asked who they are.",
        hint="give a --token-file, or say --public-read if that is meant",
    )


class _Server(Server):
    """A guest in the loop's process, where uvicorn would be the master."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Sleep until the server is to end.

        uvicorn's own loop looks at the clock ten times a second, at half the cpu time the loop may have at rest. It
        would only keep a Date header for us, which `guard` writes.
        """
        await self._ended.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM and SIGINT to the loop, which finishes its steps first. uvicorn would take them."""
        yield


class _BoundedProtocol(H11Protocol):
    """uvicorn waits for ever for a client that connects and says nothing, or that does not take its answer."""

    _deadline: asyncio.TimerHandle | None = None
    _had_waiting = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        else:
            self._set_deadline()

    def on_response_complete(self) -> None:
        self._set_deadline()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(_REQUEST_SECONDS, self._past_deadline)

    def _past_deadline(self) -> None:
        """Let the client go, but for one that takes what a stream tells it."""
        waiting = self.transport.get_write_buffer_size()
        if self._is_stream() and (waiting == 0 or not self._had_waiting):
            self._had_waiting = waiting > 0
            self._set_deadline()
        else:
            self.transport.abort()

    def _is_stream(self) -> bool:
        return bool(self.scope and self.scope.get("state", {}).get("is_stream") and not self.cycle.response_complete)
