"""Nothing holds the event loop for more than 100 ms, whatever the size of a fleet: locks have to be beaten then."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message

from reconciler.apply.history import History, Recording
from reconciler.apply.result import ApplyResult, StepResult
from reconciler.decide.changes import Consent
from reconciler.dom0 import images
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.domain import Domain, Image
from reconciler.model.fleet import Desired, HostSettings
from reconciler.model.host import Host
from reconciler.plan.plan import Plan
from reconciler.plan.steps import StageImage
from reconciler.reconcile import Reconciler, Selection
from reconciler.specs import TreeReading
from reconciler.texts.config_file import render_file
from reconciler.texts.listing import parse_list_long
from reconciler.toolstack import Question
from reconciler.waiting import Stop
from reconciler.watch import process
from reconciler.web import app as app_module
from reconciler.web.access import Access
from reconciler.web.app import build_app
from reconciler.xl.observe import XlObserver
from tests.fake_dom0 import INFO, TABLE_HEAD, make_domain, running_json, settings, shell, table_row, tools, xen
from tests.loop_turns import assert_the_loop_turns, longest_turn
from tests.web.fleet import FakeView, a_document, a_plan
from tests.worlds import NEW, desired, domain, guest, host, kernel, plan

__all__ = ["make_domain", "settings", "shell", "tools", "xen"]

SOME = 200  # what is planned in about a second
MANY = 10_000


@lru_cache
def fleet(count: int = SOME) -> tuple[Host, Desired]:
    """A host all of whose domains get a new kernel."""
    names = [f"d{number:05}" for number in range(count)]
    running = [guest(domain(name)) for name in names]
    world = replace(host(*running), total_kib=count << 20, free_kib=count << 18)
    settings = HostSettings(name="alpha", toolstack="simulated", max_unavailable=100)
    return world, desired(*(domain(name, kernel=kernel(name, NEW)) for name in names), settings=settings)


@lru_cache
def restarts() -> Plan:
    """As many as there can be: those of some domains, again and again."""
    made = plan(*fleet())
    times = range(MANY // SOME)
    changes = tuple(replace(change, domain=f"{change.domain}-{n}") for n in times for change in made.changes)
    steps = tuple(replace(step, id=f"{step.id}-{n}") for n in times for step in made.steps)
    return replace(made, changes=changes, steps=steps)


def test_the_loop_that_is_held_is_noticed() -> None:
    async def hold() -> None:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass

    assert asyncio.run(longest_turn(hold)) > 0.2


OPEN = Access(token=None, anybody_reads=True)


@pytest.mark.parametrize("path", ["/api/plan", "/api/status", "/"])
def test_a_page_about_10000_restarts_is_made_beside_the_loop(path: str) -> None:
    document = a_document()
    document["domains"] = [{**document["domains"][0], "address": f"alpha/d{number}"} for number in range(MANY)]
    view = FakeView(made=restarts(), document=document)

    def make_work() -> Callable[[], Awaitable[object]]:
        app, _ = build_app(view, OPEN, loopback_names_only=False)
        return lambda: asyncio.gather(*(answer_of(app, path) for _ in range(3)))

    assert_the_loop_turns(make_work)


async def answer_of(app: ASGIApp, path: str) -> int:
    """The size of what the site answers."""
    sizes: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200
        sizes.append(len(message.get("body", b"")))

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"127.0.0.1")]}
    await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send)
    assert sum(sizes) > 1_000_000
    return sum(sizes)


def test_the_plan_is_written_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Plan] = []

    def document(plan: Plan) -> dict[str, str]:
        made.append(plan)
        return {"big": "x" * 2_000_000}

    monkeypatch.setattr(app_module, "plan_document", document)
    view = FakeView()
    app, _ = build_app(view, OPEN, loopback_names_only=False)

    async def ask() -> None:
        await asyncio.gather(*(answer_of(app, "/api/plan") for _ in range(5)))
        await answer_of(app, "/api/plan")
        view.made = a_plan()  # the next pass
        await answer_of(app, "/api/plan")

    asyncio.run(ask())
    assert len(made) == 2


def test_a_plan_is_made_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, wanted = fleet()

    async def observe(self: Reconciler, names: frozenset[str], stop: Stop) -> tuple[dict[str, Host], tuple[()]]:
        return {"alpha": world}, ()

    monkeypatch.setattr(Reconciler, "observe", observe)
    reconciler = Reconciler(TreeReading(desired=wanted, diagnostics=()), tmp_path, tmp_path)
    assert_the_loop_turns(lambda: lambda: reconciler.make_plan(Selection(), Consent()))


def test_a_ramdisk_is_hashed_and_sent_beside_the_loop(shell: Dom0Shell, tmp_path: Path) -> None:
    content = b"ramdisk\n" * (1 << 24)  # 128 MiB
    (tmp_path / "ramdisk").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{shell.dom0.kernel_dir}/web/ramdisk.{sha256[:12]}"
    step = StageImage(domain="web", image=Image(sha256=sha256, path=path, source="ramdisk"))

    async def stage() -> None:
        Path(path).unlink(missing_ok=True)
        await images.stage(shell, step, tmp_path, "token")

    assert_the_loop_turns(lambda: stage)


def test_what_a_large_host_prints_is_read_beside_the_loop(
    settings: HostSettings, xen: Path, make_domain: Callable[..., Domain]
) -> None:
    webs = [make_domain(name=f"web{number}", uuid=f"00000002-1111-2222-3333-{number:012}") for number in range(500)]
    for web in webs:
        Path(f"{settings.config_dir}/{web.name}.cfg").write_text(render_file(web, "default", None))
    rows = [table_row(web.name, number, uuid=web.uuid) for number, web in enumerate(webs, 1)]
    (xen / "list").write_text(TABLE_HEAD + "".join(rows))
    (xen / "long").write_text(json.dumps([running_json(number, web) for number, web in enumerate(webs, 1)], indent=4))
    (xen / "info").write_text(INFO)

    async def observe() -> None:
        observed = await XlObserver(settings, "default", None).observe(Question())
        assert len(observed.guests) == 500

    assert_the_loop_turns(lambda: observe)


def test_the_list_of_a_very_large_host_leaves_others_a_turn() -> None:
    entry = {"domid": 1, "config": {"c_info": {"name": "web"}, "more": ["x" * 50] * 500}}
    text = json.dumps([entry] * 2000, indent=4)  # some 60 MiB

    async def read() -> None:
        assert len(await asyncio.to_thread(parse_list_long, text)) == 2000

    assert_the_loop_turns(lambda: read)


def test_a_history_on_a_slow_disk_holds_up_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Recording._execute

    def slow(self: Recording, statement: str, values: tuple[object, ...]) -> None:
        time.sleep(0.3)
        execute(self, statement, values)

    monkeypatch.setattr(Recording, "_execute", slow)
    made = plan(*fleet(2))
    history = History(tmp_path)

    async def record() -> None:
        with history.recording(made, None) as recording:
            for step in made.steps[:3]:
                recording.note(StepResult(step=step))
                await asyncio.sleep(0.01)
            await asyncio.to_thread(recording.end, ApplyResult())

    gaps = asyncio.run(gaps_by_the_clock(record))
    assert max(gaps) < 0.25
    (noted,) = history.records()
    assert [step.step for step in noted.steps] == [step.id for step in made.steps[:3]]
    assert noted.ended is not None


@pytest.mark.parametrize(("at_most", "is_looked_at"), [(10**9, True), (0, False)])
def test_only_what_takes_a_short_turn_is_looked_at_for_old_garbage(
    monkeypatch: pytest.MonkeyPatch, at_most: int, *, is_looked_at: bool
) -> None:
    class Node:
        itself: Node

    monkeypatch.setattr(process, "_OLD_OBJECTS_AT_MOST", at_most)
    gc.freeze()  # what tests have is no part of this
    try:
        node = Node()
        node.itself = node
        gc.collect()  # it is old from now on
        gone = weakref.ref(node)
        del node
        process.collect_old_objects()
        assert (gone() is None) is is_looked_at
        assert (gc.get_objects(generation=2) == []) is not is_looked_at  # left out from now on
    finally:
        gc.unfreeze()


async def gaps_by_the_clock(work: Callable[[], Awaitable[object]]) -> list[float]:
    """As `longest_turn`, but waiting for a disk counts as well."""
    gaps: list[float] = []

    async def beat() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    beating = asyncio.create_task(beat())
    await work()
    beating.cancel()
    return gaps
