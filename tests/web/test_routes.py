"""Each route, asked over a real connection."""

from __future__ import annotations

import asyncio
import json

import pytest

from reconciler.inspect.observed import read_observed
from reconciler.show.documents import plan_document
from reconciler.watch.view import Metrics
from reconciler.web import app, serve
from tests.web.conftest import TOKEN, Site
from tests.web.fleet import FakeView

pytestmark = pytest.mark.anyio

PATHS = ("/", "/healthz", "/readyz", "/metrics", "/api/status", "/api/plan", "/api/observed")


@pytest.mark.parametrize("path", PATHS)
async def test_every_page_can_be_had_and_only_looked_at(site: Site, path: str) -> None:
    assert (await site.ask(path)).status == 200
    head = await site.ask(path, "HEAD")
    assert (head.status, head.text) == (200, "")
    refused = await site.ask(path, "POST")
    assert refused.status == 405
    assert "GET" in refused.headers["allow"]


async def test_health_follows_the_loop(site: Site) -> None:
    assert (await site.ask("/healthz")).text == "The loop turns.\n"
    site.view.healthy = False
    answer = await site.ask("/healthz")
    assert (answer.status, answer.text) == (503, "The loop does not turn: no pass has ended for too long.\n")
    assert (await site.ask("/readyz")).status == 200


async def test_ready_means_a_first_pass(site: Site) -> None:
    site.view.ready = False
    answer = await site.ask("/readyz")
    assert (answer.status, answer.text) == (503, "No pass has been made yet.\n")
    assert (await site.ask("/healthz")).status == 200


async def test_status_and_plan_are_the_documents_of_the_commands(site: Site) -> None:
    assert site.view.made is not None
    status, plan = await site.ask("/api/status"), await site.ask("/api/plan")
    assert status.headers["content-type"] == plan.headers["content-type"] == "application/json"
    assert json.loads(status.text) == site.view.document
    assert json.loads(plan.text) == json.loads(json.dumps(plan_document(site.view.made)))


async def test_before_the_first_plan_a_program_is_told_so(site: Site) -> None:
    site.view.made = None
    answer = await site.ask("/api/plan")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "5"
    assert json.loads(answer.text)["diagnostics"][0]["summary"] == "no plan yet"


async def test_what_the_hosts_are_is_the_document_that_plan_from_reads(site: Site) -> None:
    answer = await site.ask("/api/observed")
    assert read_observed(json.loads(answer.text), "default") == site.view.seen
    site.view.seen = None
    assert (await site.ask("/api/observed")).status == 503


async def test_an_unknown_path_is_told_in_a_sentence(site: Site) -> None:
    for path in ("/nothing", "/metrics/", "/api/../etc/passwd", "/%00"):
        answer = await site.ask(path)
        assert answer.status == 404, path
        assert answer.text.startswith("There is nothing at this path")


async def test_metrics(site: Site) -> None:
    site.view.made = None  # so that no host has numbers
    site.view.numbers = Metrics(
        domains_by_condition={"Ready": 2, "Stalled": 1},
        drifted=1,
        passes_total=7,
        pass_failures_total=3,
        last_pass_seconds=0.25,
        steps_done_total=5,
        steps_failed_total=4,
        last_commit="3f2a91bc04de",
        last_pass_ended=1795384303.5,
        downtime_seconds_by_address={"alpha/web": 4.5, 'alpha/"\\\n\ud800': 1},
    )
    answer = await site.ask("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert samples == [
        'reconciler_domains{condition="Ready"} 2.0',
        'reconciler_domains{condition="Stalled"} 1.0',
        "reconciler_drifted_domains 1.0",
        r'reconciler_restart_downtime_seconds{address="alpha/\"\\\\n\\ud800"} 1.0',
        'reconciler_restart_downtime_seconds{address="alpha/web"} 4.5',
        "reconciler_passes_total 7.0",
        "reconciler_pass_failures_total 3.0",
        "reconciler_last_pass_duration_seconds 0.25",
        "reconciler_last_pass_end_timestamp_seconds 1.7953843035e+09",
        'reconciler_commit_info{commit="3f2a91bc04de"} 1.0',
        'reconciler_steps_total{result="done"} 5.0',
        'reconciler_steps_total{result="failed"} 4.0',
    ]


async def test_metrics_leave_out_what_is_not_known_yet(site: Site) -> None:
    text = (await site.ask("/metrics")).text
    assert "last_pass" not in text
    assert "commit" not in text
    assert "reconciler_passes_total 0.0" in text


async def test_the_right_token_asks_for_a_pass(site: Site) -> None:
    for scheme in ("Bearer", "bearer"):
        answer = await site.ask("/reconcile", "POST", {"Authorization": f"{scheme} {TOKEN}"})
        assert answer.status == 202
    assert site.view.asked == 2


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff\xfe"],
)
async def test_a_wrong_token_asks_for_nothing(site: Site, authorization: str) -> None:
    answer = await site.ask("/reconcile", "POST", {"Authorization": authorization})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="reconciler"'
    assert TOKEN not in answer.text
    assert site.view.asked == 0


async def test_no_authorization_asks_for_nothing(site: Site) -> None:
    assert (await site.ask("/reconcile", "POST")).status == 401
    answer = await site.ask("/reconcile", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert site.view.asked == 0


async def test_without_a_token_file_nobody_may_ask() -> None:
    view = FakeView()
    async with serve(view, "0", None) as serving:
        answer = await Site(serving.url, view).ask("/reconcile", "POST", {"Authorization": "Bearer "})
    assert answer.status == 403
    assert "--token-file" in answer.text
    assert view.asked == 0


async def test_requests_are_answered_while_the_loop_works(site: Site) -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            site.view.asked = turns
            await asyncio.sleep(0)

    loop = asyncio.create_task(work())
    answers = await asyncio.gather(*(site.ask(PATHS[number % len(PATHS)]) for number in range(60)))
    loop.cancel()
    assert {answer.status for answer in answers} == {200}
    assert turns >= 10


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/", "status_document"),
        ("/api/status", "status_document"),
        ("/api/plan", "plan"),
        ("/api/observed", "observed"),
        ("/healthz", "is_healthy"),
        ("/readyz", "is_ready"),
    ],
)
async def test_an_error_nobody_foresaw_costs_one_answer_and_its_traceback_is_in_the_log_only(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], path: str, part: str
) -> None:
    def fails() -> None:
        raise KeyError("odd")

    with monkeypatch.context() as broken:
        broken.setattr(site.view, part, fails)
        answer = await site.ask(path)
    assert answer.status == 500
    assert answer.text == "An error that nobody foresaw came up; the log of watch has its traceback.\n"
    assert [problem.detail for problem in site.view.problems] == [
        f"An error that nobody foresaw came up while {path} was asked for: KeyError ('odd')."
    ]
    assert "Traceback" not in capfd.readouterr().err
    assert (await site.ask(path)).status == 200


async def test_a_plan_whose_text_could_not_be_made_once_is_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(plan: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(app, "plan_document", fails)
        assert (await site.ask("/api/plan")).status == 500
    assert (await site.ask("/api/plan")).status == 200
