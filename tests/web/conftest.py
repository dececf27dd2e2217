"""A real server on a loopback port, asked by a real client."""

from __future__ import annotations

import http.client
from asyncio import to_thread
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reconciler.web import serve
from tests.web.fleet import FakeView

TOKEN = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Site:
    """A server with the view behind it."""

    url: str
    view: FakeView
    port: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "port", urlsplit(self.url).port)

    async def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        return await to_thread(self._ask, path, method, headers or {}, body)

    def _ask(self, path: str, method: str, headers: dict[str, str], body: bytes | None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(
                answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read().decode()
            )
        finally:
            connection.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
async def site(token_file: Path) -> AsyncIterator[Site]:
    view = FakeView()
    async with serve(view, "127.0.0.1:0", token_file) as serving:
        yield Site(serving.url, view)
