"""Where the server listens, whom it answers, and what it lets a client hold on to."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.model.diagnostics import ReconcilerError, exit_code
from reconciler.web import serve, server
from reconciler.web.address import is_loopback_name, parse_listen
from reconciler.web.token import read_token
from tests.web.conftest import TOKEN, Site
from tests.web.fleet import FakeView


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8080", "127.0.0.1:8080"),
        (":8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:8080", "127.0.0.1:8080"),
        ("[::1]:8080", "[::1]:8080"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::]:0", "[::]:0"),
    ],
)
def test_what_listen_means(text: str, meant: str) -> None:
    assert str(parse_listen(text)) == meant


@pytest.mark.parametrize(
    "text",
    ["", ":", "x", "65536", "-1", "8080x", "1.2.3:80", "::1:80", "[]:80", "[1.2.3.4]:80", "xen.example:80", "٨٠٨٠",
     "http://127.0.0.1:80", "127.0.0.1", "[::1]", "127.0.0.1:", "\x1b[2J:80", "999999999999"],
)  # fmt: skip
def test_what_listen_cannot_mean(text: str) -> None:
    with pytest.raises(ReconcilerError) as raised:
        parse_listen(text)
    (problem,) = raised.value.diagnostics
    assert exit_code([problem]) == 1
    assert problem.detail.startswith("--listen ")
    assert problem.detail.endswith(".")
    assert problem.detail.isprintable()
    assert "--listen 8080" in (problem.hint or "")


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:80", "127.9.9.9", "[::1]:80"])
def test_names_of_this_machine(name: str) -> None:
    assert is_loopback_name(name)


@pytest.mark.parametrize(
    "name",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "[::2]", "::1", "[::1", ""],
)
def test_names_of_others(name: str) -> None:
    assert not is_loopback_name(name)


@pytest.mark.anyio
async def test_a_page_that_calls_us_by_another_name_gets_nothing(site: Site) -> None:
    for path in ("/", "/api/status", "/metrics"):
        answer = await site.ask(path, headers={"Host": "evil.example"})
        assert answer.status == 421
        assert "localhost" in answer.text
    authorized = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
    assert (await site.ask("/reconcile", "POST", authorized)).status == 421
    assert site.view.asked == 0
    assert (await site.ask("/", headers={"Host": f"localhost:{site.port}"})).status == 200


@pytest.mark.anyio
async def test_a_server_for_the_network_goes_by_any_name() -> None:
    view = FakeView()
    async with serve(view, "0.0.0.0:0", None) as serving:
        answer = await Site(serving.url, view).ask("/healthz", headers={"Host": "xen.example"})
    assert answer.status == 200


@pytest.mark.anyio
async def test_a_port_without_an_address_is_loopback() -> None:
    async with serve(FakeView(), "0", None) as serving:
        assert serving.url.startswith("http://127.0.0.1:")


@pytest.mark.anyio
async def test_ipv6() -> None:
    async with serve(FakeView(), "[::1]:0", None) as serving:
        assert serving.url.startswith("http://[::1]:")
        port = int(serving.url.rstrip("/").rpartition(":")[2])
        assert (await _exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n", host="::1")).startswith(b"HTTP/1.1 200")


@pytest.mark.anyio
async def test_a_port_that_is_taken(site: Site) -> None:
    with pytest.raises(ReconcilerError, match="already listens on port") as raised:
        async with serve(FakeView(), str(site.port), None):
            pass
    assert raised.value.diagnostics[0].summary == f"cannot listen on 127.0.0.1:{site.port}"


@pytest.mark.anyio
async def test_an_address_of_another_machine() -> None:
    with pytest.raises(ReconcilerError, match=r"no address 192\.0\.2\.1"):
        async with serve(FakeView(), "192.0.2.1:0", None):
            pass


@pytest.mark.anyio
async def test_the_port_is_free_again_afterwards() -> None:
    async with serve(FakeView(), "0", None) as serving:
        port = int(serving.url.rstrip("/").rpartition(":")[2])
    async with serve(FakeView(), str(port), None):
        pass
    with pytest.raises(ConnectionRefusedError):
        await _exchange(port, b"")


@pytest.mark.anyio
async def test_an_open_connection_does_not_hold_up_the_end(site: Site) -> None:
    async with asyncio.timeout(5), serve(site.view, "0", None) as serving:
        port = int(serving.url.rstrip("/").rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"The loop turns.\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /healthz HTTP/1.1\r\n")  # and no more of it
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.anyio
async def test_signals_stay_with_the_caller() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    before, view = handlers(), FakeView()
    async with serve(view, "0", None) as serving:
        assert (await Site(serving.url, view).ask("/healthz")).status == 200
        assert handlers() == before


@pytest.mark.anyio
async def test_large_bodies_are_not_read(site: Site) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert (await site.ask("/reconcile", "POST", headers, b"x" * 4096)).status == 202
    head = b"POST /reconcile HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    assert (await _exchange(site.port, head + b"Content-Length: 4097\r\n\r\n")).startswith(b"HTTP/1.1 413")
    assert (await _exchange(site.port, head + b"Transfer-Encoding: chunked\r\n\r\n")).startswith(b"HTTP/1.1 411")
    assert site.view.asked == 1


@pytest.mark.anyio
@pytest.mark.parametrize("request_bytes", [b"\0\0\0\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 20_000])
async def test_what_is_no_http_is_refused_quietly(
    site: Site, request_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (await _exchange(site.port, request_bytes)).startswith(b"HTTP/1.1 400")
    assert capfd.readouterr().err == ""


@pytest.mark.anyio
@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n"])
async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.1)
    view = FakeView()
    async with serve(view, "0", None) as serving, asyncio.timeout(5):
        with pytest.raises(ConnectionResetError):
            await _exchange(Site(serving.url, view).port, said, reset=True)


@pytest.mark.anyio
async def test_too_many_connections_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 2)
    view = FakeView()
    async with serve(view, "0", None) as serving:
        port = Site(serving.url, view).port
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        with pytest.raises(ConnectionError):
            await _exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n", reset=True)
        for one in held:
            one.close()
        await asyncio.sleep(0.05)
        assert (await _exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def _exchange(port: int, request: bytes, *, host: str = "127.0.0.1", reset: bool = False) -> bytes:
    """Send bytes and read until the server hangs up; `reset`: it has to hang up without an answer."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        answer = await reader.read()
        if reset and not answer:
            raise ConnectionResetError
        return answer
    finally:
        writer.close()


@pytest.mark.parametrize("content", [b"secret", b"secret\n", b"secret\r\n"])
def test_the_token_is_a_line(token_file: Path, content: bytes) -> None:
    token_file.write_bytes(content)
    token, notes = read_token(token_file)
    assert token.allows("Bearer secret")
    assert "secret" not in repr(token)
    assert notes == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b" \n", "is empty"),
        (b"two words", "blanks"),
        (b"two\nlines\n", "several lines"),
        ("umläut".encode(), "no HTTP header"),
        (b"x" * 1025, "longer than"),
        (b"\0", "no HTTP header"),
    ],
)
def test_files_that_hold_no_token(token_file: Path, content: bytes, problem: str) -> None:
    token_file.write_bytes(content)
    with pytest.raises(ReconcilerError, match=problem) as raised:
        read_token(token_file)
    assert "openssl rand" in (raised.value.diagnostics[0].hint or "")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ReconcilerError, match="No such file"):
        read_token(tmp_path / "gone")
    with pytest.raises(ReconcilerError, match="directory"):
        read_token(tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
async def test_a_token_that_others_can_read_is_noted(token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    async with serve(FakeView(), "0", token_file) as serving:
        (note,) = serving.notes
    assert f"has mode {mode:04o}" in note.detail
    assert f"chmod 600 {token_file}" in (note.hint or "")
