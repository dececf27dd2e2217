"""The page in a real browser, left open while a fleet of 1,000 domains is updated: with one host that is silent, and
one kernel that fails. With RECONCILER_UPDATE_PICTURES=1 its pictures are put into docs/pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DOMAINS, HOSTS, TOKEN, Fleet, address

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

PICTURES = Path(__file__).parents[2] / "docs/pictures"
SIZES = [
    (width, height, scheme) for width, height in ((360, 740), (768, 1024), (1280, 900)) for scheme in ("light", "dark")
]
PICTURED = [(360, "dark"), (768, "light"), (1280, "dark")]
LONGEST_TASK_MS = 400  # of the browser, on a machine that runs watch and the browser on two cores
FAILING, SILENT, HELD = address(1, 3), 9, address(2, 7)
_WATCH_TASKS = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
}).observe({ type: "longtask", buffered: false });
"""


@pytest.fixture
def opened(fleet: Fleet, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", timezone_id="Asia/Tokyo"
    )
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda told: problems.append(told.text) if "Content Security Policy" in told.text else None)
    page.goto(f"http://127.0.0.1:{fleet.port}/")
    expect(page.locator("#live")).to_be_visible(timeout=20_000)
    yield page
    context.close()
    assert problems == []


def picture(page: Page, name: str) -> None:
    if os.environ.get("RECONCILER_UPDATE_PICTURES") == "1":
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png")


def test_all_domains_are_there_and_typing_in_the_filter_stays_fluid(opened: Page) -> None:
    expect(opened.locator("#tables tbody tr")).to_have_count(HOSTS * DOMAINS)
    expect(opened.locator("#summary")).to_have_text(f"{HOSTS * DOMAINS} Ready.", timeout=30_000)
    opened.evaluate(_WATCH_TASKS)
    opened.keyboard.press("/")
    opened.keyboard.type("d3-1")
    expect(opened.locator("#matches")).to_have_text(f"10 of {HOSTS * DOMAINS}")
    expect(opened.locator("#tables tbody tr:visible")).to_have_count(10)
    opened.keyboard.press("Escape")
    expect(opened.locator("#matches")).to_have_text("")
    for _ in range(10):
        opened.mouse.wheel(0, 3000)
    assert opened.evaluate("window.longest") < LONGEST_TASK_MS


def test_times_are_in_the_readers_zone(opened: Page) -> None:
    title = opened.locator(f'[id="{HELD}"] td[data-name="Since"] time').get_attribute("title")
    told = opened.locator(f'[id="{HELD}"] td[data-name="Since"] time').get_attribute("datetime")
    shown = opened.evaluate("(iso) => new Date(iso).toLocaleString(undefined, { timeZone: 'Asia/Tokyo' })", told)
    assert title == shown


def test_a_link_to_a_domain_leads_to_it(fleet: Fleet, opened: Page) -> None:
    opened.goto("about:blank")
    opened.goto(f"http://127.0.0.1:{fleet.port}/#{HELD}")
    expect(opened.locator(f'[id="{HELD}"]')).to_be_in_viewport(timeout=20_000)
    expect(opened.locator(f'[id="{HELD}"]')).to_have_class("meant")


def test_hold_and_lift_it_by_keyboard_alone_with_the_token(opened: Page) -> None:
    opened.keyboard.press("/")
    opened.keyboard.type(HELD)
    expect(opened.locator("#tables tbody tr:visible")).to_have_count(1)
    opened.get_by_role("button", name=f"Hold {HELD}").focus()
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("dialog")).to_be_visible()
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("dialog")).to_be_hidden()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Tab")
    opened.keyboard.type("disk check")
    opened.keyboard.press("Enter")
    expect(opened.locator("#act-token")).to_be_focused()
    opened.keyboard.type("a guess")
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("alert")).to_have_text("That is not the token.")
    opened.locator("#act-token").fill(TOKEN)
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("dialog")).to_be_hidden()
    expect(opened.locator(f'[id="{HELD}"]')).to_contain_text("held: disk check", timeout=20_000)
    opened.get_by_role("button", name=f"Lift the hold of {HELD}").click()
    opened.locator("#act-do").click()
    expect(opened.get_by_role("button", name=f"Hold {HELD}")).to_be_visible(timeout=20_000)
    expect(opened.locator(f'[id="{HELD}"]')).not_to_contain_text("held")


def test_an_update_of_all_with_a_silent_host_and_a_kernel_that_fails(fleet: Fleet, opened: Page) -> None:
    opened.evaluate(_WATCH_TASKS)
    fleet.run("sim", f"h{SILENT}", "fault", "unreachable", "--times", "1000")
    fleet.run("sim", FAILING.partition("/")[0], "put", "/boot/linux-bad", "panics")
    card = opened.locator("#host-list li").nth(SILENT)
    expect(card).to_contain_text("does not answer", timeout=40_000)
    silent_row = opened.locator(f'[id="{address(SILENT, 0)}"]')
    expect(silent_row).to_have_class("silent")
    expect(silent_row).to_contain_text("Stalled")
    expect(silent_row).to_contain_text("16 MiB")
    for host in range(4):
        for number in range(DOMAINS):
            kernel = "linux-bad" if address(host, number) == FAILING else "linux-6.6"
            fleet.write(f"{address(host, number)}.toml", f'kernel = "/boot/{kernel}"\nmemory = 16\n')
    expect(opened.locator("#step-list li").first).to_be_visible(timeout=60_000)
    expect(opened.locator("#summary")).to_contain_text("Reconciling", timeout=60_000)
    picture(opened, "page-1280-light")
    failing = opened.locator(f'[id="{FAILING}"]')
    expect(failing).to_contain_text("quarantined", timeout=90_000)
    expect(opened.locator("#apply-list li").first).to_be_visible()
    assert opened.evaluate("window.longest") < LONGEST_TASK_MS


@pytest.mark.parametrize(("width", "height", "scheme"), SIZES)
def test_it_fits_and_anyone_can_use_it(
    fleet: Fleet, browser: Browser, width: int, height: int, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{fleet.port}/")
    expect(page.locator("#live")).to_be_visible(timeout=20_000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"
    page.locator("#filter").fill("h1")
    if (width, scheme) in PICTURED:
        picture(page, f"page-{width}-{scheme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()


def test_it_says_when_it_is_cut_off_and_goes_on_by_itself(fleet: Fleet, opened: Page) -> None:
    fleet.kill()
    expect(opened.locator("#cut-off")).to_contain_text("cut off from its controller", timeout=60_000)
    fleet.start()
    expect(opened.locator("#cut-off")).to_be_hidden(timeout=60_000)
    expect(opened.locator("#tables tbody tr")).to_have_count(HOSTS * DOMAINS)
