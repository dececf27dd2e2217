"""What the client makes of members that are gone, silent or refuse, and of what the JSON gateway leaves out."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from reconciler.cluster import etcd as client
from reconciler.cluster.etcd import Etcd, Login
from reconciler.model.diagnostics import ReconcilerError

pytestmark = pytest.mark.anyio

GONE = "http://127.0.0.1:1"
Answer = Callable[[str, dict[str, Any], str | None], tuple[int, dict[str, Any]]]


@contextmanager
def member(answer: Answer) -> Iterator[str]:
    """A member that answers so to a path, a body and a token. Yields its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, said = answer(self.path, body, self.headers.get("Authorization"))
            text = json.dumps(said).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def one_key(path: str, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
    entry = {"key": encoded("/a"), "value": encoded("x"), "create_revision": "3", "mod_revision": "4"}
    return 200, {"header": {"revision": "9", "cluster_id": "77"}, "kvs": [entry]}


async def test_a_member_that_is_gone_costs_another_try() -> None:
    with member(one_key) as there:
        etcd = Etcd((GONE, there), Login())
        found = await etcd.get("/a")
        assert found is not None
        assert (found.value, found.written, found.lease) == ("x", 4, 0)
        assert etcd.cluster_id == "77"
        etcd.close()


async def test_a_member_that_says_nothing_is_left_after_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TRY_SECONDS", 0.1)

    def silent(path: str, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
        time.sleep(0.5)
        return one_key(path, body, token)

    with member(silent) as stopped, member(one_key) as there:
        etcd, began = Etcd((stopped, there), Login()), time.monotonic()
        assert await etcd.get("/a") is not None
        assert time.monotonic() - began < 0.5
        etcd.close()


async def test_what_the_gateway_leaves_out_is_nothing() -> None:
    """A lease that is gone is told as an answer without seconds, a transaction that failed as one without a word."""
    with member(lambda path, body, token: (200, {"header": {}, "result": {"header": {}}})) as there:
        etcd = Etcd((there,), Login())
        assert await etcd.keep_alive(5) == 0
        assert not await etcd.commit([], [])
        assert (await etcd.list("/a")).entries == ()
        assert await etcd.has_room()
        etcd.close()


async def test_what_every_member_would_refuse_is_asked_once_and_told() -> None:
    asked: list[str] = []

    def full(path: str, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
        asked.append(path)
        return 429, {"error": "etcdserver: mvcc: database space exceeded", "code": 8}

    with member(full) as there:
        etcd = Etcd((there, there), Login())
        with pytest.raises(ReconcilerError, match="database space exceeded") as caught:
            await etcd.grant(10)
        etcd.close()
    assert asked == ["/v3/lease/grant"]
    assert "etcdctl alarm" in (caught.value.diagnostics[0].hint or "")


async def test_one_that_was_forgotten_logs_in_again() -> None:
    known: list[str] = []

    def forgetful(path: str, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
        if path == "/v3/auth/authenticate":
            assert body == {"name": "ann", "password": "secret"}
            known.append(f"t{len(known)}")
            return 200, {"token": known[-1]}
        if token != "t1":
            return 401, {"error": "etcdserver: invalid auth token", "code": 16}
        return one_key(path, body, token)

    with member(forgetful) as there:
        etcd = Etcd((there,), Login.of({"ETCDCTL_USER": "ann:secret"}))
        assert await etcd.get("/a") is not None
        etcd.close()
    assert known == ["t0", "t1"]
