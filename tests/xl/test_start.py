"""Starting a domain: what is created from which file, and what counts as started whatever xl says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.dom0.layout import Dom0
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.domain import Domain
from reconciler.model.fleet import HostSettings
from reconciler.plan.steps import Start
from reconciler.xl import look, starting
from reconciler.xl.execute import XlExecutor
from reconciler.xl.look import CONSOLE_LOG, LOOK
from tests.fake_dom0 import INFO, process_of_xl, running_json, table_row, with_part
from tests.xl.fake_guests import OTHER_UUID, Guests, ignore

pytestmark = pytest.mark.anyio
HALF_MADE = table_row("web", 6, "--p---", seconds=0)


@pytest.fixture
def step(make_domain: Callable[..., Domain]) -> Start:
    return Start(definition=make_domain())


async def test_it_creates_from_the_config_or_the_candidate(
    executor: XlExecutor, guests: Guests, step: Start, settings: HostSettings
) -> None:
    files = (f"{settings.config_dir}/web.cfg", f"{settings.kernel_dir}/web/candidate.cfg")
    for candidate, file in zip((False, True), files, strict=True):
        guests.show()
        guests.on("create", guests.later("up", table_row("web", 5)))
        await executor.execute(replace(step, candidate=candidate), ignore)
        assert guests.calls[-1] == f"create {file}"


async def test_losing_the_race_to_xendomains_is_success(executor: XlExecutor, guests: Guests, step: Start) -> None:
    guests.show(table_row("web", 5))
    await executor.execute(step, ignore)
    guests.show()
    guests.on("create", f"{guests.later('up', table_row('web', 6))}; echo 'already exists' >&2; exit 3")
    await executor.execute(step, ignore)
    assert len(guests.calls) == 1


async def test_only_what_the_console_shows_since_the_start_counts_whoever_looks(
    executor: XlExecutor,
    guests: Guests,
    step: Start,
    settings: HostSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "console.log"
    log.write_text("an earlier life: login:\n")
    find_log = f"log={log}\n"
    monkeypatch.setattr(starting, "_CREATE", with_part(starting._CREATE, CONSOLE_LOG, find_log))
    monkeypatch.setattr(look, "LOOK", with_part(LOOK, CONSOLE_LOG, find_log))
    guests.show()
    guests.on("create", guests.later("up", table_row("web", 5)))
    await executor.execute(step, ignore)
    with log.open("a") as console:
        console.write("this life\n")
    for each in (executor, XlExecutor(settings, "default", None, tmp_path)):  # the second one did not start it
        assert (await each.look("web")).console == "this life\n"


@pytest.mark.parametrize("runs", ["the candidate", "what was before"])
async def test_what_runs_in_place_of_a_candidate_has_to_be_it(
    executor: XlExecutor, guests: Guests, xen: Path, step: Start, runs: str
) -> None:
    running = step.definition if runs == "the candidate" else replace(step.definition, cmdline="of before")
    guests.show(table_row("web", 5))
    (xen / "long").write_text(json.dumps([running_json(5, running)]))
    if runs == "the candidate":
        await executor.execute(replace(step, candidate=True), ignore)
    else:
        with pytest.raises(ReconcilerError, match="not what was to be started") as caught:
            await executor.execute(replace(step, candidate=True), ignore)
        assert caught.value.diagnostics[0].transient


async def test_a_segfault_after_the_work_is_done_is_success(executor: XlExecutor, guests: Guests, step: Start) -> None:
    guests.on("create", f"{guests.later('up', table_row('web', 6))}; kill -SEGV $$")
    await executor.execute(step, ignore)
    assert [call.split()[0] for call in guests.calls] == ["create"], "it was made once, and is left alone"


async def test_exit_0_without_a_domain_is_a_failure(executor: XlExecutor, guests: Guests, step: Start) -> None:
    guests.on("create", "exit 0")
    with pytest.raises(ReconcilerError, match="gone at once") as caught:
        await executor.execute(step, ignore)
    assert caught.value.diagnostics[0].boot_failed
    stays = replace(
        step.definition, on_poweroff="preserve", on_reboot="preserve", on_crash="preserve", on_watchdog="preserve"
    )
    with pytest.raises(ReconcilerError, match="gone at once") as caught:
        await executor.execute(replace(step, definition=stays), ignore)
    assert not caught.value.diagnostics[0].boot_failed, "it would be there whatever its guest did"


async def test_a_half_made_remnant_is_cleared_and_xl_s_words_are_kept(
    executor: XlExecutor, guests: Guests, step: Start
) -> None:
    half = guests.later("half", table_row("web", 6, "--p---", seconds=0))
    said = [
        "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: vif-bridge online [374] exited with 1",
        "libxl: error: libxl_device.c:1337:hotplug_death_cb: script: Could not find bridge device nobr",
        *["libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 6:Non-existant domain"] * 5,
    ]
    guests.on("create", f"{half}; cat >&2 <<'E'\n{chr(10).join(said)}\nE\nexit 3")
    guests.on("destroy", guests.later("empty"))
    with pytest.raises(ReconcilerError, match="with 1 / script: Could not find bridge device nobr"):
        await executor.execute(step, ignore)
    assert guests.calls[-1] == "destroy 6"


@pytest.mark.parametrize(
    ("said", "status", "blamed", "passing"),
    [
        ("script: Failed to find an unused loop device", 3, False, True),
        ("killing execution of /etc/xen/scripts/block add because of timeout", 3, False, True),
        ("xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel", 3, True, False),
        ("something that nobody ever read", 3, False, False),
        ("cannot acquire lock /var/lock/xl errno=11", 0, False, True),
        ("", 0, True, False),
    ],
)
async def test_only_what_xl_says_is_no_kernel_or_what_ended_at_once_is_held_against_it(
    executor: XlExecutor, guests: Guests, step: Start, said: str, status: int, blamed: bool, passing: bool
) -> None:
    guests.on("create", f"echo '{said}' >&2; exit {status}" if said else f"exit {status}")
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    problem = caught.value.diagnostics[0]
    assert (problem.boot_failed, problem.transient) == (blamed, passing)
    assert said in problem.detail
    assert passing == ("nothing is held against the kernel" in (problem.hint or ""))


@pytest.mark.parametrize(
    ("said", "blamed"),
    [
        ("OSError: [Errno 28] No space left on device", False),
        ("RuntimeError: Unable to find partition containing kernel", True),
    ],
)
async def test_what_a_boot_loader_said_in_its_log_is_told_and_counts(
    executor: XlExecutor, guests: Guests, step: Start, tmp_path: Path, said: str, blamed: bool
) -> None:
    log = tmp_path / "bootloader.42.log"
    log.write_bytes(b"\x1b[2J\0 old\nTraceback (most recent call last):\n" + f"{said}\n".encode())
    failed = f"libxl: error: libxl_bootloader.c:649:f: Domain 42:bootloader failed - consult logfile {log}"
    guests.on("create", f"echo '{failed}' >&2; exit 3")
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    problem = caught.value.diagnostics[0]
    assert problem.detail.endswith(said)
    assert problem.boot_failed is blamed


async def test_too_few_vnd_devices_are_told_with_the_command_that_makes_more(
    executor: XlExecutor, guests: Guests, step: Start
) -> None:
    guests.on("create", "echo 'libxl: error: script: no available vnd device' >&2; exit 3")
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    (problem,) = caught.value.diagnostics
    assert problem.transient
    assert "`cd /dev && sh MAKEDEV vnd4 vnd5 vnd6 vnd7`" in (problem.hint or "")


async def test_a_remnant_that_stays_does_not_hide_why_the_create_failed(
    executor: XlExecutor, guests: Guests, step: Start
) -> None:
    guests.on(
        "create",
        f"{guests.later('half', HALF_MADE)}; echo 'no loop, unused loop device' >&2; exit 3",
    )
    guests.on("destroy", "exit 0")
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    (problem,) = caught.value.diagnostics
    assert "did not start: no loop, unused loop device" in problem.detail
    assert "web (domid 6) is still there after `xl destroy`" in problem.detail
    assert problem.transient


EXISTS = "echo 'libxl: error: x.c:1:f: Domain 7:Domain with name \"web\" already exists.' >&2; exit 3"


class TestWhatAnotherXlCreateHasMadeMeanwhileIsLeftAlone:
    """xendomains or a person was first: our own create fails, and what is there is not what it left."""

    async def fails(self, executor: XlExecutor, guests: Guests, step: Start) -> None:
        with pytest.raises(ReconcilerError, match="came to be on alpha while it was to be started") as caught:
            await executor.execute(step, ignore)
        assert caught.value.diagnostics[0].moved
        assert "destroy" not in [call.split()[0] for call in guests.calls]

    async def test_while_it_is_made(self, executor: XlExecutor, guests: Guests, step: Start, tmp_path: Path) -> None:
        guests.on("create", f"{guests.later('half', HALF_MADE)}; {EXISTS}")
        with process_of_xl(tmp_path, "create", "/etc/xen/web.cfg"):
            await self.fails(executor, guests, step)

    async def test_paused_as_xl_create_leaves_it_that_was_asked_to(
        self, executor: XlExecutor, guests: Guests, step: Start, xen: Path
    ) -> None:
        (xen / "whole").write_text(json.dumps([running_json(6, step.definition)]))
        guests.on("create", f"cp whole long; {guests.later('half', HALF_MADE)}; {EXISTS}")
        await self.fails(executor, guests, step)

    async def test_crashed_by_now(self, executor: XlExecutor, guests: Guests, step: Start) -> None:
        guests.on("create", f"{guests.later('crashed', table_row('web', 6, '---sc-'))}; {EXISTS}")
        await self.fails(executor, guests, step)

    async def test_it_runs_in_the_end(self, executor: XlExecutor, guests: Guests, step: Start) -> None:
        up = guests.later("up", table_row("web", 6))
        guests.on("create", f"{guests.later('half', HALF_MADE)}; (sleep 0.2; {up}) >/dev/null 2>&1 & {EXISTS}")
        await executor.execute(step, ignore)

    async def test_served_by_its_process_although_our_xl_died(
        self, executor: XlExecutor, guests: Guests, step: Start, tmp_path: Path, xen: Path
    ) -> None:
        (xen / "whole").write_text(json.dumps([running_json(6, step.definition)]))
        guests.on("create", f"cp whole long; {guests.later('half', HALF_MADE)}; kill -SEGV $$")
        with process_of_xl(tmp_path, "create", "-p", "/etc/xen/web.cfg", log="xl-web.log"):
            await self.fails(executor, guests, step)


async def test_what_our_own_xl_left_paused_as_it_died_is_cleared_away(
    executor: XlExecutor, guests: Guests, step: Start, xen: Path
) -> None:
    """It was whole, and had only to be let run; no process of xl serves it."""
    (xen / "whole").write_text(json.dumps([running_json(6, step.definition)]))
    guests.on("create", f"cp whole long; {guests.later('half', HALF_MADE)}; kill -SEGV $$")
    guests.on("destroy", guests.later("empty"))
    with pytest.raises(ReconcilerError, match="did not start"):
        await executor.execute(step, ignore)
    assert guests.calls[-1] == "destroy 6"


async def test_the_name_of_another_domain_is_never_touched(executor: XlExecutor, guests: Guests, step: Start) -> None:
    guests.show(table_row("web", 5, uuid=OTHER_UUID))
    with pytest.raises(ReconcilerError) as caught:
        await executor.execute(step, ignore)
    assert caught.value.diagnostics[0].summary == "name is taken"
    assert guests.calls == []


async def test_it_waits_for_what_is_left_of_its_predecessor(executor: XlExecutor, guests: Guests, step: Start) -> None:
    guests.show(table_row("web", 5, "--ps-d"))
    guests.on("create", guests.later("up", table_row("web", 6)))
    said: list[str] = []
    waiting = asyncio.create_task(executor.execute(step, said.append))
    while not said:
        await asyncio.sleep(0.01)
    guests.show()
    await waiting
    assert said[0] == "waiting for what is left of web (dying)"


async def test_memory_that_does_not_come_free_is_said_in_figures(
    executor: XlExecutor, guests: Guests, step: Start, xen: Path
) -> None:
    (xen / "info").write_text(INFO.replace(": 1132", ": 50"))
    with pytest.raises(ReconcilerError, match="needs 100 MiB and alpha has 50 MiB free"):
        await executor.execute(step, ignore)
    assert guests.calls == []


async def test_an_xl_create_that_hangs_is_killed_on_the_host_when_its_time_is_over(
    executor: XlExecutor, guests: Guests, step: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it waits for, such as a hotplug script. Else it would keep whoever comes next out for ever."""
    monkeypatch.setattr(Dom0, "lock_path", str(tmp_path / "reconciler.lock"))
    monkeypatch.setattr(starting, "_CREATE_SECONDS", 1)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pids = tmp_path / "pids"
    guests.on("create", f"echo $$ >{pids}; sleep 60 & echo $! >>{pids}; wait")
    try:
        async with executor.lock():
            with pytest.raises(ReconcilerError):
                await executor.execute(step, ignore)
        alive = [pid for pid in pids.read_text().split() if Path("/proc", pid).exists()]
        assert alive == []
        assert list(tmp_path.glob("reconciler.??????")) == []
    finally:
        for pid in pids.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
