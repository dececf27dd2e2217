"""Moving the memory of a running domain: waited for, and said in figures when it does not come."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.diagnostics import ReconcilerError
from reconciler.plan.steps import SetMemory
from reconciler.xl.execute import XlExecutor
from tests.fake_dom0 import INFO, UUID, table_row
from tests.xl.fake_guests import Guests, ignore

pytestmark = pytest.mark.anyio


STEP = SetMemory(domain="web", uuid=UUID, before_kib=96 * 1024, memory_kib=128 * 1024)


async def test_it_waits_until_the_guest_is_there(executor: XlExecutor, guests: Guests) -> None:
    guests.show(table_row("web", 5))
    guests.on(
        "mem-set",
        f"{guests.later('half', table_row('web', 5, mib=110))}\n"
        f"(sleep 0.2; {guests.later('all', table_row('web', 5, mib=128))}) >/dev/null 2>&1 &",
    )
    await executor.execute(STEP, ignore)
    assert guests.calls == ["mem-set 5 128m"]
    assert "128" in (guests._folder / "list").read_text()


async def test_a_guest_that_always_shows_a_little_less_gets_there_too(executor: XlExecutor, guests: Guests) -> None:
    guests.show(table_row("web", 5, mib=91))
    guests.on("mem-set", guests.later("all", table_row("web", 5, mib=123)))
    await executor.execute(STEP, ignore)
    assert guests.calls == ["mem-set 5 128m"]


async def test_a_balloon_that_gets_stuck_fails_with_what_was_reached(executor: XlExecutor, guests: Guests) -> None:
    guests.show(table_row("web", 5))
    guests.on("mem-set", guests.later("stuck", table_row("web", 5, mib=110)))
    with pytest.raises(ReconcilerError, match="should have 128 MiB and has 110 MiB"):
        await executor.execute(STEP, ignore)


async def test_growth_waits_for_free_memory(executor: XlExecutor, guests: Guests, xen: Path) -> None:
    guests.show(table_row("web", 5))
    (xen / "info").write_text(INFO.replace(": 1132", ": 10"))
    with pytest.raises(ReconcilerError, match="needs 32 MiB"):
        await executor.execute(STEP, ignore)
    assert guests.calls == []


async def test_a_domain_that_does_not_run_is_not_changed(executor: XlExecutor, guests: Guests) -> None:
    for state in ("---s--", "---sc-", "--ps-d"):
        guests.show(table_row("web", 5, state))
        with pytest.raises(ReconcilerError, match="cannot be changed while it runs"):
            await executor.execute(STEP, ignore)
