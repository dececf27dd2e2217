"""Writes an event in the words of its receiver: what is posted, where to, and with which headers. Pure.

What hosts, guests and commits say is quoted as it is: JSON carries it safely, and each receiver has to show it so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from reconciler.model.fleet import Receiver
from reconciler.notify.events import STATUS, Event
from reconciler.records import dataclass

FORGES: Final = frozenset({"github", "gitlab", "forgejo"})
_ALERT: Final = "ReconcilerDomainNotAsSpecified"
_DESCRIPTION_MAX: Final = {"github": 140, "gitlab": 255, "forgejo": 255}  # characters
_APIS: Final = {"github": "/api/v3/repos/", "gitlab": "/api/v4/projects/", "forgejo": "/api/v1/repos/"}
_NEEDED: Final = {"pending": {"commit"}, "success": {"applied"}, "failure": {"failed", "stalled", "refused"}}
"""The events that have to be asked for, one of them, for a status to be set."""


@dataclass(frozen=True, slots=True)
class Message:
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What one sending knows besides the event: the URL, the secret, the link, and what came before."""

    url: str
    secret: bytes = b""
    token: str = ""
    page: str | None = None
    id: str = ""
    number: int = 0
    dropped: int = 0  # events before this one that were given up


def wants(receiver: Receiver, event: Event) -> bool:
    """Return whether a receiver is to be told of an event."""
    if receiver.format in FORGES:
        return event.event == STATUS and bool(_NEEDED[event.state or "pending"] & {*receiver.events})
    if event.event == STATUS or event.event not in receiver.events:
        return False
    if receiver.format == "alertmanager":
        return event.event in ("failed", "stalled", "recovered") and "/" in (event.address or "")
    return True


def message(receiver: Receiver, event: Event, sending: Sending) -> Message:
    if receiver.format in FORGES:
        return _status(receiver.format, event, sending)
    if receiver.format == "alertmanager":
        return alerts([event], sending)
    return _document(event, sending)


def _document(event: Event, sending: Sending) -> Message:
    """Write one document an event, signed as GitHub's webhooks are."""
    about = {
        "format": 1,
        "id": sending.id,
        "number": sending.number,
        "event": event.event,
        "time": _moment(event.at),
        "fleet": event.fleet,
        "commit": event.commit,
        "host": event.address.partition("/")[0] if event.address else None,
        "address": event.address,
        "summary": event.summary,
        "detail": event.detail,
        "hint": event.hint,
        "domains": list(event.domains),
        "steps_done": event.steps_done,
        "seconds": event.seconds,
        "dropped": sending.dropped,
        "page": sending.page,
    }
    body = _json(about)
    headers = {"X-Reconciler-Event": event.event, "X-Reconciler-Delivery": sending.id, **_bearer(sending.token)}
    if sending.secret:
        headers["X-Hub-Signature-256"] = "sha256=" + hmac.new(sending.secret, body, hashlib.sha256).hexdigest()
    return Message(sending.url, headers, body)


def _status(forge: str, event: Event, sending: Sending) -> Message:
    most = _DESCRIPTION_MAX[forge]
    said = event.summary if len(event.summary) <= most else event.summary[: most - 1] + "…"
    name, state = f"reconciler/{event.fleet}", event.state or "pending"
    about: dict[str, Any] = {"state": state, "description": said}
    about |= {"target_url": sending.page} if sending.page is not None else {}
    if forge == "gitlab":
        about |= {"state": "failed" if state == "failure" else state, "name": name}
        return Message(status_url(forge, sending.url, event.commit or ""), _private(sending.token), _json(about))
    about["context"] = name
    headers = _bearer(sending.token, "Bearer" if forge == "github" else "token")
    return Message(status_url(forge, sending.url, event.commit or ""), headers, _json(about))


def status_url(forge: str, url: str, commit: str) -> str:
    """Return where the status of a commit is set: of a repository by its address for people, or by that of its API.

    >>> status_url("github", "https://github.com/ops/hosts", "abc")
    'https://api.github.com/repos/ops/hosts/statuses/abc'
    >>> status_url("gitlab", "https://git.example.org/ops/hosts.git", "abc")
    'https://git.example.org/api/v4/projects/ops%2Fhosts/statuses/abc'
    >>> status_url("forgejo", "https://git.example.org/api/v1/repos/ops/hosts", "abc")
    'https://git.example.org/api/v1/repos/ops/hosts/statuses/abc'
    """
    parts = urlsplit(url)
    place, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if "/repos/" in path or "/projects/" in path:
        return f"{place}{path.removesuffix('/statuses')}/statuses/{commit}"
    repository = path.strip("/").removesuffix(".git")
    if parts.hostname in ("github.com", "www.github.com"):
        return f"https://api.github.com/repos/{repository}/statuses/{commit}"
    if parts.hostname == "api.github.com":
        return f"{place}/repos/{repository}/statuses/{commit}"
    named = quote(repository, safe="") if forge == "gitlab" else repository
    return f"{place}{_APIS[forge]}{named}/statuses/{commit}"


def alerts(events: Iterable[Event], sending: Sending) -> Message:
    """Write alerts for Alertmanager: one a domain, which ends with the event that says that it recovered."""
    parts = urlsplit(sending.url)
    path = parts.path.rstrip("/")
    url = sending.url if path.endswith("/alerts") else f"{parts.scheme}://{parts.netloc}{path}/api/v2/alerts"
    return Message(url, _bearer(sending.token), _json([_alert(event, sending.page) for event in events]))


def _alert(event: Event, page: str | None) -> dict[str, Any]:
    host, _, domain = (event.address or "").partition("/")
    about: dict[str, Any] = {
        "labels": {
            "alertname": _ALERT,
            "severity": "warning",
            "fleet": event.fleet,
            "host": host,
            "domain": domain,
            "address": event.address,
        },
        "annotations": {"summary": event.summary, "description": event.detail, "hint": event.hint or ""},
    }
    about |= {"endsAt": _moment(event.at)} if event.event == "recovered" else {"startsAt": _moment(event.at)}
    return {**about, "generatorURL": page} if page is not None else about


def _bearer(token: str, word: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{word} {token}"} if token else {}


def _private(token: str) -> dict[str, str]:
    return {"PRIVATE-TOKEN": token} if token else {}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
