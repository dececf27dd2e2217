"""Receivers that listen on loopback and keep what they get, and an event to send them."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.notify.events import Event

AT = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Inbox:
    """A receiver. `answers` are given one after the other, the last one for ever; "" is the only header there is."""

    answers: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    says: str = ""
    silent_seconds: float = 0.0
    got: list[Got] = field(default_factory=list)
    port: int = 0
    secure: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}/hook"

    def events(self) -> list[str]:
        """Return the summaries of the documents that were taken, in order."""
        return [one.document["summary"] for one in self.got]

    def answer(self) -> int:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    inbox: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.inbox.silent_seconds:
            time.sleep(self.inbox.silent_seconds)
            return
        status = self.inbox.answer()
        if 200 <= status < 300:
            self.inbox.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(status)
        for name, value in self.inbox.headers.items():
            self.send_header(name, value)
        said = self.inbox.says.replace("{authorization}", self.headers.get("Authorization", "")).encode()
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Listen = Callable[..., Inbox]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """`listen(answers=[500, 200])` begins a receiver, which ends with the test."""
    servers: list[ThreadingHTTPServer] = []

    def begin(port: int = 0, certificate: Path | None = None, **about: Any) -> Inbox:
        inbox = Inbox(**about)
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"inbox": inbox}))
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            inbox.secure = True
        inbox.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return inbox

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1 that nobody trusts, with its key in the same file."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "apt install openssl"
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    subject = ["-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", str(file)]
    command = [openssl, "req", "-x509", "-days", "2", *key, *subject, "-out", str(file.with_suffix(".crt"))]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + file.with_suffix(".crt").read_text())
    return file


def event(number: int = 1, **about: Any) -> Event:
    defaults: dict[str, Any] = {"event": "stalled", "summary": f"event {number}", "at": AT, "fleet": "farm"}
    return Event(**{**defaults, "address": "alpha/web", **about})
