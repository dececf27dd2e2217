"""A receiver is told each event at least once and in order, whatever it answers; and what stands against it is said."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.fleet import Receiver
from reconciler.notify import delivery as delivery_room
from reconciler.notify import post
from reconciler.notify.delivery import Delivery
from reconciler.notify.events import Told
from reconciler.notify.spool import Spool
from tests.notify.conftest import AT, Listen, event

pytestmark = pytest.mark.anyio

EVERY = ("applied", "failed", "drifted", "stalled", "recovered", "refused", "commit")


@dataclass
class Sender:
    """One receiver's delivery, whose pauses take no time and are kept."""

    folder: Path
    about: dict[str, Any]
    pauses: list[float] = field(default_factory=list)
    told: int = 0

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder, self.about.pop("most", 1000))
        receiver = Receiver(events=EVERY, **self.about)
        self.spool.keep({"it": receiver})
        self.delivery = Delivery("it", "json it", receiver, self.spool, lambda: AT, self.changed, self.pause)
        self.delivery.root = self.folder

    def changed(self) -> None:
        self.told += 1

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def add(self, *numbers: int, **about: Any) -> None:
        self.spool.add(Told(), {"it": [event(number, **about) for number in numbers]})
        self.delivery.wake()

    async def until_idle(self) -> None:
        """Send until nothing waits."""
        task = asyncio.create_task(self.delivery.run())
        try:
            async with asyncio.timeout(20):
                while self.spool.waiting():
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()

    @property
    def says(self) -> str:
        assert self.delivery.problem is not None
        return self.delivery.problem.detail


async def test_all_is_told_in_order_and_signed(tmp_path: Path, listen: Listen) -> None:
    inbox = listen()
    (tmp_path / "secret").write_text("hunter2 and more\n")
    sender = Sender(tmp_path, {"url": inbox.url, "secret_file": str(tmp_path / "secret")})
    sender.add(1, 2)
    sender.add(3)
    await sender.until_idle()
    assert inbox.events() == ["event 1", "event 2", "event 3"]
    first = inbox.got[0]
    signed = hmac.new(b"hunter2 and more", first.body, hashlib.sha256).hexdigest()
    assert first.headers["x-hub-signature-256"] == f"sha256={signed}"
    assert first.headers["x-reconciler-event"] == "stalled"
    assert first.document["id"] == first.headers["x-reconciler-delivery"]
    assert first.document["host"] == "alpha"
    assert [one.document["number"] for one in inbox.got] == [1, 2, 3]
    assert sender.delivery.fared.delivered == 3


async def test_one_that_is_down_is_told_all_when_it_is_back(tmp_path: Path, listen: Listen) -> None:
    inbox = listen(answers=[500, 503, 500, 200])
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1, 2)
    await sender.until_idle()
    assert inbox.events() == ["event 1", "event 2"]
    assert sender.pauses == [1, 2, 4]
    assert sender.delivery.problem is None  # nothing stands against it any more
    assert sender.told == 4  # 500, 503, 500, and well again
    assert sender.delivery.fared.failed == 3


async def test_a_wait_grows_to_five_minutes_and_no_more(tmp_path: Path, listen: Listen) -> None:
    inbox = listen(answers=[*[500] * 12, 200])
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1)
    await sender.until_idle()
    assert sender.pauses[-3:] == [300, 300, 300]


async def test_one_that_names_a_time_is_not_asked_before(tmp_path: Path, listen: Listen) -> None:
    inbox = listen(answers=[429, 200], headers={"Retry-After": "77"})
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1)
    await sender.until_idle()
    assert sender.pauses == [77]


async def test_nobody_listens(tmp_path: Path) -> None:
    sender = Sender(tmp_path, {"url": "http://127.0.0.1:1/"})
    sender.add(1)
    assert await sender.delivery.send_all() == 1
    assert "cannot be reached" in sender.says
    assert sender.spool.waiting() == {"it": 1}


async def test_one_that_sends_elsewhere_is_not_followed(tmp_path: Path, listen: Listen) -> None:
    other = listen()
    inbox = listen(answers=[301], headers={"Location": other.url})
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1)
    assert await sender.delivery.send_all() == 1
    assert other.got == []
    assert f"answers 301, and sends elsewhere to {other.url}; nobody is followed." in sender.says


async def test_one_that_answers_nothing(tmp_path: Path, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_room, "post", lambda message: post.post(message, 0.1))
    inbox = listen(silent_seconds=0.4)
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1)
    assert await sender.delivery.send_all() == 1
    assert "did not answer within 0.1 s" in sender.says


async def test_one_that_answers_no_http(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n" + b"x" * 50_000)
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sender = Sender(tmp_path, {"url": f"http://127.0.0.1:{port}/"})
        sender.add(1)
        assert await sender.delivery.send_all() == 1
    assert "is not HTTP" in sender.says


async def test_a_wrong_certificate(
    tmp_path: Path, listen: Listen, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = listen(certificate=certificate)
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1)
    assert await sender.delivery.send_all() == 1
    assert "certificate is not to be trusted: self-signed certificate" in sender.says
    assert inbox.got == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # now it is trusted
    await sender.until_idle()
    assert inbox.events() == ["event 1"]
    post._trust.cache_clear()


async def test_what_a_receiver_does_not_want_is_given_up_and_the_rest_goes_on(tmp_path: Path, listen: Listen) -> None:
    inbox = listen(answers=[*[422] * 5, 200], says="No commit found for SHA")
    sender = Sender(tmp_path, {"url": inbox.url})
    sender.add(1, 2)
    said: list[str] = []
    sender.delivery._changed = lambda: said.append(sender.delivery.problem.detail if sender.delivery.problem else "")
    await sender.until_idle()
    assert inbox.events() == ["event 2"]
    assert "which is given up. It says: No commit found for SHA" in said[-2]
    assert sender.delivery.fared.dropped == 1


@pytest.mark.parametrize("content", ["one\ntwo\n", "", "\n", "with blank", "\x00", "é"])
async def test_a_token_that_is_none(tmp_path: Path, listen: Listen, content: str) -> None:
    inbox = listen()
    (tmp_path / "token").write_text(content)
    sender = Sender(tmp_path, {"url": inbox.url, "format": "github", "token_file": "token"})
    sender.add(1, event="status", state="success", commit="c0ffee")
    assert await sender.delivery.send_all() == 1
    assert "token_file token" in sender.says
    assert inbox.got == []
    (tmp_path / "token").write_text("mended\n")  # and it counts at the next try
    await sender.until_idle()
    assert inbox.got[0].headers["authorization"] == "Bearer mended"


async def test_no_secret_is_said(tmp_path: Path, listen: Listen) -> None:
    inbox = listen(answers=[403], says="I do not know {authorization}", headers={"Location": "/?t=swordfish-12345"})
    (tmp_path / "token").write_text("swordfish-12345\n")
    sender = Sender(tmp_path, {"url": inbox.url, "token_file": str(tmp_path / "token")})
    sender.add(1)
    await sender.delivery.send_all()
    assert "answers 403. It says: (sensitive)" in sender.says
    inbox.answers = [302]
    await sender.delivery.send_all()
    assert "swordfish" not in sender.says
    (tmp_path / "url").write_text("http://127.0.0.1:1/hunter2hunter2\n")
    sender = Sender(tmp_path / "other", {"url_file": str(tmp_path / "url")})
    sender.add(1)
    await sender.delivery.send_all()
    assert "hunter" not in sender.says


async def test_a_file_that_leads_out_of_the_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tmp_path / "token").write_text("secret\n")
    sender = Sender(tree, {"url": "http://127.0.0.1:1/", "token_file": "../token"})
    sender.add(1)
    await sender.delivery.send_all()
    assert "leads out of the tree" in sender.says


async def test_ten_thousand_events_while_it_is_down(tmp_path: Path, listen: Listen) -> None:
    inbox = listen()
    sender = Sender(tmp_path, {"url": inbox.url, "most": 20})
    sender.add(*range(9_990))
    for number in range(9_990, 10_000):
        sender.add(number)
    assert sender.spool.waiting() == {"it": 20}
    assert sender.spool.path.stat().st_size < 1 << 20
    await sender.until_idle()
    assert inbox.events() == [f"event {number}" for number in range(9_980, 10_000)]
    assert [one.document["dropped"] for one in inbox.got] == [9_980, *[0] * 19]


async def test_that_events_are_given_up_is_told_at_once_and_once(tmp_path: Path) -> None:
    sender = Sender(tmp_path, {"url": "http://127.0.0.1:1/"})
    sender.add(1)
    await sender.delivery.send_all()
    for _ in range(3):
        sender.delivery.dropped(5)
    await sender.delivery.send_all()
    assert sender.says.endswith("Connection refused. More than 1000 events wait for it, so the oldest are given up.")
    assert sender.told == 2
    assert sender.delivery.fared.dropped == 15


async def test_alertmanager_is_reminded_of_what_lasts(
    tmp_path: Path, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_room, "RESEND_SECONDS", 0.01)
    inbox = listen()
    sender = Sender(tmp_path, {"url": inbox.url, "format": "alertmanager"})
    sender.delivery.lasting = (event(7),)
    task = asyncio.create_task(sender.delivery.run())
    async with asyncio.timeout(10):
        while len(inbox.got) < 2:
            await asyncio.sleep(0.005)
    task.cancel()
    assert {one.path for one in inbox.got} == {"/hook/api/v2/alerts"}
    assert inbox.got[0].document[0]["labels"]["address"] == "alpha/web"
