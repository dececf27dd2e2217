"""The routes. They answer from what the loop already knows: none looks at a host.

What grows with the fleet is written on another thread, since the loop has locks to beat; the plan once for all askers.

Built by `server`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler import holding
from reconciler.decide.holds import in_words
from reconciler.fleet import FleetView
from reconciler.inspect.observed import observed_document
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, unforeseen
from reconciler.plan.plan import Plan
from reconciler.records import dataclass
from reconciler.show.documents import as_text, error_document, plan_document
from reconciler.show.escape import plain
from reconciler.watch.view import WatchView
from reconciler.web.access import COOKIE, Access
from reconciler.web.feed import Feed, told
from reconciler.web.guard import Guard
from reconciler.web.metrics import MEDIA_TYPE, metrics_text
from reconciler.web.page import POLICY, SCRIPT, login, page

_Made = TypeVar("_Made")
_Endpoint = Callable[[Request], Awaitable[Response]]
_FULL_SECONDS = 30
_WRONG_TOKEN_SECONDS = 1.0
_LONGEST_HOLD_SECONDS = holding.LONGEST_DAYS * 24 * 3600
_BEARER = {"WWW-Authenticate": 'Bearer realm="reconciler"'}
_HOW_TO_HOLD = (
    'Send {"address": "HOST or HOST/DOMAIN"} as JSON; for a hold also "reason", and "seconds" (up to a year) or null.'
)
_EVENTS = "text/event-stream"
_BLOCK_BYTES = 1 << 18
_RETRY_AFTER_SECONDS = 5  # what we tell those who come before the first pass

_NO_PLAN = Diagnostic(
    kind=Kind.WORLD,
    summary="no plan yet",
    detail="No plan has been made yet: the first pass has not ended, or could not read its specs.",
    hint="GET /api/status tells what stands against it",
    transient=True,
)


def build_app(view: WatchView, access: Access, *, loopback_names_only: bool) -> tuple[ASGIApp, Feed]:
    """Build the whole site, and what ends its streams."""
    aside = _Aside()
    feed = Feed(view, aside)
    site = _Site(view, access, metrics_text(view), aside, _PlanText(aside), feed)

    def reads(answer: _Endpoint) -> _Endpoint:
        return _bounded(site.for_readers(answer), view)

    app = Starlette(
        routes=[
            Route("/", reads(site.page)),
            Route("/page.js", _bounded(site.script, view)),
            Route("/events", reads(site.events)),
            Route("/healthz", _bounded(site.healthz, view)),
            Route("/readyz", _bounded(site.readyz, view)),
            Route("/metrics", reads(site.metrics)),
            Route("/api/status", reads(site.status)),
            Route("/api/plan", reads(site.plan)),
            Route("/api/observed", reads(site.observed)),
            Route("/login", _bounded(site.login_page, view)),
            Route("/login", _bounded(site.login, view), methods=["POST"]),
            Route("/reconcile", _bounded(site.for_actors(site.reconcile), view), methods=["POST"]),
            Route("/hold", _bounded(site.for_actors(site.hold), view), methods=["POST"]),
            Route("/unhold", _bounded(site.for_actors(site.unhold), view), methods=["POST"]),
        ],
        exception_handlers={404: _not_found, 405: _wrong_method},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever the Host header says
    return Guard(app, policy=POLICY, loopback_names_only=loopback_names_only), feed


class _Aside:
    """A thread of the site's own, for what takes long: one thing at a time, and those of the steps stay free."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="http")

    async def make(self, what: Callable[[], _Made]) -> _Made:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)


class _PlanText:
    """The JSON of the current plan, which is made once however many ask for it."""

    def __init__(self, aside: _Aside) -> None:
        self._aside = aside
        self._plan: Plan | None = None
        self._text: asyncio.Task[bytes] | None = None

    async def of(self, plan: Plan) -> bytes:
        if self._text is None or plan is not self._plan or _has_failed(self._text):
            self._plan = plan
            self._text = asyncio.create_task(self._aside.make(lambda: _text(plan_document(plan))))
        return await asyncio.shield(self._text)  # a client that goes away must not cancel it for the others


@dataclass(frozen=True, slots=True)
class _Site:
    """The endpoints; all `async`, so that they are asked on the loop's thread, and leave what is long to another."""

    view: WatchView
    access: Access
    metrics_text: Callable[[], bytes]
    aside: _Aside
    plan_text: _PlanText
    feed: Feed

    def for_readers(self, answer: _Endpoint) -> _Endpoint:
        """Have only those answered who may read; a browser gets a page to log in by."""

        async def answered(request: Request) -> Response:
            if self.access.may_read(request.headers, request.cookies.get(COOKIE), time.time()):
                return await answer(request)
            if "text/html" in request.headers.get("accept", ""):
                return HTMLResponse(login(refused=False), 401)
            return _sentence(
                "Reading needs the token of --token-file, as the header Authorization: Bearer TOKEN.", 401, _BEARER
            )

        return answered

    def for_actors(self, answer: _Endpoint) -> _Endpoint:
        """Have only those answered who may act."""

        async def answered(request: Request) -> Response:
            if self.access.token is None:
                return _sentence("Nobody may ask for anything here, since watch was started without --token-file.", 403)
            if not self.access.may_act(request.headers, request.cookies.get(COOKIE), time.time()):
                return _sentence(
                    "Asking for this needs the token of --token-file, as the header Authorization: Bearer TOKEN.",
                    401,
                    _BEARER,
                )
            return await answer(request)

        return answered

    async def login_page(self, request: Request) -> Response:
        return HTMLResponse(login(refused=False))

    async def login(self, request: Request) -> Response:
        given = parse_qs((await request.body()).decode(errors="replace")).get("token", [""])[0]
        cookie = self.access.logged_in(given.strip(), time.time())
        if cookie is None:
            await asyncio.sleep(_WRONG_TOKEN_SECONDS)  # who guesses waits
            return HTMLResponse(login(refused=True), 401)
        return Response(status_code=303, headers={"Location": "./", "Set-Cookie": cookie})

    async def hold(self, request: Request) -> Response:
        asked = await _asked(request)
        seconds, reason = asked.get("seconds"), asked.get("reason", "")
        ends = seconds is None or (isinstance(seconds, int) and 0 < seconds <= _LONGEST_HOLD_SECONDS)
        if not isinstance(asked.get("address"), str) or not isinstance(reason, str) or not ends:
            return _sentence(_HOW_TO_HOLD, 400)

        async def held(fleet: FleetView, address: str) -> str:
            desired, root = fleet.desired_of(address), fleet.root
            made = holding.hold(desired, root, self.view.state_dir, address, seconds=seconds, reason=reason)
            return in_words(await made)

        return await self._told(held, asked["address"])

    async def unhold(self, request: Request) -> Response:
        asked = await _asked(request)
        if not isinstance(asked.get("address"), str):
            return _sentence(_HOW_TO_HOLD, 400)

        async def lifted(fleet: FleetView, address: str) -> str:
            was = await holding.unhold(fleet.desired_of(address), fleet.root, self.view.state_dir, address)
            return "held no longer" if was else "it was not held"

        return await self._told(lifted, asked["address"])

    async def _told(self, work: Callable[[FleetView, str], Awaitable[str]], address: str) -> Response:
        """Do something with an address or a host, have it looked at, and answer with what came of it."""
        try:
            done = await work(self.view.fleet(), address)
            self.view.look_at(address.partition("/")[0])
            return _sentence(plain(done))
        except ReconcilerError as error:
            problem = error.diagnostics[0]
            status = 404 if problem.kind is Kind.REFUSED else 502
            return _sentence(plain(f"{problem.summary}: {problem.detail}"), status)

    async def page(self, request: Request) -> Response:
        acts = self.access.token is not None
        return HTMLResponse(await self.aside.make(lambda: page(self.view, acts=acts)))

    async def script(self, request: Request) -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    async def events(self, request: Request) -> Response:
        if self.feed.is_full:
            return _sentence("Too many pages are open already.", 503, {"Retry-After": str(_FULL_SECONDS)})
        request.state.is_stream = True  # which the server heeds: it lasts for as long as its reader takes it
        return _Stream(self.feed)

    async def healthz(self, request: Request) -> Response:
        if self.view.is_healthy():
            return _sentence("The loop turns.")
        return _sentence("The loop does not turn: no pass has ended for too long.", 503)

    async def readyz(self, request: Request) -> Response:
        if self.view.is_ready():
            return _sentence("A first pass has been made.")
        return _sentence("No pass has been made yet.", 503, {"Retry-After": str(_RETRY_AFTER_SECONDS)})

    async def metrics(self, request: Request) -> Response:
        return Response(await self.aside.make(self.metrics_text), media_type=MEDIA_TYPE)

    async def status(self, request: Request) -> Response:
        return _Document(await self.aside.make(lambda: _text(self.view.status_document())))

    async def plan(self, request: Request) -> Response:
        plan = self.view.plan()
        if plan is None:
            return _no_plan()
        return _Document(await self.plan_text.of(plan))

    async def observed(self, request: Request) -> Response:
        observed = await self.aside.make(self.view.observed)
        if observed is None:
            return _no_plan()
        return _Document(await self.aside.make(lambda: _text(observed_document(observed))))

    async def reconcile(self, request: Request) -> Response:
        self.view.reconcile_now()
        return _sentence("A pass will be made, as soon as the running one has ended.", 202)


class _Document(Response):
    """Sends a document in blocks, so that others get a turn: one of 10,000 domains has 25 MB."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _BLOCK_BYTES):
            block = self.body[start : start + _BLOCK_BYTES]
            await send({"type": "http.response.body", "body": block, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


class _Stream(StreamingResponse):
    """Counts from when it is made until it ends, however it does."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._events = feed, feed.join()
        super().__init__(told(self._events), media_type=_EVENTS, headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.leave(self._events)


def _bounded(answer: _Endpoint, view: WatchView) -> _Endpoint:
    """Have an error nobody foresaw cost one answer; the log tells of it, as uvicorn would past the log's form."""

    async def bounded(request: Request) -> Response:
        try:
            return await answer(request)
        except Exception as error:  # noqa: BLE001 -- what goes wrong with one request must not cost the others
            view.problem(unforeseen(f"{request.url.path} was asked for", error))
            return _sentence("An error that nobody foresaw came up; the log of watch has its traceback.", 500)

    return bounded


async def _asked(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; {} where it is none."""
    try:
        asked = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {}


def _has_failed(made: asyncio.Task[bytes]) -> bool:
    return made.done() and (made.cancelled() or made.exception() is not None)


async def _not_found(request: Request, error: Exception) -> Response:
    return _sentence("There is nothing at this path; the page at / and docs/http.md tell what there is.", 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _sentence(f"This path does not answer {request.method}, only {headers.get('Allow', 'GET')}.", 405, headers)


def _sentence(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)


def _no_plan() -> Response:
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
    return Response(_text(error_document([_NO_PLAN])), 503, headers, "application/json")


def _text(document: Mapping[str, Any]) -> bytes:
    return as_text(document).encode()
