"""What is posted, where to, and with which headers, in the words of each receiver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.model.fleet import Receiver
from reconciler.notify.documents import Sending, alerts, message, wants
from reconciler.notify.events import Event
from tests.notify.conftest import event

SENDING = Sending(url="https://git.example.org/ops/hosts", token="t0ken", page="https://watch.example.org/")


def receiver(format: Any, *events: str) -> Receiver:
    return Receiver(url=SENDING.url, format=format, events=events or ("commit", "applied", "failed", "recovered"))


def status(state: str = "failure", **about: Any) -> Event:
    return event(**{"event": "status", "state": state, "commit": "c0ffee", "address": None, **about})


@pytest.mark.parametrize(
    ("forge", "path", "header"),
    [
        ("github", "/api/v3/repos/ops/hosts/statuses/c0ffee", ("Authorization", "Bearer t0ken")),
        ("gitlab", "/api/v4/projects/ops%2Fhosts/statuses/c0ffee", ("PRIVATE-TOKEN", "t0ken")),
        ("forgejo", "/api/v1/repos/ops/hosts/statuses/c0ffee", ("Authorization", "token t0ken")),
    ],
)
def test_the_status_of_a_commit(forge: str, path: str, header: tuple[str, str]) -> None:
    sent = message(receiver(forge), status(summary="x" * 300), SENDING)
    assert sent.url == f"https://git.example.org{path}"
    assert header in sent.headers.items()
    about = json.loads(sent.body)
    assert about["state"] == ("failed" if forge == "gitlab" else "failure")
    assert about["target_url"] == "https://watch.example.org/"
    assert about["name" if forge == "gitlab" else "context"] == "reconciler/farm"
    assert len(about["description"]) == (140 if forge == "github" else 255)


@pytest.mark.parametrize(
    ("events", "states"),
    [(("commit",), ["pending"]), (("applied",), ["success"]), (("stalled",), ["failure"]), (("drifted",), [])],
)
def test_a_forge_is_told_what_it_asks_for(events: tuple[str, ...], states: list[str]) -> None:
    asked = receiver("github", *events)
    assert [state for state in ("pending", "success", "failure") if wants(asked, status(state))] == states
    assert not wants(asked, event(event=events[0]))


def test_an_alert_is_raised_and_resolved() -> None:
    asked = receiver("alertmanager", "stalled", "recovered")
    raised, resolved = event(detail="it is gone"), event(event="recovered")
    assert wants(asked, raised)
    assert not wants(asked, event(event="stalled", address="alpha"))  # a host is no domain
    assert not wants(asked, event(event="applied"))
    (begun,), (ended,) = (json.loads(alerts([one], SENDING).body) for one in (raised, resolved))
    assert begun["labels"] == ended["labels"]
    assert begun["labels"]["address"] == "alpha/web"
    assert begun["annotations"]["description"] == "it is gone"
    assert begun["startsAt"] == "2027-01-15T08:00:00.000Z"
    assert "endsAt" not in begun
    assert ended["endsAt"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize("url", ["http://a:9093", "http://a:9093/", "http://a:9093/api/v2/alerts"])
def test_where_alerts_go(url: str) -> None:
    assert alerts([event()], Sending(url=url)).url == "http://a:9093/api/v2/alerts"
