"""The few operations of etcd that are needed, over its JSON gateway and with nothing but the standard library.

Every call has a bound of about a second and is tried again at another member: a request that a member had passed on to
a leader that died is answered after seven seconds at the earliest. Nothing is watched, so no silent member can hide
news: what there is is asked for again and again, linearizably. A transaction whose answer was lost may have been done:
callers tell that from what they find afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from reconciler.model.diagnostics import ReconcilerError, usage_error, world_error
from reconciler.records import dataclass

TRY_SECONDS = 1.0
_ANSWER_BYTES = 32 << 20
_TRIES_MORE = 1  # after each member was asked once
_UNAUTHENTICATED = 16
_LOGGED_OUT = ("invalid auth token", "user name is empty", "revision of auth store is old")
_PAGE = 1000  # keys
_QUOTA = "etcd_server_quota_backend_bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key with its value, and at which revision it was last written."""

    key: str
    value: str
    written: int
    lease: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Keys with a prefix, as of a revision. `count` is how many there are, also of those that were not asked for."""

    entries: tuple[Entry, ...]
    revision: int
    count: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A key is as it was written at a revision; 0: it is not there."""

    key: str
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How etcd is reached: with the words and files that etcdctl takes from its environment."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Login:
        user, _, password = environment.get("ETCDCTL_USER", "").partition(":")
        return cls(
            ca_file=environment.get("ETCDCTL_CACERT"),
            cert_file=environment.get("ETCDCTL_CERT"),
            key_file=environment.get("ETCDCTL_KEY"),
            user=user or None,
            password=password or environment.get("ETCDCTL_PASSWORD"),
        )


class _RefusedError(Exception):
    """Reports that a member answered, and with an error."""

    def __init__(self, status: int, code: int, said: str) -> None:
        super().__init__(said)
        self.status, self.code, self.said = status, code, said

    @property
    def is_final(self) -> bool:
        """Return whether every member would say the same: the request itself is at fault, or etcd has no room."""
        return self.status in (400, 403, 404, 412, 429) or self.code in (3, 5, 7, 8, 9)


class Etcd:
    """Speaks with one etcd. Close it when done."""

    def __init__(self, endpoints: Sequence[str], login: Login | None = None) -> None:
        self.endpoints = tuple(endpoints)
        self.cluster_id = ""  # of the one that answered last
        self._members = [_split(endpoint) for endpoint in self.endpoints]
        self._login = login or Login.of(os.environ)
        self._tls = _context(self._login) if any(one.scheme == "https" for one in self._members) else None
        self._first = 0  # the member that answered last
        self._token: str | None = None
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="etcd")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def list(self, prefix: str, *, since: int = 0, page: int = _PAGE) -> Listing:
        """Return all keys with a prefix, or those that were written at this revision or later."""
        entries: list[Entry] = []
        begin, end, at, count = prefix, _after(prefix), 0, 0
        while True:
            body: dict[str, Any] = {"key": _sent(begin), "range_end": _sent(end), "limit": str(page)}
            body |= {"min_mod_revision": str(since)} if since else {}
            body |= {"revision": str(at)} if at else {}
            answer = await self._call("/v3/kv/range", body)
            if not at:
                at, count = _number(answer.get("header", {}), "revision"), _number(answer, "count")
            found = [_entry(one) for one in answer.get("kvs", [])]
            entries += found
            if not answer.get("more") or not found:
                return Listing(entries=tuple(entries), revision=at, count=count)
            begin = found[-1].key + "\0"

    async def get(self, key: str) -> Entry | None:
        answer = await self._call("/v3/kv/range", {"key": _sent(key)})
        return next((_entry(one) for one in answer.get("kvs", [])), None)

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Put | Delete]) -> bool:
        """Do all of this, or nothing where a condition does not hold. True: it was done.

        False can come of our own success, where the answer to a first try was lost.
        """
        compare = [
            {"key": _sent(one.key), "target": "MOD", "result": "EQUAL", "mod_revision": str(one.written)}
            for one in conditions
        ]
        success = [_operation(one) for one in operations]
        answer = await self._call("/v3/kv/txn", {"compare": compare, "success": success})
        return bool(answer.get("succeeded"))

    async def grant(self, seconds: int) -> int:
        """Make a lease, and return its id."""
        return _number(await self._call("/v3/lease/grant", {"TTL": str(seconds)}), "ID")

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease, and return for how many seconds; 0 where it is gone."""
        answer = await self._call("/v3/lease/keepalive", {"ID": str(lease)})
        return _number(answer.get("result", {}), "TTL")

    async def revoke(self, lease: int) -> None:
        await self._call("/v3/lease/revoke", {"ID": str(lease)})

    async def has_room(self) -> bool:
        """Return whether etcd still takes new keys: past its quota it does not, while leases are kept."""
        answer = await self._call("/v3/maintenance/alarm", {"action": "GET"})
        return not any(one.get("alarm") == "NOSPACE" for one in answer.get("alarms", []))

    async def used(self) -> float | None:
        """Return which share of its quota etcd has used; None where that is not told."""
        size = _number(await self._call("/v3/maintenance/status", {}), "dbSize")
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._quota, self._members[self._first])
        try:
            quota = await asyncio.wait_for(asked, 2 * TRY_SECONDS)
        except (OSError, http.client.HTTPException, ValueError, TimeoutError):
            return None
        return size / quota if quota else None

    def _quota(self, member: SplitResult) -> float:
        """Ask a member for its quota in bytes, which it tells among its metrics alone; 0 where it does not."""
        connection = self._connection(member)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read(_ANSWER_BYTES).decode(errors="replace")
        finally:
            connection.close()
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{_QUOTA} ")), 0.0)

    async def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask one member after the other. Raises ReconcilerError when none of them answers, or all would refuse."""
        loop, why = asyncio.get_running_loop(), ""
        count = len(self._members)
        for attempt in range(count + _TRIES_MORE):
            index = (self._first + attempt) % count
            try:
                answer = await asyncio.wait_for(
                    loop.run_in_executor(self._threads, self._ask, self._members[index], path, body), 2 * TRY_SECONDS
                )
            except _RefusedError as error:
                if error.is_final:
                    raise self._refused(error) from None
                why = error.said
            except (OSError, http.client.HTTPException, ValueError, TimeoutError) as error:
                why = str(error) or type(error).__name__
            else:
                self._first = index
                self.cluster_id = str(
                    answer.get("header", answer.get("result", {}).get("header", {})).get("cluster_id", self.cluster_id)
                )
                return answer
        named = ", ".join(self.endpoints)
        raise world_error(
            "etcd does not answer",
            f"No member of the etcd at {named} did what it was asked: {why}.",
            "look there with: etcdctl endpoint status",
            transient=True,
        )

    def _refused(self, error: _RefusedError) -> ReconcilerError:
        hint = "compact and defragment it, then disarm its alarm: etcdctl alarm list"
        return world_error(
            "etcd has refused",
            f"The etcd at {', '.join(self.endpoints)} has refused what it was asked: {error.said}.",
            hint if "space exceeded" in error.said else "look whether its user may read and write there",
            transient=True,
        )

    def _ask(self, member: SplitResult, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask one member, in a thread. It may have forgotten who we are."""
        try:
            return self._post(member, path, body, self._token_of(member))
        except _RefusedError as error:
            unknown = error.code == _UNAUTHENTICATED or any(word in error.said for word in _LOGGED_OUT)
            if self._login.user is None or not unknown:
                raise
            self._token = None
            return self._post(member, path, body, self._token_of(member))

    def _token_of(self, member: SplitResult) -> str | None:
        if self._login.user is not None and self._token is None:
            words = {"name": self._login.user, "password": self._login.password or ""}
            self._token = str(self._post(member, "/v3/auth/authenticate", words, None)["token"])
        return self._token

    def _post(self, member: SplitResult, path: str, body: Mapping[str, Any], token: str | None) -> dict[str, Any]:
        connection = self._connection(member)
        try:
            headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
            connection.request("POST", path, json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            text = answer.read(_ANSWER_BYTES)
        finally:
            connection.close()
        said = json.loads(text.partition(b"\n")[0] or b"{}")
        if not isinstance(said, dict):
            raise ValueError("its answer is no object")
        error = said.get("error")
        if answer.status != 200 or error:
            inner = error if isinstance(error, dict) else said
            words = str(inner.get("message") or error or f"HTTP status {answer.status}")
            raise _RefusedError(answer.status, int(inner.get("grpc_code") or inner.get("code") or 0), words)
        return said

    def _connection(self, member: SplitResult) -> http.client.HTTPConnection:
        host, port = member.hostname or "", member.port or 2379
        if member.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=TRY_SECONDS, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=TRY_SECONDS)


def endpoints_of(words: Sequence[str]) -> tuple[str, ...]:
    """Return the endpoints that `--cluster` names, by commas or repeated. Raises for what is none.

    >>> endpoints_of(["http://127.0.0.1:2379,http://127.0.0.1:22379", "https://etcd.example:2379/"])
    ('http://127.0.0.1:2379', 'http://127.0.0.1:22379', 'https://etcd.example:2379')
    """
    found = [part.strip().rstrip("/") for word in words for part in word.split(",") if part.strip()]
    for endpoint in found:
        _split(endpoint)
    return tuple(dict.fromkeys(found))


def _split(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.path in ("", "/"):
            return parts
    except ValueError:
        pass
    raise usage_error(
        "no such endpoint",
        f"{unquote(endpoint)!r} is no address of an etcd member.",
        "write it as http://NAME:2379 or https://NAME:2379, several with commas",
    )


def _context(login: Login) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=login.ca_file)
        if login.cert_file:
            context.load_cert_chain(login.cert_file, login.key_file)
        return context
    except (OSError, ssl.SSLError) as error:
        detail = f"The files in ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY cannot be used: {error}."
        raise world_error("no TLS to etcd", detail) from None


def _sent(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _after(prefix: str) -> str:
    """Return the first key after all that begin with an ASCII prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _number(answer: Mapping[str, Any], name: str) -> int:
    """Read a number, which the gateway sends as a string, and leaves out where it is 0."""
    return int(answer.get(name, 0))


def _entry(one: Mapping[str, Any]) -> Entry:
    def text(name: str) -> str:
        return base64.b64decode(one.get(name, "")).decode(errors="replace")

    return Entry(
        key=text("key"),
        value=text("value"),
        written=_number(one, "mod_revision"),
        lease=_number(one, "lease"),
    )


def _operation(one: Put | Delete) -> dict[str, Any]:
    if isinstance(one, Delete):
        return {"request_delete_range": {"key": _sent(one.key)}}
    return {"request_put": {"key": _sent(one.key), "value": _sent(one.value), "lease": str(one.lease)}}
