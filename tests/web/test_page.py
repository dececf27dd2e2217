"""The page: what it says, and that nothing it is given becomes part of its markup."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from unittest.mock import sentinel

import pytest

from reconciler.plan.plan import Plan
from reconciler.show.text import plan_text
from reconciler.watch.view import Metrics
from reconciler.web.page import page
from tests.web.conftest import Site
from tests.web.fleet import HOSTILE, FakeView, a_document, a_plan

_VOID = {"meta", "link", "br", "hr", "img", "input"}
_STILL = '<div id="still">'  # what is shown where no script runs begins with it


class _Markup(HTMLParser):
    """Which elements there are, what each says, and whether all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def names(self) -> list[str]:
        return [name for name, _ in self.elements]


def shown(text: str) -> str:
    """The page's text, blanks made single."""
    return " ".join("".join(_Markup(text).text).split())


def test_hosts_domains_conditions_reasons_and_times() -> None:
    text = page(FakeView(numbers=Metrics(domains_by_condition={"Ready": 2, "Stalled": 1}, drifted=1)))
    assert "<title>2 Ready, 1 Stalled. 1 drifted. · reconciler</title>" in text
    words = shown(text)
    assert "web Stalled drifted start: it does not run 2026-11-22 21:45:03 UTC" in words
    assert "legacy unmanaged not ours, never changed" in words
    assert "beta This host could not be observed" in words
    assert "beta does not answer ssh gave up. hint: ping beta" in words


def test_why_is_what_watch_makes_of_it() -> None:
    document = a_document()
    document["domains"][0]["condition_reason"] = "s4 failed (2 tries; the next one at 2026-11-22T22:00:00Z)"
    text = page(FakeView(document=document))
    assert "s4 failed (2 tries; the next one at 2026-11-22T22:00:00Z)" in text
    assert "start: it does not run" in text


def test_problems_of_the_plan_and_of_watch_are_told_once() -> None:
    document = a_document()
    document["diagnostics"][0] |= {"path": "specs/alpha/web.toml", "line": 3}
    words = shown(page(FakeView(document=document)))
    assert "specs/alpha/web.toml:3 beta does not answer" in words
    assert "the commit is not signed The last good one stays." in words
    assert words.count("beta does not answer") == 1


def test_domains_that_need_somebody_come_first() -> None:
    document = a_document()
    document["domains"][0] |= {"condition": "Ready", "status": "ready"}  # alpha/db
    order = re.findall(r'scope="row">(\w+)<', page(FakeView(document=document)))
    assert order == ["web", "db", "legacy"]


def test_the_plan_is_shown_as_the_terminal_shows_it() -> None:
    made = a_plan()
    parsed = _Markup(page(FakeView(made=made)))
    assert plan_text(made) in parsed.text


def test_what_the_last_pass_was() -> None:
    assert "No pass has ended yet." in page(FakeView())
    numbers = Metrics(last_pass_ended=1795384303.5, last_pass_seconds=0.25, last_commit="3f2a91bc04de5566")
    assert "The last pass ended on 2026-11-22 21:51:43 UTC, and took 0.2 s. Commit 3f2a91bc04de." in page(
        FakeView(numbers=numbers)
    )


def test_before_the_first_pass() -> None:
    empty = {"format": 1, "domains": [], "hosts": {}, "diagnostics": [], "summary": {}}
    text = page(FakeView(made=None, document=empty, ready=False, healthy=False))
    assert "No pass has been made yet, so nothing is known." in text
    assert "No plan has been made yet." in text
    assert "The loop does not turn" in text
    assert "Problems" not in text.partition(_STILL)[2]


def test_nothing_from_elsewhere_becomes_markup() -> None:
    view = FakeView(
        made=hostile_plan(),
        document=a_document(HOSTILE),
        numbers=Metrics(domains_by_condition={HOSTILE: 1}, last_commit=HOSTILE, last_pass_ended=0),
    )
    tame = FakeView(
        made=hostile_plan("tame"),
        document=a_document("tame"),
        numbers=Metrics(domains_by_condition={"tame": 1}, last_commit="tame", last_pass_ended=0),
    )
    text = page(view)
    hostile_markup, tame_markup = _Markup(text), _Markup(page(tame))
    assert sorted(hostile_markup.names()) == sorted(tame_markup.names())  # hosts are sorted by name
    assert hostile_markup.open == []
    assert "49" not in text.replace("2049", "")
    text.encode()  # no half of a surrogate pair is left
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)
    assert {name for _, attributes in hostile_markup.elements for name in attributes} <= {
        *(
            "lang",
            "charset",
            "name",
            "content",
            "http-equiv",
            "class",
            "id",
            "aria-labelledby",
            "aria-label",
            "role",
            "scope",
        ),
        *("datetime", "tabindex", "href", "src", "defer", "hidden"),
        *("for", "type", "autocomplete", "spellcheck", "aria-describedby", "method", "value", "maxlength"),
        *("formnovalidate", "data-acts"),
    }


def hostile_plan(text: str = HOSTILE) -> Plan:
    made = a_plan()
    changes = tuple(replace(change, domain=text, reason=text, hint=text) for change in made.changes)
    return replace(made, changes=changes, unmanaged=(f"alpha/{text}",))


async def _policy(site: Site, path: str) -> dict[str, str]:
    policy = (await site.ask(path)).headers["content-security-policy"]
    return dict(part.strip().split(" ", 1) for part in policy.split(";"))


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/status", "/nothing"])
async def test_browsers_may_run_no_script_but_the_pages_own_and_frame_nothing(site: Site, path: str) -> None:
    policy = await _policy(site, path)
    style = policy.pop("style-src")
    assert (policy.pop("script-src"), policy.pop("connect-src")) == ("'self'", "'self'")
    assert policy.pop("form-action") == "'self'"
    assert policy == dict.fromkeys(("default-src", "base-uri", "frame-ancestors"), "'none'")
    headers = (await site.ask(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["date"].endswith(" GMT")
    assert "server" not in headers
    assert "unsafe" not in style


@pytest.mark.anyio
async def test_the_policy_allows_the_style_of_the_page(site: Site) -> None:
    inline = re.search(r"<style>(.*?)</style>", (await site.ask("/")).text, re.DOTALL)
    assert inline is not None
    digest = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
    assert (await _policy(site, "/"))["style-src"] == f"'sha256-{digest}'"


@pytest.mark.anyio
async def test_the_page_needs_nothing_from_elsewhere_and_renews_itself_without_its_script(site: Site) -> None:
    answer = await site.ask("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    markup = _Markup(answer.text)
    assert not {"img", "link", "iframe"} & set(markup.names())
    assert [about for name, about in markup.elements if name == "script"] == [{"src": "page.js", "defer": None}]
    assert not re.search(r"https?:|@import|url\(", answer.text)
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in answer.text


@pytest.mark.anyio
async def test_the_script_is_served_and_makes_no_markup_of_what_it_is_told(site: Site) -> None:
    answer = await site.ask("/page.js")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\.style\b", answer.text)
    assert not re.search(r"https?:|import\(", answer.text)


@pytest.mark.anyio
async def test_a_view_that_fails_costs_one_answer(site: Site) -> None:
    document, site.view.document = site.view.document, {"domains": sentinel.not_a_list}
    answer = await site.ask("/")
    assert answer.status == 500
    assert "TypeError" in site.view.problems[0].detail
    site.view.document = document
    assert (await site.ask("/")).status == 200


def test_a_domain_that_no_pass_saw_has_a_condition_and_no_status() -> None:
    document = a_document()
    unseen = {"address": "beta/web", "status": None, "condition": "Stalled", "condition_reason": "beta has errors"}
    document["domains"].append({**document["domains"][0], **unseen})
    text = page(FakeView(document=document))
    assert "beta has errors" in text
    assert "None" not in text


@pytest.mark.anyio
async def test_it_works_behind_a_proxy_under_a_path(site: Site) -> None:
    markup, script = _Markup((await site.ask("/")).text), (await site.ask("/page.js")).text
    login = _Markup((await site.ask("/login")).text)
    led = [about.get(key) for _, about in (*markup.elements, *login.elements) for key in ("href", "src", "action")]
    asked = re.findall(r"(?:fetch|EventSource)\(\"([^\"]*)\"|send\([^,]*\"([a-z]+)\"", script)
    assert len(asked) >= 3
    assert not [one for one in (*led, *map("".join, asked)) if one is not None and one.startswith("/")]
