"""Who may read and who may act: from loopback and elsewhere, with a token, a cookie, or neither; and over TLS."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.fleet import FleetView
from reconciler.model.diagnostics import ReconcilerError
from reconciler.specs import read_tree
from reconciler.web import Tls, app, serve
from reconciler.web.access import Access
from reconciler.web.token import Token
from tests.transcript import write_files
from tests.watch.conftest import HOST
from tests.web.conftest import TOKEN, Answer, Site
from tests.web.fleet import FakeView

pytestmark = pytest.mark.anyio

READING = ("/", "/events", "/metrics", "/api/status", "/api/plan", "/api/observed")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_WRONG_TOKEN_SECONDS", 0.0)


@pytest.fixture
async def elsewhere(token_file: Path) -> AsyncIterator[Site]:
    """Served on all addresses of this machine, so that the token guards reading."""
    view = FakeView()
    async with serve(view, "0.0.0.0:0", token_file) as serving:
        yield Site(serving.url, view)


async def logged_in(site: Site) -> dict[str, str]:
    answer = await site.ask("/login", "POST", FORM, f"token={TOKEN}".encode())
    assert (answer.status, answer.headers["location"]) == (303, "./")
    cookie, *rules = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(rules)
    assert TOKEN not in cookie
    return {"Cookie": cookie}


@pytest.mark.parametrize("path", READING)
async def test_reading_from_elsewhere_needs_the_token_or_its_cookie(elsewhere: Site, path: str) -> None:
    refused = await elsewhere.ask(path)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="reconciler"')
    assert "--token-file" in refused.text
    assert (await elsewhere.ask(path, headers={"Authorization": "Bearer wrong"})).status == 401
    if path != "/events":
        assert (await elsewhere.ask(path, headers=BEARER)).status == 200
        assert (await elsewhere.ask(path, headers=await logged_in(elsewhere))).status == 200


async def test_health_and_the_script_tell_nothing_and_are_open(elsewhere: Site) -> None:
    for path in ("/healthz", "/readyz", "/page.js", "/login"):
        assert (await elsewhere.ask(path)).status == 200


async def test_a_browser_is_asked_for_the_token(elsewhere: Site) -> None:
    answer = await elsewhere.ask("/", headers={"Accept": "text/html,*/*"})
    assert answer.status == 401
    assert '<form method="post" action="login">' in answer.text
    assert "alpha" not in answer.text
    wrong = await elsewhere.ask("/login", "POST", FORM, b"token=guess")
    assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)
    assert "That is not the token." in wrong.text


async def test_public_read_opens_reading_and_nothing_else(token_file: Path) -> None:
    view = FakeView()
    async with serve(view, "0.0.0.0:0", token_file, public_read=True) as serving:
        site = Site(serving.url, view)
        assert (await site.ask("/api/plan")).status == 200
        assert (await site.ask("/reconcile", "POST")).status == 401
        assert serving.notes == ()


async def test_listening_elsewhere_without_a_token_is_told() -> None:
    async with serve(FakeView(), "0.0.0.0:0", None) as serving:
        assert [note.summary for note in serving.notes] == ["everybody who reaches the port can read"]
    async with serve(FakeView(), "0.0.0.0:0", None, public_read=True) as serving:
        assert serving.notes == ()


def asked(**about: object) -> bytes:
    return json.dumps(about).encode()


@pytest.fixture
def managed(site: Site, tmp_path: Path) -> Site:
    """The site of a watch over a simulated host with one domain."""
    files = {"specs/alpha/host.toml": HOST, "specs/alpha/web.toml": 'kernel = "/boot/k"\nmemory = 64\n'}
    write_files(files, tmp_path)
    site.view.known = FleetView(reading=read_tree(tmp_path / "specs"), root=tmp_path / "specs")
    site.view.state_dir = tmp_path / "state"
    return site


async def test_hold_and_lift_it_with_the_token(managed: Site) -> None:
    held = await managed.ask("/hold", "POST", BEARER, asked(address="alpha/web", seconds=3600, reason="disk"))
    assert held.status == 200
    assert held.text.startswith("held: disk, by ")
    assert ", until " in held.text
    assert (await managed.ask("/unhold", "POST", BEARER, asked(address="alpha/web"))).text == "held no longer\n"
    assert (await managed.ask("/unhold", "POST", BEARER, asked(address="alpha/web"))).text == "it was not held\n"
    assert (await managed.ask("/hold", "POST", BEARER, asked(address="alpha"))).status == 200
    assert managed.view.looked_at == ["alpha"] * 4
    for unknown in ("beta/x", "alpha/x", "beta", "", "../x"):
        gone = await managed.ask("/hold", "POST", BEARER, asked(address=unknown))
        assert (gone.status, unknown in gone.text) == (404, True)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"[" * 2000, b"\xff", b"{}"),
        *(asked(address=1), asked(address="alpha", seconds=0), asked(address="alpha", seconds=1e99)),
        *(asked(address="alpha", seconds="1h"), asked(address="alpha", reason=[])),
    ],
)
async def test_what_is_no_hold_is_refused_with_how_to_say_it(site: Site, body: bytes) -> None:
    answer = await site.ask("/hold", "POST", BEARER, body)
    assert (answer.status, "address" in answer.text, site.view.looked_at) == (400, True, [])


async def test_with_a_cookie_only_the_page_itself_may_act(managed: Site) -> None:
    site = managed
    cookie = await logged_in(site)
    host = f"127.0.0.1:{site.port}"
    body = asked(address="alpha/web")
    for headers, status in (
        ({}, 401),
        ({"Sec-Fetch-Site": "cross-site", "Origin": f"http://{host}"}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Origin": "http://evil.example"}, 401),
        ({"Origin": "null"}, 401),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": f"http://{host}"}, 200),
    ):
        assert (await site.ask("/hold", "POST", {**cookie, **headers}, body)).status == status, headers


def test_a_cookie_ends_by_time_by_another_token_and_by_any_change() -> None:
    access = Access(token=Token(b"secret"), anybody_reads=False)
    made = access.logged_in("secret", 1000.0)
    assert made is not None and access.logged_in("other", 1000.0) is None
    value = made.partition("=")[2].partition(";")[0]
    assert access.may_read({}, value, 1001.0)
    assert not access.may_read({}, value, 1000.0 + 8 * 24 * 3600)
    assert not Access(token=Token(b"another"), anybody_reads=False).may_read({}, value, 1001.0)
    for forged in ("", ".", "9" + value, value[:-1] + "x", "9" * 5000 + ".x", "²." + value, "1.é"):
        assert not access.may_read({}, forged, 1001.0), forged
    over_tls = Access(token=Token(b"secret"), anybody_reads=False, over_tls=True).logged_in("secret", 0)
    assert over_tls is not None and over_tls.endswith("; Secure")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def make_certificate(folder: Path) -> Tls:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    command = [
        "openssl",
        "req",
        "-x509",
        *curve,
        "-nodes",
        "-days",
        "2",
        *subject,
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return Tls(cert, key)


async def over_tls(port: int, certificate: Path) -> Answer:
    def ask() -> Answer:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read().decode())

    return await to_thread(ask)


async def test_over_tls_and_with_a_certificate_that_was_renewed(certificate: Tls, tmp_path: Path) -> None:
    used = Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((certificate.certificate.parent / name).read_bytes())
    async with serve(FakeView(), "127.0.0.1:0", None, tls=used) as serving:
        assert serving.url.startswith("https://127.0.0.1:")
        port = int(serving.url.rstrip("/").rpartition(":")[2])
        assert (await over_tls(port, certificate.certificate)).status == 200
        used.key.write_text("broken")
        with pytest.raises(ReconcilerError):
            serving.renew()
        assert (await over_tls(port, certificate.certificate)).status == 200
        make_certificate(tmp_path)
        serving.renew()
        with pytest.raises(ssl.SSLError):
            await over_tls(port, certificate.certificate)
        assert (await over_tls(port, used.certificate)).status == 200


async def test_files_that_are_no_certificate_and_its_key(certificate: Tls, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing\n")
    other = make_certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", certificate.key, "-out", locked],
        check=True,
        capture_output=True,
    )
    for tls, problem in (
        (Tls(tmp_path / "gone", certificate.key), "cannot be read: No such file"),
        (Tls(tmp_path / "x", certificate.key), "are not a certificate and a key"),
        (Tls(certificate.certificate, other.key), "is not the key of"),
        (Tls(certificate.certificate, locked), "is a key with a password"),
    ):
        with pytest.raises(ReconcilerError) as told:
            tls.context()
        assert problem in told.value.diagnostics[0].detail
