"""What pages that are open are told: everything at first, then what differs, for as long as they take it."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.apply.history import ApplyRecord, History, StepRecord
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.decide.changes import Action
from reconciler.fleet import FleetView, Seen
from reconciler.model.fleet import Window
from reconciler.model.host import WHOLE_HOST, Hold, Quarantined
from reconciler.specs import TreeReading
from reconciler.specs.commit import commit_of, subject_of
from reconciler.watch.view import Metrics, StepUnderWay
from reconciler.web import feed as feed_module
from reconciler.web import live
from reconciler.web.feed import Feed, told
from reconciler.web.live import changes_between, live_document
from tests.web.conftest import Site
from tests.web.fleet import HOSTILE, FakeView, a_document, a_plan
from tests.worlds import MIB, desired, domain, guest, host

pytestmark = pytest.mark.anyio

NOW = 1795384303.0
T = TypeVar("T")


class AtOnce:
    async def make(self, what: Callable[[], T]) -> T:
        return what()


def seen_alpha(*, answers: bool = True) -> FleetView:
    web = replace(guest(domain("web", memory_kib=256 * MIB)), running_seconds=600.0)
    db = replace(guest(domain("db")), quarantine=(Quarantined(boot="x", kernel="bad"),))
    holds = {"db": Hold(begins=0, reason="disk check"), WHOLE_HOST: Hold(begins=0, by="ann@desk")}
    told = Seen(host=replace(host(web, db), holds=holds), at=NOW - 30)
    return FleetView(told={"alpha": told}, seen={"alpha": told if answers else Seen(host=None, at=NOW)})


def test_a_domain_as_it_runs_and_what_holds_it() -> None:
    document = live_document(FakeView(known=seen_alpha()), NOW)
    web, db = document["domains"]["alpha/web"], document["domains"]["alpha/db"]
    assert (web["memory_kib"], web["vcpus"], web["kernel"]) == (256 * MIB, 1, "vmlinuz.111111111111")
    assert web["booted"] == "2026-11-22T21:41:00Z"
    assert (db["hold"], db["quarantine"]) == ("held: disk check", ["bad"])
    assert document["hosts"]["alpha"]["hold"] == "held, by ann@desk"
    assert document["hosts"]["alpha"]["observed"] is True
    assert document["hosts"]["alpha"]["told_by"] is None


def test_a_silent_host_is_shown_as_it_was_seen_and_its_domains_are_not_on_their_way() -> None:
    view = FakeView(known=seen_alpha(answers=False))
    document = live_document(view, NOW)
    assert document["hosts"]["alpha"] | {"observed": False, "at": "2026-11-22T21:51:13Z"} == document["hosts"]["alpha"]
    assert document["hosts"]["alpha"]["memory_kib"] is not None
    db = document["domains"]["alpha/db"]
    assert view.document["domains"][0]["condition"] == "Reconciling"
    assert (db["condition"], db["silent"], db["memory_kib"]) == ("Stalled", True, domain("db").memory_kib)


def test_who_made_a_commit_is_asked_again_where_git_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow_at_first(folder: Path, commit: str) -> str:
        asked.append(commit)
        if len(asked) == 1:
            raise TimeoutError
        return "Ann: Begin"

    monkeypatch.setattr(live, "subject_of", slow_at_first)
    reading = TreeReading(desired=desired(), diagnostics=())
    view = FakeView(known=FleetView(reading=reading), numbers=Metrics(last_commit="5ub1ec7"))
    hours = (NOW, NOW + 60, NOW + 3600, NOW + 3660, NOW + 7200)
    told = [live_document(view, now)["controller"]["commit_in_words"] for now in hours]
    assert told == [None, None, *["Ann: Begin"] * 3]
    assert len(asked) == 2


def test_git_that_takes_too_long_has_not_said_that_it_knows_no_such_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert subject_of(tmp_path, "a" * 40) is None
    monkeypatch.setattr("reconciler.specs.commit._TIMEOUT_SECONDS", 0)
    with pytest.raises(TimeoutError):
        subject_of(tmp_path, "a" * 40)
    assert commit_of(tmp_path) is None


def test_steps_under_way_and_recent_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (
        StepRecord(step="s1", address="alpha/web", kind="start", outcome="done", seconds=1, problem=None),
        StepRecord(step="s2", address="alpha/db", kind="start", outcome="failed", seconds=1, problem="no\nmemory"),
    )
    apply = ApplyRecord(
        id=1, began="2026-11-22T21:45:03Z", ended=None, commit="3f2a", signer=None, digest="", planned=2, steps=steps
    )
    under_way = StepUnderWay(address="alpha/web", id="s3", kind="start", step="start it", began=NOW, note="half")
    monkeypatch.setattr(History, "records", lambda self, asked: (apply,))
    monkeypatch.setattr(History, "usual_seconds", lambda self, steps: dict.fromkeys(steps, 8.0))
    document = live_document(FakeView(under_way=(under_way,)), NOW)
    assert document["steps"]["alpha/web s3"] == {
        "address": "alpha/web",
        "step": "start it",
        "began": "2026-11-22T21:51:43Z",
        "usual_seconds": 8.0,
        "note": "half",
    }
    (told,) = document["applies"]
    assert (told["done"], told["failed"], told["problem"]) == (1, 1, "alpha/db: no")
    assert told["addresses"] == ["alpha/web", "alpha/db"]


def test_windows_with_what_waits_for_them() -> None:
    made = a_plan()
    night = Window(kind="allow", schedule="0 2 * * *", duration_seconds=3600, reason="night")
    day = Window(kind="deny", schedule="0 20 * * *", duration_seconds=7200, actions=("destroy",), host="alpha")
    waits = replace(made.changes[0], action=Action.NO_OP, would=Action.RESTART, waits_for=("window: night",))
    made = replace(made, changes=(waits, *made.changes[1:]), windows=(night, day))
    first, second = live_document(FakeView(made=made), NOW)["windows"]  # at 21:51 UTC
    assert (first["name"], first["open"], first["waiting"]) == ("night", False, 1)
    assert (first["when"], first["opens"]) == ("0 2 * * * for 1 h, UTC", "2026-11-23T02:00:00Z")
    assert (second["name"], second["open"], second["waiting"]) == ('deny "0 20 * * *"', True, 0)


def test_what_cannot_be_shown_is_spelt_out() -> None:
    document = live_document(FakeView(document=a_document(HOSTILE)), NOW)
    text = json.dumps(document, ensure_ascii=False)
    text.encode()
    assert "\u202e" not in text and "\x1b" not in text


def test_a_long_plan_is_cut_with_a_word() -> None:
    view = FakeView()
    assert view.made is not None
    view.made = replace(view.made, unmanaged=tuple(f"alpha/other{number}" for number in range(20_000)))
    plan = live_document(view, NOW)["plan"]
    assert len(plan) < 101_000


def test_only_what_differs_is_told_and_what_is_gone_by_name() -> None:
    before = live_document(FakeView(), NOW)
    document = a_document()
    document["domains"] = document["domains"][1:]
    document["domains"][0] = {**document["domains"][0], "reason": "another"}
    after = live_document(FakeView(document=document), NOW)
    assert changes_between(before, before) == {}
    changed = changes_between(before, after)
    assert set(changed) == {"domains", "controller"}
    assert changed["controller"]["counts"] == {"Stalled": 1}
    assert changed["domains"]["alpha/db"] is None
    assert changed["domains"]["alpha/legacy"]["reason"] == "another"
    assert set(changed["domains"]) == {"alpha/db", "alpha/legacy"}


def event(text: bytes) -> tuple[str, dict[str, Any]]:
    name, data = text.decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def next_event(events: AsyncIterator[bytes]) -> tuple[str, dict[str, Any]]:
    return event(await asyncio.wait_for(anext(events), 5))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_LOOK_SECONDS", 0.01)


async def test_everything_first_then_the_time_then_changes_to_each_reader() -> None:
    view = FakeView()
    feed = Feed(view, AtOnce(), now=lambda: NOW)
    first = told(feed.join())
    assert (await next_event(first))[0] == "all"
    assert await next_event(first) == ("beat", {"now": NOW, "healthy": True})
    second = told(feed.join())
    assert (await next_event(second))[0] == "all"
    assert (await next_event(second))[0] == "beat"
    view.numbers, view.changed = Metrics(drifted=3), 1
    for one in (first, second):
        name, news = await next_event(one)
        assert (name, set(news), news["controller"]["drifted"]) == ("change", {"controller"}, 3)
    feed.close()
    assert [text async for text in first] == []


async def test_nothing_is_made_while_nothing_changes_or_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def document(view: FakeView, now: float) -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"plan": str(made)}

    monkeypatch.setattr(feed_module, "live_document", document)
    view = FakeView()
    feed = Feed(view, AtOnce())
    events = feed.join()
    assert await events.get() is not None
    await asyncio.sleep(0.05)
    assert made == 1
    feed.leave(events)
    view.changed = 1
    await asyncio.sleep(0.05)
    assert made == 1


async def test_who_does_not_take_what_is_told_is_let_go_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_MOST_WAITING", 5)
    view = FakeView()
    feed = Feed(view, AtOnce())
    slow, quick = told(feed.join()), told(feed.join())
    for one in (slow, quick):
        await next_event(one)
    for number in range(20):
        view.numbers, view.changed = Metrics(drifted=number + 1), number + 1
        while (await next_event(quick))[0] != "change":
            pass
    assert [text async for text in slow] == []
    feed.close()


async def test_an_error_that_nobody_foresaw_is_told_in_the_log_and_the_next_look_is_made() -> None:
    view = FakeView()
    document, view.document = view.document, {"domains": None}
    feed = Feed(view, AtOnce())
    events = told(feed.join())
    waiting = asyncio.ensure_future(anext(events))
    while not view.problems:
        await asyncio.sleep(0.01)
    view.document = document
    assert event(await asyncio.wait_for(waiting, 5))[0] == "all"
    feed.close()


async def test_a_stream_over_http_ends_with_the_server_and_one_too_many_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
        connection.request("GET", "/events")
        return connection.getresponse()

    answer = await asyncio.to_thread(opened)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert await asyncio.to_thread(answer.readline) == b"event: all\n"
    monkeypatch.setattr(feed_module, "MOST_READERS", 2)
    at_once = await asyncio.gather(*(asyncio.to_thread(opened) for _ in range(4)))
    assert sorted(one.status for one in at_once) == [200, 503, 503, 503]
    refused = await asyncio.gather(*(asyncio.to_thread(opened) for _ in range(3)))
    assert [(one.status, one.headers["retry-after"]) for one in refused] == [(503, "30")] * 3
    answer.close()


def test_how_long_steps_usually_take_is_the_median_of_those_before(tmp_path: Path) -> None:
    plan = a_plan()
    step = next(one for one in plan.steps if one.address == "alpha/web")
    for seconds in (4.0, 9.0, 1.0):
        result = StepResult(step=step, seconds=seconds)
        with History(tmp_path).recording(plan, None) as recording:
            recording.note(result)
            recording.end(ApplyResult(done=(result,)))
    web = StepUnderWay(address="alpha/web", id="s1", kind=step.step.kind, step="start it", began=NOW)
    under_way = (web, replace(web, id="s2", address="alpha/new"))
    told = live_document(FakeView(under_way=under_way, state_dir=tmp_path), NOW)["steps"]
    assert [one["usual_seconds"] for one in told.values()] == [4.0, None]
